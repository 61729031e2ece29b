"""What the page of one unit shows, read from its source: claims, windows, bands, a histogram."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.errors import CannotExplain, NeuronExplainerError, UnitNotFound
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import ActivationRecord, NeuronId, NeuronRecord
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import TOP_AND_RANDOM, Score
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.makers import makers_of
from neuron_explainer.stores.pattern_store import plain_pattern
from neuron_explainer.viewer.comparison_source import report_window
from neuron_explainer.viewer.display import rarity, significant
from neuron_explainer.viewer.report import Card, make_card
from neuron_explainer.viewer.report_data import ReportNeuron
from neuron_explainer.viewer.sources import Claim, MeanToken, ViewSource

N_TOP_OPEN = 3
"""Top windows that are seen at once."""
N_STRONGEST = 3
"""Tokens of a window that are named with their values."""
N_TOKENS = 20
"""Of the tokens by mean activation."""
N_BINS = 50
MIN_COUNT = 5
"""A token that is rarer has no mean worth naming."""


class WindowSet(NamedTuple):
    """Recorded windows under one heading."""

    name: str
    """`top`, `band-0`, `random`: in an address."""
    title: str
    note: str
    windows: Sequence[ActivationRecord]


class Strongest(NamedTuple):
    """A token of a window, and its activation."""

    token: str
    activation: float


class Histogram(NamedTuple):
    """Activations on the random windows, in 50 equal steps from the least to the greatest."""

    path: str
    """SVG path in a box of 100 x 100; heights are logarithms of counts."""
    least: float
    greatest: float
    zero: float | None
    """Where 0 lies, in percent; None: not between the ends."""
    n_tokens: int
    n_positive: int


class ClaimCard(NamedTuple):
    """One method's claim, as a card draws it."""

    claim: Claim
    card: Card | None
    """None: there is no explanation; the result says why."""
    baseline: tuple[str, Score] | None
    """Label and headline score of what it is read beside."""
    is_current: bool

    @property
    def gain(self) -> float | None:
        """Of the headline score over the baseline's; None where one is not scored."""
        mine, other = self.claim.result.score, self.baseline and self.baseline[1]
        if mine is None or other is None or mine.metric != other.metric:
            return None
        if mine.value is None or other.value is None:
            return None
        return mine.value - other.value


@dataclass(frozen=True, slots=True)
class UnitPage:
    """All that the server reads for the page; the rest the page asks for when it is looked at."""

    neuron_id: NeuronId
    record: NeuronRecord | None
    problem: str | None
    """Why there is no record; None: there is one."""
    claims: tuple[ClaimCard, ...]
    imported: tuple[tuple[str, UnitResult], ...]
    sets: tuple[WindowSet, ...]
    histogram: Histogram | None

    @property
    def text(self) -> str | None:
        """The current explanation."""
        return self.claims[0].claim.result.text if self.claims else None


def read_unit_page(source: ViewSource, neuron_id: NeuronId) -> UnitPage:
    """UnitNotFound for a unit of which nothing is known here."""
    record, problem = read_record(source, neuron_id)
    claims = source.read_claims(neuron_id)
    imported = source.read_imported(neuron_id)
    if record is None and not claims and not imported:
        raise UnitNotFound(problem or f"no neuron {neuron_id}")
    return UnitPage(
        neuron_id,
        record,
        problem,
        tuple(_claim_cards(claims, record)),
        imported,
        () if record is None else window_sets(record),
        None if record is None else activation_histogram(record.random),
    )


def read_record(source: ViewSource, neuron_id: NeuronId) -> tuple[NeuronRecord | None, str | None]:
    """The record, or why there is none."""
    try:
        return source.records.read_neuron(neuron_id), None
    except (CannotExplain, UnitNotFound) as error:
        return None, str(error)


def window_sets(record: NeuronRecord) -> tuple[WindowSet, ...]:
    """Top windows, the bands from the highest down, random windows; empty ones are left out."""
    top = WindowSet("top", "Top windows", "where its largest activation is largest", record.top)
    bands = [
        WindowSet(
            f"band-{number}",
            f"Windows with their largest activation {_band(stratum.low, stratum.high)}",
            "a sample" if stratum.population is None else f"a sample of {stratum.population:,}",
            stratum.records,
        )
        for number, stratum in enumerate(record.strata)
    ]
    random = WindowSet(
        "random", "Random windows", "drawn without a look at the neuron", record.random
    )
    return tuple(one for one in (top, *reversed(bands), random) if one.windows)


def strongest_tokens(window: ActivationRecord) -> list[Strongest]:
    """The few with the largest activation above 0, the largest first."""
    pairs = zip(window.tokens, window.activations, strict=True)
    active = [Strongest(token, value) for token, value in pairs if value is not None and value > 0]
    return sorted(active, key=lambda one: -one.activation)[:N_STRONGEST]


def top_tokens(table: TokenLookupTable) -> list[MeanToken]:
    """The tokens with the largest mean activation, of those that came often enough."""
    counts = table.count_by_token
    frequent = (
        MeanToken(token, mean, counts[token])
        for token, mean in table.mean_by_token.items()
        if counts[token] >= MIN_COUNT
    )
    return sorted(frequent, key=lambda one: -one.mean)[:N_TOKENS]


def activation_histogram(windows: Iterable[ActivationRecord]) -> Histogram | None:
    """None where nothing counts, or all activations are the same."""
    counted = [a for window in windows for a in window.activations if a is not None]
    values: NDArray[np.float64] = np.array(counted, dtype=np.float64)  # (token,)
    if not len(values) or values.min() == values.max():
        return None
    least, greatest = float(values.min()), float(values.max())
    places = N_BINS * ((values - least) / (greatest - least))
    counts = np.bincount(np.minimum(places.astype(np.int64), N_BINS - 1), minlength=N_BINS)
    heights = 100 * np.log1p(counts) / math.log1p(int(counts.max()))
    width = 100 / N_BINS
    steps = (f"V{100 - height:.4g}H{(i + 1) * width:.4g}" for i, height in enumerate(heights))
    zero = 100 * -least / (greatest - least) if least <= 0 <= greatest else None
    return Histogram(
        f"M0 100{''.join(steps)}V100Z",
        least,
        greatest,
        None if zero is None else round(zero, 2),
        len(values),
        int((values > 0).sum()),
    )


def unit_json(page: UnitPage) -> dict[str, Any]:
    """For a program: everything that is on record of the unit."""
    return {
        "layer": page.neuron_id.layer_index,
        "neuron": page.neuron_id.neuron_index,
        "record": None if page.record is None else asdict(page.record),
        "problem": page.problem,
        "explanations": [_claim_json(card) for card in page.claims],
        "imported": [{"list": name, **_result_json(result)} for name, result in page.imported],
    }


def unit_markdown(page: UnitPage, title: str) -> str:
    """A few lines to paste: what is said of the unit, its scores, and its strongest tokens."""
    lines = [f"## {title}, neuron {page.neuron_id}"]
    for card in page.claims:
        result = card.claim.result
        said = "no explanation" if result.text is None else f"“{_one_line(result.text)}”"
        score = result.score
        if score is None or score.value is None:
            worth = f"not scored: {result.unscored_reason}"
        else:
            worth = f"score {score.value:.3f}"
            if score.low is not None and score.high is not None:
                worth += f" (95 % interval {score.low:.3f} to {score.high:.3f})"
        lines.append(f"- {said} – {_one_line(card.claim.label)}: {worth}")
    if page.record is not None and page.record.density is not None:
        lines.append(f"- above 0 on {rarity(page.record.density)} of the tokens")
    if page.record is not None:
        tokens = [one for window in page.record.top[:5] for one in strongest_tokens(window)[:1]]
        named = ", ".join(f"`{_one_line(t)}` {significant(a)}" for t, a in tokens)
        lines.append(f"- strongest tokens of its top windows: {named}")
    return "\n".join(lines) + "\n"


def _claim_cards(claims: Sequence[Claim], record: NeuronRecord | None) -> Iterable[ClaimCard]:
    for number, claim in enumerate(claims):
        others = (other for other in claims if other.method == claim.baseline)
        beside = next(others, None)
        score = None if beside is None else beside.result.score
        baseline = None if beside is None or score is None else (beside.label, score)
        card = None if claim.result.text is None else claim_card(claim, baseline, record)
        yield ClaimCard(claim, card, baseline, is_current=number == 0)


def claim_card(
    claim: Claim, baseline: tuple[str, Score] | None, record: NeuronRecord | None
) -> Card:
    """Of a claim that has a text."""
    result, windows = claim.result, claim.windows
    assert result.text is not None
    truths = (a for window in windows for a in window.true_activations if a is not None)
    full = record.max_activation if record is not None else max(truths, default=0.0)
    scale = windows[0].simulation.scale if windows else ActivationScale.NEURON
    return make_card(
        ReportNeuron(
            neuron_id=result.neuron_id,
            text=result.text,
            makers=makers_of(result, claim.simulation_prompt),
            scores=_headline_first(result),
            max_activation=full,
            windows=tuple(map(report_window, windows)),
            baselines=dict([baseline]) if baseline is not None else {},
            patterns=claim.patterns,
            simulated_scale=scale,
        )
    )


def _headline_first(result: UnitResult) -> dict[str, Score]:
    """The card shows the headline large; one of another name goes by that of ours."""
    if result.headline in (None, TOP_AND_RANDOM):
        return result.scores
    assert result.headline is not None
    others = {name: score for name, score in result.scores.items() if name != result.headline}
    return {TOP_AND_RANDOM: result.scores[result.headline], **others}


def _claim_json(card: ClaimCard) -> dict[str, Any]:
    claim = card.claim
    return {
        "method": claim.method,
        "label": claim.label,
        "is_current": card.is_current,
        **_result_json(claim.result),
        "candidates": [{"text": text, "score": asdict(score)} for text, score in claim.candidates],
        "patterns": [plain_pattern(pattern) for pattern in claim.patterns],
        "windows": [asdict(window) for window in claim.windows],
    }


def _result_json(result: UnitResult) -> dict[str, Any]:
    plain = asdict(result)
    plain.pop("neuron_id")
    return plain


def _band(low: float | None, high: float | None) -> str:
    if low is None:
        return "anywhere" if high is None else f"below {significant(high)}"
    return f"from {significant(low)}" + ("" if high is None else f" to {significant(high)}")


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("`", "ˋ")


def find_windows(page_record: NeuronRecord, name: str) -> WindowSet | None:
    """The set of that name; None: there is none."""
    return next((one for one in window_sets(page_record) if one.name == name), None)


def read_tokens(source: ViewSource, neuron_id: NeuronId) -> tuple[list[MeanToken], str | None]:
    """Tokens by mean activation, or why there are none."""
    try:
        if source.read_token_means is not None:
            return list(source.read_token_means(neuron_id)[:N_TOKENS]), None
        return top_tokens(source.records.read_token_lookup(neuron_id)), None
    except NeuronExplainerError as error:
        return [], str(error)
