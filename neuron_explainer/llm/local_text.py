"""Texts written by a local model, one request after the other.

What a prompt shares with earlier ones, such as worked examples, is not read again.
"""

from __future__ import annotations

import asyncio

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from neuron_explainer.errors import BadRequest, Refused, UsageError
from neuron_explainer.llm.chat_prompt import PromptEncoder
from neuron_explainer.llm.local_model import LocalModel
from neuron_explainer.llm.messages import Completion, CompletionRequest, Usage
from neuron_explainer.llm.shared_prefix import key_values_of
from neuron_explainer.llm.written import WrittenText

_LINE_BREAK = "\n"
_SIMILAR_SHARE = 0.5
"""A prompt that shares half of an earlier one takes its place among those that are kept."""


class LocalTextClient:
    """Messages through the model's chat template; without one, a text that the model goes on with.

    Temperature 0, or None, takes the most probable token; else tokens are drawn with the request's
    seed (none: 0), so that equal requests get equal answers.
    """

    def __init__(
        self,
        local: LocalModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        stops_at_line_break: bool = False,
    ) -> None:
        """UsageError for the tokenizer of another model.

        `name`: of the model, in answers. `stops_at_line_break`: where there is no chat template,
        as such a model may go on for ever.
        """
        if len(tokenizer) > local.n_embeddings:
            raise UsageError(
                f"{name}: the tokenizer has {len(tokenizer)} tokens, the model knows "
                f"{local.n_embeddings}"
            )
        self._local = local
        self._tokenizer = tokenizer
        self._name = name
        self._prompts = PromptEncoder(tokenizer)
        self._some_text = self._prompts.pieces.encode_text("a")
        self._ends = _end_ids(local, tokenizer)
        self._stop = _LINE_BREAK if stops_at_line_break and not self._prompts.is_chat else None

    async def ask(self, request: CompletionRequest) -> Completion:
        """BadRequest for what a local model cannot be asked; Refused for an answer without a word,
        which the same question would get again; LLMError when the model fails."""
        if request.json_schema is not None:
            raise BadRequest(
                "a local model cannot be held to a JSON schema; ask for the format in words, or "
                "take a server that can"
            )
        if request.reasoning_effort is not None:
            raise BadRequest("a local model knows no reasoning effort; leave it out")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._local.executor, self._complete, request)

    def _complete(self, request: CompletionRequest) -> Completion:
        prompt = self._prompts.encode(request.messages)
        if not prompt:
            raise BadRequest("the prompt is empty")
        if len(prompt) + request.max_tokens > self._local.n_ctx:
            raise BadRequest(
                f"the prompt has {len(prompt):,} tokens, the answer may have "
                f"{request.max_tokens:,}, and the model has room for {self._local.n_ctx:,} in all"
            )
        written = WrittenText(self._tokenizer, self._some_text, self._stop)
        usage, finish_reason = self._write(request, prompt, written)
        tokens = written.finish()
        text = "".join(token.token for token in tokens)
        if not text:
            raise Refused(f"{self._name} ended its answer before it began", usage=usage)
        return Completion(
            text=text,
            model=self._name,
            finish_reason=finish_reason,
            usage=usage,
            logprobs=None if request.n_top_logprobs is None else tokens,
        )

    def _write(
        self, request: CompletionRequest, prompt: tuple[int, ...], written: WrittenText
    ) -> tuple[Usage, str]:
        """Writes until the answer ends; what it took, and why it ended."""
        kept = self._local.kept
        known = kept.longest(prompt[:-1])  # the last is read in any case, for what follows it
        n_known = len(known.ids)
        cache = known.growing(len(prompt) + request.max_tokens)
        logits = self._local.next_logits(prompt[n_known:], cache)
        kept.put(key_values_of(prompt, cache), similar_share=_SIMILAR_SHARE)
        generator = torch.Generator().manual_seed(request.seed or 0)
        for n_written in range(1, request.max_tokens + 1):
            token = choose_token(logits, request.temperature, request.top_p, generator)
            usage = Usage(len(prompt), n_known, n_written)
            if token in self._ends:
                return usage, "stop"
            written.add(token, logits.log_softmax(-1), request.n_top_logprobs or 0)
            if written.is_stopped:
                return usage, "stop"
            if n_written < request.max_tokens:
                logits = self._local.next_logits([token], cache)
        return usage, "length"


def choose_token(
    logits: Tensor, temperature: float | None, top_p: float | None, generator: torch.Generator
) -> int:
    """logits: (vocabulary,). top_p: the fewest tokens that have so much probability together.

    Holtzman et al. 2020, arXiv:1904.09751.
    """
    if not temperature:
        return int(logits.argmax())
    probabilities, tokens = (logits.double() / temperature).softmax(-1).sort(descending=True)
    if top_p is not None:
        preceding = probabilities.cumsum(0) - probabilities
        probabilities = probabilities.masked_fill(preceding >= max(top_p, 1e-9), 0.0)
    return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])


def _end_ids(local: LocalModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that end an answer: the tokenizer's, and those that the model's settings name."""
    settings = local.model.generation_config
    named = None if settings is None else settings.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}
