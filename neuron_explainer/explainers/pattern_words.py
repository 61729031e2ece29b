"""A unit's patterns in one readable sentence, its clauses by the share they account for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from neuron_explainer.errors import CannotExplain
from neuron_explainer.explainers.token_names import (
    MOST_CHARS,
    MOST_NAMED,
    SPACES,
    is_space,
    name_token,
    name_tokens,
    printable,
)
from neuron_explainer.records.patterns import Before, FoundPatterns, Lack, Pattern, TokenSet

LEAST_SHARE = 0.02
"""Of the strong activation that a clause must account for, unless it is the first."""
MOST_CLAUSES = 4
MOST_CLAUSE_CHARS = 120
MOST_LISTED = 6
"""Tokens of several patterns that are named in one clause."""
SEVERAL = 0.6
"""A unit whose first clause accounts for less does several things, if others do much."""
MUCH = 0.15
PEAKS = 0.5
"""A clause that accounts for so much of the strongest windows is said, however rare it is."""
SELDOM = 0.5
"""A pattern of which less than this share is strongly active is said to be so sometimes."""
ORDINALS = {2: "2nd", 3: "3rd"}


class _Clause(NamedTuple):
    words: str
    share: float
    tokens: frozenset[str]
    """On which the unit is active, without space and capitals; empty: on anything."""
    is_whole: bool
    """False: what stands before them matters, and was not found."""
    peak_share: float
    """Of the peaks of the strongest windows."""

    @property
    def sentence(self) -> str:
        """With its share, and where it is seen when that is rare."""
        is_at_peaks = self.peak_share >= PEAKS and self.share < MUCH
        where = " in the strongest windows" if is_at_peaks else ""
        return f"{self.words}{where} ({_percent(self.share)})"


class _Detail(NamedTuple):
    """How much is said; a clause that gets too long says less."""

    most_named: int = MOST_NAMED
    """Members of a set."""
    most_parts: int = 12
    """Of the context, the nearest; 0: it is only said that there is one."""


DETAILS = (
    *(_Detail(n) for n in range(MOST_NAMED, 0, -1)),
    *(_Detail(1, n) for n in range(4, -1, -1)),
)

_Part: TypeAlias = "str | list[str] | None"
"""Of a context: a set's name; tokens that are quoted together; a gap."""


def describe_patterns(found: FoundPatterns) -> str:
    """`“of” after “University” or “Institute” (61%); sometimes numbers (20%)`

    Where nothing holds, the tokens, and why there is no pattern. CannotExplain where there is no
    token either.
    """
    if not found.patterns:
        raise CannotExplain("no pattern found: it is not active on the windows that are searched")
    kept = _choose(_clauses(found.patterns))
    clauses = "; ".join(clause.sentence for clause in kept)
    several = "several things: " if _are_several(kept) else ""
    return f"{several}{clauses}{_say_before(found.before)}{_say_lack(found.patterns)}"


def _choose(clauses: Sequence[_Clause]) -> list[_Clause]:
    """The first, those that account for enough, and what the strongest windows mostly show."""
    first, *others = clauses
    kept = [first, *(clause for clause in others if clause.share >= LEAST_SHARE)][:MOST_CLAUSES]
    at_peaks = max(clauses, key=lambda clause: clause.peak_share)
    if at_peaks.peak_share >= PEAKS and at_peaks not in kept:
        kept = [*kept[: MOST_CLAUSES - 1], at_peaks]
    return kept


def describe_pattern(pattern: Pattern) -> str:
    """`numbers after “PEP” or “EP”`, without its share."""
    words = ""
    for detail in DETAILS:
        words = _say(pattern, detail)
        if len(words) <= MOST_CLAUSE_CHARS:
            break
    return words


def _clauses(patterns: Sequence[Pattern]) -> list[_Clause]:
    """By share; patterns that read alike, or differ in a few tokens alone, are one clause."""
    alike: dict[str, list[Pattern]] = {}
    lists: dict[tuple[str, str], list[Pattern]] = {}  # by what is said beside the tokens
    for pattern in patterns:
        if _is_listed(pattern):
            lists.setdefault(_frame(pattern), []).append(pattern)
        else:
            alike.setdefault(describe_pattern(pattern), []).append(pattern)
    for (before, after), members in lists.items():
        tokens = {token for pattern in members for token in pattern.sets[-1] or ()}
        first = [token for pattern in members for token in _most_telling(pattern)]
        starts = frozenset[str]().union(*(pattern.word_starts for pattern in members))
        words = f"{before}{name_tokens(tokens, first, MOST_LISTED, starts)}{after}"
        alike.setdefault(words, []).extend(members)
    clauses = [_clause_of(words, members) for words, members in alike.items()]
    return sorted(clauses, key=lambda clause: -clause.share)


def _clause_of(words: str, members: Iterable[Pattern]) -> _Clause:
    share, peak_share, tokens, is_whole = 0.0, 0.0, set[str](), False
    for pattern in members:
        share += pattern.share
        peak_share += pattern.peak_share
        tokens.update(token.strip().lower() for token in pattern.sets[-1] or ())
        is_whole |= pattern.lack is None
    return _Clause(words, share, frozenset(tokens), is_whole, peak_share)


def _most_telling(pattern: Pattern) -> list[str]:
    """Of its current tokens; those that the seed was drawn for come first."""
    return [pattern.seed[-1], *pattern.strongest]


def _are_several(clauses: Sequence[_Clause]) -> bool:
    """Whether no thing is most of what the unit does, and several are much.

    Clauses that share tokens speak of one thing; one whose context was not found, of none.
    """
    things: list[_Clause] = []
    for clause in (clause for clause in clauses if clause.is_whole):
        same = [thing for thing in things if thing.tokens & clause.tokens]
        things = [thing for thing in things if thing not in same]
        tokens = clause.tokens.union(*(thing.tokens for thing in same))
        share = clause.share + sum(thing.share for thing in same)
        things.append(clause._replace(tokens=tokens, share=share))
    shares = [thing.share for thing in things]
    return max(shares, default=1.0) < SEVERAL and sum(share >= MUCH for share in shares) > 1


def _is_listed(pattern: Pattern) -> bool:
    """Whether it is of a few tokens, whatever stands before them."""
    *context, current = pattern.sets
    return current is not None and len(current) <= MOST_NAMED and not any(context)


def _say(pattern: Pattern, detail: _Detail) -> str:
    *context, current = pattern.sets
    seed_context = pattern.seed[:-1]
    said = "anything"
    if current is not None:
        first = _most_telling(pattern)
        said = name_tokens(current, first, detail.most_named, pattern.word_starts)
    word, n_inside = _word_around(pattern.sets)
    if n_inside:
        begins = frozenset(pattern.sets[-1 - n_inside] or ()) <= pattern.word_starts
        said = f"{said} in {name_token(word, is_word=begins)}"
        context, seed_context = context[:-n_inside], seed_context[:-n_inside]
    if any(context) and detail.most_parts:
        said = f"{said} {_say_context(context, seed_context, detail, pattern.word_starts)}"
    elif any(context):
        said = f"{said} in some contexts"
    before, after = _frame(pattern)
    return f"{before}{said}{after}"


def _frame(pattern: Pattern) -> tuple[str, str]:
    """What is said before its tokens and behind them."""
    if pattern.lack is Lack.LONGER:
        return "", " in some contexts"
    n, place = len(pattern.sets), ""
    if pattern.at_start:
        is_start = n == 1 or any(pattern.sets[:-1])
        place = "at the start" if is_start else f"as the {ORDINALS.get(n, f'{n}th')} token"
        place = f" {place} of a window"
    return "sometimes " if pattern.precision < SELDOM else "", place


def _word_around(sets: Sequence[TokenSet]) -> tuple[str, int]:
    """The beginning of a word that the last token goes on with, and how many tokens it has.

    `("", 0)` where the token begins a word, or more than one token may stand in a place.
    """
    word, n_inside = "", 0
    for n, fits in enumerate(reversed(sets)):
        token = next(iter(fits)) if fits is not None and len(fits) == 1 else ""
        if not token.removeprefix(" ").isalnum():
            break
        word, n_inside = token + word, n
        if token.startswith(" "):
            break
    return word, n_inside


def _say_context(
    context: Sequence[TokenSet], seed: Sequence[str], detail: _Detail, starts: frozenset[str]
) -> str:
    """`after “not possible”`, `after “the … of”`, `some tokens after numbers and then “%”`"""
    said: list[str] = []
    joint = ""
    for part in _parts(context, seed, detail.most_named, starts):
        if part is None:
            joint = " and later "
            continue
        words = part if isinstance(part, str) else _quote(part, starts)
        said.append(f"{joint if said else ''}{words}")
        joint = " and then "
    is_apart = context[-1] is None
    kept = said[-detail.most_parts :]
    farthest = "…" if len(kept) < len(said) else ""
    return f"{'some tokens ' if is_apart else ''}after {farthest}{''.join(kept)}"


def _parts(
    context: Sequence[TokenSet], seed: Sequence[str], most_named: int, starts: frozenset[str]
) -> list[_Part]:
    """Single tokens that follow one another are quoted together, with the gaps between them."""
    parts: list[_Part] = []
    for fits, seen in zip(context, seed, strict=True):
        if fits is None:
            if not parts or parts[-1] is not None:
                parts.append(None)
            continue
        token = next(iter(fits))
        before = parts[-1] if parts else None
        if len(fits) > 1 or not token:
            parts.append(name_tokens(fits, [seen], most_named, starts))
        elif isinstance(before, list) and is_space(before[-1]) == is_space(token):
            before.append(token)
        elif _goes_on_behind_gap(parts) and not is_space(token):
            parts[-2:] = [[*(parts[-2] or ()), " … ", token.strip(SPACES)]]
        else:
            parts.append([token])
    return parts


def _goes_on_behind_gap(parts: Sequence[_Part]) -> bool:
    quoted = parts[-2] if len(parts) > 1 and parts[-1] is None else None
    return isinstance(quoted, list) and not is_space(quoted[-1])


def _quote(tokens: Sequence[str], starts: frozenset[str]) -> str:
    """Tokens in their order as a reader sees them, or white space; of a long text its end."""
    is_word = tokens[0] in starts
    if len(tokens) == 1 or is_space(tokens[0]):
        return name_token("".join(tokens), is_word=is_word)
    joined = re.sub(" +", " ", "".join(tokens))
    text = printable(joined.strip(SPACES))
    if len(text) > MOST_CHARS:
        end = text[1 - MOST_CHARS :]
        return f"“…{end.partition(' ')[2] or end}”"
    return f"“{'…' if joined[:1].islower() and not is_word else ''}{text}”"


def _say_before(before: Before | None) -> str:
    if before is None:
        return ""
    return f"; mostly before {name_token(before.token)} ({_percent(before.share)})"


def _say_lack(patterns: Sequence[Pattern]) -> str:
    """Why none of them is whole; empty where one is."""
    lacks = [pattern.lack for pattern in patterns if pattern.lack is not None]
    if len(lacks) < len(patterns):
        return ""
    lack = Lack.BUDGET if Lack.BUDGET in lacks else Lack.LONGER
    return f"; no pattern found: {lack.reason}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"
