"""Every document has one path, and a path at most one document."""

from __future__ import annotations

import pytest

from neuron_explainer.errors import UnitNotFound, UsageError
from neuron_explainer.published.locations import (
    DATASETS,
    DocumentId,
    Kind,
    check_unit,
    documents_of,
    find_dataset,
)
from neuron_explainer.records.neuron import NeuronId

UNIT = NeuronId(9, 623)


@pytest.mark.parametrize(
    ("dataset", "kind", "path"),
    [
        ("gpt2-xl", Kind.ACTIVATIONS, "data/collated-activations/9/623.json"),
        ("gpt2-xl", Kind.EXPLANATIONS, "data/explanations/9/623.jsonl"),
        ("gpt2-xl", Kind.RELATED_NEURONS, "data/related-neurons/weight-based/9/623.json"),
        ("gpt2-xl", Kind.TOKENS_BY_ACTIVATION, "data/related-tokens/activation-based/9/623.json"),
        ("gpt2-xl", Kind.TOKENS_BY_WEIGHT, "data/related-tokens/weight-based/9/623.json"),
        ("gpt2-small", Kind.ACTIVATIONS, "gpt2_small_data/collated-activations/9/623.json"),
        ("gpt2-small", Kind.EXPLANATIONS, "gpt2_small_data/explanations/9/623.jsonl"),
    ],
)
def test_documents_are_where_they_are_published(dataset: str, kind: Kind, path: str) -> None:
    which = DocumentId(dataset, kind, UNIT)
    assert kind in find_dataset(dataset).kinds
    assert which.path == path
    assert DocumentId.of_path(path) == which


@pytest.mark.parametrize(
    "path",
    [
        "data/explanations/9/623.json", "data/explanations/48/0.jsonl", "explanations/9/623.jsonl",
        "data/explanations/9/6400.jsonl", "data/explanations/09/623.jsonl", "data/9/623.json",
        "gpt2_small_data/related-neurons/weight-based/9/623.json", "data/explanations/9/623.jsonl ",
        "gpt2_small_data/explanations/9/3072.jsonl", "data/explanations/neurons/9/623.jsonl", "",
    ],
)  # fmt: skip
def test_other_paths_have_no_document(path: str) -> None:
    assert DocumentId.of_path(path) is None


def test_a_dataset_has_as_many_documents_as_units_and_kinds() -> None:
    xl, small = DATASETS["gpt2-xl"], DATASETS["gpt2-small"]
    everything = set(documents_of(xl, range(2), xl.kinds, xl.n_neurons))
    assert len(everything) == 2 * 6400 * 5
    assert len({which.path for which in everything}) == len(everything)
    assert len(list(documents_of(small, range(12), small.kinds, 3072))) == 12 * 3072 * 2


def test_units_that_the_subject_has_not_are_refused() -> None:
    check_unit(DATASETS["gpt2-xl"], NeuronId(47, 6399))
    for unit in (NeuronId(48, 0), NeuronId(0, 6400)):
        with pytest.raises(UnitNotFound, match="layers 0-47 of neurons 0-6399"):
            check_unit(DATASETS["gpt2-xl"], unit)


def test_an_unknown_dataset_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="gpt2-xl, gpt2-small"):
        find_dataset("gpt2-medium")
