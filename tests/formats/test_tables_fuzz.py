"""Tables of random content: each is read, or refused with an error that names the file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.listed_rows import COLUMNS
from neuron_explainer.formats.tables import write_table
from tests.formats.test_tables import FEW, read, written
from tests.listed import FULL, PLAIN


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.jsonl.gz", "a.csv.gz"])
@FEW
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(tmp_path: Path, name: str, content: bytes) -> None:
    try:
        read(written(tmp_path, name, content))
    except RecordFormatError as error:
        assert name in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from([*COLUMNS, "index", "description", "notes"])
ROWS = st.dictionaries(FIELDS, JSON | st.sampled_from([0, 1, "1", "9:17", "rivers"]), max_size=8)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@FEW
@given(rows=st.lists(ROWS, max_size=3) | JSON)
def test_random_json_is_refused_or_read(tmp_path: Path, name: str, rows: Any) -> None:
    content = json.dumps(rows)
    if name.endswith("jsonl") and isinstance(rows, list):
        content = "\n".join(map(json.dumps, rows))
    try:
        read(written(tmp_path, name, content))
    except RecordFormatError as error:
        assert name in str(error)


@FEW
@given(cells=st.lists(st.lists(st.text(max_size=6), min_size=4, max_size=4), max_size=4))
def test_random_cells_are_refused_or_read(tmp_path: Path, cells: list[list[str]]) -> None:
    path = tmp_path / "list.csv"
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        csv.writer(file).writerows([["layer", "neuron", "explanation", "score"], *cells])
    try:
        read(path)
    except RecordFormatError as error:
        assert "list.csv" in str(error)


@FEW
@given(place=st.integers(0, 3000), byte=st.integers(0, 255))
def test_a_parquet_file_with_a_byte_changed_is_refused_or_read(
    tmp_path: Path, place: int, byte: int
) -> None:
    path = tmp_path / "list.parquet"
    write_table(path, [FULL, PLAIN])
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    try:
        read(written(tmp_path, "changed.parquet", bytes(content)))
    except RecordFormatError as error:
        assert "changed.parquet" in str(error)
