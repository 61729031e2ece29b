"""The published explanations of some units, and their published scores as a method of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.listed_rows import read_claim
from neuron_explainer.formats.openai_mapping import PUBLISHED, from_published_explanation
from neuron_explainer.pipeline.fetch import PublishedPlace
from neuron_explainer.pipeline.kept import Kept
from neuron_explainer.pipeline.spec import fingerprint
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.published.record_source import read_archived
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.published import PublishedExplanation, PublishedResults
from neuron_explainer.records.score import ScoredSimulation
from neuron_explainer.stores.results import Results

AS_PUBLISHED = "as published"
ABSENT = "no published explanation: the source has none"
NO_TEXT = "no published explanation: the document has none"


@dataclass(frozen=True, slots=True)
class Said:
    """What is published of a unit, as it goes into results."""

    explanation: Explanation
    scored: ScoredSimulation


def keep_published(
    results: Results, place: PublishedPlace, neuron_ids: Sequence[NeuronId], left_out: Counter[str]
) -> Kept:
    """The best-scored explanation of each unit; a method of the results that is then the current
    one. left_out is filled with what the documents hold and the results do not.
    """
    choices = {
        "explainer": PUBLISHED, "simulator": PUBLISHED,
        "dataset": place.dataset.name, "source": place.address,
    }  # fmt: skip
    origin = fingerprint(choices)
    results.use_method(origin, choices)
    finished = results.finished(origin)
    kept = {}
    with Archive(place.archive_path, read_only=True) as archive:
        for neuron_id in neuron_ids:
            said = _read(archive, place, neuron_id, left_out)
            if isinstance(said, Said):
                kept[neuron_id] = (said.explanation,)
            if neuron_id in finished:
                continue
            if isinstance(said, str):
                results.add_unexplained(origin, neuron_id, PUBLISHED, said)
            else:
                results.add_explained(origin, said.explanation, said.scored)
    return Kept(origin, AS_PUBLISHED, kept)


def _read(
    archive: Archive, place: PublishedPlace, neuron_id: NeuronId, left_out: Counter[str]
) -> Said | str:
    """What is published, or why nothing is."""
    which = DocumentId(place.dataset.name, Kind.EXPLANATIONS, neuron_id)
    reading = read_archived(archive, which, place.address)
    if reading is None:
        return ABSENT
    assert isinstance(reading.value, PublishedResults)
    best = next(iter(reading.value.explanations), None)
    if best is None or read_claim(best.text, left_out) is None:
        return NO_TEXT
    left_out["other explanation of a unit"] += len(reading.value.explanations) - 1
    return _to_said(best, neuron_id, left_out)


def _to_said(best: PublishedExplanation, neuron_id: NeuronId, left_out: Counter[str]) -> Said:
    try:
        mapped = from_published_explanation(best, neuron_id)
    except RecordFormatError:  # which of its windows are top ones is not known
        left_out["windows of an explanation that cannot be told apart"] += 1
        bare = PublishedExplanation(
            best.text, (), best.ev_correlation_score, best.rsquared_score,
            best.absolute_dev_explained_score,
        )  # fmt: skip
        mapped = from_published_explanation(bare, neuron_id)
    left_out.update(mapped.left_out)
    return Said(*mapped.value)
