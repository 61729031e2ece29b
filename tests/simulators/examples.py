"""Examples for prompts, an explanation, and a tokenizer of pieces whose every id can be read."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from neuron_explainer.llm.messages import TokenLogprobs
from neuron_explainer.prompts.few_shot import FewShotNeuron, FewShotRecord
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.simulators.base import Simulator

FEW_SHOT = (
    FewShotNeuron(
        "vowels",
        (
            FewShotRecord(("a", "b", "c"), (10, 0, 0), n_unknown=0),
            FewShotRecord(("d", "e", "\n"), (0, 10, 0), n_unknown=1),
        ),
    ),
    FewShotNeuron("the end of a song", (FewShotRecord((" la", " la"), (0, 7), n_unknown=1),)),
)
EXPLANATION = "numbers and nothing else"
NASTY = (
    "\n", "\t", "\r\n", "unknown", "\tunknown", "unknown\n", "�", "<0xE2>", "👩‍🚀", "שלום",
    "<|endoftext|>", "<end>", "0", "10", " ", "  ", "\x85", "\u2028", '"', "\\n", "}",
)  # fmt: skip


def explained(text: str = EXPLANATION) -> Explanation:
    return Explanation(NeuronId(2, 417), text, explainer="made up")


def simulate(
    simulator: Simulator, tokens: Sequence[str], text: str = EXPLANATION
) -> SequenceSimulation:
    return asyncio.run(simulator.simulate(explained(text), tokens))


@dataclass
class ReadablePieces:
    """Splits a piece by a pattern; ids are given as strings come, so `read` undoes `encode`."""

    pattern: str = r"\s?\w+|\s|[^\w\s]"
    start: tuple[int, ...] = ()
    ids: dict[str, int] = field(default_factory=dict)

    def encode(self, pieces: Sequence[str]) -> list[tuple[int, ...]]:
        return [tuple(map(self.id_of, re.findall(self.pattern, piece, re.S))) for piece in pieces]

    def id_of(self, text: str) -> int:
        return self.ids.setdefault(text, len(self.ids) + 100)

    def read(self, ids: Sequence[int]) -> list[str]:
        texts = {token_id: text for text, token_id in self.ids.items()}
        return [texts[token_id] for token_id in ids]


def written(token: str, top: Mapping[str, float] | None = None) -> TokenLogprobs:
    """A token of an answer; top: text -> probability, of it and its alternatives."""
    shares = dict(sorted((top or {token: 1.0}).items(), key=lambda item: -item[1]))
    logprobs = tuple((text, math.log(p)) for text, p in shares.items())
    return TokenLogprobs(token, math.log(shares.get(token, 1e-9)), logprobs)
