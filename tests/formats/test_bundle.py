"""A bundle reads back equal; one that is not whole is refused by name and reason."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.bundle import (
    EXPLANATIONS,
    FORMAT,
    MANIFEST,
    PATTERNS,
    README,
    README_TEXT,
    SIMULATIONS,
    TABLE,
    VERSION,
    WINDOWS,
    Bundle,
    is_bundle,
    open_bundle,
)
from neuron_explainer.formats.plain import to_plain
from neuron_explainer.records import bundle as vocabulary
from neuron_explainer.records import cost, neuron, patterns, score, simulation, unit_result
from neuron_explainer.records.bundle import BundledExplanation, BundledPatterns
from neuron_explainer.records.neuron import ActivationRecord, Moments, NeuronId, NeuronRecord
from neuron_explainer.records.patterns import Before, FoundPatterns, Pattern
from neuron_explainer.records.score import Score
from neuron_explainer.records.unit_result import UnitResult
from tests.bundles import (
    CONTENT,
    METHOD,
    NEURON_RECORDS,
    write_bundle,
)
from tests.bundles import (
    EXPLANATIONS as ANY_EXPLANATION,
)
from tests.bundles import (
    PATTERNS as ANY_PATTERNS,
)
from tests.bundles import (
    SIMULATIONS as ANY_SIMULATION,
)

FEW = settings(
    max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
UNIT = NeuronId(2, 417)
EXPLAINED = BundledExplanation(
    METHOD,
    UnitResult(
        UNIT, "summary", "rivers", None, {"top_and_random": Score("corr", 0.5, 10, 0.1, 0.9)},
        "top_and_random", "lookup", "gpt-4o", "1", scorer="simulation",
    ),
)  # fmt: skip
SILENT = BundledExplanation(
    METHOD, UnitResult(NeuronId(2, 418), "summary", None, "dead unit: never", {}, None, None)
)
WINDOW = ActivationRecord(("a", "b"), (1.0, None))
RECORD = NeuronRecord(UNIT, (WINDOW,), (), (), Moments(2, 0.5, 0.1, None, None))
RIVERS = Pattern(
    (frozenset([" the", " a"]), None, frozenset([" river"])), 2.0, 9, 0.5, 0.9,
    (" the", " old", " river"), (0.0, None, 2.5),
)  # fmt: skip
BEHIND = BundledPatterns(METHOD, UNIT, FoundPatterns((RIVERS,), 88, False, Before(" bank", 0.7)))


def everything(bundle: Bundle) -> tuple[list[Any], ...]:
    return (
        list(bundle.explanations()),
        list(bundle.simulations()),
        list(bundle.windows()),
        list(bundle.patterns()),
    )


def small(path: Path, *, is_zip: bool = False) -> Path:
    return write_bundle(path, [EXPLAINED, SILENT], [], [RECORD], [BEHIND], is_zip=is_zip)


@FEW
@given(
    explanations=st.lists(ANY_EXPLANATION, max_size=2),
    simulations=st.lists(ANY_SIMULATION, max_size=2),
    windows=st.lists(NEURON_RECORDS, max_size=2),
    found=st.lists(ANY_PATTERNS, max_size=2),
    is_zip=st.booleans(),
)
def test_what_is_written_reads_back_equal(
    tmp_path: Path, explanations: Any, simulations: Any, windows: Any, found: Any, is_zip: bool
) -> None:
    path = tmp_path / "bundle.zip"
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    write_bundle(path, explanations, simulations, windows, found, is_zip=is_zip)
    with open_bundle(path) as bundle:
        assert everything(bundle) == (explanations, simulations, windows, found)
        assert bundle.manifest.content == CONTENT
        assert (bundle.manifest.format, bundle.manifest.version) == (FORMAT, VERSION)


def test_windows_may_be_left_out_and_patterns_be_none(tmp_path: Path) -> None:
    with open_bundle(write_bundle(tmp_path / "b", [EXPLAINED], [], None)) as bundle:
        assert not bundle.has_windows
        assert everything(bundle) == ([EXPLAINED], [], [], [])


def test_a_pattern_is_plain_for_any_program(tmp_path: Path) -> None:
    line = first_line_of(small(tmp_path / "b"), PATTERNS)
    (pattern,) = line["patterns"]
    assert pattern["sets"] == [[" a", " the"], None, [" river"]]
    assert line["before"] == {"token": " bank", "share": 0.7}
    assert (line["layer_index"], line["neuron_index"], line["method"]) == (2, 417, METHOD)


def test_a_bundle_of_the_first_version_is_read(tmp_path: Path) -> None:
    """It had no patterns."""
    path = write_bundle(tmp_path / "b", [EXPLAINED], [], [RECORD])
    change_manifest(path, version=1)
    with open_bundle(path) as bundle:
        assert everything(bundle) == ([EXPLAINED], [], [RECORD], [])


def test_a_zip_and_a_folder_hold_the_same_bytes_each_time(tmp_path: Path) -> None:
    folder = small(tmp_path / "folder")
    one, other = (small(tmp_path / f"{name}.zip", is_zip=True) for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    with zipfile.ZipFile(one) as pack:
        assert {name: pack.read(name) for name in pack.namelist()} == {
            path.name: path.read_bytes() for path in folder.iterdir()
        }
    assert is_bundle(folder)
    assert is_bundle(one)


def test_the_table_says_the_same(tmp_path: Path) -> None:
    frame = pd.read_parquet(small(tmp_path / "b") / TABLE)
    assert [frame.explanation[0], frame.reason[1]] == ["rivers", "dead unit: never"]
    assert [*frame.explanation.isna(), *frame.reason.isna()] == [False, True, True, False]
    assert frame[["layer", "neuron"]].to_numpy().tolist() == [[2, 417], [2, 418]]
    scored = frame.iloc[0]
    names = ["top_and_random", "top_and_random_low", "top_and_random_high"]
    assert scored[names].tolist() == [0.5, 0.1, 0.9]
    assert scored.top_and_random_n_tokens == 10
    assert frame.top_and_random.isna().tolist() == [False, True]


# What people are told


def names_of(*kinds: type) -> Iterator[str]:
    for kind in kinds:
        yield from (field.name for field in fields(kind) if field.name != "neuron_id")


def test_every_field_is_explained(tmp_path: Path) -> None:
    text = README_TEXT.read_text("utf-8")
    assert (small(tmp_path / "b") / README).read_text("utf-8") == text
    kinds = (
        vocabulary.BundleManifest, vocabulary.BundleContent, vocabulary.BundledFile,
        vocabulary.BundledMethod, vocabulary.BundledSimulation, vocabulary.ScoredText,
        unit_result.UnitResult, score.Score, score.ScoredWindow, simulation.SequenceSimulation,
        cost.UnitCost, neuron.NeuronId, neuron.NeuronRecord, neuron.Stratum, neuron.Moments,
        neuron.ActivationRecord, patterns.Pattern, patterns.FoundPatterns,
    )  # fmt: skip
    unsaid = {n for n in names_of(*kinds) if f"`{n}`" not in text and f".{n}`" not in text}
    assert unsaid == set()
    assert {name for name in (MANIFEST, EXPLANATIONS, TABLE, SIMULATIONS, PATTERNS, WINDOWS)
            if f"`{name}`" not in text} == set()  # fmt: skip


# Damage


def refusal(path: Path) -> str:
    with pytest.raises(RecordFormatError) as raised, open_bundle(path) as bundle:
        everything(bundle)
    return str(raised.value)


@pytest.mark.parametrize(
    "name", [MANIFEST, README, EXPLANATIONS, TABLE, SIMULATIONS, PATTERNS, WINDOWS]
)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    path = small(tmp_path / "b")
    (path / name).unlink()
    assert refusal(path) == f"{path / name}: it is missing; get the bundle again"


@pytest.mark.parametrize("name", [README, EXPLANATIONS, TABLE, PATTERNS, WINDOWS])
def test_a_file_that_was_cut_or_changed_is_named(tmp_path: Path, name: str) -> None:
    path = small(tmp_path / "b")
    content = (path / name).read_bytes()
    for changed in (content[:-1], content + b"\n", bytes([content[0] ^ 1]) + content[1:]):
        (path / name).write_bytes(changed)
        assert refusal(path).startswith(f"{path / name}: it is not the file that was written")


def test_a_zip_that_was_cut_is_named(tmp_path: Path) -> None:
    path = small(tmp_path / "b.zip", is_zip=True)
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(path).startswith(f"{path}: cannot be read (File is not a zip file)")
    assert refusal(tmp_path / "absent.zip") == f"{tmp_path}/absent.zip: it is missing; " \
        "get the bundle again"  # fmt: skip


def change_manifest(path: Path, **changes: Any) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(manifest | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": VERSION + 1}, "install a newer neuron-explainer"),
        ({"version": VERSION + 1, "content": {"new": 1}}, "install a newer neuron-explainer"),
        ({"version": 0}, "version 0 is none"),
        ({"version": "1"}, "version is a text, not a whole number"),
        ({"format": "zorp"}, "its format is 'zorp'"),
        ({"content": None}, "content is null, not an object"),
        ({"files": {}}, "it does not list README.md"),
        ({"more": 1}, "a field 'more' that is not known"),
    ],
)
def test_a_manifest_that_is_not_ours_says_why(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = small(tmp_path / "b")
    change_manifest(path, **changes)
    said = refusal(path)
    assert said.startswith(f"{path / MANIFEST}: ")
    assert reason in said


def test_nothing_outside_a_bundle_is_read(tmp_path: Path) -> None:
    path = small(tmp_path / "b")
    outside = tmp_path / "secret"
    outside.write_text("x")
    files = json.loads((path / MANIFEST).read_text())["files"]
    change_manifest(path, files=files | {"../secret": files[README]})
    assert "it lists '../secret', which is no file of a bundle" in refusal(path)


def rewrite(path: Path, name: str, content: bytes) -> None:
    """As if the file had been written so."""
    (path / name).write_bytes(content)
    files = json.loads((path / MANIFEST).read_text())["files"]
    files[name] |= {"size_bytes": len(content), "sha256": sha256(content).hexdigest()}
    change_manifest(path, files=files)


def first_line_of(path: Path, name: str) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((path / name).read_text("utf-8").splitlines()[0])
    return raw


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        (EXPLANATIONS, {"text": None}, "there is a text or a reason, and not both"),
        (EXPLANATIONS, {"headline": "zorp"}, "the headline 'zorp' is none of the scores"),
        (EXPLANATIONS, {"layer_index": -1}, "-1:417 is no unit"),
        (EXPLANATIONS, {"neuron_index": None}, "neuron_index is null, not a whole number"),
        (EXPLANATIONS, {"method": None}, "method is null, not a text"),
        (EXPLANATIONS, {"scores": {"a": {"metric": "m", "value": None, "n_tokens": 1}}},
         "a score has a value or a reason"),
        (EXPLANATIONS, {"neuron_id": {}, "zorp": 1}, "a field 'zorp' that is not known"),
        (WINDOWS, {"top": [{"tokens": ["a"], "activations": []}]}, "0 activations for 1 tokens"),
        (WINDOWS, {"top": [{"tokens": ["a"], "activations": [None]}]},
         "a window has no activation"),
        (PATTERNS, {"neuron_index": -1}, "2:-1 is no unit"),
        (PATTERNS, {"method": 3}, "method is a whole number, not a text"),
        (PATTERNS, {"before": [" bank", 0.7]}, "before is a list, not an object"),
        (PATTERNS, {"before": {"token": " bank"}}, "before lacks share"),
        (PATTERNS, {"patterns": [{**to_plain(RIVERS), "sets": [None, ["a"]]}]},
         "a pattern begins with a token set that says something"),
        (PATTERNS, {"patterns": [{**to_plain(RIVERS), "sets": ["a"]}]},
         "is a text, not a list"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_meant_is_named(
    tmp_path: Path, name: str, changes: dict[str, Any], reason: str
) -> None:
    path = small(tmp_path / "b")
    rewrite(path, name, json.dumps(first_line_of(path, name) | changes).encode())
    said = refusal(path)
    assert said.startswith(f"{path / name}: line 1: ")
    assert reason in said


def test_a_line_that_was_cut_and_lines_that_are_missing_are_named(tmp_path: Path) -> None:
    path = small(tmp_path / "b")
    content = (path / EXPLANATIONS).read_bytes()
    rewrite(path, EXPLANATIONS, content[:-10])
    assert "explanations.jsonl: line 2: no JSON" in refusal(path)
    rewrite(path, EXPLANATIONS, content.splitlines(keepends=True)[0])
    assert "explanations.jsonl: 1 lines where manifest.json says 2" in refusal(path)


# Anything at all


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
NAMES = sorted(
    {*names_of(UnitResult, NeuronRecord, Score, FoundPatterns), "layer_index", "neuron_index"}
)


def assert_read_or_refused(path: Path) -> None:
    try:
        with open_bundle(path) as bundle:
            everything(bundle)
    except RecordFormatError as error:
        assert str(path) in str(error)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("whole") / "b")


@pytest.mark.parametrize("name", [EXPLANATIONS, WINDOWS, SIMULATIONS, PATTERNS])
@FEW
@given(changes=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=2) | JSON)
def test_random_lines_are_refused_or_read(whole: Path, name: str, changes: Any) -> None:
    line = changes
    if isinstance(changes, dict) and name != SIMULATIONS:
        source = {
            EXPLANATIONS: EXPLAINED_LINE, WINDOWS: RECORD_LINE, PATTERNS: PATTERNS_LINE,
        }[name]  # fmt: skip
        line = source | changes
    rewrite(whole, name, json.dumps(line).encode())
    assert_read_or_refused(whole)


EXPLAINED_LINE: dict[str, Any] = {
    "method": "m", "layer_index": 0, "neuron_index": 0, "explainer": "e", "text": "t",
    "reason": None, "scores": {}, "headline": None, "simulator": None, "candidates": [],
}  # fmt: skip
PATTERNS_LINE: dict[str, Any] = {
    "method": "m", "layer_index": 0, "neuron_index": 0, "patterns": [], "n_tokens": 1,
    "is_cut_short": False, "before": None,
}  # fmt: skip
RECORD_LINE: dict[str, Any] = {
    "layer_index": 0, "neuron_index": 0, "top": [], "strata": [], "random": [],
    "moments": dict.fromkeys(("n_tokens", "mean", "variance", "skewness", "kurtosis")),
}  # fmt: skip


@FEW
@given(
    changes=st.dictionaries(
        st.sampled_from(["format", "version", "tool", "content", "files"]), JSON, max_size=2
    )
    | JSON
    | st.binary(max_size=60)
)
def test_random_manifests_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, changes: Any
) -> None:
    path = small(tmp_path_factory.mktemp("any") / "b")
    if isinstance(changes, dict):
        change_manifest(path, **changes)
    elif isinstance(changes, bytes):
        (path / MANIFEST).write_bytes(changes)
    else:
        (path / MANIFEST).write_text(json.dumps(changes))
    assert_read_or_refused(path)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small(tmp_path_factory.mktemp("packed") / "b.zip", is_zip=True).read_bytes()


@settings(FEW, max_examples=300)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), is_at_end=st.booleans())
def test_a_zip_with_a_byte_changed_is_refused_or_read(
    tmp_path: Path, packed: bytes, place: int, byte: int, is_at_end: bool
) -> None:
    content = bytearray(packed)
    span = min(900, len(content)) if is_at_end else len(content)  # where the zip's own list is
    content[-1 - place % span] = byte
    path = tmp_path / "changed.zip"
    path.write_bytes(content)
    assert_read_or_refused(path)
