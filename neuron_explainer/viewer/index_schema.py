"""The tables of the viewer's own file: what its lists sort, filter and search by.

    about          what it was made from, and how far
    methods        a way to explain and score; `place` 0 is the current one
    makers         explainer, its model, simulator and scorer, each combination once
    explanations   one row a unit and method, the first that was written
    words          full-text index (FTS5, Porter stems) of the texts, without the texts
    ranks          of each text its length and score: what a search reads of the thousands that fit

`words`, `ranks` and `explanations` are what `stores.library_search.find` reads. Everything can be
made again from the results.
"""

from neuron_explainer.stores.library_search import N_SPACES

VERSION = "6"
COLUMNS = {
    "score": "score",
    "random": "random_only",
    "baseline": "baseline",
    "gain": "gain",
    "density": "density",
}
"""Name of a column in an address -> of the table; each has an index."""
TAGS = (
    "'layer' || {row}.layer_index || ' method' || {row}.method || ' ' || "
    "coalesce('score' || max(0, min(10, CAST({row}.score * 10 AS INTEGER))), 'unscored')"
)
"""`score_tag` of library_search.py is the same."""
DROP = tuple(
    f"DROP TABLE IF EXISTS {table}"
    for table in ("about", "methods", "makers", "words", "ranks", "explanations")
)
CREATE = (
    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT)",
    "CREATE TABLE methods (number INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, "
    "label TEXT NOT NULL, baseline INTEGER, place INTEGER NOT NULL, summary TEXT)",
    "CREATE TABLE makers (number INTEGER PRIMARY KEY, explainer TEXT NOT NULL, model TEXT, "
    "simulator TEXT, scorer TEXT)",
    """
CREATE TABLE explanations (
    id INTEGER PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE,
    method INTEGER NOT NULL REFERENCES methods (number),
    layer_index INTEGER NOT NULL,
    neuron_index INTEGER NOT NULL,
    makers INTEGER NOT NULL REFERENCES makers (number),
    text TEXT,
    reason TEXT,
    metric TEXT,
    score REAL,
    low REAL,
    high REAL,
    full_distribution REAL,
    random_only REAL,
    explained_variance REAL,
    baseline REAL,
    density REAL,
    is_final INTEGER NOT NULL,
    gain REAL GENERATED ALWAYS AS (score - baseline) VIRTUAL,
    UNIQUE (method, layer_index, neuron_index)
)
""",
    "CREATE VIRTUAL TABLE words USING fts5 (text, tags, content = '', columnsize = 0, "
    "tokenize = 'porter unicode61 remove_diacritics 2')",
    "CREATE TABLE ranks (id INTEGER PRIMARY KEY, n_spaces INTEGER NOT NULL, score REAL)",
    "CREATE TRIGGER explanations_added AFTER INSERT ON explanations WHEN new.text IS NOT NULL "
    f"BEGIN INSERT INTO words (rowid, text, tags) VALUES (new.id, new.text, "
    f"{TAGS.format(row='new')}); "
    f"INSERT INTO ranks VALUES (new.id, {N_SPACES.format(text='new.text')}, new.score); END",
    "CREATE TRIGGER explanations_gone AFTER DELETE ON explanations WHEN old.text IS NOT NULL "
    "BEGIN INSERT INTO words (words, rowid, text, tags) VALUES ('delete', old.id, old.text, "
    f"{TAGS.format(row='old')}); DELETE FROM ranks WHERE id = old.id; END",
    "CREATE INDEX explanations_not_final ON explanations (number) WHERE NOT is_final",
)
FILTERED = ("layer_index", "neuron_index", "score", "density", "makers")
"""What lists are filtered by, behind the unit that rows of one value are in the order of."""
INDEXES = tuple(
    f"CREATE INDEX IF NOT EXISTS explanations_by_{name} ON explanations "
    f"({', '.join(dict.fromkeys(columns))})"
    for name, columns in {
        "unit": ("method", *FILTERED),
        "makers": ("method", "makers"),
        **{name: ("method", column, *FILTERED) for name, column in COLUMNS.items()},
    }.items()
)
"""Of what lists are sorted by: each has all that they are filtered by, so that no row is looked at
which does not pass; and of who made a row. Made when all rows are there, which is much quicker."""
