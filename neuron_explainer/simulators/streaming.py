"""Streaming: a chat writes all activations of a window in one answer, with their alternatives.

After Bills et al. 2023; for servers that give the logprobs of what they write, but none of the
prompt's. One request a window; each number's expected value is read where it is written, so a
prediction knows of the numbers written before it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from neuron_explainer.errors import ParseError, Refused
from neuron_explainer.llm.client import LLMClient
from neuron_explainer.llm.messages import Completion, CompletionRequest, TokenLogprobs
from neuron_explainer.prompts.few_shot import FewShotNeuron
from neuron_explainer.prompts.simulate_lines import parse_lines, streaming_messages
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.simulators.answers import (
    ask_or_refused,
    missing,
    simulation,
    written_tokens,
)
from neuron_explainer.simulators.expected_value import expected_value

MAX_TOKENS_A_LINE = 8
"""Three digits, a tab, two digits and a line break, were each its own token; one to spare."""


class StreamingSimulator:
    """The expected value of each number that the model writes."""

    def __init__(
        self,
        client: LLMClient,
        *,
        model: str,
        model_label: str,
        few_shot: Sequence[FewShotNeuron],
        temperature: float | None = 0.0,
        n_top_logprobs: int = 20,
    ) -> None:
        """model: as the client knows it; model_label: as people know it: `openai:gpt-4o`."""
        self._client = client
        self._model = model
        self._name = f"streaming {model_label}"
        self._few_shot = tuple(few_shot)
        self._temperature = temperature
        self._n_top_logprobs = n_top_logprobs

    @property
    def name(self) -> str:
        return self._name

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        """A token is missing when its line is missing, repeated or no line of the answer.

        BadRequest when the server gives no logprobs.
        """
        request = CompletionRequest(
            model=self._model,
            messages=streaming_messages(self._few_shot, explanation.text, tokens),
            max_tokens=MAX_TOKENS_A_LINE * (len(tokens) + 1),
            temperature=self._temperature,
            n_top_logprobs=self._n_top_logprobs,
        )
        answer = await ask_or_refused(self._client, request)
        if isinstance(answer, Refused):
            return missing(self.name, tokens, f"refused: {answer}")
        try:
            expected = read_answer(answer, len(tokens))
        except ParseError as error:
            return missing(self.name, tokens, f"unreadable answer: {error}")
        return simulation(self.name, tokens, expected, "no line of the answer tells")


def read_answer(answer: Completion, n_tokens: int) -> list[float | None]:
    """Expected activation of each token; ParseError when no line of the answer can be read."""
    written = written_tokens(answer)
    text = "".join(token.token for token in written)
    lines = parse_lines(text, n_tokens, is_cut=answer.finish_reason == "length")
    if not lines:
        raise ParseError(text, "no line of a number and an activation")
    starts = list(accumulate((len(token.token) for token in written), initial=0))[:-1]
    return [
        _expected_value_from(written, starts, lines[i].start) if i in lines else None
        for i in range(n_tokens)
    ]


def _expected_value_from(
    written: Sequence[TokenLogprobs], starts: Sequence[int], start: int
) -> float | None:
    """Of the number that begins at the character `start`; starts: offset of each token."""
    index = bisect_right(starts, start) - 1  # of equal offsets the last: an empty token holds none
    lead = written[index].token[: start - starts[index]]
    return expected_value(written, index, lead)
