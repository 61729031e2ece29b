"""A handful of neurons, by name: from the text to the page, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neuron_explainer.cli import app
from tests.e2e.command_lines import RUN, Call, assert_one_line
from tests.tiny_stores import files_digest

UNITS = ["0:3", "1:7", "1:20"]


@pytest.fixture
def listed(user: Path) -> Path:
    """A file of the units, one of them twice."""
    path = user / "units.csv"
    rows = [name.replace(":", ",") for name in [*UNITS, UNITS[0]]]
    path.write_text("layer,neuron\n" + "\n".join(rows) + "\n")
    return path


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_named_neurons_go_all_the_way_to_the_page(listed: Path) -> None:
    out = " ".join(invoke(*RUN, "--units", listed.name, "--run", "few").split())
    assert "3 neurons of 2 layers" in out
    scores = json.loads(invoke("scores", "--json", "--run", "few"))
    assert scores["overall"]["n_units"] == 3
    page = (listed.parent / "few/report.html").read_text("utf-8")
    assert "3 chosen neurons of 2 layers" in page
    invoke("report", "--run", "few")
    invoke("export", "few.csv", "--run", "few")
    checked = " ".join(invoke("doctor", "--run", "few").split())
    assert "3 chosen neurons of layers 0-1" in checked
    assert "3 of 3 neurons explained" in checked


def test_a_named_neuron_is_the_one_of_the_whole_run(listed: Path, finished_run: Path) -> None:
    invoke(*RUN, "--units", ",".join(UNITS), "--run", "few")
    for name in UNITS:
        one, two = (
            json.loads(invoke("show", name, "--json", "--run", run))
            for run in ("few", str(finished_run))
        )
        assert one["record"] == two["record"]
    before = files_digest(listed.parent / "few/store")
    invoke(*RUN, "--units", listed.name, "--run", "few")
    assert files_digest(listed.parent / "few/store") == before


def test_a_list_says_which_are_explained_of_all_that_are_collected(listed: Path) -> None:
    invoke("collect", *RUN[1:-2], "--run", "all")
    invoke("explain", "--neurons", listed.name, "--n-resamples", "4", "--run", "all")
    scores = json.loads(invoke("scores", "--json", "--run", "all"))
    assert scores["overall"]["n_units"] == 3


@pytest.mark.usefixtures("user")
def test_what_was_not_collected_is_one_line(call: Call) -> None:
    invoke("collect", *RUN[1:-2], "--units", ",".join(UNITS), "--run", "few")
    not_there = "neuron 0:4 was not collected; the collection holds 3 chosen neurons"
    for arguments, code, says in (
        (["show", "0:4"], 1, not_there),
        (["explain", "--neurons", "0:3,0:4"], 1, "it has 1 of this layer, 0:3 to 0:3"),
        ([*RUN, "--units", "0:3,1:7"], 1, "units was ['0:3', '1:7', '1:20'], now ['0:3', '1:7']"),
        ([*RUN, "--units", "0:999", "--fresh"], 1, "no neuron 0:999 in ./model"),
        ([*RUN, "--units", "0:3,1:7", "--layers", "0"], 2, "--layers 0 leaves its layer out"),
        ([*RUN, "--units", "none.csv"], 2, "--units 'none.csv': write a list such as"),
    ):
        assert_one_line(call(*arguments, "--run", "few"), code, says)
