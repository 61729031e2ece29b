"""The live page of a run at any stage: while it collects, in shards, and while it spends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from neuron_explainer.collector.plans import Shard
from neuron_explainer.llm.budget import Charge
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.progress import Progress
from neuron_explainer.pipeline.view_live import read_live
from neuron_explainer.pipeline.view_sources import open_sources
from neuron_explainer.stores.spending import SpendingStore
from neuron_explainer.subject.tokens import SubjectTokenizer
from neuron_explainer.viewer.hooks import Hooks, no_hooks
from tests.fakes import ScriptedSource
from tests.tiny_models import byte_tokenizer
from tests.tiny_stores import collect_into
from tests.viewer.viewed_runs import open_client

READING = Progress("collect", "tokens", 1000, 100, 300, 10.0, 12.0)


def begin(folder: RunFolder, progress: Progress = READING) -> RunFolder:
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.progress.write_text(json.dumps(asdict(progress)))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return begin(RunFolder(tmp_path / "run"))


@pytest.fixture
def client(folder: RunFolder) -> Iterator[TestClient]:
    reasons = {n: r for n, r in no_hooks("none").reasons.items() if n != "status"}
    hooks = {"a": Hooks(status=lambda: read_live(folder), reasons=reasons)}
    with open_client(*open_sources([folder], None, "gpt2-xl"), hooks=hooks) as opened:
        yield opened


def test_a_run_that_collects_has_live_alone_until_its_records_are_there(
    folder: RunFolder, client: TestClient
) -> None:
    assert client.get("/").headers["location"] == "/live"
    page = client.get("/live").text
    assert "300 of 1,000 tokens" in page
    assert 'href="/live"' in page and 'href="/table"' not in page
    for path in ("/table", "/search?q=x", "/layers/0/neurons/0", "/home.json"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "is not whole yet; Live shows how far it is" in answer.text
    collect_into(folder.store, ScriptedSource(2, 8), SubjectTokenizer(byte_tokenizer()))
    assert 'href="/table"' in client.get("/").text
    assert "Top windows" in client.get("/layers/1/neurons/2").text


def test_shards_are_told_of_as_one_collection(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    begin(folder.shard(Shard(1, 2)))
    (source,) = open_sources([folder], None, "gpt2-xl")
    assert source.awaited is not None
    with folder.shard(Shard(1, 2)).locked():
        live = read_live(folder)
    assert (live.is_running, live.stage, live.rate) == (True, "collect", "100 tokens/s")
    assert (live.n_done, live.n_total, live.unit) == (15, 100, "% of the text")
    assert live.notes == ("2 shards: 1 running, 1 not begun",)


def test_what_was_spent_is_that_of_the_whole_run_whatever_it_is_at(folder: RunFolder) -> None:
    assert read_live(folder).spent_usd == 0
    with SpendingStore(folder.spending) as spending:
        for is_counted in (True, False):
            spending.add(Charge("explain/", "m", 10, 0, 5, 250 * 10**9, is_counted=is_counted))
    begin(folder, Progress("baseline", "neurons", 40, 0, 40, 10.0, 12.0))
    assert read_live(folder).spent_usd == 0.5
    with SpendingStore(folder.spending) as spending:
        spending.add(Charge("explain/", "n", 10, 0, 5, None, is_counted=True))
    assert read_live(folder).spent_usd is None


def test_a_run_that_has_ended_has_no_rate_and_one_that_goes_on_has(folder: RunFolder) -> None:
    assert (read_live(folder).rate, read_live(folder).left) == (None, None)
    with folder.locked():
        assert (read_live(folder).rate, read_live(folder).left) == ("100 tokens/s", "7 s")
