"""All at once: one reading of a prompt predicts every token of a window.

Bills et al. 2023, `simulator.py`; the paper's simulator for all its scores. In the prompt stands
`unknown` after every token of the window; the model's expectation in its place is the prediction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain

from neuron_explainer.errors import CannotSimulate, Refused, UsageError
from neuron_explainer.llm.client import PieceTokenizer, PromptLogprobClient
from neuron_explainer.llm.messages import PromptLogprobRequest
from neuron_explainer.prompts.few_shot import FewShotNeuron
from neuron_explainer.prompts.simulate import (
    LINE_BREAK,
    TAB,
    UNKNOWN,
    prefix_pieces,
    window_pieces,
)
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.simulators.answers import ask_or_refused, missing, simulation

MAX_EXPLANATION_IDS = 100
"""Kept free for an explanation when the examples are chosen."""
LONG_TOKENS = 1.5
"""A window's tokens may be this much longer, in ids, than those of the examples are on average."""


class AllAtOnceSimulator:
    """The prompt's first part is the same for all units, so that it need be read only once."""

    def __init__(
        self,
        client: PromptLogprobClient,
        tokenizer: PieceTokenizer,
        *,
        model: str,
        model_label: str,
        values: tuple[tuple[int, ...], ...],
        end: int,
        few_shot: Sequence[FewShotNeuron],
        n_context_tokens: int,
        n_window_tokens: int,
    ) -> None:
        """model: as the client knows it; model_label: as people know it, such as `hf:gpt2`.

        values, end: token ids of the values 0 to 10 after a tab, and of a line break. few_shot: at
        least one neuron. n_context_tokens: the simulator model's. n_window_tokens: the subject's
        tokens in the longest window; when a prompt of that length does not fit, examples are left
        out, the last ones first. UsageError when not even one example fits.
        """
        self._client = client
        self._tokenizer = tokenizer
        self._model = model
        self._name = f"all_at_once {model_label}"
        self._values = values
        self._end = end
        self._n_context_tokens = n_context_tokens
        self.few_shot = self._fitting(few_shot, n_window_tokens)
        """The examples that are shown."""
        self._prefix = self._prefix_ids(self.few_shot)

    @property
    def name(self) -> str:
        return self._name

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        """CannotSimulate when the explanation and the window do not fit the model's context."""
        request = self._request(explanation.text, tokens)
        answer = await ask_or_refused(self._client, request)
        if isinstance(answer, Refused):
            return missing(self.name, tokens, f"refused: {answer}")
        return simulation(self.name, tokens, answer.expected, "no number among the most probable")

    def _request(self, explanation: str, tokens: Sequence[str]) -> PromptLogprobRequest:
        pieces, asked = window_pieces(explanation, tokens)
        encoded = self._tokenizer.encode(pieces)
        starts = _starts(encoded)
        n_tokens = len(self._prefix) + starts[-1]
        if n_tokens >= self._n_context_tokens:  # most servers write at least one token
            raise CannotSimulate(
                f"prompt too long: {n_tokens} tokens in a context of {self._n_context_tokens}"
            )
        return PromptLogprobRequest(
            model=self._model,
            prefix=self._prefix,
            ids=tuple(chain.from_iterable(encoded)),
            positions=tuple(starts[i] for i in asked),
            values=self._values,
            end=self._end,
        )

    def _prefix_ids(self, few_shot: Sequence[FewShotNeuron]) -> tuple[int, ...]:
        encoded = self._tokenizer.encode(prefix_pieces(few_shot))
        return (*self._tokenizer.start, *chain.from_iterable(encoded))

    def _fitting(
        self, few_shot: Sequence[FewShotNeuron], n_window_tokens: int
    ) -> tuple[FewShotNeuron, ...]:
        """As many examples as leave room for the longest window; the same for all windows."""
        n_free = self._n_context_tokens - self._n_window_ids(few_shot, n_window_tokens)
        n_prefix = n_free
        for shown in _fewer_and_fewer(few_shot):
            n_prefix = len(self._prefix_ids(shown))
            if n_prefix <= n_free:
                return shown
        raise UsageError(
            f"{self.name}: a context of {self._n_context_tokens} tokens cannot hold one example "
            f"({n_prefix}) and a window of {n_window_tokens} tokens (about "
            f"{self._n_context_tokens - n_free}); take shorter windows or another simulator"
        )

    def _n_window_ids(self, few_shot: Sequence[FewShotNeuron], n_window_tokens: int) -> int:
        """About how many ids follow the prefix, judged by how long the examples' tokens are."""
        tokens = [t for neuron in few_shot for record in neuron.records for t in record.tokens]
        n_ids = sum(map(len, self._tokenizer.encode(tokens)))
        n_fixed = sum(map(len, self._tokenizer.encode([TAB, UNKNOWN, LINE_BREAK])))
        a_line = n_fixed + LONG_TOKENS * n_ids / len(tokens)
        return MAX_EXPLANATION_IDS + math.ceil(n_window_tokens * a_line)


def _starts(encoded: Sequence[tuple[int, ...]]) -> list[int]:
    """Index of the first id of each piece, and the number of all ids at the end."""
    starts = [0]
    for ids in encoded:
        starts.append(starts[-1] + len(ids))
    return starts


def _fewer_and_fewer(few_shot: Sequence[FewShotNeuron]) -> Iterator[tuple[FewShotNeuron, ...]]:
    """All examples; then without the last window of the last neuron that has two; at the end
    one neuron with one window."""
    shown = list(few_shot)
    while shown:
        yield tuple(shown)
        several = [i for i, neuron in enumerate(shown) if len(neuron.records) > 1]
        if several:
            neuron = shown[several[-1]]
            shown[several[-1]] = FewShotNeuron(neuron.explanation, neuron.records[:-1])
        else:
            shown.pop()
