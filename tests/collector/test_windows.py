"""Windows stay in their document, no text is lost, and a document's fate is its own."""

from __future__ import annotations

import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.collector.corpus import Document
from neuron_explainer.collector.plans import Cut, WindowPlan
from neuron_explainer.collector.windows import write_windows
from neuron_explainer.errors import CorpusError
from neuron_explainer.stores.windows import FIT, RECORD, WindowCounts, WindowTable
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import scripted_documents
from tests.tiny_models import byte_tokenizer

PLAN = WindowPlan(n_ctx=16, n_tokens=1_000_000, max_overlap=1)
DOCUMENTS = list(scripted_documents(120))
N_REPEATED = 11
TOKENIZER = SubjectTokenizer(byte_tokenizer())


def write(
    folder: Path, plan: WindowPlan = PLAN, documents: Iterable[Document] = DOCUMENTS
) -> tuple[WindowTable, WindowCounts]:
    counts = write_windows(documents, TOKENIZER, plan, folder)
    return WindowTable(folder), counts


def windows_by_document(table: WindowTable) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = defaultdict(list)
    for window_id, name in enumerate(table.document_names(range(len(table)))):
        found[name].append(table.tokens(window_id).tolist())
    return found


def parts(table: WindowTable) -> dict[str, bool]:
    """Name -> whether the document is fitted on; AssertionError when it is in both parts."""
    found: dict[str, bool] = {}
    for part in (FIT, RECORD):
        ids = np.concatenate(list(table.ids(part))).tolist()
        for name in table.document_names(ids):
            assert found.setdefault(name, part.is_fit) == part.is_fit
    return found


def token_ids(document: Document) -> list[int]:
    return [TOKENIZER.separator_id, *TOKENIZER.encode([document.text])[0].tolist()]


def alphabet_documents(n_documents: int) -> list[Document]:
    """50 tokens each with the separator, in which any window of 11 tells where it starts."""
    texts = (f"{i:04d}" + string.ascii_letters[:45] for i in range(n_documents))
    return [Document(text[:4], text) for text in texts]


def starts(table: WindowTable, documents: Sequence[Document]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    windows = windows_by_document(table)
    for document in documents:
        ids = token_ids(document)
        places = range(len(ids))
        found[document.name] = [
            next(i for i in places if ids[i : i + len(window)] == window)
            for window in windows[document.name]
        ]
    return found


def test_every_token_of_every_document_is_in_one_window_in_order(tmp_path: Path) -> None:
    table, counts = write(tmp_path)
    windows = windows_by_document(table)
    kept = {d.text: d for d in reversed(DOCUMENTS)}.values()
    assert set(windows) == {document.name for document in kept}
    for document in kept:
        found = windows[document.name]
        assert [i for window in found for i in window] == token_ids(document)
        assert all(len(window) == PLAN.n_ctx for window in found[:-1])
        assert 1 <= len(found[-1]) <= PLAN.n_ctx
    assert counts.n_documents == len(windows)
    assert counts.n_windows == len(table) == sum(map(len, windows.values()))
    assert counts.n_tokens == table.n_tokens


def test_every_document_begins_with_the_separator_and_has_it_nowhere_else(tmp_path: Path) -> None:
    odd = [Document(f"odd {i}", f"{i} <|endoftext|> b" * 5) for i in range(20)]
    table, _ = write(tmp_path, documents=odd)
    for windows in windows_by_document(table).values():
        ids = [i for window in windows for i in window]
        assert [place for place, i in enumerate(ids) if i == TOKENIZER.separator_id] == [0]


def test_exact_duplicates_are_dropped_and_counted(tmp_path: Path) -> None:
    table, counts = write(tmp_path)
    assert len(DOCUMENTS) - len({document.text for document in DOCUMENTS}) == N_REPEATED
    assert counts.n_duplicates == N_REPEATED
    assert "document 9" in windows_by_document(table)
    assert "document 19" not in windows_by_document(table)


def test_a_documents_part_depends_on_the_seed_and_its_text_alone(tmp_path: Path) -> None:
    texts = list({document.text: document for document in DOCUMENTS}.values())
    expected = parts(write(tmp_path / "all", documents=texts)[0])
    renamed = [Document(f"renamed {d.name}", d.text) for d in reversed(texts[::3])]
    found = parts(write(tmp_path / "some", replace(PLAN, n_ctx=5, cut=Cut.ONE), renamed)[0])
    assert found == {d.name: expected[d.name.removeprefix("renamed ")] for d in renamed}
    other = parts(write(tmp_path / "other", replace(PLAN, seed=1), texts)[0])
    assert 0.3 < np.mean([other[name] == expected[name] for name in expected]) < 0.7


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_fit_part_has_its_share_of_the_documents(tmp_path: Path, share: float) -> None:
    documents = [Document(f"{i}", f"text {i}") for i in range(1000)]
    found = parts(write(tmp_path, replace(PLAN, fit_share=share), documents)[0])
    assert np.mean(list(found.values())) == pytest.approx(share, abs=0.05)


def test_a_document_fitted_on_at_one_share_stays_so_at_a_larger_one(tmp_path: Path) -> None:
    small, large = (
        parts(write(tmp_path / f"{share}", replace(PLAN, fit_share=share))[0])
        for share in (0.3, 0.6)
    )
    assert all(large[name] for name, is_fit in small.items() if is_fit)


@pytest.mark.parametrize("cut", list(Cut))
@pytest.mark.parametrize("n_tokens", [300, 301, 333, 800])
def test_reading_stops_within_a_window_of_the_tokens_asked_for(
    tmp_path: Path, n_tokens: int, cut: Cut
) -> None:
    plan = replace(PLAN, n_tokens=n_tokens, cut=cut)
    table, counts = write(tmp_path, plan)
    assert n_tokens <= counts.n_tokens < n_tokens + PLAN.n_ctx
    assert table.n_tokens == counts.n_tokens


def test_fewer_tokens_give_the_first_windows_of_more(tmp_path: Path) -> None:
    large, small = (write(tmp_path / f"{n}", replace(PLAN, n_tokens=n))[0] for n in (2000, 500))
    assert 0 < len(small) < len(large)
    for window_id in range(len(small)):
        assert small.tokens(window_id).tolist() == large.tokens(window_id).tolist()


def test_the_text_behind_the_last_window_is_not_read(tmp_path: Path) -> None:
    taken: list[Document] = []

    def documents() -> Iterable[Document]:
        for i in range(10_000):
            taken.append(Document(f"{i}", f"text {i}"))
            yield taken[-1]

    write(tmp_path, replace(PLAN, n_tokens=600), documents())
    assert len(taken) < 200


def test_progress_is_the_tokens_so_far(tmp_path: Path) -> None:
    heard: list[int] = []
    counts = write_windows(DOCUMENTS, TOKENIZER, PLAN, tmp_path, heard.append)
    assert heard == sorted(set(heard))
    assert heard[-1] == counts.n_tokens
    assert len(heard) == counts.n_documents


def test_tokens_are_counted_by_part(tmp_path: Path) -> None:
    table, _ = write(tmp_path, replace(PLAN, n_tokens=2000))
    for part in (FIT, RECORD):
        ids = np.concatenate(list(table.ids(part))).tolist()
        expected = Counter(i for window_id in ids for i in table.tokens(window_id).tolist())
        counts = table.count_tokens(part, TOKENIZER.n_tokens)
        assert counts.shape == (TOKENIZER.n_tokens,)
        assert {i: n for i, n in enumerate(counts.tolist()) if n} == expected


def test_one_window_a_document_at_any_place_alike(tmp_path: Path) -> None:
    documents = alphabet_documents(2000)
    plan = replace(PLAN, n_ctx=11, cut=Cut.ONE)
    found = starts(write(tmp_path / "0", plan, documents)[0], documents)
    assert all(len(places) == 1 for places in found.values())
    counts = Counter(place for (place,) in found.values())
    assert set(counts) == set(range(40))  # 50 - 11 + 1
    assert max(counts.values()) < 50 + 5 * 50**0.5
    assert min(counts.values()) > 50 - 5 * 50**0.5
    other = starts(write(tmp_path / "1", replace(plan, seed=1), documents)[0], documents)
    assert np.mean([found[name] == other[name] for name in found]) < 0.1


def test_a_document_shorter_than_a_window_is_taken_whole(tmp_path: Path) -> None:
    documents = alphabet_documents(20)
    table, _ = write(tmp_path, replace(PLAN, n_ctx=64, cut=Cut.ONE), documents)
    assert windows_by_document(table) == {d.name: [token_ids(d)] for d in documents}


@pytest.mark.parametrize("most", [1, 2, 3, 5, 100])
def test_windows_of_a_document_are_at_most_so_many_and_spread_over_it(
    tmp_path: Path, most: int
) -> None:
    documents = alphabet_documents(20)
    table, _ = write(tmp_path, replace(PLAN, n_ctx=5, max_a_document=most), documents)
    for places in starts(table, documents).values():
        assert len(places) == min(most, 10)
        assert all(place % 5 == 0 for place in places)
        gaps = np.diff([*places, 50])
        assert gaps.max() - gaps.min() <= 5
        assert gaps.min() > 0


@pytest.mark.parametrize("n_documents", [1, 2])
def test_too_few_documents_for_both_parts_are_refused_with_their_number(
    tmp_path: Path, n_documents: int
) -> None:
    documents = [Document(f"{i}", f"text {i}") for i in range(n_documents)]
    with pytest.raises(CorpusError, match=rf"{n_documents} different document"):
        write(tmp_path, replace(PLAN, fit_share=0.001), documents)
