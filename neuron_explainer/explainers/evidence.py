"""What an explainer model is shown of a unit, read from what was recorded of it.

An explainer sees no window that its explanation is selected or scored on: the strongest windows
are those of the train split, and the quiet ones come from the strata, which no split takes from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from neuron_explainer.errors import CannotExplain, UsageError
from neuron_explainer.explainers.token_lookup import ranked_tokens
from neuron_explainer.prompts.activations import ShownWindow, normalize_window, strongest
from neuron_explainer.prompts.explain import Evidence, Need
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import ActivationRecord, NeuronId, NeuronRecord
from neuron_explainer.records.patterns import FoundPatterns
from neuron_explainer.records.splits import Split, split_records

N_RANKED, N_TOKENS = 100, 50
"""Bills et al. 2023: 50 of the 100 tokens with the largest means."""
MIN_SHARE_OF_BEST = 0.1
"""A token whose mean is smaller beside the best one's is not worth a model's attention."""
STRONG_FROM = 0.5
"""A token is one of the unit's own when its activation is at least this share of the largest."""
QUIET_UP_TO = 1
"""Normalized: a window is quiet when no token exceeds it."""


class OutputTokens(Protocol):
    """What a unit's output weights do to the logits, such as `subject.output_tokens` gives it."""

    @property
    def promoted(self) -> tuple[str, ...]: ...

    @property
    def suppressed(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class EvidenceSources:
    """How much of a unit's record is shown, and where the rest comes from."""

    n_windows: int = 5
    """Strongest windows (published: 5)."""
    n_quiet: int = 5
    read_table: Callable[[NeuronId], TokenLookupTable] | None = None
    read_output: Callable[[NeuronId], OutputTokens] | None = None
    read_patterns: Callable[[NeuronId], FoundPatterns] | None = None
    """Given: the seeds of a unit's patterns are shown in place of its strongest windows."""

    def require(self, needs: Collection[Need]) -> None:
        """UsageError when a part that is needed has no source."""
        if Need.TOKENS in needs and self.read_table is None:
            raise UsageError("this prompt needs the token lookup tables of the collection")
        if Need.OUTPUT in needs and self.read_output is None:
            raise UsageError("this prompt needs the subject model, whose weights it reads")

    def gather(self, record: NeuronRecord, needs: Collection[Need]) -> Evidence:
        """The parts that are needed; CannotExplain when one of them is empty for this unit."""
        windows = self._strongest_windows(record) if Need.WINDOWS in needs else ()
        quiet = find_quiet_windows(record, windows, self.n_quiet) if Need.QUIET in needs else ()
        tokens: tuple[str, ...] = ()
        if Need.TOKENS in needs and self.read_table is not None:
            tokens = strongest_tokens(self.read_table(record.neuron_id))
        promoted: tuple[str, ...] = ()
        suppressed: tuple[str, ...] = ()
        if Need.OUTPUT in needs and self.read_output is not None:
            output = self.read_output(record.neuron_id)
            promoted, suppressed = output.promoted, output.suppressed
        return Evidence(windows, quiet, tokens, promoted, suppressed)

    def _strongest_windows(self, record: NeuronRecord) -> tuple[ShownWindow, ...]:
        if self.read_patterns is not None:
            return show_seeds(self.read_patterns(record.neuron_id), record.max_activation)
        train = split_records(record, Split.TRAIN, self.n_windows).top
        if not train:
            raise CannotExplain("too few windows: none in the train split")
        return tuple(normalize_window(window, record.max_activation) for window in train)


def show_seeds(found: FoundPatterns, max_activation: float) -> tuple[ShownWindow, ...]:
    """The texts that patterns were found in, as far as they matter, by share, each once.

    CannotExplain when there is no pattern.
    """
    seeds = dict.fromkeys(
        ActivationRecord(pattern.seed, pattern.seed_activations) for pattern in found.patterns
    )
    if not seeds:
        raise CannotExplain("no pattern found")
    return tuple(normalize_window(seed, max_activation) for seed in seeds)


def find_quiet_windows(
    record: NeuronRecord, windows: Sequence[ShownWindow], n_quiet: int
) -> tuple[ShownWindow, ...]:
    """Windows of the strata that hold the unit's own tokens, and in which it is quiet all the same.

    Those with the most and strongest of these tokens first, then lower bands first; there may be
    none. `windows`: the unit's strongest, which say what its own tokens are.
    """
    largest = max((window.max_activation for window in windows), default=0)
    own = {token: a for token, a in strongest(windows) if a >= STRONG_FROM * largest}
    in_strata = (window for stratum in record.strata for window in stratum.records)
    shown = (normalize_window(window, record.max_activation) for window in in_strata)
    tempting = [
        (sum(own[token] for token in own.keys() & set(window.tokens)), window)
        for window in shown
        if window.max_activation <= QUIET_UP_TO
    ]
    found = sorted((pair for pair in tempting if pair[0] > 0), key=lambda pair: -pair[0])
    return tuple(window for _, window in found[:n_quiet])


def strongest_tokens(table: TokenLookupTable) -> tuple[str, ...]:
    """50 of the 100 tokens with the largest positive means, evenly spread over them, best first.

    Tokens that the fit text has often, if any is. CannotExplain when no mean is positive.
    """
    best = ranked_tokens(table)[:N_RANKED]
    if not best:
        raise CannotExplain("no token has a positive mean activation on the fit text")
    tokens = [token for token, mean in best if mean >= MIN_SHARE_OF_BEST * best[0][1]]
    step = max(1, len(tokens) / N_TOKENS)
    return tuple(tokens[int(i * step)] for i in range(min(len(tokens), N_TOKENS)))
