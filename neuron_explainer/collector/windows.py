"""Documents to windows: tokenised once, split once into fit and record, cut, counted, stored.

    documents ──► token ids, `<|endoftext|>` first ──► fit or record, by a keyed hash of the text
              ──► windows of at most n_ctx tokens that never leave their document

The fit documents give what is fitted (mean activation by token, band boundaries); the record
documents give every window that an explanation is made from or scored on.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.collector.corpus import Document, drop_duplicates
from neuron_explainer.collector.plans import Cut, WindowPlan
from neuron_explainer.errors import CorpusError
from neuron_explainer.stores.windows import Part, WindowTable, WindowWriter
from neuron_explainer.subject.tokens import SubjectTokenizer

DOCUMENTS_A_BATCH = 64


@dataclass(slots=True)
class WindowCounts:
    """What became of the corpus."""

    n_documents: int = 0
    n_duplicates: int = 0
    n_windows: int = 0
    n_tokens: int = 0
    fit_token_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Occurrences of each token id in the fit windows, (vocabulary,)."""


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
    counts = WindowCounts(fit_token_counts=np.zeros(tokenizer.n_tokens, np.int64))

    def count_duplicate(_: Document) -> None:
        counts.n_duplicates += 1

    writer = WindowWriter(folder)
    part_windows = {True: 0, False: 0}
    try:
        for document, token_ids in _encode(drop_duplicates(documents, count_duplicate), tokenizer):
            is_fit = _unit_hash(plan.seed, "fit", document.text) < plan.fit_share
            room = plan.n_tokens - writer.n_tokens
            spans = _cut(plan, document.text, len(token_ids))[: math.ceil(room / plan.n_ctx)]
            writer.add_document(document.name, token_ids, spans, is_fit)
            part_windows[is_fit] += len(spans)
            if is_fit:
                for start, length in spans:
                    np.add.at(counts.fit_token_counts, token_ids[start : start + length], 1)
            if on_tokens is not None:
                on_tokens(writer.n_tokens)
            if writer.n_tokens >= plan.n_tokens:
                break
    finally:
        writer.close()
    _require_both_parts(part_windows, writer.n_documents, counts.n_duplicates)
    counts.n_documents = writer.n_documents
    counts.n_windows = writer.n_windows
    counts.n_tokens = writer.n_tokens
    return counts


def blocks(table: WindowTable, part: Part, block_size: int) -> Iterator[NDArray[np.int64]]:
    """Window ids of each block: up to `block_size` windows of one length, all windows once.

    A function of the table alone. Full blocks come as soon as they are full, in order of window
    id; what is left of each length comes last.
    """
    waiting: defaultdict[int, list[int]] = defaultdict(list)
    for window_ids in table.ids(part):
        lengths = table.lengths(window_ids)
        for window_id, length in zip(window_ids.tolist(), lengths.tolist(), strict=True):
            bucket = waiting[length]
            bucket.append(window_id)
            if len(bucket) == block_size:
                yield np.array(bucket, dtype=np.int64)
                bucket.clear()
    for length in sorted(waiting):
        if waiting[length]:
            yield np.array(waiting[length], dtype=np.int64)


def _encode(
    documents: Iterable[Document], tokenizer: SubjectTokenizer
) -> Iterator[tuple[Document, list[int]]]:
    iterator = iter(documents)
    while batch := list(itertools.islice(iterator, DOCUMENTS_A_BATCH)):
        for document, ids in zip(batch, tokenizer.encode([d.text for d in batch]), strict=True):
            yield document, [tokenizer.separator_id, *ids]


def _cut(plan: WindowPlan, text: str, n_tokens: int) -> list[tuple[int, int]]:
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


def _require_both_parts(part_windows: dict[bool, int], n_documents: int, n_duplicates: int) -> None:
    if all(part_windows.values()):
        return
    raise CorpusError(
        f"{n_documents:,} different document(s) (and {n_duplicates:,} duplicates) are too few to "
        "fit on some and record others; give a corpus of more documents, or more --tokens"
    )
