"""The embedded explainers beside each other: same neurons, same held-out windows, paired.

    python jobs/benchmark_explainers.py                       100 neurons of each layer
    python jobs/benchmark_explainers.py --neurons 50 --json   {"scores": ..., "search": ...}

Patterns whole, and without each of their parts, beside the token lookup table, and beside the
whole: mean score (top-and-random, and the random windows alone) by layer, with 95 % bootstrap
intervals of the paired differences over neurons. Then the same rules on text of another kind than
they were made from, by default the source code of Python's own library; and what the search took,
by layer.
"""

from __future__ import annotations

import asyncio
import json
import random
import sysconfig
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich import box
from rich.table import Table

from neuron_explainer.cli_options import console, run_program
from neuron_explainer.collector.corpus import open_corpus
from neuron_explainer.explainers.pattern_probe import ProbeCost
from neuron_explainer.explainers.pattern_search import PatternPlan
from neuron_explainer.pipeline.collected import load_collected
from neuron_explainer.pipeline.contexts import by_layer
from neuron_explainer.pipeline.events import ignore
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.pattern_searcher import PatternSearcher
from neuron_explainer.pipeline.patterns import (
    find_patterns,
    open_patterns,
    pattern_plan,
)
from neuron_explainer.pipeline.run import run_collect
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.explanation import Explanation, Rule, TokenLookupTable
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import FoundPatterns, PatternTrie
from neuron_explainer.records.score import RANDOM_ONLY, TOP_AND_RANDOM
from neuron_explainer.scoring.simulation import SimulationScorer
from neuron_explainer.simulators.base import Simulator
from neuron_explainer.simulators.patterns import PatternSimulator
from neuron_explainer.simulators.token_lookup import TokenLookupSimulator
from neuron_explainer.stores.comparison import Comparison, Mover, PairedScores
from neuron_explainer.stores.neuron_store import NeuronStore

LOOKUP = "token lookup table"
WHOLE = "patterns"
HEADLINES = (TOP_AND_RANDOM, RANDOM_ONLY)
PARTS = {
    WHOLE: "searched patterns, context means of the fit text, and the table",
    "no generalisation": "the same, but each token of a pattern stands for itself alone",
    "no pruning": "the same, but of patterns of 12 tokens, as far as there are so many",
    "no search": "context means and the table",
    "no context means": "searched patterns and the table",
    "no back-off": "searched patterns; where none fits, one number for every token",
}
Scores: TypeAlias = Mapping[str, Mapping[NeuronId, Mapping[str, float]]]
"""Rule -> neuron -> headline -> value."""


@dataclass(slots=True)
class Measured:
    """What came of one layer's search."""

    cost: ProbeCost = field(default_factory=ProbeCost)
    seconds: float = 0.0
    n_units: int = 0
    n_cut: int = 0
    n_patterns: int = 0

    def sentence(self, layer: int) -> str:
        n = self.n_units
        return (
            f"layer {layer}: {self.cost.n_passes:,} forward passes for {n:,} neurons, "
            f"{self.cost.n_tokens / n:,.0f} tokens and {self.seconds / n:.4f} s a neuron; "
            f"{self.n_patterns / n:.1f} patterns, {self.n_cut / n:.0%} cut short"
        )


def benchmark(
    *,
    model: Annotated[str, typer.Option(help="Subject.")] = "bundled",
    corpus: Annotated[str, typer.Option(help="Text that rules are made from.")] = "pydocs",
    other_corpus: Annotated[
        str | None, typer.Option(help="Text of another kind; without it, Python's own source.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Of each text.")] = 1_500_000,
    neurons: Annotated[int, typer.Option(min=1, help="Of each layer, drawn at random.")] = 100,
    pattern_tokens: Annotated[
        int | None, typer.Option(help="Budget of a neuron; as `run` has it when not given.")
    ] = None,
    seed: int = 0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Patterns beside the token lookup table, whole and in parts."""
    with tempfile.TemporaryDirectory() as scratch:
        spec = RunSpec(
            model=model, corpus=corpus, n_tokens=tokens, seed=seed, pattern_tokens=pattern_tokens
        )
        here, there = RunFolder(Path(scratch) / "here"), RunFolder(Path(scratch) / "there")
        other = other_corpus or _python_source(Path(scratch) / "source.jsonl")
        open_corpus(other)  # a wrong name is told before the work begins
        run_collect(spec, here, ignore)
        store = NeuronStore(here.store)
        chosen = _draw(store, neurons, seed)
        rules, measured = _make_rules(spec, here, store, chosen)
        listed = ",".join(map(str, chosen))
        run_collect(replace(spec, corpus=other, units=listed), there, ignore)
        scored = {
            corpus: _score_all(rules, store),
            other_corpus or "Python source": _score_all(rules, NeuronStore(there.store)),
        }
    if as_json:
        typer.echo(json.dumps(_plain(scored, measured), allow_nan=False))
        return
    for text, scores in scored.items():
        for headline in HEADLINES:
            console.print(_table(text, headline, scores))
    for rule, made_of in PARTS.items():
        console.print(f"{rule}: {made_of}", highlight=False)
    for layer, found in measured.items():
        console.print(found.sentence(layer), highlight=False)


def _draw(store: NeuronStore, n_a_layer: int, seed: int) -> list[NeuronId]:
    """Ascending."""
    rng = random.Random(seed)
    units = by_layer(list(store.neuron_ids()))
    drawn = [rng.sample(members, min(n_a_layer, len(members))) for members in units.values()]
    return sorted(neuron_id for members in drawn for neuron_id in members)


def _make_rules(
    spec: RunSpec, folder: RunFolder, store: NeuronStore, chosen: Sequence[NeuronId]
) -> tuple[dict[str, dict[NeuronId, Rule]], dict[int, Measured]]:
    """The rules of PARTS by neuron, and of the table; what the whole search took, by layer."""
    find_patterns(spec, store, folder, chosen, ignore)
    rules: defaultdict[str, dict[NeuronId, Rule]] = defaultdict(dict)
    plan = pattern_plan(spec, store, folder)
    with open_patterns(spec, store, folder) as readers:
        assert readers is not None
        searcher = PatternSearcher(store, load_collected(spec, folder), readers.contexts, spec.seed)
        whole, measured = _search(searcher, chosen, plan)
        exact, _ = _search(searcher, chosen, replace(plan, generalises=False))
        long, _ = _search(searcher, chosen, replace(plan, prunes=False))
        for i in chosen:
            table, contexts = store.read_token_lookup(i), readers.contexts(i)
            nothing = TokenLookupTable({}, {}, table.default)
            rules[LOOKUP][i] = table
            rules[WHOLE][i] = PatternTrie(table, whole[i].patterns, contexts)
            rules["no generalisation"][i] = PatternTrie(table, exact[i].patterns, contexts)
            rules["no pruning"][i] = PatternTrie(table, long[i].patterns, contexts)
            rules["no search"][i] = PatternTrie(table, (), contexts)
            rules["no context means"][i] = PatternTrie(table, whole[i].patterns)
            rules["no back-off"][i] = PatternTrie(nothing, whole[i].patterns)
    return dict(rules), measured


def _search(
    searcher: PatternSearcher, chosen: Sequence[NeuronId], plan: PatternPlan
) -> tuple[dict[NeuronId, FoundPatterns], dict[int, Measured]]:
    found: dict[NeuronId, FoundPatterns] = {}
    measured: dict[int, Measured] = {}
    for layer, members in by_layer(chosen).items():
        of_layer = measured[layer] = Measured(n_units=len(members))
        started = time.perf_counter()
        patterns = searcher.search(layer, members, plan, of_layer.cost)
        of_layer.seconds = time.perf_counter() - started
        of_layer.n_cut = sum(one.is_cut_short for one in patterns)
        of_layer.n_patterns = sum(len(one.patterns) for one in patterns)
        found.update(zip(members, patterns, strict=True))
    return found, measured


def _score_all(rules: Mapping[str, Mapping[NeuronId, Rule]], store: NeuronStore) -> Scores:
    return {name: dict(asyncio.run(_score(of_unit, store))) for name, of_unit in rules.items()}


async def _score(
    rules: Mapping[NeuronId, Rule], store: NeuronStore
) -> list[tuple[NeuronId, dict[str, float]]]:
    """Of the neurons that have a score on the store's windows."""
    scored = []
    for neuron_id, rule in rules.items():
        is_table = isinstance(rule, TokenLookupTable)
        simulator: Simulator = TokenLookupSimulator() if is_table else PatternSimulator()
        explanation = Explanation(neuron_id, "a rule", simulator.name, rule=rule)
        scorer = SimulationScorer(simulator, n_resamples=0)
        found = await scorer.score(explanation, store.read_neuron(neuron_id))
        values = {name: found.scores[name].value for name in HEADLINES}
        known = {name: value for name, value in values.items() if value is not None}
        if len(known) == len(HEADLINES):
            scored.append((neuron_id, known))
    return scored


def _compare(
    scores: Scores, rule: str, headline: str, beside: str = LOOKUP
) -> dict[str, Comparison]:
    """By layer, and of all; beside another rule, over the neurons that both can be scored of."""
    mine, other = scores[rule], scores[beside]
    movers = [
        Mover(i, mine[i][headline], other[i][headline]) for i in sorted(mine.keys() & other.keys())
    ]
    paired = PairedScores(beside, tuple(movers), {})
    overall = paired.compare()
    by_name = {str(layer): found for layer, found in paired.by_layer().items()}
    return by_name if overall is None else {**by_name, "all": overall}


def _table(text: str, headline: str, scores: Scores) -> Table:
    """A row a rule, over all layers, and below it one for each layer."""
    table = Table(title=f"{text}: {headline}", box=box.SIMPLE_HEAD)
    for name in ("rule", "mean", "beside the table", "beside the whole"):
        table.add_column(name, no_wrap=True)
    for rule in (LOOKUP, *PARTS):
        beside_whole = _compare(scores, rule, headline, WHOLE)
        found = _compare(scores, rule, headline)
        for layer in sorted(found, key=lambda name: name != "all"):
            table.add_row(
                rule if layer == "all" else f"  layer {layer}",
                f"{found[layer].mean:.3f}",
                "" if rule == LOOKUP else found[layer].difference_text(),
                "" if rule == WHOLE else beside_whole[layer].difference_text(),
            )
    return table


def _plain(scored: Mapping[str, Scores], measured: Mapping[int, Measured]) -> dict[str, object]:
    """Text -> headline -> rule -> what it is beside -> layer, and what the search took by layer."""

    def plain(scores: Scores, rule: str, headline: str, beside: str) -> dict[str, object]:
        found = _compare(scores, rule, headline, beside)
        return {layer: asdict(comparison) for layer, comparison in found.items()}

    return {
        "scores": {
            text: {
                headline: {
                    rule: {
                        beside: plain(scores, rule, headline, beside) for beside in (LOOKUP, WHOLE)
                    }
                    for rule in PARTS
                }
                for headline in HEADLINES
            }
            for text, scores in scored.items()
        },
        "search": {layer: asdict(found) for layer, found in measured.items()},
    }


def _python_source(path: Path) -> str:
    """A document a file of Python's own library, in a fixed order."""
    with path.open("w", encoding="utf-8") as file:
        for source in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
            text = source.read_text(encoding="utf-8", errors="replace")
            file.write(json.dumps({"text": text}) + "\n")
    return str(path)


if __name__ == "__main__":
    run_program(lambda: typer.run(benchmark))
