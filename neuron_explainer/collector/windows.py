"""Documents to windows: tokenised once, split once into fit and record, cut, counted, stored.

    documents ──► token ids, `<|endoftext|>` first ──► fit or record, by a keyed hash of the text
              ──► windows of at most n_ctx tokens that never leave their document
              ──► those that mostly repeat earlier ones left out

The fit documents give what is fitted (mean activation by token, band boundaries); the record
documents give every window that an explanation is made from or scored on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.collector.corpus import Document, drop_duplicates
from neuron_explainer.collector.near_duplicates import SeenText, Span
from neuron_explainer.collector.plans import Cut, WindowPlan
from neuron_explainer.errors import CorpusError
from neuron_explainer.stores.windows import WindowCounts, WindowWriter
from neuron_explainer.subject.tokens import SubjectTokenizer

DOCUMENTS_A_BATCH = 64
CHARS_A_BATCH = 1 << 20


def write_windows(
    documents: Iterable[Document],
    tokenizer: SubjectTokenizer,
    plan: WindowPlan,
    folder: Path,
    on_tokens: Callable[[int], None] | None = None,
) -> WindowCounts:
    """Writes the windows of `documents` to `folder`; `on_tokens` hears how many so far.

    CorpusError when either part is empty.
    """
    counts = WindowCounts()

    def count_duplicate(_: Document) -> None:
        counts.n_duplicates += 1

    writer = WindowWriter(folder)
    chooser = _Chooser(plan, counts)
    part_windows = {True: 0, False: 0}
    try:
        for document, token_ids in _encode(drop_duplicates(documents, count_duplicate), tokenizer):
            is_fit = _unit_hash(plan.seed, "fit", document.text) < plan.fit_share
            spans = chooser.choose(document.text, token_ids, plan.n_tokens - writer.n_tokens)
            if spans:
                writer.add_document(document.name, token_ids, spans, is_fit)
            part_windows[is_fit] += len(spans)
            if on_tokens is not None:
                on_tokens(writer.n_tokens)
            if writer.n_tokens >= plan.n_tokens:
                break
        counts.n_documents = writer.n_documents
        counts.n_windows = writer.n_windows
        counts.n_tokens = writer.n_tokens
        _require_both_parts(part_windows, counts)
        writer.finish(counts)
    finally:
        writer.close()
    return counts


class _Chooser:
    """Which windows of a document are taken; counts those that are not."""

    def __init__(self, plan: WindowPlan, counts: WindowCounts) -> None:
        self._plan = plan
        self._counts = counts
        self._seen = SeenText(plan.n_tokens) if plan.max_overlap < 1 else None

    def choose(self, text: str, token_ids: NDArray[np.int32], n_tokens: int) -> list[Span]:
        """The windows of a document, as many as there are tokens left to take."""
        plan, counts = self._plan, self._counts
        cut = _cut(plan, text, len(token_ids))
        spans = [span for span in cut if span[1] >= plan.min_tokens]
        counts.n_short += len(cut) - len(spans)
        spans = spans[: math.ceil(n_tokens / plan.n_ctx)]
        if self._seen is None:
            return spans
        kept = self._seen.keep_new(token_ids, spans, plan.max_overlap)
        counts.n_near_duplicates += len(spans) - len(kept)
        return kept


def _encode(
    documents: Iterable[Document], tokenizer: SubjectTokenizer
) -> Iterator[tuple[Document, NDArray[np.int32]]]:
    for batch in _batches(documents):
        for document, ids in zip(batch, tokenizer.encode([d.text for d in batch]), strict=True):
            yield document, np.append(np.int32(tokenizer.separator_id), ids).astype(np.int32)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Some documents at a time: many short ones, few long ones."""
    batch: list[Document] = []
    n_chars = 0
    for document in documents:
        if batch and (len(batch) == DOCUMENTS_A_BATCH or n_chars > CHARS_A_BATCH):
            yield batch
            batch, n_chars = [], 0
        batch.append(document)
        n_chars += len(document.text)
    if batch:
        yield batch


def _cut(plan: WindowPlan, text: str, n_tokens: int) -> list[Span]:
    """(start, length) of the windows taken from a document of `n_tokens` tokens."""
    if plan.cut is Cut.ONE:
        n_starts = max(1, n_tokens - plan.n_ctx + 1)
        start = int(_unit_hash(plan.seed, "cut", text) * n_starts)
        return [(start, min(plan.n_ctx, n_tokens))]
    starts: Sequence[int] = range(0, n_tokens, plan.n_ctx)
    n_windows = min(len(starts), plan.max_a_document or len(starts))
    starts = [starts[i * len(starts) // n_windows] for i in range(n_windows)]  # evenly spread
    return [(start, min(plan.n_ctx, n_tokens - start)) for start in starts]


def _unit_hash(seed: int, purpose: str, text: str) -> float:
    """A number in [0, 1) that depends on the seed, the purpose and the text alone."""
    key = f"{seed}:{purpose}".encode()
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key)
    return int.from_bytes(digest.digest(), "big") / 2**64


def _require_both_parts(part_windows: dict[bool, int], counts: WindowCounts) -> None:
    if all(part_windows.values()):
        return
    raise CorpusError(
        f"{counts.n_documents:,} different document(s) (and {counts.n_duplicates:,} duplicates) "
        "are too few to fit on some and record others; give a corpus of more documents, or more "
        "--tokens"
    )
