"""Language models opened by name: their clients with cache, limits and budget, and their end."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuron_explainer.llm.batch import BatchPace
from neuron_explainer.llm.budget import Budget, BudgetedClient, Charge
from neuron_explainer.llm.cache import (
    COMPLETIONS,
    EXPECTED_VALUES,
    NUMBERS,
    AnswerFormat,
    CachedClient,
)
from neuron_explainer.llm.capabilities import (
    Capabilities,
    read_capabilities,
    write_capabilities,
)
from neuron_explainer.llm.chat_body import ChatForm, thinks_first
from neuron_explainer.llm.client import Client, LLMClient
from neuron_explainer.llm.completions_client import CompletionsLogprobClient
from neuron_explainer.llm.local_model import LocalModel, Speed
from neuron_explainer.llm.local_text import LocalTextClient
from neuron_explainer.llm.messages import Answer, Request
from neuron_explainer.llm.openai_client import (
    OPENAI_URL,
    OpenAIClient,
    address_of,
    read_api_key,
)
from neuron_explainer.llm.pieces import HfPieceTokenizer
from neuron_explainer.llm.prices import Price, read_prices
from neuron_explainer.llm.probe import find_server, probe
from neuron_explainer.llm.retry import RetryingClient, RetryPolicy
from neuron_explainer.llm.throttle import Limiter, ThrottledClient
from neuron_explainer.llm.token_estimate import estimate_tokens
from neuron_explainer.llm.transformers_client import LocalPromptLogprobClient
from neuron_explainer.pipeline.batching import N_AT_ONCE, OpenBatches
from neuron_explainer.pipeline.events import Listener, Noted, ignore
from neuron_explainer.pipeline.explain import MAX_CONCURRENT
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.methods import TextModel, ValueModel, value_tokens
from neuron_explainer.pipeline.model_names import ModelName, price_of
from neuron_explainer.pipeline.process_memory import memory_budget_bytes
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.cost import PICOUSD, UnitCost
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.response_cache import SqliteResponseCache
from neuron_explainer.stores.spending import SpendingStore
from neuron_explainer.subject.pretrained import (
    DTYPES,
    load_pretrained,
    load_tokenizer,
    read_config,
)

Q = TypeVar("Q", bound=Request)
A = TypeVar("A", bound=Answer)
AUTO_DTYPE = "auto"
SAMPLE = 4096
"""Values of a parameter that are looked at to tell models apart; training changes nearly all."""
NEXT_BATCH = RetryPolicy(first_wait_s=0.0)
"""A request without an answer is queued again at once: a batch waits by itself."""
PROBE = "probe/"
"""What the questions to a server about itself are charged to."""


@dataclass(frozen=True, slots=True)
class _Local:
    """A model in memory, and how its text becomes ids."""

    model: LocalModel
    tokenizer: PreTrainedTokenizerBase
    content: str
    """Names its weights: another model of the same name is another one."""


class OpenModels(Closing):
    """Opens each model once, however many parts of a method ask for it; all share one limiter.

    Answers and what they cost are kept in the run folder. It is a `Ledger` of what was asked.
    """

    def __init__(
        self,
        spec: RunSpec,
        folder: RunFolder,
        listen: Listener = ignore,
        *,
        pace: BatchPace | None = None,
    ) -> None:
        """listen: hears of batches; pace: of theirs."""
        self._spec = spec
        self._files = ExitStack()
        cache = folder.responses if spec.cache is None else Path(spec.cache)
        self._responses = self._files.enter_context(SqliteResponseCache(cache))
        self._spending = self._files.enter_context(SpendingStore(folder.spending))
        limit = None if spec.budget_usd is None else round(spec.budget_usd * PICOUSD)
        self._prices = read_prices(None if spec.prices is None else Path(spec.prices))
        self._batches = self._open_batches(folder, listen, pace)
        self._budget = Budget(
            self._spending,
            limit_picousd=limit,
            spent_picousd=self._spending.total_picousd(),
            owed_picousd=0 if self._batches is None else self._batches.owed_picousd,
        )
        self._limiter = Limiter(
            spec.requests_a_minute, spec.tokens_a_minute, most_in_flight=spec.max_in_flight
        )
        self._rng = random.Random(spec.seed)
        self._local: dict[ModelName, _Local] = {}
        self._capabilities: dict[ModelName, Capabilities] = {}
        self._closers: list[Callable[[], Awaitable[None]]] = []

    def close(self) -> None:
        for local in self._local.values():
            local.model.close()
        self._files.close()

    async def close_clients(self) -> None:
        """Of the loop that asked with them."""
        while self._closers:
            await self._closers.pop()()
        if self._batches is not None:
            await self._batches.close_clients()

    @property
    def n_at_once(self) -> int:
        """Units to have under way: enough to fill a batch, where there is one."""
        return N_AT_ONCE if self._spec.batch else MAX_CONCURRENT

    def cost_of(self, purpose: str) -> UnitCost:
        return self._spending.of_purpose(purpose).counted

    def total(self) -> UnitCost:
        return self._spending.of_purpose().counted

    def uncounted(self) -> UnitCost:
        """Requests that a server may have charged for without saying what; at most this."""
        return self._spending.of_purpose().uncounted

    def text_model(self, name: ModelName, *, for_numbers: bool = False) -> TextModel:
        """for_numbers: keep of an answer what tells its numbers, and no more."""
        answers = NUMBERS if for_numbers else COMPLETIONS
        if name.is_local:
            local = self._load(name)
            client = LocalTextClient(
                local.model, local.tokenizer, name=name.model, stops_at_line_break=True
            )
            pieces = HfPieceTokenizer(local.tokenizer)
            return TextModel(
                client=self._kept(client, name, answers),
                is_chat=bool(local.tokenizer.chat_template),
                is_reasoning=False,
                count_tokens=lambda text: len(pieces.encode_text(text)),
                n_context_tokens=local.model.n_ctx,
            )
        can = self.capabilities(name)
        assert can is not None
        is_reasoning = self._is_reasoning(name, can)
        takes_system = can.system_prompt.has or not can.chat.has  # without a chat it is unknown
        form = ChatForm(is_reasoning, takes_system)
        asked = self._batched(name, form) if self._spec.batch else self._direct(name, form)
        return TextModel(
            client=self._cached(asked, name, answers),
            is_chat=True,
            is_reasoning=is_reasoning,
            count_tokens=estimate_tokens,
            n_context_tokens=can.n_context_tokens,
        )

    def value_model(self, name: ModelName, *, distilled: bool) -> ValueModel:
        if name.is_local:
            local = self._load(name)
            values_client = LocalPromptLogprobClient(local.model, batch_size=self._spec.batch_size)
            pieces = HfPieceTokenizer(local.tokenizer)
            return ValueModel(
                self._kept(values_client, name, EXPECTED_VALUES),
                pieces,
                *value_tokens(pieces, distilled=distilled),
                local.model.n_ctx,
            )
        can = self.capabilities(name)
        assert can is not None
        server = CompletionsLogprobClient(
            api_key=self._api_key(name),
            base_url=name.base_url or OPENAI_URL,
            form="prompt_logprobs" if can.prompt_logprobs.has else "echo",
            n_top_logprobs=can.n_prompt_logprobs,
            max_tokens=1 if can.echo_max_tokens else 0,
            timeout_s=self._spec.timeout_s,
            guard=lambda one: self._guarded(one, name),
        )
        self._closers.append(server.close)
        pieces = HfPieceTokenizer(load_tokenizer(self._spec.simulator_tokenizer or name.model))
        return ValueModel(
            self._cached(server, name, EXPECTED_VALUES),
            pieces,
            *value_tokens(pieces, distilled=distilled),
            can.n_context_tokens,
        )

    def capabilities(self, name: ModelName) -> Capabilities | None:
        """Asks the server, once in the life of a run folder; what that costs is charged too."""
        if name.is_local:
            return None
        if name not in self._capabilities:
            key = f"capabilities of {name.model} at {address_of(name.base_url)}"
            known = self._responses.read(key)
            if known is None:
                can = self._probe(name)
                if can.chat.has:  # else something was amiss that may pass
                    self._responses.write(key, write_capabilities(can))
            else:
                asyncio.run(
                    find_server(base_url=name.base_url or OPENAI_URL, api_key=self._api_key(name))
                )
                can = read_capabilities(known)
            self._capabilities[name] = can
        return self._capabilities[name]

    def _probe(self, name: ModelName) -> Capabilities:
        can = asyncio.run(
            probe(
                base_url=name.base_url or OPENAI_URL,
                api_key=self._api_key(name),
                model=name.model,
                timeout_s=self._spec.timeout_s,
            )
        )
        if can.usage is not None:
            price = self.find_price(name)
            self._budget.settle(
                0,
                Charge(
                    PROBE, name.model, can.usage.n_prompt_tokens, can.usage.n_cached_tokens,
                    can.usage.n_completion_tokens,
                    None if price is None else price.picousd(can.usage),
                    is_counted=True, n_requests=can.n_requests,
                ),
            )  # fmt: skip
        return can

    def identity(self, name: ModelName) -> str:
        """What tells a model from others of its name: a local one's weights and their type."""
        if not name.is_local:
            return str(name)
        local = self._load(name)
        dtype = str(local.model.model.dtype).removeprefix("torch.")
        return f"{name} {dtype} {local.content}"

    def find_price(self, name: ModelName) -> Price | None:
        return price_of(name, self._prices)

    def measure_speeds(self) -> dict[str, Speed]:
        """Of the local models that are open."""
        return {str(name): local.model.measure_speed() for name, local in self._local.items()}

    def _is_reasoning(self, name: ModelName, can: Capabilities) -> bool:
        if self._spec.reasoning_effort is not None or thinks_first(name.model):
            return True
        return can.chat.has and not can.temperature.has

    def _load(self, name: ModelName) -> _Local:
        if name not in self._local:
            loaded = load_pretrained(
                name.model,
                dtype=_dtype_of(name, self._spec.model_dtype),
                device=self._spec.device,
                most_bytes=memory_budget_bytes(self._spec.memory_gb, torch.device("cpu")),
            )
            self._local[name] = _Local(
                LocalModel(loaded.model), loaded.tokenizer, _content_of(loaded.model)
            )
        return self._local[name]

    def _api_key(self, name: ModelName) -> str:
        return read_api_key(self._spec.api_key_env, name.base_url)

    def _direct(self, name: ModelName, form: ChatForm) -> LLMClient:
        server = OpenAIClient(
            api_key=self._api_key(name),
            base_url=name.base_url,
            timeout_s=self._spec.timeout_s,
            most_in_flight=self._spec.max_in_flight,
            form=form,
        )
        self._closers.append(server.close)
        return self._guarded(server, name)

    def _batched(self, name: ModelName, form: ChatForm) -> LLMClient:
        """No limiter: a batch takes as long as it takes. What failed goes into the next one."""
        assert self._batches is not None
        client = self._batches.client(
            name,
            api_key=self._api_key(name),
            timeout_s=self._spec.timeout_s,
            form=form,
            rng=self._rng,
        )
        price = self._batches.price(name)
        budgeted = BudgetedClient(client, self._budget, lambda _: price, is_owed=client.is_owed)
        return RetryingClient(budgeted, NEXT_BATCH, rng=self._rng)

    def _open_batches(
        self, folder: RunFolder, listen: Listener, pace: BatchPace | None
    ) -> OpenBatches | None:
        """None: the run folder has no batch, and is to have none."""
        if not (self._spec.batch or folder.batches.exists()):
            return None
        batches = OpenBatches(folder, self._responses, self.find_price, listen, pace)
        self._files.enter_context(batches)
        if not self._spec.batch and batches.n_owed:
            listen(Noted("batch", f"{batches.n_owed:,} requests of an earlier start are with the "
                         "provider or answered; give --batch to have their answers: without it "
                         "they are asked again, and paid for"))  # fmt: skip
        return batches

    def _guarded(self, server: Client[Q, A], name: ModelName) -> Client[Q, A]:
        """Retried; each attempt is paid for, and takes its place in the limiter."""
        throttled = ThrottledClient(self._budgeted(server, name), self._limiter)
        return RetryingClient(throttled, rng=self._rng)

    def _kept(self, local: Client[Q, A], name: ModelName, answers: AnswerFormat[A]) -> Client[Q, A]:
        """A local model answers at its own pace, for nothing."""
        return self._cached(self._budgeted(local, name), name, answers)

    def _budgeted(self, client: Client[Q, A], name: ModelName) -> Client[Q, A]:
        price = self.find_price(name)
        return BudgetedClient(client, self._budget, lambda _: price)

    def _cached(
        self, client: Client[Q, A], name: ModelName, answers: AnswerFormat[A]
    ) -> Client[Q, A]:
        where = self.identity(name) if name.is_local else address_of(name.base_url)
        return CachedClient(client, self._responses, answers, namespace=where)


def _dtype_of(name: ModelName, dtype: str) -> str:
    """auto: that of the checkpoint, which takes the least room."""
    if dtype != AUTO_DTYPE:
        return dtype
    own = str(read_config(name.model).dtype).removeprefix("torch.")
    return own if own in DTYPES else AUTO_DTYPE


def _content_of(model: PreTrainedModel) -> str:
    """Hex digest of up to SAMPLE values of every parameter, evenly spread."""
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().reshape(-1)
        sample = flat[:: max(1, len(flat) // SAMPLE)].float().cpu().contiguous()
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()
