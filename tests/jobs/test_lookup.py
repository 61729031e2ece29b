"""Ids in, a table out: a row each, in their order, and a reason where nothing is published."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from jobs.lookup import lookup
from neuron_explainer.errors import UnitNotFound, UsageError
from neuron_explainer.pipeline.lookup_frame import ids_of, look_up_many
from neuron_explainer.published.locations import Kind
from neuron_explainer.records.neuron import NeuronId
from tests.published.mirror import mirror_documents, mirror_server, which, write_mirror

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
    found = look_up_many(ids_of(asked), source=str(mirror), archive=tmp_path / "a.sqlite")
    assert ids_of(found) == IDS
    with pytest.raises(UsageError, match=r"1\.5 numbers no layer"):
        ids_of(asked + 0.5)
    assert found.explanation.isna().tolist() == [False, False, True, False]
    assert found.reason.tolist()[2] == "absent"
    assert found.score.notna().sum() == 3
    offline = look_up_many(IDS, archive=tmp_path / "a.sqlite", is_offline=True)
    pd.testing.assert_frame_equal(offline, found)


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
