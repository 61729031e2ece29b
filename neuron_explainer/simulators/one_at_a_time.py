"""One at a time: a question a token, answered with one number; for chats that give alternatives.

Bills et al. 2023, `simulator.py`. As many requests as a window has tokens, each of which begins
as the one before it, so that servers which cache prompts read each part once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from neuron_explainer.errors import Refused
from neuron_explainer.llm.client import LLMClient
from neuron_explainer.llm.messages import CompletionRequest
from neuron_explainer.prompts.few_shot import FewShotNeuron
from neuron_explainer.prompts.simulate_one import messages_for_token
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.simulators.answers import (
    ask_or_refused,
    gather_all,
    simulation,
    written_tokens,
)
from neuron_explainer.simulators.expected_value import expected_value


class OneAtATimeSimulator:
    """The expected value of the first token of each answer."""

    def __init__(
        self,
        client: LLMClient,
        *,
        model: str,
        model_label: str,
        few_shot: Sequence[FewShotNeuron],
        temperature: float | None = 0.0,
        n_top_logprobs: int = 20,
        max_tokens: int = 1,
    ) -> None:
        """model: as the client knows it; model_label: as people know it, such as `openai:gpt-4o`.

        max_tokens: of an answer; 2 tells 1 from 10 where the model writes 10 as two tokens.
        """
        self._client = client
        self._model = model
        self._name = f"one_at_a_time {model_label}"
        self._few_shot = tuple(few_shot)
        self._temperature = temperature
        self._n_top_logprobs = n_top_logprobs
        self._max_tokens = max_tokens

    @property
    def name(self) -> str:
        return self._name

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        """A token is missing when the model declines to answer for it or writes no number.

        BadRequest when the server gives no logprobs.
        """
        reasons: Counter[str] = Counter()
        expected = await gather_all(
            self._predict(explanation.text, tokens[: i + 1], reasons) for i in range(len(tokens))
        )
        return simulation(self.name, tokens, expected, str(dict(reasons)))

    async def _predict(
        self, explanation: str, tokens: Sequence[str], reasons: Counter[str]
    ) -> float | None:
        """The activation on the last of the tokens; why there is none is counted in `reasons`."""
        request = CompletionRequest(
            model=self._model,
            messages=messages_for_token(self._few_shot, explanation, tokens),
            max_tokens=self._max_tokens,
            temperature=self._temperature,
            n_top_logprobs=self._n_top_logprobs,
        )
        answer = await ask_or_refused(self._client, request)
        if isinstance(answer, Refused):
            reasons["refused"] += 1
            return None
        value = expected_value(written_tokens(answer), 0)
        if value is None:
            reasons["no number among the most probable"] += 1
        return value
