"""`--batch`: language models asked through their provider's batch interface, at half the price.

Which of a run's models can be asked so, their clients, and what the run folder knows of batches
from earlier starts. A provider keeps the answers of a batch, so a run that stops or is killed loses
none: the same command waits for them, or finds them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from decimal import Decimal

from neuron_explainer.errors import UsageError
from neuron_explainer.llm.batch import BatchClient, BatchPace
from neuron_explainer.llm.batch_api import BatchApi
from neuron_explainer.llm.batch_book import BatchNews
from neuron_explainer.llm.cache import ResponseCache, cache_key
from neuron_explainer.llm.capabilities import ALL_AT_ONCE
from neuron_explainer.llm.chat_body import ChatForm
from neuron_explainer.llm.messages import Usage
from neuron_explainer.llm.openai_client import OpenAIServer, address_of
from neuron_explainer.llm.prices import Price
from neuron_explainer.pipeline.events import BatchAdvanced, Listener, Noted
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.methods import explainer_name, simulator_name
from neuron_explainer.pipeline.model_names import ModelName
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.cost import PICOUSD
from neuron_explainer.stores.batches import SqliteBatches
from neuron_explainer.stores.closing import Closing

SHARE_OF_PRICE = Decimal("0.5")
"""Of the list price; so OpenAI and others that have its Batch API."""
N_AT_ONCE = 2000
"""Units under way at once, with `--batch`: their explanations are one batch, then their simulations
are the next. So many records and requests keep about 1 GB in memory (of 1,000 units with windows of
64 tokens: 0.5 GB)."""


class OpenBatches(Closing):
    """The batches of a run folder, and a client a model."""

    def __init__(
        self,
        folder: RunFolder,
        responses: ResponseCache,
        find_price: Callable[[ModelName], Price | None],
        listen: Listener,
        pace: BatchPace | None,
    ) -> None:
        """responses: where answers go when they are taken. find_price: the list price."""
        self._book = SqliteBatches(folder.batches)
        self._book.drop_unsent()
        self._book.forget_taken(lambda key: responses.read(key) is not None)
        self._find_price = find_price
        self._listen = listen
        self._pace = pace
        self._clients: dict[ModelName, BatchClient] = {}

    def close(self) -> None:
        self._book.close()

    def price(self, name: ModelName) -> Price | None:
        """None: not known."""
        return batch_price(self._find_price(name))

    @property
    def owed_picousd(self) -> int:
        """At most, for answers that were asked for by an earlier start, and not taken yet."""
        total = 0
        for owed in self._book.owed():
            price = self.price(ModelName("openai", owed.model, owed.address))
            usage = Usage(owed.n_prompt_tokens, 0, owed.n_answer_tokens)
            total += 0 if price is None else price.picousd(usage)
        return total

    @property
    def n_owed(self) -> int:
        """Questions that were sent, and whose answers were not taken."""
        return sum(owed.n_requests for owed in self._book.owed())

    def client(
        self,
        name: ModelName,
        *,
        api_key: str,
        timeout_s: float,
        form: ChatForm,
        rng: random.Random,
    ) -> BatchClient:
        """One a model, whoever asks it: its questions share the batches."""
        if name not in self._clients:
            server = OpenAIServer(api_key=api_key, base_url=name.base_url, timeout_s=timeout_s)
            address = address_of(name.base_url)
            self._clients[name] = BatchClient(
                BatchApi(server),
                form,
                self._book,
                address=address,
                model=name.model,
                key_of=lambda request: cache_key(address, request),
                tell=self._tell,
                rng=rng,
                pace=self._pace,
            )
        return self._clients[name]

    async def close_clients(self) -> None:
        """Of the loop that asked with them."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.close()
        if self.n_owed:
            most = f"${self.owed_picousd / PICOUSD:,.4f}"
            self._listen(Noted("batch", f"{self.n_owed:,} requests are sent and not fetched: at "
                               f"most {most}, charged when a run asks for them"))  # fmt: skip

    def _tell(self, news: BatchNews) -> None:
        self._listen(BatchAdvanced(news))
        if news.is_over:
            self._listen(Noted("batch", news.sentence()))


def batch_price(price: Price | None) -> Price | None:
    """What a provider takes for a request in a batch."""
    return None if price is None else price.times(SHARE_OF_PRICE)


def asked_in_batches(spec: RunSpec, simulation: str) -> Mapping[str, bool]:
    """Of the language models that a spec names, which can be; simulation: resolved, or `auto`.

    A batch holds questions to a chat: a model on this machine has none, nor has a simulation that
    reads the prompt's logprobs.
    """
    explainer, simulator = explainer_name(spec), simulator_name(spec)
    found = {}
    if explainer is not None:
        found["explainer"] = not explainer.is_local
    if simulator is not None:
        found["simulator"] = not simulator.is_local and simulation != ALL_AT_ONCE
    return found


def require_batch(spec: RunSpec, simulation: str) -> None:
    """UsageError for `--batch` where nothing can be asked so; simulation: as above."""
    if spec.batch and not any(asked_in_batches(spec, simulation).values()):
        raise UsageError(
            "--batch: no model of this run is asked through a chat on a server, as a batch needs; "
            "name one with openai:MODEL, choose another --simulation, or leave --batch out"
        )


def describe_batches(spec: RunSpec, simulation: str) -> str:
    """One line for a person: who is asked in batches, and who is not."""
    found = asked_in_batches(spec, simulation)
    asked = [who for who, is_batched in found.items() if is_batched]
    others = [who for who, is_batched in found.items() if not is_batched]
    way = f"the {' and the '.join(asked)} in batches, at half the price and within a day each"
    if not others:
        return f"{way}; first the explanations of up to {N_AT_ONCE:,} neurons, then their scores"
    return f"{way}; the {others[0]} directly, as there is no batch for it"
