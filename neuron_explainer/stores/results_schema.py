"""The tables of a run's results, as changes that are made to a file one after the other.

    methods          each use of a way to explain and score, with its choices; the newest is current
    explanations     a claim about a unit, or the reason there is none
    scores           every metric of one scorer and simulator over one explanation
    scored_windows   what was simulated and what is true, window by window (zlib'ed JSON)
    candidates       claims that an explanation was chosen from, by calibration score
    costs            what was asked of language models for one unit

Every row names the fingerprint of the choices that made it, or the explanation it belongs to.
"""

OLDEST_READABLE = 2
"""A file that has seen so many changes is read as it is; a writer makes the others first."""
CHANGES = (
    """
CREATE TABLE IF NOT EXISTS methods (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    choices TEXT NOT NULL,
    used_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS explanations (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    layer_index INTEGER NOT NULL,
    neuron_index INTEGER NOT NULL,
    explainer TEXT NOT NULL,
    model TEXT,
    prompt_version TEXT,
    text TEXT,
    reason TEXT,
    created_at TEXT NOT NULL,
    CHECK ((text IS NULL) <> (reason IS NULL))
);
CREATE INDEX IF NOT EXISTS explanations_by_unit
    ON explanations (fingerprint, layer_index, neuron_index);
CREATE TABLE IF NOT EXISTS scores (
    explanation_id INTEGER NOT NULL REFERENCES explanations (id),
    scorer TEXT NOT NULL,
    simulator TEXT NOT NULL,
    name TEXT NOT NULL,
    metric TEXT NOT NULL,
    is_headline INTEGER NOT NULL,
    value REAL,
    n_tokens INTEGER NOT NULL,
    low REAL,
    high REAL,
    reason TEXT,
    PRIMARY KEY (explanation_id, scorer, simulator, name),
    CHECK ((value IS NULL) <> (reason IS NULL))
);
CREATE TABLE IF NOT EXISTS scored_windows (
    explanation_id INTEGER NOT NULL REFERENCES explanations (id),
    scorer TEXT NOT NULL,
    simulator TEXT NOT NULL,
    windows BLOB NOT NULL,
    PRIMARY KEY (explanation_id, scorer, simulator)
);
""",
    """
ALTER TABLE explanations ADD COLUMN is_final INTEGER NOT NULL DEFAULT 1;
CREATE TABLE candidates (
    explanation_id INTEGER NOT NULL REFERENCES explanations (id),
    number INTEGER NOT NULL,
    text TEXT NOT NULL,
    metric TEXT NOT NULL,
    value REAL,
    n_tokens INTEGER NOT NULL,
    reason TEXT,
    PRIMARY KEY (explanation_id, number),
    CHECK ((value IS NULL) <> (reason IS NULL))
);
CREATE TABLE costs (
    explanation_id INTEGER PRIMARY KEY REFERENCES explanations (id),
    n_requests INTEGER NOT NULL,
    n_prompt_tokens INTEGER NOT NULL,
    n_cached_tokens INTEGER NOT NULL,
    n_completion_tokens INTEGER NOT NULL,
    cost_picousd INTEGER
);
""",
    # Over how many tokens a score is may be unknown: a list of scores does not say it.
    """
CREATE TABLE new_scores (
    explanation_id INTEGER NOT NULL REFERENCES explanations (id),
    scorer TEXT NOT NULL,
    simulator TEXT NOT NULL,
    name TEXT NOT NULL,
    metric TEXT NOT NULL,
    is_headline INTEGER NOT NULL,
    value REAL,
    n_tokens INTEGER,
    low REAL,
    high REAL,
    reason TEXT,
    PRIMARY KEY (explanation_id, scorer, simulator, name),
    CHECK ((value IS NULL) <> (reason IS NULL))
);
INSERT INTO new_scores SELECT explanation_id, scorer, simulator, name, metric, is_headline, value,
    CASE WHEN value IS NOT NULL AND n_tokens = 0 THEN NULL ELSE n_tokens END, low, high, reason
    FROM scores ORDER BY rowid;
DROP TABLE scores;
ALTER TABLE new_scores RENAME TO scores;
CREATE TABLE new_candidates (
    explanation_id INTEGER NOT NULL REFERENCES explanations (id),
    number INTEGER NOT NULL,
    text TEXT NOT NULL,
    metric TEXT NOT NULL,
    value REAL,
    n_tokens INTEGER,
    reason TEXT,
    PRIMARY KEY (explanation_id, number),
    CHECK ((value IS NULL) <> (reason IS NULL))
);
INSERT INTO new_candidates SELECT * FROM candidates ORDER BY rowid;
DROP TABLE candidates;
ALTER TABLE new_candidates RENAME TO candidates;
""",
)
METHODS_WITH_RESULTS = """
WITH RECURSIVE explained (fingerprint) AS (
    SELECT min(fingerprint) FROM explanations
    UNION ALL
    SELECT (SELECT min(e.fingerprint) FROM explanations e WHERE e.fingerprint > x.fingerprint)
    FROM explained x WHERE x.fingerprint IS NOT NULL
)
SELECT fingerprint FROM explained WHERE fingerprint IS NOT NULL
"""
"""One look at the index a method, where DISTINCT would look at every row."""
