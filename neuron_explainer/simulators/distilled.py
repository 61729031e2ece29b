"""Distilled: a model that was trained to be a simulator reads an explanation and a window.

Transluce's form (Choi et al. 2024): behind each token, the first eleven rows of the output matrix
are the logits of the activations 0 to 10. One reading predicts a window, without any example.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

from neuron_explainer.errors import CannotSimulate, Refused
from neuron_explainer.llm.client import PieceTokenizer, PromptLogprobClient
from neuron_explainer.llm.messages import PromptLogprobRequest
from neuron_explainer.prompts.simulate_distilled import description_piece
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.scale import MAX_NORMALIZED_ACTIVATION
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.simulators.answers import ask_or_refused, missing, simulation

VALUES = tuple((row,) for row in range(MAX_NORMALIZED_ACTIVATION + 1))
NO_END = 0
"""Looked at for values of two tokens alone, which there are none of here."""


class DistilledSimulator:
    """The window's tokens are given as they are, not one a line."""

    def __init__(
        self,
        client: PromptLogprobClient,
        tokenizer: PieceTokenizer,
        *,
        model: str,
        model_label: str,
        n_context_tokens: int,
    ) -> None:
        """client: one that finds values by their ids alone, as the local one does; a server that
        names tokens by their texts would find others. model: as the client knows it; model_label:
        as people know it, such as `hf:./sim`.
        """
        self._client = client
        self._tokenizer = tokenizer
        self._model = model
        self._name = f"distilled {model_label}"
        self._n_context_tokens = n_context_tokens

    @property
    def name(self) -> str:
        return self._name

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        """A token that is several ids to the simulator is read behind its last one.

        CannotSimulate when the explanation and the window do not fit the model's context.
        """
        head, *encoded = self._tokenizer.encode([description_piece(explanation.text), *tokens])
        ends = list(accumulate(map(len, encoded), initial=len(head)))[1:]
        asked = [i for i, ids in enumerate(encoded) if ids]  # no id, no place to read it at
        ids = (*self._tokenizer.start, *head, *chain.from_iterable(encoded))
        if len(ids) > self._n_context_tokens:
            raise CannotSimulate(
                f"prompt too long: {len(ids)} tokens in a context of {self._n_context_tokens}"
            )
        n_prefix = len(self._tokenizer.start) or 1  # never empty: the first id is always the same
        n_head = len(self._tokenizer.start) - n_prefix
        request = PromptLogprobRequest(
            model=self._model,
            prefix=ids[:n_prefix],
            ids=ids[n_prefix:],
            positions=tuple(ends[i] + n_head for i in asked),
            values=VALUES,
            end=NO_END,
        )
        answer = await ask_or_refused(self._client, request)
        if isinstance(answer, Refused):
            return missing(self.name, tokens, f"refused: {answer}")
        known = dict(zip(asked, answer.expected, strict=True))
        expected = [known.get(i) for i in range(len(tokens))]
        return simulation(self.name, tokens, expected, "no id of the simulator, or no value")
