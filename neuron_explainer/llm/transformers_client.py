"""What a local model expects at places of a prompt: prompts that begin alike are read once.

Bills et al. 2023, `simulator.py`, all at once: expected values from the probabilities of 0 to 10.
Waiting requests with the same prefix are read in one forward pass, as a tree (`token_tree.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuron_explainer.errors import BadRequest
from neuron_explainer.llm.local_model import LocalModel
from neuron_explainer.llm.messages import ExpectedValues, PromptLogprobRequest, Usage
from neuron_explainer.llm.token_tree import TokenTree

CPU_BATCH_SIZE = 2
ACCELERATOR_BATCH_SIZE = 16
"""A token of a batch is compared with all others: more would make up for what the batch gains."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: PromptLogprobRequest
    answer: asyncio.Future[ExpectedValues]


class LocalPromptLogprobClient:
    """Answers in the order asked; the values are the same in any batch, up to rounding."""

    def __init__(self, local: LocalModel, *, batch_size: int | None = None) -> None:
        """`batch_size`: requests a forward pass; None: as suits the device.

        UsageError for a model that cannot read prompts as a tree.
        """
        local.require_trees()
        on_cpu = local.model.device.type == "cpu"
        self._local = local
        self._batch_size = batch_size or (CPU_BATCH_SIZE if on_cpu else ACCELERATOR_BATCH_SIZE)
        self._waiting: list[_Waiting] = []
        self._answering: asyncio.Task[None] | None = None

    async def ask(self, request: PromptLogprobRequest) -> ExpectedValues:
        """BadRequest when the prompt does not fit; LLMError when the model fails."""
        self._check(request)
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer_all())
        return await waiting.answer

    async def _answer_all(self) -> None:
        await asyncio.sleep(0)  # whoever asks in the same turn comes along
        loop = asyncio.get_running_loop()
        while batch := self._take():
            requests = [waiting.request for waiting in batch]
            try:
                answers = await loop.run_in_executor(
                    self._local.executor, expect_values, self._local, requests
                )
            except Exception as error:
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                continue
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    def _take(self) -> list[_Waiting]:
        """The first that waits and others of its prefix; those that were given up are dropped."""
        waiting = [one for one in self._waiting if not one.answer.done()]
        same = [one for one in waiting if one.request.prefix == waiting[0].request.prefix]
        batch = same[: self._batch_size]
        taken = {id(one) for one in batch}
        self._waiting = [one for one in waiting if id(one) not in taken]
        return batch

    def _check(self, request: PromptLogprobRequest) -> None:
        n_tokens = len(request.prefix) + len(request.ids)
        if n_tokens > self._local.n_ctx:
            raise BadRequest(
                f"the prompt has {n_tokens:,} tokens, {len(request.prefix):,} of them shared, and "
                f"the model reads {self._local.n_ctx:,}; show fewer examples or shorter windows"
            )
        if not request.prefix:
            raise BadRequest("the prompt has no shared beginning; it needs one token at least")
        tokens = {
            *request.prefix,
            *request.ids,
            request.end,
            *(i for v in request.values for i in v),
        }
        if not (min(tokens) >= 0 and max(tokens) < self._local.n_embeddings):
            raise BadRequest(
                f"the prompt has token ids {min(tokens)} to {max(tokens)}, the model knows 0 to "
                f"{self._local.n_embeddings - 1}; its tokenizer is another model's"
            )
        whole = {value for value in request.values if len(value) == 1}
        if not all(len(v) == 1 or (len(v) == 2 and v[:1] in whole) for v in request.values):
            raise BadRequest("a value must be one token, or two that begin with another value")


def expect_values(
    local: LocalModel, requests: Sequence[PromptLogprobRequest]
) -> list[ExpectedValues]:
    """Answers requests of one prefix in one forward pass."""
    prefix = requests[0].prefix
    tree = TokenTree(prefix[-1])
    places = [_Places(tree, request) for request in requests]
    nodes = sorted({node for place in places for node in place.nodes})
    tokens = sorted({token for place in places for token in place.tokens})
    logits = local.tree_logits(prefix, tree, nodes, tokens) if nodes else torch.zeros(0, 0)
    table = _Logits(logits.double(), _places_of(nodes), _places_of(tokens))
    return [
        ExpectedValues(
            expected=place.expected(table),
            usage=Usage(len(prefix) + len(request.ids), len(prefix), n_completion_tokens=0),
        )
        for request, place in zip(requests, places, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Logits:
    """Of some tokens after some nodes."""

    values: Tensor
    """(node, token)"""
    node_rows: dict[int, int]
    token_columns: dict[int, int]

    def shares(self, nodes: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """(token, node): the probability of each of `tokens` among them alone."""
        rows = torch.tensor([self.node_rows[node] for node in nodes])
        columns = torch.tensor([self.token_columns[token] for token in tokens])
        return self.values[rows[:, None], columns].softmax(-1).T


class _Places:
    """Where in the tree the asked positions of a request are, and what is looked for there."""

    def __init__(self, tree: TokenTree, request: PromptLogprobRequest) -> None:
        path = tree.add(request.ids[: max(request.positions, default=0)])
        self._values = request.values
        self._end = request.end
        self._asked = [path[position] for position in request.positions]
        self._firsts = list(dict.fromkeys(value[0] for value in request.values))
        self._seconds: dict[int, list[int]] = {}
        for first, *second in request.values:
            if second:
                self._seconds.setdefault(first, []).extend(second)
        self._after = {  # where the first of two tokens stands at an asked position
            first: [tree.extend(node, first) for node in self._asked] for first in self._seconds
        }

    @property
    def nodes(self) -> set[int]:
        return {*self._asked, *(node for nodes in self._after.values() for node in nodes)}

    @property
    def tokens(self) -> set[int]:
        return {self._end, *(token for value in self._values for token in value)}

    def expected(self, logits: _Logits) -> tuple[float, ...]:
        """Σ v·p(v) over the values alone, at each asked position.

        Where 10 is `1`, `0`: p(10) = p(1)·p(0 | 1), and the rest of p(1) is the value 1. After `1`
        only what makes a value counts, a second token or the end, as in front of it.
        """
        if not self._asked:
            return ()
        by_first = logits.shares(self._asked, self._firsts)  # (first, position)
        p: dict[tuple[int, ...], Tensor] = {
            (first,): share for first, share in zip(self._firsts, by_first, strict=True)
        }
        for first, nodes in self._after.items():
            seconds = self._seconds[first]
            *shares, end = logits.shares(nodes, [*seconds, self._end])
            for second, share in zip(seconds, shares, strict=True):
                p[first, second] = p[(first,)] * share
            p[(first,)] = p[(first,)] * end
        by_value = torch.stack([p[tokens] for tokens in self._values])  # (value, position)
        weighted = torch.arange(len(by_value), dtype=by_value.dtype) @ by_value
        return tuple((weighted / by_value.sum(0)).tolist())


def _places_of(items: Sequence[int]) -> dict[int, int]:
    return {item: place for place, item in enumerate(items)}
