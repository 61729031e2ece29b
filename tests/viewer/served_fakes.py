"""A source of scripted units with hooks that answer by rule: no model, no run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neuron_explainer.errors import CannotExplain, UnitNotFound
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import ActivationRecord, Moments, NeuronId, NeuronRecord
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import (
    RANDOM_ONLY,
    TOP_AND_RANDOM,
    Score,
    ScoredSimulation,
    ScoredWindow,
)
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.records.units import Units
from neuron_explainer.stores.record_source import Facts
from neuron_explainer.viewer.hooks import (
    AffectedToken,
    AffectedTokens,
    Firing,
    Hooks,
    LayersReading,
    LiveStatus,
    OwnCost,
    OwnScore,
    ReadText,
    RelatedUnit,
    RelatedUnits,
    UnitReading,
)
from neuron_explainer.viewer.sources import Claim, ViewSource

HOSTILE = (
    "<script>document.title='x'</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "\u202etxet desrever\u202c \u200f",
    "🦀🧑‍🚀 🇨🇭",
    "<0xE2> \x00 \x1b[31m",
    "</textarea></script><!--",
    "' OR 1=1 --",
)
"""Texts that must show as text, and run nothing."""
N_LAYERS, N_UNITS = 2, 8


@dataclass(frozen=True)
class FakeManifest:
    fingerprint: str = "f"
    subject: str = "a <b>subject</b>"
    site: str = "mlp_post_act"
    layers: Sequence[int] = tuple(range(N_LAYERS))
    n_ctx: int = 16
    n_a_layer: int = N_UNITS

    @property
    def units(self) -> Units:
        return Units(tuple(self.layers), self.n_a_layer)

    def size(self) -> str:
        return f"{N_LAYERS} layers of {N_UNITS} neurons each"

    def facts(self) -> Facts:
        return (("Text", "scripted"),)


class FakeRecords:
    """Unit n of a layer fires on the n-th word of a window, with 1 + n."""

    manifest = FakeManifest()

    def neuron_ids(self) -> Iterator[NeuronId]:
        return (NeuronId(layer, n) for layer in range(N_LAYERS) for n in range(N_UNITS))

    def read_neuron(self, neuron_id: NeuronId) -> NeuronRecord:
        self._require(neuron_id)
        values = tuple(
            1.0 + neuron_id.neuron_index if i == neuron_id.neuron_index else -0.5
            for i in range(N_UNITS)
        )
        window = ActivationRecord(HOSTILE, values)
        moments = Moments(100, 0.1, 1.0, 0.0, 3.0)
        return NeuronRecord(neuron_id, (window,) * 5, (), (window,) * 5, moments, 0.125)

    def read_density(self, neuron_id: NeuronId) -> float | None:
        self._require(neuron_id)
        return 0.125

    def read_token_lookup(self, _neuron_id: NeuronId) -> TokenLookupTable:
        raise CannotExplain("no mean activation by token")

    def _require(self, neuron_id: NeuronId) -> None:
        if not (0 <= neuron_id.layer_index < N_LAYERS and 0 <= neuron_id.neuron_index < N_UNITS):
            raise UnitNotFound(f"no neuron {neuron_id}")


def claim(neuron_id: NeuronId, text: str | None = None) -> Claim:
    score = Score("ev_correlation_score", 0.5, 100, 0.4, 0.6)
    result = UnitResult(
        neuron_id, "rule", text or HOSTILE[neuron_id.neuron_index], None,
        {TOP_AND_RANDOM: score}, TOP_AND_RANDOM, "rule", scorer="simulation",
    )  # fmt: skip
    return Claim("m", "the rule", result)


def read_claims(neuron_id: NeuronId) -> tuple[Claim, ...]:
    """Units of even number are explained."""
    return (claim(neuron_id),) if neuron_id.neuron_index % 2 == 0 else ()


def fake_source(folder: Path, key: str = "a") -> ViewSource:
    return ViewSource(
        key=key, title=f"source {key} <i>", records=FakeRecords(), folder=folder,
        watched=(), open_rows=None, read_claims=read_claims,
    )  # fmt: skip


def read_words(text: str) -> ReadText:
    """A token a word, at most 15."""
    words = text.split(" ")
    tokens = tuple(word if i == 0 else f" {word}" for i, word in enumerate(words))
    return ReadText(tokens[:15], max(0, len(tokens) - 15))


@dataclass
class Asked:
    """Hooks that remember what they were asked."""

    texts: list[str] = field(default_factory=list)
    by_share: list[bool] = field(default_factory=list)
    scored: list[tuple[NeuronId, str]] = field(default_factory=list)
    cost: OwnCost = field(
        default_factory=lambda: OwnCost("openai:m", "m: 20 requests; at most $0.0100", 0.01, 1.0)
    )
    score: Score = field(default_factory=lambda: Score("ev_correlation_score", 0.25, 80, 0.1, 0.4))

    def read_unit(self, neuron_id: NeuronId, text: str) -> UnitReading:
        FakeRecords().read_density(neuron_id)
        self.texts.append(text)
        read = read_words(text)
        values = [float(i) - 1 for i in range(len(read.tokens))]
        return UnitReading(read, (None, *values[1:]))

    def read_layers(
        self, layers: Sequence[int], text: str, among: Collection[NeuronId] | None, by_share: bool
    ) -> LayersReading:
        """On the first token nothing counts, on the second none fires."""
        self.texts.append(text)
        self.by_share.append(by_share)
        read = read_words(text)
        units = [
            NeuronId(layer, n)
            for layer in layers
            for n in range(N_UNITS)
            if among is None or NeuronId(layer, n) in among
        ]
        firing: list[tuple[Firing, ...] | None] = [None, ()]
        for i in range(2, len(read.tokens)):
            firing.append(
                tuple(Firing(unit, i + 1 / (1 + j), None) for j, unit in enumerate(units[:3]))
            )
        return LayersReading(
            read, tuple(layers), len(units), False, tuple(firing[: len(read.tokens)])
        )

    def output_tokens(self, _neuron_id: NeuronId) -> AffectedTokens:
        promoted, suppressed = (
            tuple(AffectedToken(token, sign * (3.0 - i)) for i, token in enumerate(tokens))
            for sign, tokens in ((1, HOSTILE[:2]), (-1, HOSTILE[2:4]))
        )
        return AffectedTokens(promoted, suppressed)

    def related(self, _neuron_id: NeuronId) -> RelatedUnits:
        return RelatedUnits((RelatedUnit(NeuronId(1, 0), 0.75, True),), (), (), ())

    def cost_of_own(self, _neuron_id: NeuronId, _text: str) -> OwnCost:
        return self.cost

    def score_own(self, neuron_id: NeuronId, text: str) -> OwnScore:
        self.scored.append((neuron_id, text))
        simulation = SequenceSimulation(HOSTILE, (None, *(1.0,) * 7), ActivationScale.NORMALIZED)
        window = ScoredWindow("top", simulation, (0.5,) * 8, self.score)
        scored = ScoredSimulation(
            "simulation", "m", {TOP_AND_RANDOM: self.score, RANDOM_ONLY: self.score}, (window,),
            TOP_AND_RANDOM,
        )  # fmt: skip
        return OwnScore(scored, UnitCost(20, 100, 0, 10, 5_000_000_000))

    def status(self) -> LiveStatus:
        return live()

    def hooks(self) -> Hooks:
        return Hooks(
            self.read_unit, self.read_layers, self.output_tokens, self.related,
            self.cost_of_own, self.score_own, self.status,
        )  # fmt: skip


def live(n_done: int = 10, *, is_running: bool = True) -> LiveStatus:
    newest = tuple(claim(NeuronId(0, n)).result for n in range(N_UNITS))
    without = UnitResult(NeuronId(1, 0), "rule", None, f"refused: {HOSTILE[0]}", {}, None, None)
    return LiveStatus(
        is_running, "explain", "neurons", n_done, 40, "2 neurons/s", "15 s", 0.25,
        UnitCost(1, 2, 3, 4, 5), 9, 0.5, {HOSTILE[0]: 1}, (without, *newest), (HOSTILE[1],),
    )  # fmt: skip
