"""Structured: a chat answers in JSON with one whole number a token; needs no logprobs.

After the logprob-free simulator of Bills et al. 2023's code, which takes an answer that cannot be
read, or holds too few entries, for all zeros. Here such tokens have no prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

from neuron_explainer.errors import ParseError, Refused
from neuron_explainer.llm.client import LLMClient
from neuron_explainer.llm.messages import CompletionRequest
from neuron_explainer.prompts.activations import show_token
from neuron_explainer.prompts.few_shot import FewShotNeuron
from neuron_explainer.prompts.simulate_json import SCHEMA, structured_messages
from neuron_explainer.prompts.simulate_json_answer import parse_activations
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.simulators.answers import ask_or_refused, missing, simulation

MAX_TOKENS_AN_ENTRY = 32
"""Without the token itself; its names, marks and numbers are some 15, more with spaces between."""


class StructuredSimulator:
    """The numbers that the model writes."""

    def __init__(
        self,
        client: LLMClient,
        *,
        model: str,
        model_label: str,
        few_shot: Sequence[FewShotNeuron],
        temperature: float | None = 0.0,
        reasoning_effort: str | None = None,
        n_thought_tokens: int = 0,
        use_schema: bool = True,
    ) -> None:
        """model: as the client knows it; model_label: as people know it, such as `openai:gpt-4o`.

        temperature None: not sent, as reasoning models demand. n_thought_tokens: what a reasoning
        model may spend beyond its answer. use_schema: hold the server to the schema; without it
        the prompt alone asks for the form.
        """
        self._client = client
        self._model = model
        self._name = f"structured {model_label}"
        self._few_shot = tuple(few_shot)
        self._temperature = temperature
        self._reasoning_effort = reasoning_effort
        self._n_thought_tokens = n_thought_tokens
        self._schema = SCHEMA if use_schema else None

    @property
    def name(self) -> str:
        return self._name

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        """A token is missing when the answer has no entry for it, or no number from 0 to 10."""
        request = CompletionRequest(
            model=self._model,
            messages=structured_messages(self._few_shot, explanation.text, tokens),
            max_tokens=_max_tokens(tokens) + self._n_thought_tokens,
            temperature=self._temperature,
            json_schema=self._schema,
            reasoning_effort=self._reasoning_effort,
        )
        answer = await ask_or_refused(self._client, request)
        if isinstance(answer, Refused):
            return missing(self.name, tokens, f"refused: {answer}")
        try:
            expected = parse_activations(answer.text, tokens)
        except ParseError as error:
            return missing(self.name, tokens, f"unreadable answer: {error}")
        return simulation(self.name, tokens, expected, "no entry with a number from 0 to 10")


def _max_tokens(tokens: Sequence[str]) -> int:
    """Of the answer; a token of the window is at most as many as it has bytes."""
    n_bytes = sum(len(show_token(token).encode("utf-8", "surrogatepass")) for token in tokens)
    return MAX_TOKENS_AN_ENTRY * (len(tokens) + 1) + n_bytes
