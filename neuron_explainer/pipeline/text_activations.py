"""What a unit does on a given text: the subject reads it as it read the corpus."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuron_explainer.errors import SubjectError, UsageError
from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from neuron_explainer.subject.source import ActivationSource, Receive
from neuron_explainer.subject.tokens import SubjectTokenizer


class ReadTokens(NamedTuple):
    """A text as it was read."""

    tokens: tuple[str, ...]
    """Display strings, without the separator."""
    n_left_out: int
    """Tokens at the end that did not fit a window."""


class TextReader:
    """Reads texts with a subject, one call at a time however many threads ask."""

    def __init__(self, source: ActivationSource, tokenizer: SubjectTokenizer, n_ctx: int) -> None:
        """n_ctx: tokens of a window, the separator included, as in the unit's collection."""
        self._source = source
        self._tokenizer = tokenizer
        self._n_ctx = n_ctx
        self._lock = threading.Lock()

    def read_activations(
        self, neuron_id: NeuronId, texts: Sequence[str]
    ) -> list[ActivationRecord | None]:
        """One record a text: its own tokens, as many as fit a window.

        The separator stands before each text, as in a collection, and is no part of its record: a
        unit that responds to the separator does not respond to the text. A text of which no
        position counts has no record. Texts of equal length share a forward pass.
        """
        encoded = self._tokenizer.encode(texts)
        ids_by_length: defaultdict[int, list[int]] = defaultdict(list)
        for i, ids in enumerate(encoded):
            if len(ids) > 0:
                ids_by_length[min(len(ids), self._n_ctx - 1)].append(i)
        records: list[ActivationRecord | None] = [None] * len(texts)
        for length, members in ids_by_length.items():
            tokens = np.stack([encoded[i][:length] for i in members])  # (text, seq - 1)
            for i, record in zip(members, self._read_block(neuron_id, tokens), strict=True):
                records[i] = record
        return records

    def read_layers(self, text: str, layers: Sequence[int], receive: Receive) -> ReadTokens:
        """All units of some layers on one text, as much of it as fits a window.

        `receive` gets a layer at a time: activations (token, unit), and counted (token,) or None.
        UsageError for a text without a token.
        """
        (ids,) = self._tokenizer.encode([text])
        kept = ids[: self._n_ctx - 1]
        if len(kept) == 0:
            raise UsageError("there is nothing to read: the text has no token")
        block = np.insert(kept, 0, self._tokenizer.separator_id)[None]  # (1, seq)

        def receive_own(layer: int, activations: Tensor, counted: Tensor | None) -> None:
            own = activations[0, 1:]  # (token, unit)
            if not own.isfinite().all():
                raise SubjectError(f"layer {layer} gave activations that are not finite")
            receive(layer, own, None if counted is None else counted[0, 1:])

        with self._lock:
            self._source.read(torch.from_numpy(block).to(self._source.device), layers, receive_own)
        return ReadTokens(
            tuple(self._tokenizer.display[token_id] for token_id in kept.tolist()),
            len(ids) - len(kept),
        )

    def _read_block(
        self, neuron_id: NeuronId, tokens: np.ndarray[tuple[int, ...], np.dtype[np.int32]]
    ) -> list[ActivationRecord | None]:
        """tokens: (text, seq - 1), without the separator."""
        block = np.insert(tokens, 0, self._tokenizer.separator_id, axis=1)  # (text, seq)
        layer, unit = neuron_id.layer_index, neuron_id.neuron_index
        rows: list[tuple[Tensor, Tensor]] = []  # activations and which count, (text, seq) each

        def receive(_layer: int, activations: Tensor, counted: Tensor | None) -> None:
            row = activations[:, :, unit].float().cpu()
            all_count = torch.ones_like(row, dtype=torch.bool)
            rows.append((row, all_count if counted is None else counted.cpu()))

        with self._lock:
            self._source.read(torch.from_numpy(block).to(self._source.device), [layer], receive)
        ((activations, counted),) = rows
        if not activations.isfinite().all():
            raise SubjectError(f"layer {layer} gave activations that are not finite")
        return [
            self._record(*row)
            for row in zip(
                tokens.tolist(), activations[:, 1:].tolist(), counted[:, 1:].tolist(), strict=True
            )
        ]

    def _record(
        self, token_ids: Sequence[int], activations: Sequence[float], counted: Sequence[bool]
    ) -> ActivationRecord | None:
        if not any(counted):
            return None
        values = zip(activations, counted, strict=True)
        return ActivationRecord(
            tokens=tuple(self._tokenizer.display[token_id] for token_id in token_ids),
            activations=tuple(a if is_counted else None for a, is_counted in values),
        )
