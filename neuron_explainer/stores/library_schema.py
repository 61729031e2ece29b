"""The tables of a library of explanations, as changes made to a file one after the other.

    sources         the lists that explanations are from
    explanations    one claim about one unit; `score` is the first of its scores
    scores          every score of an explanation, in its list's order; '' for what is not said
    marks           how far sources that grow have been read, by name
    birth           one row: a random name, which tells this library from another at its path
    words           full-text index (FTS5, Porter stems) of the texts, without the texts

`words.tags` holds what a search may filter by, as words: `layer9`, `source3` and, by tenths of the
score, `score0` to `score10` or `unscored`. A filter is then part of the search, so that it costs
no look at rows that do not pass. Triggers keep the index in step with the explanations.
"""

from neuron_explainer.stores.library_search import N_SPACES

TAGS = """
'layer' || {row}.layer_index || ' source' || {row}.source_id || ' ' ||
coalesce('score' || max(0, min(10, CAST({row}.score * 10 AS INTEGER))), 'unscored')
"""
"""`score_tag` of library_search.py is the same."""
RANKS = f"""
CREATE TEMP VIEW ranks AS SELECT id, {N_SPACES.format(text="text")} AS n_spaces, score
FROM explanations
"""
"""What library_search.py ranks by; of one connection, so that no file need have it."""
CHANGES = (
    f"""
CREATE TABLE sources (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE explanations (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    source_id INTEGER NOT NULL REFERENCES sources (id),
    layer_index INTEGER NOT NULL,
    neuron_index INTEGER NOT NULL,
    text TEXT NOT NULL,
    model TEXT,
    site TEXT,
    polarity TEXT,
    explainer TEXT,
    explainer_model TEXT,
    score REAL
);
CREATE INDEX explanations_by_unit ON explanations (layer_index, neuron_index);
CREATE INDEX explanations_by_source ON explanations (source_id);
CREATE TABLE scores (
    explanation_id INTEGER NOT NULL REFERENCES explanations (id),
    kind TEXT NOT NULL,
    scorer TEXT NOT NULL,
    number INTEGER NOT NULL,
    value REAL NOT NULL,
    UNIQUE (explanation_id, kind, scorer)
);
CREATE VIRTUAL TABLE words USING fts5 (
    text, tags, content = '', columnsize = 0, tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER explanations_added AFTER INSERT ON explanations BEGIN
    INSERT INTO words (rowid, text, tags) VALUES (new.id, new.text, {TAGS.format(row="new")});
END;
CREATE TRIGGER explanations_scored AFTER UPDATE OF score ON explanations BEGIN
    INSERT INTO words (words, rowid, text, tags)
    VALUES ('delete', old.id, old.text, {TAGS.format(row="old")});
    INSERT INTO words (rowid, text, tags) VALUES (new.id, new.text, {TAGS.format(row="new")});
END;
""",
    """
CREATE TABLE marks (name TEXT PRIMARY KEY, number INTEGER NOT NULL);
CREATE TABLE birth AS SELECT lower(hex(randomblob(8))) AS name;
""",
    """
DROP INDEX explanations_by_source;
CREATE INDEX explanations_by_source ON explanations (source_id, score);
CREATE INDEX explanations_by_score ON explanations (score);
""",
)
