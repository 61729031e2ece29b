"""Search of a library by words: which explanations fit best, quickly for the commonest words too.

1. The query is split into words and "quoted phrases". Each becomes a quoted string of FTS5, so that
   no query is a syntax error; words match by their stem (`animals` finds `animal`).
2. Words that say little are left out where others are there: function words, and words that more
   than COMMON_SHARE of the explanations hold (`words`, `related`). Phrases always stay.
3. Explanations with all words come first: the shortest first, as most of what they say was asked
   for, and among these the best scored.
4. When that finds too few, those with the last word as the beginning of a longer one follow, then
   those with any of the words: by the sum of log(explanations / explanations with the word), the
   usual weight of rare words (Spärck Jones 1972).
5. Of more than MOST_RANKED that fit (in 4: MOST_OF_A_WORD a word), the first ones that were added
   are ranked: among so many the order says little, and 200,000 would take half a second.
"""

from __future__ import annotations

import heapq
import json
import math
import re
import sqlite3
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from neuron_explainer.errors import UsageError

T = TypeVar("T")
MOST_RANKED = 5000
"""So many of the explanations that fit are ranked."""
MOST_OF_A_WORD = 2000
"""The same, of each word, where any of several words is enough."""
MOST_KNOWN = 5000
"""Terms that are kept with their counts, and words with the few that have them all."""
MOST_FEW = 500
ENOUGH = 5
"""With fewer that have all words, those that have any are looked for."""
LEAST_BEGINNING = 3
"""Letters of a word that others are found by their beginning with."""
MOST_WORDS = 16
"""Further words of a query are left out."""
COMMON_SHARE = 0.05
LEAST_COMMON = 200
"""A word in fewer explanations than this is never too common."""
FUNCTION_WORDS = frozenset((
    "a", "about", "an", "and", "any", "are", "as", "at", "be", "by", "find", "for", "from", "has",
    "have", "how", "i", "in", "into", "is", "it", "its", "me", "of", "on", "or", "show", "that",
    "the", "their", "them", "these", "they", "this", "to", "was", "what", "when", "where", "which",
    "who", "with",
))  # fmt: skip
N_SPACES = "length(trim({text})) - length(replace({text}, ' ', ''))"
"""SQL: what the length of an explanation is measured by; `ranks` has it, beside the score."""
_PART = re.compile(r'"([^"]*)"|([^\s"!#$%&()*+,./:;<=>?@\[\\\]^`{|}~]+)')
"""A phrase, or a word: what ASCII punctuation other than `'`, `-` and `_` parts."""


@dataclass(frozen=True, slots=True)
class Filters:
    """None: any."""

    layer_index: int | None = None
    min_score: float | None = None
    """Of an explanation's first score, whatever its kind; those without one do not pass."""
    source: str | None = None
    any_tag: tuple[str, ...] = ()
    """Other words: an explanation's `tags` must hold one of them; empty: any will do."""
    condition: str = ""
    """More that its row must fulfil: SQL over the columns of `explanations`, with `values`."""
    values: tuple[object, ...] = ()
    whole: str = ""
    """All of it in such SQL, with `whole_values`; asked for where there is a `Known`."""
    whole_values: tuple[object, ...] = ()

    def __post_init__(self) -> None:
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise UsageError(f"{self.min_score} is not a score to search from")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What a search found."""

    hits: tuple[T, ...]
    """Best first."""
    words: tuple[str, ...]
    """What was looked for; empty when the query holds no word at all."""
    left_out: tuple[str, ...]
    """Words of the query that say too little, or were too many."""
    n_with_all: int
    """How many of the hits, from the first, have all of `words`; the others have some."""


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier searches of the same explanations came to, whatever their filters were."""

    counts: dict[str, int] = field(default_factory=dict)
    """Of the explanations with a term."""
    few: dict[str, str | None] = field(default_factory=dict)
    """Words that must all be there -> JSON of all that have them; None: more than MOST_FEW do."""


class _Term(NamedTuple):
    """A word or a phrase of the query."""

    text: str
    is_phrase: bool

    @property
    def quoted(self) -> str:
        return '"' + self.text.replace('"', '""') + '"'


class _Query(NamedTuple):
    """What the helpers share."""

    connection: sqlite3.Connection
    filters: Filters
    tags: str
    """The filters, in FTS5's language; empty without any."""
    known: Known | None

    def match(self, words: str) -> str:
        return f"text : ({words})" + (f" AND tags : ({self.tags})" if self.tags else "")

    @property
    def more(self) -> str:
        if not self.filters.condition:
            return ""
        row = f"explanations.id = words.rowid AND ({self.filters.condition})"
        return f" AND EXISTS (SELECT 1 FROM explanations WHERE {row})"


def find(
    connection: sqlite3.Connection,
    words: str,
    filters: Filters,
    *,
    limit: int,
    known: Known | None = None,
) -> Found[int]:
    """Ids of the explanations that fit best, as the module says; MOST_RANKED at the most.

    The tables are `explanations`, `words`, and `ranks`: what is ranked by, a row an explanation.
    known: is read, and added to.
    """
    limit = min(limit, MOST_RANKED)
    counted = {} if known is None else known.counts
    terms = split_query(words)
    n_rows = connection.execute("SELECT coalesce(max(id), 0) FROM explanations").fetchone()[0]
    most = max(LEAST_COMMON, int(COMMON_SHARE * n_rows))
    n_with = {term: _count(connection, term, most + 1, counted) for term in terms[:MOST_WORDS]}
    kept = [t for t, n in n_with.items() if t.is_phrase or not (_is_function(t) or n > most)]
    kept = kept or [*n_with]
    left_out = tuple(term.text for term in terms if term not in kept)
    looked_for = tuple(term.text for term in kept)
    if not kept or limit < 1:
        return Found((), looked_for, left_out, 0)
    query = _Query(connection, filters, _tags(connection, filters), known)
    hits = _with_all(query, " AND ".join(term.quoted for term in kept), limit)
    n_with_all = len(hits)
    if n_with_all < min(limit, ENOUGH):
        weights = {term: math.log(1 + n_rows / max(1, n_with[term])) for term in kept}
        more = [*_with_beginning(query, kept, limit), *_with_any(query, weights, limit)]
        hits = [*dict.fromkeys([*hits, *more])][:limit]
    return Found(tuple(hits), looked_for, left_out, n_with_all)


def split_query(words: str) -> list[_Term]:
    """Words and phrases, each once; what has no letter and no digit is dropped."""
    text = words.encode(errors="replace").decode().replace("\0", " ")
    parts = [_Term(m[1] or m[2] or "", m[1] is not None) for m in _PART.finditer(text)]
    return [*dict.fromkeys(term for term in parts if any(map(_is_of_word, term.text)))]


def score_tag(score: float) -> int:
    """Which tenth a score is filed under; those below 0 and above 1 are with the outermost."""
    return max(0, min(10, math.trunc(max(-1.0, min(2.0, score)) * 10)))


def _is_of_word(character: str) -> bool:
    """As FTS5's unicode61 has it: letters, numbers, private use."""
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "Co"


def _is_function(term: _Term) -> bool:
    return term.text.lower() in FUNCTION_WORDS


def _count(connection: sqlite3.Connection, term: _Term, most: int, counts: dict[str, int]) -> int:
    """In how many explanations a term is; not more than `most` are counted, and none twice."""
    n = counts.get(term.quoted)
    if n is None:
        query = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
        n = int(connection.execute(query, (f"text : {term.quoted}", most)).fetchone()[0])
        _keep(counts, term.quoted, n)
    return n


def _tags(connection: sqlite3.Connection, filters: Filters) -> str:
    """Each is a word of the index's column `tags`."""
    tags = []
    if filters.layer_index is not None:
        tags.append(f'"layer{filters.layer_index}"')
    if filters.source is not None:
        query = "SELECT id FROM sources WHERE name = ?"
        row = connection.execute(query, (filters.source,)).fetchone()
        tags.append(f"source{row[0] if row else 0}")
    if filters.any_tag:
        tags.append("(" + " OR ".join(f'"{tag}"' for tag in filters.any_tag) + ")")
    if filters.min_score is not None:
        tenths = range(score_tag(filters.min_score), 11)
        tags.append("(" + " OR ".join(f"score{tenth}" for tenth in tenths) + ")")
    return " AND ".join(tags)


def _with_all(query: _Query, words: str, limit: int) -> list[int]:
    """Of the ones that match: the shortest, then the best scored."""
    few = _few_with_all(query, words)
    if few is not None:
        return _ranked(query, few, limit)
    rows = query.connection.execute(
        "SELECT id, n_spaces, score FROM ("
        "  SELECT ranks.id, n_spaces, score FROM words CROSS JOIN ranks"
        "  ON ranks.id = words.rowid WHERE words MATCH ? AND (? IS NULL OR score >= ?)"
        f"{query.more} LIMIT ?"
        ") ORDER BY n_spaces, score DESC NULLS LAST, id LIMIT ?",
        (
            query.match(words), query.filters.min_score, query.filters.min_score,
            *query.filters.values, MOST_RANKED, limit,
        ),
    )  # fmt: skip
    return [row[0] for row in rows]


def _few_with_all(query: _Query, words: str) -> str | None:
    """JSON of the ids of all that match, whatever the filters; None: they are many, or not known.

    To learn that few have several common words takes a look at all that have one of them.
    """
    if query.known is None:
        return None
    if words not in query.known.few:
        rows = query.connection.execute(
            "SELECT rowid FROM words WHERE words MATCH ? LIMIT ?",
            (f"text : ({words})", MOST_FEW + 1),
        )
        ids = [row[0] for row in rows]
        few = None if len(ids) > MOST_FEW else json.dumps(ids)
        _keep(query.known.few, words, few)
        return few
    return query.known.few.get(words)


def _ranked(query: _Query, ids: str, limit: int) -> list[int]:
    """Those of some that the filters let through, in the order of `_with_all`. ids: JSON."""
    rows = query.connection.execute(
        "SELECT id FROM ranks WHERE id IN (SELECT value FROM json_each(?)) AND EXISTS ("
        f"SELECT 1 FROM explanations WHERE explanations.id = ranks.id AND {query.filters.whole}"
        ") ORDER BY n_spaces, score DESC NULLS LAST, id LIMIT ?",
        (ids, *query.filters.whole_values, limit),
    )
    return [row[0] for row in rows]


def _keep(kept: dict[str, T], name: str, value: T) -> None:
    if len(kept) >= MOST_KNOWN:
        kept.clear()
    kept[name] = value


def _with_beginning(query: _Query, terms: Sequence[_Term], limit: int) -> list[int]:
    """As `_with_all`, with the last word as the beginning of a word."""
    if terms[-1].is_phrase or len(terms[-1].text) < LEAST_BEGINNING:
        return []
    words = [*(term.quoted for term in terms[:-1]), f"{terms[-1].quoted} *"]
    return _with_all(query, " AND ".join(words), limit)


def _with_any(query: _Query, weights: dict[_Term, float], limit: int) -> list[int]:
    """By the weight of the terms an explanation has; equal ones the best scored first."""
    weight_of: defaultdict[int, float] = defaultdict(float)
    score_of: dict[int, float] = {}
    for term, weight in weights.items():
        for row_id, score in _rows_with(query, term):
            weight_of[row_id] += weight
            score_of[row_id] = score
    return heapq.nsmallest(
        limit, weight_of, key=lambda row_id: (-weight_of[row_id], -score_of[row_id], row_id)
    )


def _rows_with(query: _Query, term: _Term) -> Iterator[tuple[Any, ...]]:
    """(id, score) of the first explanations with the term; no score is the lowest."""
    return query.connection.execute(
        "SELECT ranks.id, coalesce(score, -1e999) FROM words CROSS JOIN ranks"
        " ON ranks.id = words.rowid WHERE words MATCH ? AND (? IS NULL OR score >= ?)"
        f"{query.more} LIMIT ?",
        (
            query.match(term.quoted), query.filters.min_score, query.filters.min_score,
            *query.filters.values, MOST_OF_A_WORD,
        ),
    )  # fmt: skip
