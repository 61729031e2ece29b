"""Made-up documents of the published dataset's shape (Bills et al. 2023), for jobs that measure.

A record has 50 top windows, 50 random ones and 20 in each of five bands, all of 64 tokens, with
activations of four decimals; an explanation has ten scored windows, with a distribution over the
values 0 to 10 for each token. Written by the package's own exporter.
"""

from __future__ import annotations

import random
from itertools import accumulate

from neuron_explainer.published.documents import Content, write_content
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from neuron_explainer.records.published import (
    Distribution,
    NeuronsByWeight,
    PublishedExplanation,
    PublishedRecord,
    PublishedResults,
    PublishedSimulation,
    PublishedWindow,
    RelatedNeuron,
    RelatedNeurons,
    TokensByActivation,
    TokensByWeight,
    TokenValue,
)
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.simulation import SequenceSimulation

N_TOKENS = 64
N_TOP, N_RANDOM, N_BANDS, N_OF_A_BAND = 50, 50, 5, 20
N_SCORED = 10
N_VALUES = 11
N_LISTED = 50
N_WORDS = 8000
N_LAYERS, N_NEURONS = 48, 6400
_LETTERS = "etaoinshrdlu"


class MadeDataset:
    """Each document follows from the seed and its unit alone."""

    def __init__(self, seed: int = 0, size: float = 1.0) -> None:
        """size: of the documents, beside published ones; windows are fewer, or more."""
        self._seed = seed
        self._size = size
        rng = random.Random(seed)
        self.words = tuple(
            rng.choice((" ", "")) + "".join(rng.choices(_LETTERS, k=rng.randint(1, 8)))
            for _ in range(N_WORDS)
        )
        self._by_rank = tuple(accumulate(1 / (rank + 3) for rank in range(N_WORDS)))

    def document(self, which: DocumentId) -> bytes:
        """As the package writes it."""
        return write_content(which, self.content(which)).document

    def content(self, which: DocumentId) -> Content:
        rng = random.Random(f"{self._seed} {which.path}")
        match which.kind:
            case Kind.ACTIVATIONS:
                return self._record(which.neuron_id, rng)
            case Kind.EXPLANATIONS:
                return PublishedResults(which.neuron_id, (self._explanation(rng),))
            case Kind.RELATED_NEURONS:
                return RelatedNeurons(_neurons(rng), _neurons(rng))
            case Kind.TOKENS_BY_ACTIVATION:
                return TokensByActivation(self._listed(rng))
            case Kind.TOKENS_BY_WEIGHT:
                return TokensByWeight(*(self._listed(rng) for _ in range(4)))

    def _record(self, neuron_id: NeuronId, rng: random.Random) -> PublishedRecord:
        bands = [self._windows(rng, N_OF_A_BAND, peak=0.2 + band) for band in range(N_BANDS)]
        top = sorted(self._windows(rng, N_TOP, peak=6.0), key=lambda w: -w.max_activation)
        return PublishedRecord(
            neuron_id,
            top=tuple(top),
            random=self._windows(rng, N_RANDOM, peak=0.3),
            bands=tuple(bands),
            boundaries=(None, 0.2, 1.2, 2.2, 3.2, None),
            mean=rng.gauss(-0.05, 0.01),
            variance=rng.random(),
            skewness=rng.gauss(9, 2),
            kurtosis=rng.gauss(150, 20),
        )

    def _windows(
        self, rng: random.Random, n_windows: int, *, peak: float
    ) -> tuple[ActivationRecord, ...]:
        return tuple(
            ActivationRecord(self._tokens(rng, N_TOKENS), _activations(rng, peak))
            for _ in range(self._n(n_windows))
        )

    def _n(self, n_windows: int) -> int:
        return max(1, round(n_windows * self._size))

    def _explanation(self, rng: random.Random) -> PublishedExplanation:
        words = [word.strip() for word in self._tokens(rng, rng.randint(3, 9))]
        windows = tuple(self._scored_window(rng) for _ in range(self._n(N_SCORED)))
        scores = (rng.betavariate(1.5, 3), -rng.random() * 9, -rng.random())
        return PublishedExplanation(f" words about {' '.join(words)}.", windows, *scores)

    def _scored_window(self, rng: random.Random) -> PublishedWindow:
        distributions = tuple(_distribution(rng) for _ in range(N_TOKENS))
        expected = tuple(
            sum((v or 0.0) * (p or 0.0) for v, p in zip(*d, strict=True)) for d in distributions
        )
        predicted = SequenceSimulation(
            self._tokens(rng, N_TOKENS), expected, ActivationScale.NORMALIZED
        )
        simulation = PublishedSimulation(predicted, distributions)
        return PublishedWindow(simulation, _activations(rng, 4.0), rng.random(), -2.5, -0.5)

    def _listed(self, rng: random.Random) -> tuple[TokenValue, ...]:
        values = sorted((rng.random() * 5 for _ in range(N_LISTED)), reverse=True)
        return tuple(map(TokenValue, self._tokens(rng, N_LISTED), values))

    def _tokens(self, rng: random.Random, n_tokens: int) -> tuple[str, ...]:
        """The n-th commonest word in a share of about 1/n of the places (Zipf's law)."""
        return tuple(rng.choices(self.words, cum_weights=self._by_rank, k=n_tokens))


def _activations(rng: random.Random, peak: float) -> tuple[float, ...]:
    """Mostly about -0.1, with two tokens about `peak`; four decimals, as in the files."""
    values = [round(rng.uniform(-0.16, 0.05), 4) for _ in range(N_TOKENS)]
    for place in rng.sample(range(N_TOKENS), 2):
        values[place] = round(peak * rng.uniform(0.5, 1), 4)
    return tuple(values)


def _distribution(rng: random.Random) -> Distribution:
    shares = [rng.random() ** 4 for _ in range(N_VALUES)]
    total = sum(shares)
    return Distribution(tuple(map(float, range(N_VALUES))), tuple(s / total for s in shares))


def _neurons(rng: random.Random) -> NeuronsByWeight:
    return NeuronsByWeight(_related(rng, 1), _related(rng, -1))


def _related(rng: random.Random, sign: int) -> tuple[RelatedNeuron, ...]:
    weights = sorted((rng.random() * 2 for _ in range(N_LISTED)), reverse=True)
    return tuple(
        RelatedNeuron(NeuronId(rng.randrange(N_LAYERS), rng.randrange(N_NEURONS)), sign * weight)
        for weight in weights
    )
