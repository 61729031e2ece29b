"""What a unit responds to, as sequences of token sets, in a trie that predicts by longest match.

After Neuron2Graph (Foote et al. 2023), where a unit's pruned and generalised examples become a trie
read backwards from the token on which the unit is active.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from neuron_explainer.records.explanation import TokenLookupTable

TokenSet: TypeAlias = frozenset[str] | None
"""Display strings, any of which fits; None: every token fits."""


class Lack(StrEnum):
    """Why a pattern is of the current token alone, though what stands before it may matter."""

    LONGER = "longer"
    """No text as long as a pattern may be does the same."""
    BUDGET = "budget"
    """There was no room to ask."""

    @property
    def reason(self) -> str:
        if self is Lack.LONGER:
            return "no text of as many tokens as are tried does the same"
        return "the budget of forward passes ended before its context was found"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A sequence of token sets that ends at the token on which the unit is active."""

    sets: tuple[TokenSet, ...]
    """In the text's order, the current token last; the first of several is not None, unless it
    holds the place at a window's start."""
    activation: float
    """Raw, the mean at the last token over the positions that match."""
    n_matches: int
    """Such positions on the windows it was found in."""
    share: float
    """Of the unit's strong activation on the windows it was found in, 0 to 1, that no pattern
    before it accounts for."""
    precision: float
    """Of the positions that match, weighted, those on which the activation is strong."""
    seed: tuple[str, ...]
    """The text it was found in, as far as it matters; the last token is the current one."""
    seed_activations: tuple[float | None, ...] = ()
    """Raw, of each token of the seed as it stands in its own window."""
    at_start: bool = False
    """It fits at the beginning of a window alone."""
    lack: Lack | None = None
    """None: the sets say all that matters."""
    strongest: tuple[str, ...] = ()
    """The current tokens that account for most of the strong activation where it fits, the first
    most."""
    word_starts: frozenset[str] = frozenset()
    """Tokens without a space before them that begin a word where it was found."""
    peak_share: float = 0.0
    """Of the activation at the peaks of the strongest windows, as `share` of all that is strong."""

    def __post_init__(self) -> None:
        is_bare = len(self.sets) > 1 and self.sets[0] is None and not self.at_start
        if not self.sets or is_bare:
            raise ValueError("a pattern begins with a token set that says something")


@dataclass(frozen=True, slots=True)
class ContextMeans:
    """What the fit text says of a unit's activation given the last few tokens."""

    by_suffix: Mapping[tuple[str, ...], float]
    """The last two or more tokens -> expected raw activation at the last one."""
    by_previous: Mapping[str, float]
    """The token before -> how much more than its own mean any token is expected to have."""
    by_place: tuple[float, ...] = ()
    """The same for the first places of a window, whatever stands there."""


NO_CONTEXTS = ContextMeans({}, {})
SHRINKAGE = 2.0
"""As many positions as the token lookup table counts for beside a pattern's own."""


class Before(NamedTuple):
    """A token that comes next where the unit is strongly active, far more often than elsewhere."""

    token: str
    share: float
    """Of the strong activation."""


@dataclass(frozen=True, slots=True)
class FoundPatterns:
    """What a search for a unit's patterns came to."""

    patterns: tuple[Pattern, ...]
    """By share, the largest first."""
    n_tokens: int
    """Of the forward passes that it took."""
    is_cut_short: bool
    """Its budget ended it."""
    before: Before | None = None
    """What mostly follows."""


class _Node:
    """What is known at the end of a path that is read backwards from the current token."""

    __slots__ = ("any", "children", "value")

    def __init__(self) -> None:
        self.value: float | None = None
        self.children: dict[str, _Node] = {}
        self.any: _Node | None = None

    def child(self, token: str | None) -> _Node:
        if token is not None:
            child = self.children.get(token)
            if child is None:
                child = self.children[token] = _Node()
            return child
        if self.any is None:
            self.any = _Node()
        return self.any


@dataclass(frozen=True, slots=True)
class PatternTrie:
    """A rule that predicts a unit's activation from the token and what stands before it."""

    table: TokenLookupTable
    patterns: tuple[Pattern, ...] = ()
    """By share, the largest first."""
    contexts: ContextMeans = NO_CONTEXTS
    _root: _Node = field(default_factory=_Node, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for pattern in reversed(self.patterns):  # where two fit equally well the first one stays
            self._insert(pattern)
        for suffix, value in self.contexts.by_suffix.items():
            node = self._root
            for token in reversed(suffix):
                node = node.child(token)
            node.value = value

    def expected_activations(self, tokens: Sequence[str]) -> tuple[float, ...]:
        """Raw, one a token."""
        return tuple(self.expected_activation(tokens, place) for place in range(len(tokens)))

    def expected_activation(self, tokens: Sequence[str], place: int) -> float:
        """Raw, at `tokens[place]`.

        The path of the trie that fits with most tokens that had to, then the longest, then the one
        that fixes the nearer tokens; else the table, with what the token before adds. What the
        place adds comes on top.
        """
        contexts = self.contexts
        value = _find_value(self._root, tokens, place)
        if value is None:
            value = self.table.expected_activation(tokens[place])
            if place > 0:
                value += contexts.by_previous.get(tokens[place - 1], 0.0)
        return value + (contexts.by_place[place] if place < len(contexts.by_place) else 0.0)

    def _insert(self, pattern: Pattern) -> None:
        """The path of token sets, the current token's first, as paths of single tokens.

        A pattern of the current token alone adds nothing where the table has the token, and one
        of a window's start nothing to what the place adds.
        """
        if pattern.at_start:
            return
        current = pattern.sets[-1]
        is_alone = len(pattern.sets) == 1
        n = pattern.n_matches
        for token in (None,) if current is None else sorted(current):
            if is_alone and token in self.table.mean_by_token:
                continue
            base = self.table.default if token is None else self.table.expected_activation(token)
            value = (n * pattern.activation + SHRINKAGE * base) / (n + SHRINKAGE)
            nodes = [self._root.child(token)]
            for fits in reversed(pattern.sets[:-1]):
                others: Iterable[str | None] = (None,) if fits is None else sorted(fits)
                nodes = [node.child(other) for node in nodes for other in others]
            for node in nodes:
                node.value = value


def _find_value(root: _Node, tokens: Sequence[str], place: int) -> float | None:
    """Of the path that fits with most tokens that had to, then the longest, then the one that
    fixes the nearer tokens; None when none fits."""
    found: float | None = None
    strength = (-1, -1)
    waiting = [(root, place, 0, 0)]  # node, place, tokens that had to fit, length
    while waiting:
        node, place, n_fixed, length = waiting.pop()
        if node.value is not None and (n_fixed, length) > strength:
            found, strength = node.value, (n_fixed, length)
        if place < 0:
            continue
        if node.any is not None:
            waiting.append((node.any, place - 1, n_fixed, length + 1))
        child = node.children.get(tokens[place])
        if child is not None:
            waiting.append((child, place - 1, n_fixed + 1, length + 1))
    return found
