"""The window table gives back what was written, and says when a file is not whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.stores.windows import FIT, RECORD, WindowTable, WindowWriter

DOCUMENTS: list[tuple[str, list[int], list[tuple[int, int]], bool]] = [
    ("first.txt:1", list(range(10)), [(0, 4), (4, 4), (8, 2)], True),
    ("Größe\n\u2028.md", [7, 100_000, 7], [(0, 3)], False),
    ("not UTF-8 \udcff", list(range(50, 60)), [(2, 4), (6, 4)], False),
    ("first.txt:1", [3], [(0, 1)], True),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = WindowWriter(tmp_path / "windows")
    for document in DOCUMENTS:
        writer.add_document(*document)
    writer.close()
    assert (writer.n_documents, writer.n_windows, writer.n_tokens) == (4, 7, 22)
    return tmp_path / "windows"


def test_every_window_reads_back_with_its_document(folder: Path) -> None:
    table = WindowTable(folder)
    expected = [
        (ids[start : start + length], name)
        for name, ids, spans, _ in DOCUMENTS
        for start, length in spans
    ]
    names = table.document_names(range(len(table)))
    assert [(table.tokens(i).tolist(), names[i]) for i in range(len(table))] == expected
    assert table.lengths(np.arange(7)).tolist() == [len(ids) for ids, _ in expected]


def test_names_come_in_the_order_asked_for_repeats_included(folder: Path) -> None:
    table = WindowTable(folder)
    assert table.document_names([6, 3, 0, 3]) == [DOCUMENTS[i][0] for i in (3, 1, 0, 1)]


def test_the_parts_are_counted_and_hold_every_window_once(folder: Path) -> None:
    table = WindowTable(folder)
    fit, record = (np.concatenate(list(table.ids(part))).tolist() for part in (FIT, RECORD))
    assert (fit, record) == ([0, 1, 2, 6], [3, 4, 5])
    assert table.count(FIT) == (4, 11)
    assert table.count(RECORD) == (3, 11)
    assert len(table) == 7
    assert table.n_tokens == 22


def test_a_block_is_its_windows_one_below_the_other(folder: Path) -> None:
    table = WindowTable(folder)
    ids = np.array([5, 0, 4])
    assert table.block(ids).tolist() == [table.tokens(i).tolist() for i in ids]


def test_token_ids_of_the_largest_vocabularies_are_kept(folder: Path) -> None:
    assert WindowTable(folder).tokens(3).tolist() == [7, 100_000, 7]


@pytest.mark.parametrize("name", ["windows.bin", "tokens.bin"])
@pytest.mark.parametrize("kept", [None, 0.5, 0.97, 0.0])
def test_a_missing_or_cut_file_is_named(folder: Path, name: str, kept: float | None) -> None:
    path = folder / name
    whole = path.read_bytes()
    path.unlink()
    if kept is not None:
        path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(StoreError, match=f"{name} is missing or damaged; run `collect --fresh`"):
        WindowTable(folder)


def test_a_file_cut_between_two_windows_is_found_too(folder: Path) -> None:
    path = folder / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(StoreError, match=r"tokens\.bin is missing or damaged"):
        WindowTable(folder)
