"""Where the published dataset keeps what it says of each unit (Bills et al. 2023).

    {data, gpt2_small_data}/collated-activations/{L}/{N}.json   windows and moments
    {data, gpt2_small_data}/explanations/{L}/{N}.jsonl          explanations and scores
    data/related-neurons/weight-based/{L}/{N}.json              units before and behind
    data/related-tokens/activation-based/{L}/{N}.json           tokens by mean activation
    data/related-tokens/weight-based/{L}/{N}.json               tokens by weight

below an address that has no listing: a file is there, or its request is answered with 404. Only
the first two are announced for GPT-2 small. A mirror is a folder of the same layout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from neuron_explainer.errors import UnitNotFound, UsageError
from neuron_explainer.records.neuron import NeuronId

PUBLISHED_URL = "https://openaipublic.blob.core.windows.net/neuron-explainer"


class Kind(StrEnum):
    """What a document says of a unit."""

    ACTIVATIONS = "activations"
    EXPLANATIONS = "explanations"
    RELATED_NEURONS = "related-neurons"
    TOKENS_BY_ACTIVATION = "tokens-by-activation"
    TOKENS_BY_WEIGHT = "tokens-by-weight"


_FOLDERS = {
    Kind.ACTIVATIONS: "collated-activations",
    Kind.EXPLANATIONS: "explanations",
    Kind.RELATED_NEURONS: "related-neurons/weight-based",
    Kind.TOKENS_BY_ACTIVATION: "related-tokens/activation-based",
    Kind.TOKENS_BY_WEIGHT: "related-tokens/weight-based",
}
_SUFFIXES = {kind: "jsonl" if kind is Kind.EXPLANATIONS else "json" for kind in Kind}


@dataclass(frozen=True, slots=True)
class Dataset:
    """One subject model's part."""

    name: str
    folder: str
    n_layers: int
    n_neurons: int
    """In each layer."""
    kinds: tuple[Kind, ...]

    def has(self, neuron_id: NeuronId) -> bool:
        """Whether the subject has such a unit."""
        return (
            0 <= neuron_id.layer_index < self.n_layers
            and 0 <= neuron_id.neuron_index < self.n_neurons
        )


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("gpt2-xl", "data", 48, 6400, tuple(Kind)),
        Dataset("gpt2-small", "gpt2_small_data", 12, 3072, (Kind.ACTIVATIONS, Kind.EXPLANATIONS)),
    )
}


class DocumentId(NamedTuple):
    """Which document: of which dataset, of what kind, of which unit."""

    dataset: str
    kind: Kind
    neuron_id: NeuronId

    @property
    def path(self) -> str:
        """Below the address, or the mirror's folder: `data/explanations/9/6236.jsonl`."""
        folder = f"{DATASETS[self.dataset].folder}/{_FOLDERS[self.kind]}"
        layer_index, neuron_index = self.neuron_id.layer_index, self.neuron_id.neuron_index
        return f"{folder}/{layer_index}/{neuron_index}.{_SUFFIXES[self.kind]}"

    @classmethod
    def of_path(cls, path: str) -> DocumentId | None:
        """The document at a path; None where the layout has none."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        dataset, kind = _BY_FOLDER.get(match["dataset"]), _BY_KIND_FOLDER.get(match["kind"])
        neuron_id = NeuronId(int(match["layer"]), int(match["neuron"]))
        if dataset is None or kind not in dataset.kinds or not dataset.has(neuron_id):
            return None
        return cls(dataset.name, kind, neuron_id) if match["suffix"] == _SUFFIXES[kind] else None


_INDEX = r"0|[1-9][0-9]{0,8}"
_PATH = re.compile(
    rf"(?P<dataset>\w+)/(?P<kind>[a-z/-]+)/(?P<layer>{_INDEX})/(?P<neuron>{_INDEX})\.(?P<suffix>\w+)"
)
_BY_KIND_FOLDER = {folder: kind for kind, folder in _FOLDERS.items()}
_BY_FOLDER = {dataset.folder: dataset for dataset in DATASETS.values()}


def find_dataset(name: str) -> Dataset:
    """UsageError for another name than those of DATASETS."""
    if name not in DATASETS:
        raise UsageError(f"no published dataset {name!r}; there are {', '.join(DATASETS)}")
    return DATASETS[name]


def check_unit(dataset: Dataset, neuron_id: NeuronId) -> None:
    """UnitNotFound for a unit that the subject has not."""
    if not dataset.has(neuron_id):
        raise UnitNotFound(
            f"{dataset.name} has no neuron {neuron_id}: it has layers 0-{dataset.n_layers - 1} "
            f"of neurons 0-{dataset.n_neurons - 1}"
        )


def documents_of(
    dataset: Dataset, layers: Sequence[int], kinds: Sequence[Kind], n_neurons: int
) -> Iterator[DocumentId]:
    """Of the first neurons of some layers: all kinds of a unit, then the next unit."""
    for layer_index in layers:
        for neuron_index in range(n_neurons):
            for kind in kinds:
                yield DocumentId(dataset.name, kind, NeuronId(layer_index, neuron_index))
