"""A published neuron is looked up once over HTTP, and then from the archive."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from neuron_explainer.cli import main
from neuron_explainer.published.downloads import Patience
from neuron_explainer.published.locations import Kind
from tests.e2e.command_lines import Call, assert_one_line
from tests.formats.openai_documents import encode, plain_results
from tests.published import scorable
from tests.published.mirror import NEURON, mirror_documents, mirror_server, which, write_mirror


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["neuron-explainer", "lookup", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


def test_what_was_looked_up_once_is_not_fetched_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    with mirror_server(mirror_documents()) as mirror:
        code, first = run(monkeypatch, capsys, "1:7", "--source", mirror.address, "--json")
        n_asked = sum(mirror.asked.values())
        assert (code, n_asked) == (0, len(Kind))
        _, again = run(monkeypatch, capsys, "1:7", "--source", mirror.address, "--json")
        assert sum(mirror.asked.values()) == n_asked
    code, offline = run(monkeypatch, capsys, "1:7", "--offline", "--json")
    assert (code, first) == (0, again) == (0, offline)
    found: dict[str, Any] = json.loads(first)
    assert found["results"]["explanations"]
    assert found["missing"] == {}
    assert cache.exists()


def test_everything_that_is_published_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_mirror(tmp_path / "mirror", mirror_documents())
    code, out = run(monkeypatch, capsys, "1:7", "--source", str(tmp_path / "mirror"))
    assert code == 0
    for part in ("neuron 1:7", "score: top-and-random", "top windows", "tokens it reads",
                 "downstream neurons", "tokens by mean activation"):  # fmt: skip
        assert part in out


def test_what_is_absent_is_said_and_a_neuron_without_anything_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    absent = [which(kind) for kind in Kind]
    write_mirror(tmp_path / "mirror", mirror_documents(absent=absent))
    code, out = run(monkeypatch, capsys, "1:7", "--source", str(tmp_path / "mirror"))
    assert code == 1
    assert f"no {', '.join(Kind)}: absent\n" in out
    assert "--source" not in out  # there is nothing to do


def test_what_is_left_out_is_counted_in_json_and_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    documents = mirror_documents(n_neurons=10)
    record, results = which(Kind.ACTIVATIONS).path, which(Kind.EXPLANATIONS).path
    documents[record] = documents[record].replace(b'{"data', b'{"extra_field":3,"data', 1)
    documents[results] = encode({**plain_results(NEURON), "scored_explanations": []})
    write_mirror(tmp_path / "mirror", documents)
    _, out = run(monkeypatch, capsys, "1:7", "--source", str(tmp_path / "mirror"), "--json")
    found = json.loads(out)
    assert found["left_out"] == {"NeuronRecord.extra_field": 1}
    assert found["results"]["explanations"] == []
    _, out = run(monkeypatch, capsys, "1:7", "--offline")
    assert "left out: 1 NeuronRecord.extra_field\n" in out
    assert "no explanation: the file has none\n" in out


def test_half_a_surrogate_pair_is_read_back_from_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    documents = mirror_documents(n_neurons=10)
    path = which(Kind.EXPLANATIONS).path
    documents[path] = documents[path].replace(b" numbers below ten.", rb"half \ud800 pair")
    write_mirror(tmp_path / "mirror", documents)
    _, out = run(monkeypatch, capsys, "1:7", "--source", str(tmp_path / "mirror"), "--json")
    assert out.isascii()
    assert json.loads(out)["results"]["explanations"][0]["text"] == "half \ud800 pair"


def test_a_source_that_cannot_be_reached_is_one_line_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("neuron_explainer.pipeline.run_lookup.PATIENCE", Patience(n_attempts=1))
    code, out = run(monkeypatch, capsys, "1:7", "--source", "http://127.0.0.1:9")
    assert code == 1
    assert out.count("no connection") == 1
    for way_out in ("--source", "--offline", "doctor"):
        assert way_out in out


def test_the_parts_of_the_score_are_those_of_its_windows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    neuron_id = scorable.IDS[0]
    write_mirror(tmp_path / "mirror", scorable.scorable_documents())
    flags = ("--model", scorable.DATASET, "--source", str(tmp_path / "mirror"))
    _, out = run(monkeypatch, capsys, str(neuron_id), *flags, "--json")
    (said,) = json.loads(out)["results"]["explanations"]
    assert list(said["scores"]) == ["top_and_random", "top_only", "random_only"]
    assert said["scores"]["top_and_random"]["value"] == scorable.PUBLISHED_SCORE
    _, out = run(monkeypatch, capsys, str(neuron_id), *flags)
    shown = ", ".join(f"{s['value']:.3f}" for s in list(said["scores"].values())[1:])
    top_only, random_only = shown.split(", ")
    assert f"score: top-and-random 0.250, top-only {top_only}, random-only {random_only}\n" in out


def test_what_cannot_be_meant_is_one_line(call: Call, tmp_path: Path) -> None:
    for arguments, code, says in (
        (["9-7"], 2, "is not a neuron"),
        (["99:0"], 1, "gpt2-xl has no neuron 99:0"),
        (["0:0", "--model", "gpt3"], 2, "no published dataset 'gpt3'"),
        (["0:0", "--source", str(tmp_path / "none")], 2, "no folder"),
    ):
        assert_one_line(call("lookup", *arguments), code, says)
