"""The records of a run whose collection is under way: there as soon as it is whole."""

from __future__ import annotations

from collections.abc import Iterator

from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.records import has_records, open_records
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.stores.record_source import Manifest, RecordSource


class AwaitedRecords:
    """A `RecordSource`; until the collection is whole each call is a StoreError that says so."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._found: RecordSource | None = None

    @property
    def manifest(self) -> Manifest:
        return self._records.manifest

    def neuron_ids(self) -> Iterator[NeuronId]:
        return self._records.neuron_ids()

    def read_neuron(self, neuron_id: NeuronId) -> NeuronRecord:
        return self._records.read_neuron(neuron_id)

    def read_density(self, neuron_id: NeuronId) -> float | None:
        return self._records.read_density(neuron_id)

    def read_token_lookup(self, neuron_id: NeuronId) -> TokenLookupTable:
        return self._records.read_token_lookup(neuron_id)

    @property
    def _records(self) -> RecordSource:
        if self._found is None:
            if not has_records(self._folder):
                raise StoreError(
                    f"the collection of {self._folder.path} is not whole yet; Live shows how far "
                    "it is"
                )
            self._found = open_records(self._folder)
        return self._found
