"""Ids in, a table out: a row each, in their order, and a reason where nothing is published."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pandas as pd
import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from jobs.lookup import lookup
from neuron_explainer import look_up_many
from neuron_explainer.errors import UnitNotFound, UsageError
from neuron_explainer.pipeline.lookup_frame import N_AT_ONCE, ids_of
from neuron_explainer.published.downloads import MOST_FAILURES_IN_A_ROW, NOT_TRIED
from neuron_explainer.published.locations import Kind
from neuron_explainer.records.neuron import NeuronId
from tests.published.mirror import (
    Reply,
    mirror_documents,
    mirror_server,
    which,
    write_mirror,
)

IDS = [NeuronId(1, 7), NeuronId(0, 3), NeuronId(1, 8), NeuronId(0, 3)]
ABSENT = which(Kind.EXPLANATIONS, NeuronId(1, 8))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    write_mirror(tmp_path / "mirror", mirror_documents(absent=[ABSENT]))
    return tmp_path / "mirror"


def job(*arguments: str | Path) -> Result:
    app = Typer()
    app.command()(lookup)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_frame_goes_in_and_a_frame_comes_out(mirror: Path, tmp_path: Path) -> None:
    asked = pd.DataFrame({"layer": [i.layer_index for i in IDS],
                          "neuron": [i.neuron_index for i in IDS]})  # fmt: skip
    found = look_up_many(asked, source=str(mirror), archive=tmp_path / "a.sqlite")
    assert ids_of(found) == IDS
    assert found.explanation.isna().tolist() == [False, False, True, False]
    assert found.reason.tolist()[2] == "absent"
    assert found.score.notna().sum() == 3
    offline = look_up_many(IDS, archive=tmp_path / "a.sqlite", is_offline=True)
    pd.testing.assert_frame_equal(offline, found)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"layer": [1, 9.7], "neuron": [2, 3]}, "row 2: 9.7 is not the number of a layer"),
        ({"layer": [1, None], "neuron": [2, 3]}, "row 2: nan in column 'layer'"),
        ({"layer": [1], "neuron": [-3]}, "row 1: -3 in column 'neuron'"),
        ({"layer": [1], "score": [3]}, r"columns layer and neuron \(this one has layer, score\)"),
    ],
)
def test_a_frame_that_names_no_neurons_is_refused(columns: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        look_up_many(pd.DataFrame(columns))


def test_columns_of_a_frame_have_any_common_spelling() -> None:
    frame = pd.DataFrame({"Layer Index": [3.0], "unit": ["4"]})
    assert ids_of(frame) == [NeuronId(3, 4)]


def test_a_look_up_works_where_a_loop_runs_already_as_in_a_notebook(mirror: Path) -> None:
    async def in_a_notebook() -> pd.DataFrame:
        return look_up_many(IDS, source=str(mirror), archive=mirror / "a.sqlite")

    assert len(asyncio.run(in_a_notebook())) == len(IDS)


def test_more_columns_are_read_from_more_documents_with_reasons(tmp_path: Path) -> None:
    gone = which(Kind.RELATED_NEURONS, IDS[1])
    write_mirror(tmp_path, mirror_documents(absent=[ABSENT, gone]))
    more = ("parts", "related", "tokens")
    frame = look_up_many(IDS[:3], more=more, source=str(tmp_path), archive=tmp_path / "a.sqlite")
    assert frame.related_reason.fillna("").tolist() == ["", "absent", ""]
    assert frame.parts_reason[2] == "absent"
    for name in ("upstream", "downstream", "tokens_read", "tokens_written", "tokens_by_activation"):
        of_kind = json.loads(frame[name][0])
        assert all(isinstance(one, str) for one, _ in of_kind)
    assert json.loads(frame.downstream[0])
    assert json.loads(frame.tokens_read[0])
    for i in range(3):  # a value, or a reason
        assert pd.isna(frame.top_only[i]) == pd.notna(frame.parts_reason[i])
    with pytest.raises(UsageError, match="no columns 'scores'; there are parts, related, tokens"):
        look_up_many(IDS, more=["scores"])


def test_a_record_that_is_damaged_or_absent_has_a_reason(tmp_path: Path) -> None:
    absent, damaged = (which(Kind.ACTIVATIONS, neuron_id) for neuron_id in IDS[:2])
    write_mirror(tmp_path, {**mirror_documents(absent=[absent]), damaged.path: b"<html>"})
    frame = look_up_many(IDS[:3], source=str(tmp_path), archive=tmp_path / "a.sqlite")
    assert frame.max_activation.isna().tolist() == [True, True, False]
    absent_one, damaged_one, found = frame.record_reason.fillna("")
    assert (absent_one, found) == ("absent", "")
    assert damaged_one.startswith(f"not in the format: {tmp_path / damaged.path}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (rb"half \ud800 pair", "explanation with a NUL or half a surrogate pair"),
        (b" ", "no explanation in the file"),
    ],
)
def test_a_text_that_no_table_holds_has_a_reason(tmp_path: Path, text: bytes, reason: str) -> None:
    documents = mirror_documents(n_neurons=10)
    path = which(Kind.EXPLANATIONS).path
    documents[path] = documents[path].replace(b" numbers below ten.", text)
    write_mirror(tmp_path, documents)
    frame = look_up_many(IDS[:1], source=str(tmp_path), archive=tmp_path / "a.sqlite")
    assert frame.explanation.tolist() == frame.score.tolist() == [None]
    assert frame.reason.tolist() == [reason]
    frame.to_parquet(tmp_path / "out.parquet")


def test_a_source_that_only_fails_is_given_up_and_said(tmp_path: Path) -> None:
    ids = [NeuronId(0, i) for i in range(60)]
    (tmp_path / "ids.txt").write_text("\n".join(map(str, ids)))
    with mirror_server({}, lambda *_: Reply(403)) as server:
        result = job(tmp_path / "ids.txt", tmp_path / "out.csv", "--source", server.address,
                     "--archive", tmp_path / "a.sqlite")  # fmt: skip
        assert server.asked.total() < MOST_FAILURES_IN_A_ROW + 2 * N_AT_ONCE
    assert result.exit_code == 1
    assert "60/60" in result.output
    reasons = pd.read_csv(tmp_path / "out.csv").reason
    assert set(reasons) == {"HTTP 403", NOT_TRIED}


def test_nothing_is_fetched_twice_and_nothing_for_a_neuron_that_is_none(tmp_path: Path) -> None:
    with mirror_server(mirror_documents()) as server:
        for _ in range(2):
            look_up_many(IDS, source=server.address, archive=tmp_path / "a.sqlite")
        assert set(server.asked.values()) == {1}
        with pytest.raises(UnitNotFound):
            look_up_many([*IDS, NeuronId(77, 0)], source=server.address)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_the_job_writes_the_table(mirror: Path, tmp_path: Path, ending: str) -> None:
    (tmp_path / "ids.txt").write_text("1:7\n0:3\n")
    table = tmp_path / f"out{ending}"
    result = job(
        tmp_path / "ids.txt", table, "--source", mirror, "--archive", tmp_path / "a.sqlite"
    )
    assert result.exit_code == 0, result.output
    assert "2 of 2 neurons have an explanation" in result.output
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if ending == ".jsonl":
        rows = [json.loads(line) for line in table.read_text().splitlines()]
        assert [row["neuron"] for row in rows] == [7, 3]
    else:
        assert readers[ending](table).neuron.tolist() == [7, 3]
