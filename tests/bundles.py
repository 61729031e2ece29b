"""Any content of a bundle, for tests."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from neuron_explainer.formats.bundle import BundleWriter
from neuron_explainer.formats.bundle_files import BundleTarget
from neuron_explainer.records.bundle import (
    BundleContent,
    BundledExplanation,
    BundledMethod,
    BundledPatterns,
    BundledSimulation,
    ScoredText,
)
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import (
    ActivationRecord,
    Moments,
    NeuronId,
    NeuronRecord,
    Stratum,
)
from neuron_explainer.records.patterns import Before, FoundPatterns, Lack, Pattern, TokenSet
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import Score, ScoredWindow
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.records.unit_result import UnitResult

SCORE_NAMES = ("top_and_random", "random_only", "détection")
METHOD = "0123456789abcdef"
CONTENT = BundleContent(
    run="a run", subject="bundled", site="mlp_post_act", layers=(0, 3), choices={"seed": 0},
    collection={"layers": [0, 3], "coverage": 0.5}, sources=("text: one's own",),
    methods=(BundledMethod(METHOD, {"explainer": "a"}, None, True, 1, 0),),
)  # fmt: skip

FEW = {"min_size": 1, "max_size": 3}
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(max_size=6)
COUNTS = st.integers(0, 2**60)
NEURON_IDS = st.builds(NeuronId, st.integers(0, 99), st.integers(0, 2**40))
VALUES = st.none() | NUMBERS
SCORES = st.one_of(
    st.builds(Score, TEXTS, NUMBERS, COUNTS, VALUES, VALUES),
    st.builds(Score, TEXTS, st.none(), COUNTS, reason=TEXTS),
)
COSTS = st.builds(UnitCost, COUNTS, COUNTS, COUNTS, COUNTS, st.none() | st.integers(0, 10**30))
TOKENS = st.lists(TEXTS | st.sampled_from(["\ud800", "\u2028", "\n"]), **FEW).map(tuple)


@st.composite
def activation_records(draw: st.DrawFn) -> ActivationRecord:
    tokens = draw(TOKENS)
    first = draw(NUMBERS)
    return ActivationRecord(tokens, (first, *(draw(VALUES) for _ in tokens[1:])))


@st.composite
def scored_windows(draw: st.DrawFn) -> ScoredWindow:
    tokens = draw(TOKENS)
    expected, true = (tuple(draw(VALUES) for _ in tokens) for _ in range(2))
    scale = draw(st.sampled_from(ActivationScale))
    subset = draw(st.sampled_from(["top", "random"]))
    return ScoredWindow(subset, SequenceSimulation(tokens, expected, scale), true, draw(SCORES))


@st.composite
def unit_results(draw: st.DrawFn) -> UnitResult:
    scores = draw(st.dictionaries(st.sampled_from(SCORE_NAMES), SCORES, max_size=3))
    is_explained = draw(st.booleans())
    return UnitResult(
        draw(NEURON_IDS),
        draw(TEXTS),
        draw(TEXTS) if is_explained else None,
        None if is_explained else draw(TEXTS),
        scores,
        draw(st.sampled_from(sorted(scores))) if scores else None,
        *(draw(st.none() | TEXTS) for _ in range(3)),
        cost=draw(st.none() | COSTS),
        scorer=draw(st.none() | TEXTS),
    )


RECORDS = st.lists(activation_records(), max_size=3).map(tuple)
NEURON_RECORDS = st.builds(
    NeuronRecord,
    NEURON_IDS,
    RECORDS,
    st.lists(st.builds(Stratum, VALUES, VALUES, st.none() | COUNTS, RECORDS), max_size=2).map(
        tuple
    ),
    RECORDS,
    st.builds(Moments, st.none() | COUNTS, VALUES, VALUES, VALUES, VALUES),
)
EXPLANATIONS = st.builds(
    BundledExplanation,
    TEXTS,
    unit_results(),
    st.lists(st.builds(ScoredText, TEXTS, SCORES), max_size=2).map(tuple),
)
SIMULATIONS = st.builds(
    BundledSimulation, TEXTS, NEURON_IDS, st.lists(scored_windows(), max_size=2).map(tuple)
)


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    fits = st.frozensets(TEXTS | st.just("\ud800"), max_size=3)
    sets: tuple[TokenSet, ...] = (draw(fits), *draw(st.lists(st.none() | fits, max_size=3)))
    seed = draw(TOKENS)
    return Pattern(
        sets, draw(NUMBERS), draw(COUNTS), draw(NUMBERS), draw(NUMBERS), seed,
        tuple(draw(VALUES) for _ in seed), draw(st.booleans()),
        draw(st.none() | st.sampled_from(Lack)), draw(TOKENS), draw(fits),
    )  # fmt: skip


FOUND = st.builds(
    FoundPatterns,
    st.lists(patterns(), max_size=2).map(tuple),
    COUNTS,
    st.booleans(),
    st.none() | st.builds(Before, TEXTS, NUMBERS),
)
PATTERNS = st.builds(BundledPatterns, TEXTS, NEURON_IDS, FOUND)


def write_bundle(
    path: Path,
    explanations: list[BundledExplanation],
    simulations: list[BundledSimulation],
    windows: list[NeuronRecord] | None,
    patterns: list[BundledPatterns] | None = None,
    *,
    is_zip: bool = False,
) -> Path:
    """At `path`, which is made."""
    if not is_zip:
        path.mkdir(parents=True)
    target = BundleTarget(path, is_zip=is_zip)
    writer = BundleWriter(target)
    writer.write_explanations(explanations)
    writer.write_table(explanations, SCORE_NAMES)
    writer.write_simulations(simulations)
    if patterns is not None:
        writer.write_patterns(patterns)
    if windows is not None:
        writer.write_windows(windows)
    writer.finish(CONTENT)
    target.close()
    return path
