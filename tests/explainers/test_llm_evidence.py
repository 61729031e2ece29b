"""What a model is shown of a unit: nothing it is scored on, and the hardest counterexamples."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from neuron_explainer.errors import CannotExplain, UsageError
from neuron_explainer.explainers.evidence import (
    N_RANKED,
    N_TOKENS,
    QUIET_UP_TO,
    EvidenceSources,
    find_quiet_windows,
    strongest_tokens,
)
from neuron_explainer.prompts.explain import Need
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import ActivationRecord, NeuronRecord, Stratum
from neuron_explainer.records.splits import Split, split_records
from neuron_explainer.subject.output_tokens import OutputTokens
from tests.scoring.builders import neuron_record, noisy_record, window

OWN = ActivationRecord((" bank", " of", " the", " canal"), (8.0, 2.0, 0.0, 4.0))
MONEY = ActivationRecord((" bank", " loan"), (0.4, 0.0))
BOTH = ActivationRecord((" bank", " canal"), (0.1, None))
ACTIVE = ActivationRecord((" bank", " edge"), (3.0, 0.0))
OTHER = ActivationRecord((" the", " of"), (0.0, 0.1))
"""Holds a token on which the unit is active, but not strongly: no counterexample."""


def banked(*strata: tuple[ActivationRecord, ...]) -> NeuronRecord:
    bands = tuple(Stratum(None, None, 100, records) for records in strata)
    return replace(neuron_record([OWN], [MONEY]), strata=bands)


def table(means: dict[str, float], count: int = 100) -> TokenLookupTable:
    return TokenLookupTable(means, dict.fromkeys(means, count), default=0.0)


def test_only_the_train_split_is_shown() -> None:
    record = noisy_record()
    evidence = EvidenceSources().gather(record, set(Need) - {Need.TOKENS, Need.OUTPUT})
    train = split_records(record, Split.TRAIN).top
    assert [w.tokens for w in evidence.windows] == [w.tokens for w in train]
    assert evidence.windows[0].max_activation == 10
    assert not evidence.quiet


def test_a_smaller_choice_shows_the_strongest_windows() -> None:
    record = noisy_record()
    two, five = (
        EvidenceSources(n_windows=n).gather(record, [Need.WINDOWS]).windows for n in (2, 5)
    )
    assert two == five[:2]


def test_values_are_relative_to_the_unit_s_maximum() -> None:
    record = neuron_record([window([4, 1], "a"), window([2, 2], "b"), window([2, 1], "c"),
                            window([1, 1], "d"), window([1, 0], "e")], [])  # fmt: skip
    shown = EvidenceSources().gather(record, [Need.WINDOWS]).windows
    assert [w.activations for w in shown] == [(10, 2), (2, 0)]


def test_quiet_windows_hold_own_tokens_and_the_hardest_come_first() -> None:
    record = banked((OTHER, MONEY), (BOTH, ACTIVE))
    windows = EvidenceSources().gather(record, [Need.WINDOWS]).windows
    quiet = find_quiet_windows(record, windows, n_quiet=5)
    assert [w.tokens for w in quiet] == [BOTH.tokens, MONEY.tokens]
    assert all(w.max_activation <= QUIET_UP_TO for w in quiet)
    assert find_quiet_windows(record, windows, n_quiet=1) == quiet[:1]


def test_quiet_windows_never_come_from_random_windows() -> None:
    record = banked((OTHER,))
    assert EvidenceSources().gather(record, [Need.WINDOWS, Need.QUIET]).quiet == ()


def test_fifty_of_the_hundred_strongest_tokens_best_first() -> None:
    means = {f" t{i}": 10.0 - i / 40 for i in range(300)}
    rows = list(means.items())
    random.Random(0).shuffle(rows)
    tokens = strongest_tokens(table(dict(rows)))
    assert len(tokens) == N_TOKENS
    assert list(tokens) == [f" t{i}" for i in range(0, N_RANKED, 2)]


def test_rare_and_weak_tokens_are_left_out() -> None:
    means = {" two": 4.0, " half": 3.0, " the": 0.3, ",": -0.2, " zwei": 9.0}
    counts = {**dict.fromkeys(means, 100), " zwei": 1}
    assert strongest_tokens(TokenLookupTable(means, counts, 0.0)) == (" two", " half")
    assert strongest_tokens(table(means, count=1)) == (" zwei", " two", " half")
    with pytest.raises(CannotExplain, match="no token has a positive mean"):
        strongest_tokens(table({" a": 0.0, " b": -1.0}))


def test_each_part_comes_from_its_source() -> None:
    record = noisy_record()
    output = OutputTokens((" up",), (" down",))
    sources = EvidenceSources(
        read_table=lambda _: table({" two": 1.0}), read_output=lambda _: output
    )
    evidence = sources.gather(record, [Need.TOKENS, Need.OUTPUT])
    assert (evidence.tokens, evidence.promoted, evidence.suppressed) == (
        (" two",), (" up",), (" down",)
    )  # fmt: skip
    assert evidence.windows == ()


@pytest.mark.parametrize("need", [Need.TOKENS, Need.OUTPUT])
def test_a_part_without_a_source_is_refused_at_once(need: Need) -> None:
    with pytest.raises(UsageError, match="this prompt needs the"):
        EvidenceSources().require([Need.WINDOWS, need])
    EvidenceSources().require([Need.WINDOWS, Need.QUIET])


def test_a_unit_without_windows_cannot_be_shown() -> None:
    with pytest.raises(CannotExplain, match="too few windows: none in the train split"):
        EvidenceSources().gather(neuron_record([], [MONEY]), [Need.WINDOWS])
