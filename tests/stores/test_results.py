"""Results are appended, a unit whole or not at all, and read while they are being written."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import (
    Candidate,
    Score,
    ScoredSimulation,
    ScoredWindow,
    reason_kind,
)
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.records.tally import Tally
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import Results
from neuron_explainer.stores.results_schema import CHANGES

UNIT = NeuronId(2, 417)
SCORES = {
    "top_and_random": Score("ev_correlation_score", 0.25, 20, 0.125, 0.5),
    "random_only": Score("ev_correlation_score", None, 10, reason="constant prediction"),
}
ODD_TOKENS = ("\ud800", "\udcff", "\x00", "\u2028", "‮", "<0xE2>", " “", "😀", "")


def claim(text: str = "commas", neuron_id: NeuronId = UNIT) -> Explanation:
    return Explanation(neuron_id, text, "token_lookup", model="m", prompt_version="1")


def scored_window(tokens: tuple[str, ...] = ("a", "b"), truth: float = 0.1) -> ScoredWindow:
    predicted = (None, *(0.1 * i for i in range(1, len(tokens))))
    return ScoredWindow(
        "top",
        SequenceSimulation(tokens, predicted, ActivationScale.NORMALIZED),
        (truth,) * len(tokens),
        Score("ev_correlation_score", None, len(tokens), reason="too few tokens"),
    )


def scored(*windows: ScoredWindow) -> ScoredSimulation:
    return ScoredSimulation(
        "simulation", "token_lookup", SCORES, windows or (scored_window(),), "top_and_random"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.sqlite"


def test_a_unit_reads_back_as_it_was_written(path: Path) -> None:
    with Results(path) as results:
        results.add_explained("f", claim(), scored())
    with Results(path, read_only=True) as results:
        (unit,) = results.units("f")
        assert unit == UnitResult(
            UNIT, "token_lookup", "commas", None, SCORES, "top_and_random", "token_lookup", "m",
            "1", scorer="simulation",
        )  # fmt: skip
        assert list(results.units("f", UNIT)) == [unit]
        assert unit.score == SCORES["top_and_random"]
        assert unit.unscored_reason is None
        assert list(unit.scores) == list(SCORES)


@pytest.mark.parametrize(
    "window", [scored_window(ODD_TOKENS), scored_window(("a",) * 300), scored_window(("a",), -0.0)]
)
def test_windows_read_back_as_they_were_written(path: Path, window: ScoredWindow) -> None:
    windows = (window, replace(window, subset="random"))
    with Results(path) as results:
        results.add_explained("f", claim(), scored(*windows))
        assert results.windows("f", UNIT) == windows


def test_what_a_unit_cost_and_what_it_was_chosen_from_read_back(path: Path) -> None:
    worse = Score("ev_correlation_score", None, 3, reason="constant prediction")
    candidates = [Candidate(claim(), SCORES["top_and_random"]), Candidate(claim("dots"), worse)]
    cost = UnitCost(3, 2**40, 5, 7, 2**52)
    with Results(path) as results:
        results.add_explained("f", claim(), scored(), candidates=candidates, cost=cost)
        results.add_unexplained("f", NeuronId(0, 1), "e", "refused: no", cost=UnitCost(1))
        unlimited = replace(SCORES["top_and_random"], low=None, high=None)
        assert results.candidates("f", UNIT) == (("commas", unlimited), ("dots", worse))
        assert [unit.cost for unit in results.units("f")] == [UnitCost(1), cost]


@pytest.mark.parametrize("priced", [5, None])
def test_a_tally_is_what_reading_every_unit_comes_to(path: Path, priced: int | None) -> None:
    ids = [NeuronId(layer, unit) for layer in (0, 2) for unit in range(3)]
    with Results(path) as results:
        assert results.tally("f") == Tally(0, 0, None, {}, None)
        for i, neuron_id in enumerate(ids):
            cost = UnitCost(1, 2, 3, 4, priced if i == 2 else 7)
            results.add_explained("f", claim(neuron_id=neuron_id), scored(), cost=cost)
        no_value = replace(scored(), headline="random_only")
        results.add_explained("f", claim(neuron_id=NeuronId(1, 0)), no_value)
        for unit, reason in enumerate(("dead unit: never", "dead unit: gone", "refused")):
            results.add_unexplained("f", NeuronId(3, unit), "e", reason, cost=UnitCost(1))
        results.add_explained("another", claim(), scored(), cost=UnitCost(9))
        units, tally = list(results.units("f")), results.tally("f")
    values = [unit.score.value for unit in units if unit.score and unit.score.value is not None]
    kinds = Counter(reason_kind(u.unscored_reason) for u in units if u.unscored_reason)
    costs = [unit.cost for unit in units if unit.cost is not None]
    assert (tally.n_units, tally.n_scored) == (len(units), len(values)) == (10, 6)
    assert tally.mean == pytest.approx(sum(values) / len(values))
    assert list(tally.unscored.items()) == kinds.most_common()
    assert tally.cost == sum(costs, start=UnitCost())
    assert tally.sentence() == (
        "6 neurons scored, mean score 0.250; 4 not scored "
        "(dead unit 2, constant prediction 1, refused 1)"
    )


def test_the_sentence_of_no_score_has_no_number(path: Path) -> None:
    with Results(path) as results:
        assert results.tally("f").sentence() == "0 neurons scored"


def test_every_method_every_score_and_every_unit_is_named_once(path: Path) -> None:
    with Results(path) as results:
        results.add_explained("baseline", claim(), scored())
        results.use_method("f", {"a": 1})
        results.add_explained("f", claim(), scored())
        results.add_unexplained("f", NeuronId(0, 1), "e", "no")
        assert [(use.fingerprint, use.choices) for use in results.method_uses()] == [
            ("f", {"a": 1}), ("baseline", None),
        ]  # fmt: skip
        assert results.score_names() == tuple(sorted(SCORES))
        assert results.neuron_ids() == [NeuronId(0, 1), UNIT]


def test_a_snapshot_does_not_see_what_is_written_meanwhile(path: Path) -> None:
    with Results(path) as writer, Results(path, read_only=True) as reader:
        writer.add_explained("f", claim(), scored())
        with reader.snapshot():
            before = reader.neuron_ids()
            writer.add_unexplained("f", NeuronId(0, 1), "e", "no")
            assert reader.neuron_ids() == before == [UNIT]
        assert len(reader.neuron_ids()) == 2


def test_a_failure_that_may_pass_is_tried_again_and_gives_way_to_what_comes_of_it(
    path: Path,
) -> None:
    with Results(path) as results:
        for reason in ("no answer: 500", "no answer: 503"):
            results.add_unexplained("f", UNIT, "e", reason, is_final=False, cost=UnitCost(1))
            assert results.finished("f") == set()
            assert [unit.reason for unit in results.units("f")] == [reason]
        results.add_explained("f", claim(), scored())
        assert results.finished("f") == {UNIT}
        assert [(unit.text, unit.cost) for unit in results.units("f")] == [("commas", None)]


def test_a_file_of_an_earlier_version_is_brought_up_to_date_by_a_writer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(CHANGES[0])
        connection.execute(
            "INSERT INTO explanations VALUES (1, 'f', 2, 417, 'e', NULL, NULL, NULL, 'dead', 'now')"
        )
        connection.commit()
    with pytest.raises(StoreError, match="of an earlier version; run `explain`"):
        Results(path, read_only=True)
    with Results(path) as results:
        assert results.finished("f") == {UNIT}
    with Results(path, read_only=True) as results:
        assert results.unit("f", UNIT).reason == "dead"


def write_old(path: Path, n_changes: int, n_tokens: int) -> None:
    """A file of an earlier version with one unit that has two scores."""
    scores = (("z", 0.5, None, n_tokens), ("a", None, "constant prediction", 0))
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, change in enumerate(CHANGES[:n_changes], 1):
            connection.executescript(f"{change}; PRAGMA user_version = {number}")
        connection.execute(
            "INSERT INTO explanations VALUES "
            "(7, 'f', 2, 417, 'e', NULL, NULL, 'commas', NULL, 'now', 1)"
        )
        connection.executemany(
            "INSERT INTO scores VALUES (7, 'simulation', 's', ?, 'm', ?, ?, ?, NULL, NULL, ?)",
            [(name, name == "z", value, n, reason) for name, value, reason, n in scores],
        )
        connection.execute("INSERT INTO candidates VALUES (7, 0, 'commas', 'm', 0.5, 20, NULL)")


@pytest.mark.parametrize(("n_tokens", "read"), [(20, 20), (0, None)])
def test_a_file_in_which_no_score_lacks_its_tokens_is_read_and_brought_up_to_date(
    path: Path, n_tokens: int, read: int | None
) -> None:
    write_old(path, 2, n_tokens)
    with Results(path, read_only=True) as results:
        before = results.unit("f", UNIT)
        assert before.scores["z"] == Score("m", 0.5, n_tokens)
    with Results(path) as results:
        after = results.unit("f", UNIT)
        assert results.candidates("f", UNIT) == (("commas", Score("m", 0.5, 20)),)
    assert list(after.scores) == list(before.scores) == ["z", "a"]
    assert after == replace(before, scores=before.scores | {"z": Score("m", 0.5, read)})


def test_a_score_over_unknown_tokens_reads_back(path: Path) -> None:
    listed = ScoredSimulation("listed", "not said", {"fuzz": Score("fuzz", 0.5, None)}, (), "fuzz")
    with Results(path) as results:
        results.add_explained("f", claim(), listed)
        assert results.unit("f", UNIT).scores == listed.scores


def test_the_choices_of_a_method_read_back(path: Path) -> None:
    with Results(path) as results:
        results.use_method("f", {"explainer": "a", "n": 3})
        assert results.choices("f") == {"explainer": "a", "n": 3}
        with pytest.raises(StoreError, match="holds no method g"):
            results.choices("g")


def test_a_unit_without_an_explanation_has_its_reason_and_no_score(path: Path) -> None:
    with Results(path) as results:
        results.add_unexplained("f", UNIT, "token_lookup", "dead unit: never active")
        (unit,) = results.units("f")
        assert unit == UnitResult(
            UNIT, "token_lookup", None, "dead unit: never active", {}, None, None
        )
        assert unit.unscored_reason == "dead unit: never active"
        assert results.windows("f", UNIT) == ()


def test_an_unscored_unit_tells_the_reason_of_its_headline(path: Path) -> None:
    with Results(path) as results:
        results.add_explained("f", claim(), replace(scored(), headline="random_only"))
        (unit,) = results.units("f")
        assert unit.unscored_reason == "constant prediction"


@pytest.mark.parametrize(
    "bad",
    [
        scored(scored_window(), scored_window(truth=float("nan"))),
        replace(scored(), scores={**SCORES, "bad": Score(None, 0.5, 1)}),  # type: ignore[arg-type]
        replace(scored(), scores={"bad": Score("m", 0.5, "many")} | SCORES, simulator=None),  # type: ignore[arg-type]
    ],
    ids=["last window", "last score", "first score"],
)
def test_a_unit_is_written_whole_or_not_at_all(path: Path, bad: ScoredSimulation) -> None:
    with Results(path) as results:
        results.add_explained("f", claim(neuron_id=NeuronId(0, 0)), scored())
        with pytest.raises(Exception, match=r"."):
            results.add_explained("f", claim(), bad)
    with Results(path) as results:
        assert results.finished("f") == {NeuronId(0, 0)}
        assert results.windows("f", UNIT) == ()
        results.add_explained("f", claim(), scored())
        assert results.finished("f") == {NeuronId(0, 0), UNIT}


def test_what_is_written_again_is_added_and_the_old_stays(path: Path) -> None:
    with Results(path) as results:
        results.add_explained("old", claim("commas"), scored())
        results.add_explained("new", claim("full stops"), scored(scored_window(("x", "y", "z"))))
        assert [unit.text for unit in results.units("old")] == ["commas"]
        assert [unit.text for unit in results.units("new")] == ["full stops"]
        assert results.windows("old", UNIT) == (scored_window(),)


def test_the_newest_result_of_a_unit_is_that_of_the_method_used_last(path: Path) -> None:
    with Results(path) as results:
        results.use_method("one", {"n_per_split": 5})
        results.add_explained("one", claim("commas"), scored())
        results.use_method("two", {"n_per_split": 4})
        assert results.newest(UNIT) == (None, ())
        results.add_explained("two", claim("full stops"), scored(scored_window(("x", "y"))))
        unit, windows = results.newest(UNIT)
        assert unit is not None
        assert unit.text == "full stops"
        assert windows == (scored_window(("x", "y")),)
        results.use_method("one", {"n_per_split": 5})
        unit, windows = results.newest(UNIT)
        assert unit is not None
        assert unit.text == "commas"
        assert windows == (scored_window(),)


def test_units_come_by_layer_and_unit_whatever_the_order_of_writing(path: Path) -> None:
    ids = [NeuronId(*pair) for pair in itertools.product((10, 0, 2), (9, 10, 1))]
    with Results(path) as results:
        for neuron_id in ids:
            results.add_explained("f", claim(neuron_id=neuron_id), scored())
        assert [unit.neuron_id for unit in results.units("f")] == sorted(ids)
        assert results.finished("f") == set(ids)
        assert results.finished("another") == set()


def test_results_are_read_while_they_are_being_written(path: Path) -> None:
    with Results(path) as writer, Results(path, read_only=True) as reader:
        for unit in range(3):
            writer.add_explained("f", claim(neuron_id=NeuronId(0, unit)), scored())
        reading = reader.units("f")
        next(reading)
        writer.add_explained("f", claim(neuron_id=NeuronId(0, 3)), scored())
        assert [unit.neuron_id.neuron_index for unit in reading] == [1, 2]
        assert len(reader.finished("f")) == 4


def test_a_reader_cannot_write(path: Path) -> None:
    with Results(path) as results:
        results.add_explained("f", claim(), scored())
    with Results(path, read_only=True) as results, pytest.raises(Exception, match="readonly"):
        results.add_explained("f", claim(), scored())


def test_a_reader_of_a_folder_that_may_not_be_written_leaves_nothing_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Results(path) as results:
        results.add_explained("f", claim(), scored())
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Results(path, read_only=True) as results:
        assert len(list(results.units("f"))) == 1
        assert list(path.parent.iterdir()) == [path]


def test_an_immutable_reader_reads_what_was_closed_and_leaves_nothing(path: Path) -> None:
    with Results(path) as results:
        results.add_explained("f", claim(), scored())
    with Results(path, read_only=True, immutable=True) as results:
        assert len(list(results.units("f"))) == 1
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 500])
def test_what_is_not_a_database_is_named(path: Path, read_only: bool, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"{path} cannot be used as results"):
        Results(path, read_only=read_only)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE scores",
        "DROP TABLE scored_windows",
        "UPDATE scored_windows SET windows = x'00'",
        "UPDATE scored_windows SET windows = 3",
        "DELETE FROM explanations",
    ],
)
def test_what_is_lost_inside_the_database_is_named(path: Path, damage: str) -> None:
    with Results(path) as results:
        results.add_explained("f", claim(), scored())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    with (
        Results(path, read_only=True) as results,
        pytest.raises(StoreError, match=f"{path} cannot be used as results .*; move it away"),
    ):
        results.unit("f", UNIT)
        results.windows("f", UNIT)


def test_a_run_without_results_says_what_to_do(path: Path) -> None:
    with pytest.raises(StoreError, match=f"no results in {path.parent}; run `explain` first"):
        Results(path, read_only=True)
    assert not path.exists()
    with Results(path) as results, pytest.raises(StoreError, match="no neuron is explained yet"):
        results.current_method()
