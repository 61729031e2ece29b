"""Published explanations as the viewer reads them: all in short, and those of one unit whole.

Bills et al. 2023: one document a unit, which may hold several explanations; the first, which is the
best known, stands for the unit in lists.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from neuron_explainer.errors import CannotExplain, RecordFormatError
from neuron_explainer.formats.listed_rows import read_claim
from neuron_explainer.formats.openai_mapping import PUBLISHED, from_published_explanation
from neuron_explainer.formats.openai_results import read_claims
from neuron_explainer.published.archive import Archive, Numbered
from neuron_explainer.published.documents import Content, read_content
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.published.record_source import NO_TOKEN_MEANS
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.published import (
    NeuronsByWeight,
    PublishedExplanation,
    PublishedResults,
    RelatedNeuron,
    RelatedNeurons,
    TokensByActivation,
    TokensByWeight,
    TokenValue,
)
from neuron_explainer.records.score import TOP_AND_RANDOM
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.result_rows import Headline, ResultRow
from neuron_explainer.stores.results import MethodUse
from neuron_explainer.viewer.hooks import (
    AffectedToken,
    AffectedTokens,
    RelatedUnit,
    RelatedUnits,
)
from neuron_explainer.viewer.sources import Claim, MeanToken

logger = logging.getLogger(__name__)
LABEL = "as published"
METRIC = "ev_correlation_score"
DAMAGED = "document not in the format"
NO_TEXT = "no published explanation: the document has none"
NO_SCORE = "no published score"
Held = TypeVar("Held", bound=Content)


class PublishedRows(Closing):
    """A `viewer.sources.RowFeed`: the archive's documents by the number they came under."""

    def __init__(self, archive: Path, dataset: str) -> None:
        self._archive = Archive(archive, read_only=True)
        self._dataset = dataset

    def close(self) -> None:
        self._archive.close()

    @property
    def last_number(self) -> int:
        return self._archive.last_number

    def birth(self) -> str | None:
        return self._archive.name

    def methods(self) -> tuple[MethodUse, ...]:
        return (MethodUse(PUBLISHED, {"explainer": LABEL}, None),)

    def cost(self, method: str) -> UnitCost | None:
        """None: what it cost is not said."""
        del method
        return None

    def after(self, number: int) -> Iterator[ResultRow]:
        yield from map(_row, self._archive.since(number, self._dataset, Kind.EXPLANATIONS))

    def of_numbers(self, numbers: Sequence[int]) -> Iterator[ResultRow]:
        for number in sorted(numbers):
            found = next(self.after(number - 1), None)
            if found is not None and found.number == number:
                yield found


class PublishedClaims:
    """What is published of a unit, best known first; the archive is opened anew for each."""

    def __init__(self, archive: Path, dataset: str) -> None:
        self._archive = archive
        self._dataset = dataset

    def __call__(self, neuron_id: NeuronId) -> tuple[Claim, ...]:
        which = DocumentId(self._dataset, Kind.EXPLANATIONS, neuron_id)
        with Archive(self._archive, read_only=True) as archive:
            content = _read(archive, which, PublishedResults)
        return tuple(
            _claim(explanation, neuron_id, number)
            for number, explanation in enumerate(content.explanations if content else (), 1)
        )


class PublishedWeights:
    """What is published of a unit's weights; None where the archive has no such document."""

    def __init__(self, archive: Path, dataset: str) -> None:
        self._archive = archive
        self._dataset = dataset

    def output_tokens(self, neuron_id: NeuronId) -> AffectedTokens | None:
        which = DocumentId(self._dataset, Kind.TOKENS_BY_WEIGHT, neuron_id)
        with Archive(self._archive, read_only=True) as archive:
            found = _read(archive, which, TokensByWeight)
        if found is None:
            return None
        return AffectedTokens(_affected(found.output_positive), _affected(found.output_negative))

    def related(self, neuron_id: NeuronId) -> RelatedUnits | None:
        which = DocumentId(self._dataset, Kind.RELATED_NEURONS, neuron_id)
        with Archive(self._archive, read_only=True) as archive:
            found = _read(archive, which, RelatedNeurons)
            if found is None:
                return None
            none = NeuronsByWeight((), ())
            directions = (found.upstream or none, found.downstream or none)
            groups = (group for of in directions for group in (of.positive, of.negative))
            return RelatedUnits(*(self._related(archive, group) for group in groups))

    def _related(self, archive: Archive, group: Sequence[RelatedNeuron]) -> tuple[RelatedUnit, ...]:
        return tuple(
            RelatedUnit(one.neuron_id, one.weight, self._has(archive, one.neuron_id))
            for one in group
            if one.weight is not None
        )

    def _has(self, archive: Archive, neuron_id: NeuronId) -> bool:
        kinds = (Kind.EXPLANATIONS, Kind.ACTIVATIONS)
        found = (archive.read(DocumentId(self._dataset, kind, neuron_id)) for kind in kinds)
        return any(one is not None and one.document is not None for one in found)


def read_token_means(archive: Path, dataset: str, neuron_id: NeuronId) -> list[MeanToken]:
    """As published, the largest first; CannotExplain where the archive has none."""
    which = DocumentId(dataset, Kind.TOKENS_BY_ACTIVATION, neuron_id)
    with Archive(archive, read_only=True) as opened:
        found = _read(opened, which, TokensByActivation)
    if found is None:
        raise CannotExplain(NO_TOKEN_MEANS)
    return [MeanToken(one.token, one.value, None) for one in found.tokens if one.value is not None]


def _read(archive: Archive, which: DocumentId, of: type[Held]) -> Held | None:
    """None where the archive has no such document. of: what documents of its kind hold."""
    archived = archive.read(which)
    if archived is None or archived.document is None:
        return None
    content = read_content(which, archived.document).value
    assert isinstance(content, of)
    return content


def _affected(tokens: Sequence[TokenValue]) -> tuple[AffectedToken, ...]:
    return tuple(AffectedToken(one.token, one.value) for one in tokens if one.value is not None)


def _row(numbered: Numbered) -> ResultRow:
    """A document that cannot be read is a row with its reason."""
    text, headline, reason = None, None, None
    try:
        results = read_claims(numbered.document, numbered.which.path).value
        best = next(iter(results.explanations), None)
        text = None if best is None else read_claim(best.text, Counter())
        if best is None or text is None:
            reason = NO_TEXT
        else:
            headline = _headline(best)
    except RecordFormatError as error:
        logger.warning("%s", error)
        reason = DAMAGED
    return ResultRow(
        numbered.number, PUBLISHED, numbered.which.neuron_id, PUBLISHED, None, text, reason, "",
        True, headline, {},
    )  # fmt: skip


def _headline(best: PublishedExplanation) -> Headline:
    value = best.ev_correlation_score
    reason = NO_SCORE if value is None else None
    return Headline(value, None, None, reason, METRIC, PUBLISHED, PUBLISHED)


def _claim(explanation: PublishedExplanation, neuron_id: NeuronId, number: int) -> Claim:
    label = LABEL if number == 1 else f"{LABEL}, explanation {number}"
    try:
        said, scored = from_published_explanation(explanation, neuron_id).value
    except RecordFormatError as error:  # which of its windows are top ones is not known
        logger.warning("neuron %s: %s", neuron_id, error)
        bare = PublishedExplanation(
            explanation.text, (), explanation.ev_correlation_score, explanation.rsquared_score,
            explanation.absolute_dev_explained_score,
        )  # fmt: skip
        said, scored = from_published_explanation(bare, neuron_id).value
    result = UnitResult(
        neuron_id, PUBLISHED, said.text, None, dict(scored.scores), TOP_AND_RANDOM,
        scored.simulator, scorer=scored.scorer,
    )  # fmt: skip
    return Claim(f"{PUBLISHED}-{number}", label, result, scored.windows)
