"""Forward passes for many searches at once: texts of one length share a pass, up to a layer.

What several texts begin with is read once, and its keys and values are kept for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from neuron_explainer.explainers.pattern_questions import Answer, Question
from neuron_explainer.explainers.pattern_search import Search
from neuron_explainer.records.patterns import FoundPatterns
from neuron_explainer.subject.model import Subject
from neuron_explainer.subject.source import ActivationSource, Begun, Receive

TOKENS_AT_ONCE = 16_384
KEPT_BYTES = 500_000_000
"""Of keys and values of what texts begin with, at most."""
N_NEIGHBOURS = 12


@dataclass(slots=True)
class ProbeCost:
    """What was asked of the subject."""

    n_passes: int = 0
    n_tokens: int = 0

    def add(self, other: ProbeCost) -> None:
        """What another probe has asked."""
        self.n_passes += other.n_passes
        self.n_tokens += other.n_tokens


class PrefixSource(ActivationSource, Protocol):
    """An activation source that reads what rows begin with once; see `SubjectSource`."""

    def begin(self, prefixes: Tensor, layer: int) -> Begun:
        """prefixes: (prefix, seq) ids."""

    def read_after(self, begun: Begun, of_row: Tensor, tokens: Tensor, receive: Receive) -> None:
        """of_row: (batch,) the prefix of each row; tokens: (batch, seq)."""


class SubjectProbe:
    """Answers the questions of searches over units of one layer."""

    def __init__(
        self,
        subject: Subject,
        source: PrefixSource,
        cost: ProbeCost,
        *,
        tokens_at_once: int = TOKENS_AT_ONCE,
    ) -> None:
        """cost: what is asked is added to it. tokens_at_once: of a forward pass, at most."""
        self._subject = subject
        self._source = source
        self._cost = cost
        self._tokens_at_once = tokens_at_once
        self._n_tokens = subject.tokenizer.n_tokens

    def search(self, layer: int, searches: Sequence[tuple[int, Search]]) -> list[FoundPatterns]:
        """searches: each with its unit; all go on until the last one has ended."""
        found: dict[int, FoundPatterns] = {}
        asking: dict[int, list[Question]] = {}
        for i, (_, search) in enumerate(searches):
            try:
                asking[i] = next(search)
            except StopIteration as end:
                found[i] = end.value
        while asking:
            answers = self._answer(layer, [(searches[i][0], asking[i]) for i in asking])
            for i, answered in zip(list(asking), answers, strict=True):
                try:
                    asking[i] = searches[i][1].send(answered)
                except StopIteration as end:
                    found[i] = end.value
                    del asking[i]
        return [found[i] for i in range(len(searches))]

    def _answer(
        self, layer: int, asked: Sequence[tuple[int, Sequence[Question]]]
    ) -> list[list[Answer]]:
        """asked: each with the unit whose activation is wanted."""
        flat = [
            _Asked((i, j), unit, question)
            for i, (unit, questions) in enumerate(asked)
            for j, question in enumerate(questions)
        ]
        answers: dict[tuple[int, int], Answer] = {}
        for block in self._blocks(layer, flat):
            answers.update(self._answer_block(layer, block))
        return [
            [answers[i, j] for j in range(len(questions))] for i, (_, questions) in enumerate(asked)
        ]

    def _blocks(self, layer: int, flat: Sequence[_Asked]) -> Iterator[list[_Asked]]:
        """Questions that want the same and share as many tokens, those of one beginning together.

        As many as there is room for; one at least.
        """
        for _, members in groupby(sorted(flat, key=_order), key=_kind):
            block: list[_Asked] = []
            n_tokens = 0
            for one in members:
                n_tokens += len(one.question.ids)
                if block and n_tokens > self._most_tokens(layer, one.question.n_shared):
                    yield block
                    block, n_tokens = [], len(one.question.ids)
                block.append(one)
            yield block

    def _most_tokens(self, layer: int, n_shared: int) -> int:
        """What is shared is kept once for each question that goes on from it."""
        if not n_shared:
            return self._tokens_at_once
        config, dtype = self._subject.model.config, self._subject.model.dtype
        bytes_a_token: int = 2 * (layer + 1) * config.hidden_size * dtype.itemsize
        return min(self._tokens_at_once, KEPT_BYTES // bytes_a_token)

    def _answer_block(
        self, layer: int, block: Sequence[_Asked]
    ) -> Iterator[tuple[tuple[int, int], Answer]]:
        n_expected = block[0].question.n_expected
        n_shared = 0 if n_expected else block[0].question.n_shared
        number_of = {prefix: i for i, prefix in enumerate(dict.fromkeys(_prefix(q) for q in block))}
        begun = None
        if n_shared:
            prefixes = torch.tensor(list(number_of))  # (prefix, seq)
            self._count(prefixes)
            begun = self._source.begin(prefixes, layer)
        for _, members in groupby(sorted(block, key=_length), key=_length):
            some = list(members)
            rest = torch.tensor([one.question.ids[n_shared:] for one in some])  # (text, seq)
            self._count(rest)
            if n_expected:
                answers = self._expect(rest, n_expected)
            else:
                units = torch.tensor([one.unit for one in some])
                of_row = torch.tensor([number_of[_prefix(one)] for one in some])
                answers = self._activations(layer, rest, units, begun, of_row)
            yield from zip([one.place for one in some], answers, strict=True)

    def _activations(
        self, layer: int, rest: Tensor, units: Tensor, begun: Begun | None, of_row: Tensor
    ) -> list[Answer]:
        """rest: (text, seq) behind what is shared; units, of_row: (text,)."""
        values: list[Tensor] = []

        def receive(_layer: int, activations: Tensor, _counted: Tensor | None) -> None:
            last = activations[:, -1].float().cpu()  # (text, unit)
            values.append(last[torch.arange(len(last)), units])

        if begun is None:
            self._source.read(rest, [layer], receive)
        else:
            self._source.read_after(begun, of_row, rest, receive)
        return [Answer(value) for value in values[0].tolist()]

    def _count(self, ids: Tensor) -> None:
        self._cost.n_passes += 1
        self._cost.n_tokens += ids.numel()

    @torch.inference_mode()
    def _expect(self, ids: Tensor, n_expected: int) -> list[Answer]:
        """The most probable next tokens; ids: (text, seq).

        A model may know more tokens than its tokenizer has.
        """
        model = self._subject.model
        logits: Tensor = model(
            input_ids=ids.to(self._subject.device), use_cache=False, logits_to_keep=1
        ).logits
        of_tokens = logits[:, -1, : self._n_tokens]  # (text, vocabulary)
        best = of_tokens.topk(min(n_expected, self._n_tokens), dim=-1).indices
        return [Answer(None, tuple(row)) for row in best.tolist()]


class _Asked(NamedTuple):
    """A question, which of which search's it is, and the unit whose activation is wanted."""

    place: tuple[int, int]
    unit: int
    question: Question


def _kind(asked: _Asked) -> tuple[int, int]:
    return asked.question.n_expected, asked.question.n_shared


def _prefix(asked: _Asked) -> tuple[int, ...]:
    return asked.question.prefix


def _length(asked: _Asked) -> int:
    return len(asked.question.ids)


def _order(asked: _Asked) -> tuple[tuple[int, int], tuple[int, ...], int]:
    return _kind(asked), _prefix(asked), _length(asked)


class SubjectVocabulary:
    """The subject's tokens, their display, and what is near them in its embedding."""

    def __init__(self, subject: Subject) -> None:
        self._display = subject.tokenizer.display
        self._id_of = {token: i for i, token in enumerate(self._display)}
        weight = cast(nn.Embedding, subject.model.get_input_embeddings()).weight.detach().float()
        self._directions = torch.nn.functional.normalize(weight[: len(self._display)], dim=1)
        self._near: dict[int, tuple[int, ...]] = {}

    def display(self, token_id: int) -> str:
        return self._display[token_id]

    def ids_of(self, tokens: Sequence[str]) -> list[int]:
        return [self._id_of[token] for token in tokens]

    def neighbours(self, token_id: int) -> Sequence[int]:
        if token_id not in self._near:
            likeness = self._directions @ self._directions[token_id]  # (vocabulary,)
            nearest = likeness.topk(min(N_NEIGHBOURS + 1, len(likeness))).indices.tolist()
            both = dict.fromkeys([*self._spellings(token_id), *nearest])
            self._near[token_id] = tuple(i for i in both if i != token_id)
        return self._near[token_id]

    def _spellings(self, token_id: int) -> list[int]:
        """With and without a space, a capital, capitals throughout."""
        token = self._display[token_id]
        bare = token.removeprefix(" ")
        forms = [bare, bare.lower(), bare.capitalize(), bare.upper()]
        spelled = [form for bare in forms for form in (bare, f" {bare}") if bare.strip()]
        return [self._id_of[form] for form in dict.fromkeys(spelled) if form in self._id_of]
