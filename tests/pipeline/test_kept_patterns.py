"""Patterns are shown with the method that they were found for, and with no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept_patterns import (
    CHOICES,
    STAGES,
    open_current_patterns,
    open_kept_patterns,
    open_pattern_store,
)
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import FoundPatterns, Pattern
from neuron_explainer.stores.pattern_store import StoredContexts
from neuron_explainer.stores.results import Results

UNIT = NeuronId(0, 7)
MINE, OTHERS = ({"collection": "c", "n_contexts": 9, "seed": seed} for seed in (0, 1))
"""Choices that patterns were found with."""
NOTHING = StoredContexts(np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.float32))


def found(token: str) -> FoundPatterns:
    pattern = Pattern((frozenset([token]),), 1.0, 3, 0.5, 0.9, (token,), (1.0,))
    return FoundPatterns((pattern,), 20, is_cut_short=False)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """The same unit's patterns by two choices."""
    folder = RunFolder(tmp_path)
    for choices, token in ((MINE, " mine"), (OTHERS, " others")):
        with open_pattern_store(folder.patterns, choices) as kept:
            kept.write_unit_contexts([(UNIT, NOTHING)])
            kept.write_patterns([(UNIT, found(token))])
    return folder


@pytest.mark.parametrize(
    "choices",
    [
        {"explainer": "patterns", CHOICES: MINE},
        {"explainer": "openai:m", "evidence": "patterns", CHOICES: MINE},
        {"explainer": "cascade", STAGES: [{"explainer": "token_lookup"}, {CHOICES: MINE}, {}]},
    ],
)
def test_a_method_has_the_patterns_of_its_own_choices(
    folder: RunFolder, choices: Mapping[str, Any]
) -> None:
    with open_kept_patterns(folder, choices) as kept:
        assert kept is not None
        assert kept.read_patterns(UNIT) == found(" mine")


def test_a_method_without_patterns_has_none(folder: RunFolder, tmp_path: Path) -> None:
    for choices in ({}, {"explainer": "token_lookup"}, {STAGES: [{"explainer": "openai:m"}]}):
        with open_kept_patterns(folder, choices) as kept:
            assert kept is None
    with open_kept_patterns(RunFolder(tmp_path / "elsewhere"), {CHOICES: MINE}) as kept:
        assert kept is None


def test_of_several_methods_the_one_used_last_decides(folder: RunFolder) -> None:
    with Results(folder.results) as results:
        with open_current_patterns(folder, results) as kept:
            assert kept is None
        for name, choices in (("a", {CHOICES: MINE}), ("b", {CHOICES: OTHERS})):
            results.use_method(name, choices)
            with open_current_patterns(folder, results) as kept:
                assert kept is not None
                token = " mine" if name == "a" else " others"
                assert kept.read_patterns(UNIT) == found(token)
        results.use_method("c", {})
        with open_current_patterns(folder, results) as kept:
            assert kept is None
