"""Patterns as a user meets them: scores on real text, language models that read them, and JSON.

The bundled model on Python's own documentation; the server answers by rule, over real HTTP.
"""

from __future__ import annotations

import asyncio
import json
import pydoc_data.topics
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from statistics import mean

import pytest
from typer.testing import CliRunner

from neuron_explainer.cli import app
from neuron_explainer.explainers.evidence import EvidenceSources
from neuron_explainer.explainers.llm import LLMExplainer
from neuron_explainer.llm.messages import Completion, CompletionRequest
from neuron_explainer.llm.token_estimate import estimate_tokens
from neuron_explainer.pipeline.cascade_run import run_cascade
from neuron_explainer.pipeline.cascade_steps import CascadePlan
from neuron_explainer.pipeline.events import ignore
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept_patterns import open_current_patterns
from neuron_explainer.pipeline.patterns import open_patterns
from neuron_explainer.pipeline.rescore import run_rescore
from neuron_explainer.pipeline.revise import RevisionEvidence
from neuron_explainer.pipeline.run import report, run_collect, run_explain
from neuron_explainer.pipeline.run_revise import run_revise
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.summary import summarize_method
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import FoundPatterns, Lack, Pattern
from neuron_explainer.records.splits import Split, split_records
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.pattern_store import PatternStore
from neuron_explainer.stores.results import Results
from tests.e2e.command_lines import Call, assert_one_line, write_lines
from tests.fakes import FakeClient, completion
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import RuleServer, rule_server
from tests.published.mirror import write_mirror
from tests.published.scorable import DATASET, IDS, scorable_documents

UNITS = [NeuronId(layer, 31 * n) for layer in (0, 1) for n in range(24)]
LISTED = ",".join(map(str, UNITS))
SPEC = RunSpec(
    layers="0-1", n_tokens=60_000, device="cpu", n_boundary_windows=200, n_resamples=0,
    pattern_tokens=300,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """UNITS explained by their patterns; never written to."""
    path = tmp_path_factory.mktemp("finished")
    texts = pydoc_data.topics.topics.values()
    write_lines(path / "corpus.jsonl", *({"text": text} for text in texts))
    folder = RunFolder(path / "run")
    run_collect(replace(SPEC, corpus=str(path / "corpus.jsonl"), units=LISTED), folder, ignore)
    run_explain(SPEC, folder, ignore)
    return folder


@pytest.fixture
def folder(finished: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(finished.path, tmp_path / "run"))


@pytest.fixture(scope="module")
def server() -> Iterator[RuleServer]:
    with rule_server(ServerOptions()) as server:
        yield server


def asking(server: RuleServer, **more: object) -> RunSpec:
    spec = replace(
        SPEC, explainer="openai:rule-1", simulator="auto", simulation="structured", neurons="6",
        evidence="patterns", base_url=server.base_url, requests_a_minute=1_000_000,
    )  # fmt: skip
    return replace(spec, **more)  # type: ignore[arg-type]


def output_of(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_patterns_predict_better_than_the_table(finished: RunFolder) -> None:
    with Results(finished.results, read_only=True) as results:
        comparison = summarize_method(results).comparison
    assert comparison is not None
    assert comparison.label == "token lookup table"
    assert comparison.n_units >= 40
    said = f"{comparison.difference:+.3f} ({comparison.low:+.3f} to {comparison.high:+.3f})"
    assert comparison.low is not None and comparison.low > 0.02, said


def test_what_is_found_needs_no_window_that_is_scored_on(finished: RunFolder) -> None:
    """Seeds stand in the train split or in the bands."""
    store = NeuronStore(finished.store)
    with open_patterns(SPEC, store, finished) as readers:
        assert readers is not None
        for neuron_id in UNITS:
            record = store.read_neuron(neuron_id)
            own = [*split_records(record, Split.TRAIN).top]
            own += [window for stratum in record.strata for window in stratum.records]
            texts = ["\0".join(window.tokens) for window in own]
            for pattern in readers.found(neuron_id).patterns:
                assert any("\0".join(pattern.seed) in text for text in texts)


def test_a_language_model_is_shown_the_seeds_in_fewer_tokens(finished: RunFolder) -> None:
    store = NeuronStore(finished.store)
    n_tokens = {"windows": 0, "patterns": 0}
    with open_patterns(SPEC, store, finished) as readers:
        assert readers is not None
        for neuron_id in UNITS[::4]:
            found = readers.found(neuron_id)
            if not found.patterns:
                continue
            for name in n_tokens:
                is_shown = name == "patterns"
                own = shown_of(store, neuron_id, found if is_shown else None)
                n_tokens[name] += estimate_tokens(own)
                for pattern in found.patterns if is_shown else ():
                    assert all(shown_as(token) in own for token in pattern.seed)
    ratio = n_tokens["windows"] / n_tokens["patterns"]
    assert ratio > 3, f"{ratio:.1f} times fewer tokens of evidence"


def shown_as(token: str) -> str:
    return token.strip(" ").replace("\n", "\\n")


def shown_of(store: NeuronStore, neuron_id: NeuronId, found: FoundPatterns | None) -> str:
    """What a prompt says of the unit itself, after the worked examples that all prompts share."""
    client: FakeClient[CompletionRequest, Completion] = FakeClient([completion("words")])
    sources = EvidenceSources(read_patterns=None if found is None else lambda _: found)
    explainer = LLMExplainer(client, "m", prompt="token_activation", sources=sources)
    asyncio.run(explainer.explain(store.read_neuron(neuron_id)))
    (request,) = client.requests
    return request.messages[-1].content


def test_explanations_made_from_patterns_are_scored_and_keep_them(
    folder: RunFolder, server: RuleServer
) -> None:
    run_explain(asking(server), folder, ignore)
    with (
        Results(folder.results, read_only=True) as results,
        open_current_patterns(folder, results) as kept,
    ):
        assert kept is not None
        units = list(results.units(results.current_method()))
        choices = results.choices(results.current_method())
        n_found = sum(bool(kept.read_patterns(unit.neuron_id).patterns) for unit in units)
    assert choices["evidence"] == "patterns"
    explained = [unit for unit in units if unit.text is not None]
    assert len(units) == 6
    assert len(explained) == n_found >= 4
    assert {unit.reason for unit in units if unit.text is None} <= {"no pattern found"}
    scores = [unit.score.value for unit in explained if unit.score and unit.score.value is not None]
    assert len(scores) >= 4
    assert mean(scores) > 0.2
    n_prompt = [sum(u.cost.n_prompt_tokens for u in units if u.cost)]
    run_explain(asking(server, evidence="windows"), folder, ignore)
    with Results(folder.results, read_only=True) as results:
        n_prompt.append(
            sum(u.cost.n_prompt_tokens for u in results.units(results.current_method()) if u.cost)
        )
    assert n_prompt[0] < n_prompt[1]


def test_a_dry_run_knows_that_patterns_are_shorter(folder: RunFolder, server: RuleServer) -> None:
    flags = [
        "explain", "--run", str(folder.path), "--dry-run", "--neurons", "6", "--explainer",
        "openai:rule-1", "--simulator", "auto", "--simulation", "structured", "--base-url",
        server.base_url,
    ]  # fmt: skip
    n_asked = len(server.log.entries)
    told = [output_of(*flags, "--evidence", name) for name in ("patterns", "windows")]
    assert len(server.log.entries) == n_asked
    few, many = (int(re.findall(r"([\d,]+) tokens", text)[0].replace(",", "")) for text in told)
    assert few < many


def test_kept_explanations_are_compared_with_those_made_from_patterns(
    folder: RunFolder, server: RuleServer
) -> None:
    spec = asking(server)
    rescored = run_rescore(spec, folder, ignore)
    assert rescored.new is not None
    assert rescored.paired.movers
    with Results(folder.results, read_only=True) as results:
        assert results.choices(rescored.new)["evidence"] == "patterns"
        assert "patterns" in results.choices(rescored.new)
        assert "patterns" not in results.choices(rescored.kept)
        made = {unit.explainer for unit in results.units(rescored.kept)}
        assert made == {"patterns"}  # words of the patterns, simulated by the server


def test_a_revision_has_evidence_of_its_own(folder: RunFolder, server: RuleServer) -> None:
    spec = asking(server, evidence="windows", neurons="2")
    summary = run_revise(spec, folder, RevisionEvidence.SENTENCES, ignore)
    assert summary.n_units == 2


def test_a_cascade_takes_patterns_as_a_stage(folder: RunFolder, server: RuleServer) -> None:
    spec = asking(
        server, explainer="patterns", simulator="openai:rule-1", evidence="windows", neurons="8"
    )
    found = run_cascade(
        spec, folder, "patterns,openai:rule-1/summary", CascadePlan(n_pilots=4), ignore
    )
    lookup, patterns, model = found.stages
    assert (lookup.name, patterns.name) == ("token_lookup", "patterns")
    assert patterns.cost.n_requests == 0
    assert patterns.pilot_gain is not None
    with (
        Results(folder.results, read_only=True) as results,
        open_current_patterns(folder, results) as kept,
    ):
        assert kept is not None
        units = list(results.units(results.current_method()))
        assert all(kept.read_patterns(unit.neuron_id).n_tokens >= 0 for unit in units)
        assert "patterns" in {unit.explainer for unit in units}
    assert model.n_done >= 4


def test_json_has_the_exact_sets_of_each_pattern(finished: RunFolder) -> None:
    with open_patterns(SPEC, NeuronStore(finished.store), finished) as readers:
        assert readers is not None
        neuron_id = max(UNITS, key=lambda one: len(readers.found(one).patterns))
        patterns = readers.found(neuron_id).patterns
    assert len(patterns) > 1
    answer = json.loads(output_of("show", str(neuron_id), "--json", "--run", str(finished.path)))
    told = [
        tuple(None if fits is None else frozenset(fits) for fits in one["sets"])
        for one in answer["patterns"]
    ]
    assert told == [pattern.sets for pattern in patterns]
    assert [one["share"] for one in answer["patterns"]] == [one.share for one in patterns]
    assert answer["pattern_search"].keys() == {"n_tokens", "is_cut_short", "before"}
    shown = output_of("show", str(neuron_id), "--run", str(finished.path))
    for pattern in patterns:
        for token in pattern.sets[-1] or ():
            assert json.dumps(token, ensure_ascii=False) in " ".join(shown.split())
    assert answer["result"]["explainer"] == "patterns"


def test_scores_and_search_know_the_default_explainer(folder: RunFolder) -> None:
    run = ("--run", str(folder.path))
    scores = json.loads(output_of("scores", "--json", *run))
    assert scores["comparison"]["label"] == "token lookup table"
    with Results(folder.results, read_only=True) as results:
        unit = next(u for u in results.units(results.current_method()) if u.text)
    assert unit.text is not None
    word = max(re.findall(r"[A-Za-z]+", unit.text), key=len)
    answer = json.loads(output_of("search", word, "--json", "--limit", "500", *run))
    assert unit.text in {one["explanation"] for one in answer["explanations"]}


def test_the_page_shows_patterns_and_runs_nothing_in_them(folder: RunFolder) -> None:
    hostile = "<script>alert(1)</script>"
    pattern = Pattern(
        (frozenset([hostile, " of"]), None, frozenset(["\n", " “x”"])), 2.0, 9, 0.5, 0.9,
        (hostile, " a", "\n"), (0.0, None, 2.0), lack=Lack.LONGER,
    )  # fmt: skip
    with Results(folder.results, read_only=True) as results, open_current_patterns(
        folder, results
    ) as kept:  # fmt: skip
        assert kept is not None
        names = kept._patterns, kept._contexts
    with PatternStore(folder.patterns, *names) as writer:
        writer.write_patterns(
            (neuron_id, FoundPatterns((pattern,), 10, False)) for neuron_id in UNITS
        )
    report(folder)
    page = folder.report.read_text(encoding="utf-8")
    assert hostile not in page
    cards = re.findall(r'<details class="patterns">.*?</details>', page, re.DOTALL)
    assert len(cards) >= 12
    for card in cards:
        text = unescape(re.sub(r"<[^>]+>", "", card))
        assert hostile in text
        assert "50 %" in text and "any" in text and "↵" in text
        assert "pattern behind these words" in text
        assert "no text of as many tokens as are tried does the same" in text


def test_published_records_have_no_patterns_and_it_is_said_in_one_line(
    server: RuleServer, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_mirror(Path("mirror"), scorable_documents())
    common = [
        "--run", "run", "--base-url", server.base_url, "--simulation", "structured",
        "--n-resamples", "0", "--requests-a-minute", "1000000", "--neurons", str(IDS[0]),
    ]  # fmt: skip
    published = ["--published", "--dataset", DATASET, "--source", "mirror"]
    published += ["--archive", "archive.sqlite", "--simulator", "openai:rule-1"]
    assert call("rescore", *published, *common).code == 0
    shown = ["--evidence", "patterns"]
    asked = ["--explainer", "openai:rule-1", "--simulator", "auto"]
    n_asked = len(server.log.entries)
    for arguments in (
        ["explain", *asked, *common, *shown],
        ["explain", *asked, *common, *shown, "--dry-run"],
        ["rescore", *published, "--explainer", "openai:rule-1", *common, *shown],
    ):
        says = "patterns are found in a collection of one's own"
        assert_one_line(call(*arguments), 2, says)
    assert len(server.log.entries) <= n_asked + 3  # whether it is there
