"""Models that are asked for nothing: they count what would be asked, for an estimate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from neuron_explainer.llm.capabilities import ALL_AT_ONCE, Capabilities, Capability
from neuron_explainer.llm.chat_body import thinks_first
from neuron_explainer.llm.messages import Completion, CompletionRequest
from neuron_explainer.llm.openai_client import OPENAI_URL
from neuron_explainer.llm.pieces import HfPieceTokenizer
from neuron_explainer.llm.prices import Price, read_prices
from neuron_explainer.llm.token_estimate import estimate_tokens
from neuron_explainer.pipeline.batching import batch_price
from neuron_explainer.pipeline.estimate import (
    CountingClient,
    Tallies,
    Tally,
    any_completion,
    any_values,
)
from neuron_explainer.pipeline.methods import TextModel, ValueModel, value_tokens
from neuron_explainer.pipeline.model_names import ModelName, price_of
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.subject.pretrained import load_tokenizer, read_config

IN_BATCHES = " (in batches)"
"""Behind a model's name: what it is asked so costs less."""
ASSUMED = "assumed; nobody was asked"


class CountingModels:
    """Tokenizers are read, weights are not. `tallies` fills as the models are asked."""

    def __init__(
        self, spec: RunSpec, complete: Callable[[CompletionRequest], Completion] = any_completion
    ) -> None:
        """complete: what who wants a text is answered."""
        self._spec = spec
        self._complete = complete
        self._prices = read_prices(None if spec.prices is None else Path(spec.prices))
        self._names: dict[str, ModelName] = {}
        self.tallies = Tallies()

    def text_model(self, name: ModelName, *, for_numbers: bool = False) -> TextModel:  # noqa: ARG002
        """Nothing is kept, so it does not matter for what."""
        is_batched = self._spec.batch and not name.is_local
        client = CountingClient(self._tally(name, is_batched=is_batched), self._complete)
        if not name.is_local:
            is_reasoning = self._spec.reasoning_effort is not None or thinks_first(name.model)
            return TextModel(client, True, is_reasoning, estimate_tokens, None)
        tokenizer = load_tokenizer(name.model)
        pieces = HfPieceTokenizer(tokenizer)
        return TextModel(
            client=client,
            is_chat=bool(tokenizer.chat_template),
            is_reasoning=False,
            count_tokens=lambda text: len(pieces.encode_text(text)),
            n_context_tokens=_n_ctx(name),
        )

    def value_model(self, name: ModelName, *, distilled: bool) -> ValueModel:
        where = name.model if name.is_local else self._spec.simulator_tokenizer or name.model
        pieces = HfPieceTokenizer(load_tokenizer(where))
        values, end = value_tokens(pieces, distilled=distilled)
        n_context_tokens = _n_ctx(name) if name.is_local else None
        client = CountingClient(self._tally(name), any_values)
        return ValueModel(client, pieces, values, end, n_context_tokens)

    def capabilities(self, name: ModelName) -> Capabilities | None:
        """What most servers offer; and prompt logprobs to who counts on them."""
        if name.is_local:
            return None
        thinks = thinks_first(name.model)
        sees_prompt = (
            self._spec.simulator_tokenizer is not None or self._spec.simulation == ALL_AT_ONCE
        )
        yes, no = Capability(True, ASSUMED), Capability(False, ASSUMED)
        return Capabilities(
            base_url=name.base_url or OPENAI_URL,
            model=name.model,
            models=(),
            n_context_tokens=None,
            chat=yes,
            system_prompt=yes,
            temperature=no if thinks else yes,
            thoughts=yes if thinks else no,
            top_logprobs=no if thinks else yes,
            n_top_logprobs=0 if thinks else 20,
            json_schema=yes,
            token_ids=yes if sees_prompt else no,
            echo=no,
            echo_max_tokens=0,
            prompt_logprobs=yes if sees_prompt else no,
            n_prompt_logprobs=20,
            n_requests=0,
            usage=None,
        )

    def identity(self, name: ModelName) -> str:
        return str(name)

    def find_price(self, model: str) -> Price | None:
        """By the name a user gives a model that was asked, and whether that is in batches."""
        price = price_of(self._names[model], self._prices)
        return batch_price(price) if model.endswith(IN_BATCHES) else price

    def _tally(self, name: ModelName, *, is_batched: bool = False) -> Tally:
        label = f"{name}{IN_BATCHES if is_batched else ''}"
        self._names[label] = name
        return self.tallies.of(label)


def _n_ctx(name: ModelName) -> int:
    n_ctx: int = read_config(name.model).get_text_config().max_position_embeddings
    return n_ctx
