"""A language model as an explainer: it is shown a unit's evidence and completes a sentence.

Bills et al. 2023, `explainer.py`; the ways to show the evidence are `prompts/explain_kinds.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Literal

from neuron_explainer.errors import CannotExplain, ParseError, Refused, UsageError
from neuron_explainer.explainers.evidence import EvidenceSources
from neuron_explainer.llm.client import LLMClient
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message
from neuron_explainer.llm.token_estimate import estimate_tokens
from neuron_explainer.prompts.explain_answer import parse_explanation, parse_list
from neuron_explainer.prompts.explain_examples import read_examples
from neuron_explainer.prompts.explain_fit import CountTokens, fit_messages
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import DEAD_UNIT, NeuronRecord

logger = logging.getLogger(__name__)

DEFAULT_PROMPT = "token_activation"
MAX_TOKENS = 100
"""Of one explanation; published: 60, which some chat models exceed with what they put around it."""
MAX_REASON_CHARS = 200

Several = Literal["samples", "list"]
"""Several explanations: as many requests that differ in their seed, or one numbered list."""


class LLMExplainer:
    """One prompt, one model; built once for all units."""

    def __init__(
        self,
        client: LLMClient,
        model: str,
        *,
        shown_model: str | None = None,
        prompt: str = DEFAULT_PROMPT,
        few_shot_set: str | None = None,
        sources: EvidenceSources | None = None,
        n_explanations: int = 1,
        several: Several = "samples",
        is_chat: bool = True,
        takes_temperature: bool = True,
        max_tokens: int = MAX_TOKENS,
        reasoning_effort: str | None = None,
        n_context_tokens: int = 8192,
        count_tokens: CountTokens = estimate_tokens,
    ) -> None:
        """model: as the server knows it. shown_model: as it is written beside the explanations.

        few_shot_set None: the prompt's own. sources: what is shown of a unit. is_chat False: the
        model goes on with a text. takes_temperature False: none is sent, as reasoning models
        demand; otherwise it is 1 for several samples and 0 for one answer (published: 1).
        n_context_tokens: prompt and answer together.

        UsageError for a prompt or a set that is not known, or that lacks a source.
        """
        if prompt not in PROMPTS:
            raise UsageError(f"no explainer prompt {prompt!r}; one of {', '.join(sorted(PROMPTS))}")
        if n_explanations < 1:
            raise UsageError(f"at least 1 explanation must be asked for, not {n_explanations}")
        self.name = prompt
        self._prompt = PROMPTS[prompt]
        self._examples = read_examples(self._prompt, few_shot_set)
        self._sources = sources or EvidenceSources()
        self._sources.require(self._prompt.needs)
        self._client = client
        self._model = model
        self._shown_model = shown_model or model
        self._n_listed = n_explanations if several == "list" else 1
        self._n_samples = n_explanations if several == "samples" else 1
        self._is_chat = is_chat
        self._temperature = (1.0 if self._n_samples > 1 else 0.0) if takes_temperature else None
        self._max_tokens = max_tokens * self._n_listed
        self._reasoning_effort = reasoning_effort
        self._n_prompt_tokens = n_context_tokens - self._max_tokens
        if self._n_prompt_tokens <= 0:
            raise UsageError(
                f"an answer of {self._max_tokens} tokens leaves no room for a question in a "
                f"context of {n_context_tokens}"
            )
        self._count_tokens = count_tokens

    async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
        """The different explanations the model gave, in the order of the samples or of its list.

        CannotExplain for a dead unit, one that lacks evidence, a prompt that does not fit, and
        when every answer is a refusal or cannot be read. Other errors of the client are raised.
        """
        if record.is_dead:
            raise CannotExplain(DEAD_UNIT)
        messages = fit_messages(
            self._prompt,
            self._examples,
            self._sources.gather(record, self._prompt.needs),
            self._n_prompt_tokens,
            self._count_tokens,
            is_chat=self._is_chat,
            n_listed=self._n_listed,
        )
        answers = await self._ask_all(messages)
        texts = [text for answer in answers if isinstance(answer, tuple) for text in answer]
        failures = [_reason(answer) for answer in answers if not isinstance(answer, tuple)]
        if not texts:
            raise CannotExplain(failures[0])
        for reason in failures:
            logger.info("neuron %s: one of several answers left out: %s", record.neuron_id, reason)
        return tuple(
            Explanation(
                neuron_id=record.neuron_id,
                text=self._prompt.stored.format(answer=text),
                explainer=self.name,
                model=self._shown_model,
                prompt_version=self._prompt.version,
            )
            for text in dict.fromkeys(texts)
        )

    async def _ask_all(
        self, messages: tuple[Message, ...]
    ) -> Sequence[tuple[str, ...] | Refused | ParseError]:
        """One entry a sample; the questions differ in their seed alone."""
        tasks = [
            asyncio.ensure_future(self._ask(self._request(messages, seed)))
            for seed in range(self._n_samples)
        ]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # one has failed for good: the others are not worth their cost
                task.cancel()

    def _request(self, messages: tuple[Message, ...], seed: int) -> CompletionRequest:
        return CompletionRequest(
            model=self._model,
            messages=messages,
            max_tokens=self._max_tokens,
            temperature=self._temperature,
            reasoning_effort=self._reasoning_effort,
            seed=seed,
        )

    async def _ask(self, request: CompletionRequest) -> tuple[str, ...] | Refused | ParseError:
        try:
            return self._read(await self._client.ask(request))
        except (Refused, ParseError) as error:
            return error

    def _read(self, completion: Completion) -> tuple[str, ...]:
        is_cut = completion.finish_reason == "length"
        if self._n_listed > 1:
            return parse_list(completion.text, is_begun=not self._is_chat, is_cut=is_cut)
        return (parse_explanation(completion.text, is_cut=is_cut),)


def _reason(error: Refused | ParseError) -> str:
    if isinstance(error, ParseError):
        return f"unreadable answer: {error.reason}"
    said = " ".join(str(error).split())
    return f"refused: {said[:MAX_REASON_CHARS]}"
