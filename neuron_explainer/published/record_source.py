"""The published dataset (Bills et al. 2023) as units with windows of text, read from an archive.

Windows have 64 tokens; the published splits are those of `records/splits.py`: every fourth top
window, every third random one. What an explainer is shown is never scored on: a random window that
is also a top window or in a band, and a window that comes again, are left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from neuron_explainer.errors import CannotExplain, UnitNotFound
from neuron_explainer.formats.openai_json import Reading
from neuron_explainer.formats.openai_mapping import from_published_record
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.documents import Content, read_content
from neuron_explainer.published.locations import Dataset, DocumentId, Kind, check_unit
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import ActivationRecord, NeuronId, NeuronRecord
from neuron_explainer.records.published import PublishedRecord
from neuron_explainer.records.units import Units
from neuron_explainer.stores.record_source import Facts

N_CTX = 64
SITE = "mlp_post_act"
NO_TOKEN_MEANS = "published records have no mean activation by token"
REPEATED = "top window that repeats another one"
ALSO_TOP = "random window that is also a top window"
IN_A_BAND = "random window that is also in a band"
BAND_TOP = "window of a band that is also a top window"


@dataclass(frozen=True, slots=True)
class PublishedManifest:
    """Of one dataset, from one source."""

    dataset: Dataset
    source: str
    """The address or the mirror's folder that the documents are from."""
    site: str = SITE
    n_ctx: int = N_CTX

    @property
    def fingerprint(self) -> str:
        name = f"published {self.dataset.name} {self.source}"
        return blake2b(name.encode(), digest_size=8).hexdigest()

    @property
    def subject(self) -> str:
        return self.dataset.name

    @property
    def units(self) -> Units:
        return Units(self.layers, self.dataset.n_neurons)

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(range(self.dataset.n_layers))

    def size(self) -> str:
        return self.units.sentence()

    def facts(self) -> Facts:
        return (
            ("Text", f"windows of {self.n_ctx} tokens as published with {self.dataset.name}, from "
                     f"{self.source}; of which documents is not said"),
            ("Activations", "as published: of a quick GELU, in 16 bits"),
            ("Not said", "how many windows fall in a band, how many tokens the moments are over, "
                         "mean activations by token"),
        )  # fmt: skip


class PublishedSource:
    """A `RecordSource`; no file is held open, so that it may live as long as its reader."""

    def __init__(self, archive: Path, dataset: Dataset, source: str) -> None:
        """source: as the archive remembers it."""
        self._archive = archive
        self.manifest = PublishedManifest(dataset, source)

    def neuron_ids(self) -> Iterator[NeuronId]:
        """Every unit of the subject, whether its documents are in the archive or not."""
        yield from self.manifest.units

    def read_neuron(self, neuron_id: NeuronId) -> NeuronRecord:
        """UnitNotFound when the subject has no such unit, or it was not fetched yet; CannotExplain
        when it has no published record, or one without a window; StoreError for a damaged archive.
        """
        return self.read(neuron_id).value

    def read(self, neuron_id: NeuronId) -> Reading[NeuronRecord]:
        """The same, with the windows that are left out."""
        check_unit(self.manifest.dataset, neuron_id)
        which = DocumentId(self.manifest.dataset.name, Kind.ACTIVATIONS, neuron_id)
        with Archive(self._archive, read_only=True) as archive:
            content = read_archived(archive, which, self.manifest.source)
        if content is None:
            raise CannotExplain("no published record: the source has none")
        assert isinstance(content.value, PublishedRecord)
        if not content.value.top:
            raise CannotExplain("no top window in the published record")
        record = to_scorable(content.value)
        left_out = Counter(content.left_out) + Counter(record.left_out)
        return Reading(record.value, left_out)

    def read_density(self, neuron_id: NeuronId) -> float | None:
        """None for every unit: the documents do not say."""
        del neuron_id
        return None

    def read_token_lookup(self, neuron_id: NeuronId) -> TokenLookupTable:
        """CannotExplain for every unit."""
        del neuron_id
        raise CannotExplain(NO_TOKEN_MEANS)


def read_archived(archive: Archive, which: DocumentId, source: str) -> Reading[Content] | None:
    """What a document says; None: the source has none.

    UnitNotFound when the source was not asked for it yet, or gave no answer; RecordFormatError and
    StoreError when what the archive holds is damaged.
    """
    archived = archive.read(which)
    if archived is None or (archived.document is None and archived.source != source):
        raise UnitNotFound(
            f"{which.path} is not in {archive.path}; `rescore --published --neurons "
            f"{which.neuron_id}` fetches it"
        )
    return None if archived.document is None else read_content(which, archived.document)


def to_scorable(published: PublishedRecord) -> Reading[NeuronRecord]:
    """A record of which no window is both shown and scored on; the top windows are at least one."""
    reading = from_published_record(published)
    record, left_out = reading.value, Counter(reading.left_out)
    top = tuple(dict.fromkeys(record.top))
    left_out[REPEATED] += len(record.top) - len(top)
    is_top = set(top)
    strata = []
    for stratum in record.strata:
        kept = _without(stratum.records, is_top)
        left_out[BAND_TOP] += len(stratum.records) - len(kept)
        strata.append(replace(stratum, records=kept))
    in_a_band = {window for stratum in strata for window in stratum.records}
    no_top = _without(record.random, is_top)
    random = _without(no_top, in_a_band)
    left_out[ALSO_TOP] += len(record.random) - len(no_top)
    left_out[IN_A_BAND] += len(no_top) - len(random)
    whole = replace(record, top=top, strata=tuple(strata), random=random)
    return Reading(whole, +left_out)


def _without(
    windows: tuple[ActivationRecord, ...], others: set[ActivationRecord]
) -> tuple[ActivationRecord, ...]:
    return tuple(window for window in windows if window not in others)
