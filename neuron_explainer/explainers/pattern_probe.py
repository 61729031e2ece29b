"""Forward passes for many searches at once: texts of one length share a pass, up to a layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from neuron_explainer.explainers.pattern_search import Answer, Question, Search
from neuron_explainer.records.patterns import FoundPatterns
from neuron_explainer.subject.model import Subject
from neuron_explainer.subject.source import ActivationSource

TOKENS_AT_ONCE = 16_384
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


class SubjectProbe:
    """Answers the questions of searches over units of one layer."""

    def __init__(
        self,
        subject: Subject,
        source: ActivationSource,
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
        answers: dict[tuple[int, int], Answer] = {}
        by_shape: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for i, (_, questions) in enumerate(asked):
            for j, question in enumerate(questions):
                by_shape[len(question.ids), question.n_expected].append((i, j))
        for (length, n_expected), members in sorted(by_shape.items()):
            n_at_once = max(1, self._tokens_at_once // length)
            for first in range(0, len(members), n_at_once):
                some = members[first : first + n_at_once]
                ids = torch.tensor([asked[i][1][j].ids for i, j in some])  # (text, seq)
                units = torch.tensor([asked[i][0] for i, _ in some])
                answers.update(zip(some, self._read(layer, ids, units, n_expected), strict=True))
        return [
            [answers[i, j] for j in range(len(questions))] for i, (_, questions) in enumerate(asked)
        ]

    def _read(self, layer: int, ids: Tensor, units: Tensor, n_expected: int) -> list[Answer]:
        self._cost.n_passes += 1
        self._cost.n_tokens += ids.numel()
        if n_expected:
            return [Answer(None, tuple(row)) for row in self._expect(ids, n_expected).tolist()]
        values: list[Tensor] = []

        def receive(_layer: int, activations: Tensor, _counted: Tensor | None) -> None:
            last = activations[:, -1].float().cpu()  # (text, unit)
            values.append(last[torch.arange(len(last)), units])

        self._source.read(ids, [layer], receive)
        return [Answer(value) for value in values[0].tolist()]

    @torch.inference_mode()
    def _expect(self, ids: Tensor, n_expected: int) -> Tensor:
        """(text, n_expected) the most probable next tokens, the most probable first.

        A model may know more tokens than its tokenizer has.
        """
        model = self._subject.model
        logits: Tensor = model(
            input_ids=ids.to(self._subject.device), use_cache=False, logits_to_keep=1
        ).logits
        of_tokens = logits[:, -1, : self._n_tokens]  # (text, vocabulary)
        return of_tokens.topk(min(n_expected, self._n_tokens), dim=-1).indices.cpu()


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
