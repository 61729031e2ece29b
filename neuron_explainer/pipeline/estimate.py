"""What a run will ask of language models, before it asks: requests, tokens, dollars, time.

The method itself is run over a few units, with clients that count what they are asked and answer
nothing that matters. What is counted for them is scaled to all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic

from neuron_explainer.errors import CannotExplain
from neuron_explainer.llm.client import A, Q
from neuron_explainer.llm.local_model import Speed
from neuron_explainer.llm.messages import (
    Completion,
    CompletionRequest,
    ExpectedValues,
    PromptLogprobRequest,
    TokenLogprobs,
    Usage,
)
from neuron_explainer.llm.prices import Price
from neuron_explainer.pipeline.explain import Method
from neuron_explainer.pipeline.wording import format_seconds
from neuron_explainer.records.cost import PICOUSD
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import ActivationRecord, Moments, NeuronId, NeuronRecord
from neuron_explainer.records.patterns import FoundPatterns, Pattern
from neuron_explainer.records.splits import RANDOM_SPLITS, TOP_SPLITS
from neuron_explainer.scoring.selection import rank_explanations
from neuron_explainer.subject.output_tokens import OutputTokens

TEXT = "the people who came from small towns often said that what they missed was quiet"
WORDS = TEXT.split()
TYPICAL_ID = NeuronId(0, 0)
N_SAMPLE = 8
"""Units that the method is tried on."""


@dataclass(slots=True)
class Tally:
    """What one model was asked."""

    n_requests: int = 0
    n_prompt_tokens: int = 0
    n_shared_tokens: int = 0
    """Of the prompts, the same in every request: a local model reads them once."""
    n_answer_tokens: int = 0
    """At most."""

    def scaled(self, factor: float) -> Tally:
        counts = (
            self.n_requests, self.n_prompt_tokens, self.n_shared_tokens, self.n_answer_tokens
        )  # fmt: skip
        return Tally(*(math.ceil(count * factor) for count in counts))


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of the units that are still to be done."""

    n_units: int
    by_model: Mapping[str, Tally]
    cost_picousd: int | None
    """At most; None: the price of a model is not known."""
    seconds: float | None
    """None: not known before it is tried, as where a server answers."""
    passes: Mapping[str, int] = field(default_factory=dict)
    """Tokens that the subject itself reads, at most, by what for."""

    def sentence(self) -> str:
        """One line for a person."""
        line = f"{self.n_units:,} neurons: {self.asked()}"
        passes = " and ".join(f"{n:,} tokens for {what}" for what, n in self.passes.items() if n)
        return f"{line}; the model that is explained reads at most {passes}" if passes else line

    def asked(self) -> str:
        """The same without the units: requests, tokens, dollars, time."""
        asked = "; ".join(
            f"{model}: {tally.n_requests:,} requests, {tally.n_prompt_tokens:,} tokens to read, "
            f"at most {tally.n_answer_tokens:,} to write"
            for model, tally in self.by_model.items()
        )
        if self.cost_picousd is None:
            dollars = "price not known (add it with --prices)"
        else:
            dollars = f"at most ${self.cost_picousd / PICOUSD:,.4f}"
        time = "" if self.seconds is None else f"; about {format_seconds(self.seconds)}"
        return f"{asked or 'nothing to ask'}; {dollars}{time}"


@dataclass(slots=True)
class Tallies:
    """By the name a user gives a model."""

    by_model: dict[str, Tally] = field(default_factory=dict)

    def of(self, model: str) -> Tally:
        return self.by_model.setdefault(model, Tally())


class CountingClient(Generic[Q, A]):
    """Counts what it is asked."""

    def __init__(self, tally: Tally, answer: Callable[[Q], A]) -> None:
        self._tally = tally
        self._answer = answer

    async def ask(self, request: Q, /) -> A:
        size = request.size()
        self._tally.n_requests += 1
        self._tally.n_prompt_tokens += size.n_prompt_tokens
        self._tally.n_answer_tokens += size.n_answer_tokens
        if isinstance(request, PromptLogprobRequest):
            self._tally.n_shared_tokens += len(request.prefix)
        return self._answer(request)


def any_completion(request: CompletionRequest) -> Completion:
    """A phrase for who wants an explanation, a number for who wants one."""
    is_number = request.n_top_logprobs is not None
    text = "0" if is_number else f"words of the kind {request.seed}"
    logprobs = (TokenLogprobs("0", 0.0, (("0", 0.0),)),)
    return Completion(text, request.model, "stop", Usage(0, 0, 0), logprobs)


def any_values(request: PromptLogprobRequest) -> ExpectedValues:
    return ExpectedValues((0.0,) * len(request.positions), Usage(0, 0, 0))


async def estimate(
    method: Method,
    tallies: Tallies,
    records: Iterable[NeuronRecord],
    n_units: int,
    find_price: Callable[[str], Price | None],
    speeds: Mapping[str, Speed],
) -> Estimate:
    """method: made with counting clients that fill `tallies`; records: of some of the units.

    find_price: by the name a user gives a model. speeds: of local models, by the same names.
    """
    n_tried = 0
    for record in records:
        n_tried += 1
        try:
            explanations = await method.explainer.explain(record)
        except CannotExplain:
            continue
        if len(explanations) > 1:
            await rank_explanations(explanations, method.scorer, record)
        await method.scorer.score(explanations[0], record)
    return scale_up(tallies, n_tried, n_units, find_price, speeds)


def scale_up(
    tallies: Tallies,
    n_tried: int,
    n_units: int,
    find_price: Callable[[str], Price | None],
    speeds: Mapping[str, Speed],
) -> Estimate:
    """What was counted for the units that were tried -> of all of them."""
    factor = n_units / n_tried if n_tried else 0.0
    by_model = {model: tally.scaled(factor) for model, tally in tallies.by_model.items()}
    return Estimate(
        n_units=n_units,
        by_model=by_model,
        cost_picousd=_cost(by_model, find_price),
        seconds=_seconds(by_model, speeds),
    )


def typical_record(n_ctx: int, n_per_split: int) -> NeuronRecord:
    """A unit such as most are, for an estimate before anything is collected: English words, of
    which one in twenty makes it active."""
    tokens = tuple(f" {WORDS[i % len(WORDS)]}" for i in range(n_ctx))
    activations = tuple(float(i % 20 == 7) * (1 + i % 3) for i in range(n_ctx))
    window = ActivationRecord(tokens, activations)
    return NeuronRecord(
        neuron_id=TYPICAL_ID,
        top=(window,) * (len(TOP_SPLITS) * n_per_split),
        strata=(),
        random=(window,) * (len(RANDOM_SPLITS) * n_per_split),
        moments=Moments(n_ctx, 0.1, 0.2, None, None),
    )


def typical_table(_neuron_id: NeuronId) -> TokenLookupTable:
    """As many tokens as a prompt shows."""
    means = {f" {word}{i}": 1.0 for i in range(10) for word in WORDS}
    return TokenLookupTable(means, dict.fromkeys(means, 10), 0.0)


def typical_patterns(_neuron_id: NeuronId) -> FoundPatterns:
    """As many and as long as most units have."""
    seeds = [tuple(f" {word}" for word in WORDS[i : i + 4]) for i in range(0, 12, 4)]
    return FoundPatterns(
        tuple(
            Pattern(
                sets=tuple(frozenset([token]) for token in seed), activation=1.0, n_matches=10,
                share=0.3, precision=0.5, seed=seed, seed_activations=(0.0, 0.0, 0.0, 1.0),
            )
            for seed in seeds
        ),
        n_tokens=0,
        is_cut_short=False,
    )  # fmt: skip


def typical_output(_neuron_id: NeuronId) -> OutputTokens:
    return OutputTokens(promoted=tuple(WORDS[:10]), suppressed=tuple(WORDS[:10]))


def _cost(by_model: Mapping[str, Tally], find_price: Callable[[str], Price | None]) -> int | None:
    costs = []
    for model, tally in by_model.items():
        price = find_price(model)
        if price is None:
            return None
        costs.append(price.picousd(Usage(tally.n_prompt_tokens, 0, tally.n_answer_tokens)))
    return sum(costs)


def _seconds(by_model: Mapping[str, Tally], speeds: Mapping[str, Speed]) -> float | None:
    """Local models work one after the other; a shared beginning is read once."""
    if not by_model or not set(by_model) <= set(speeds):
        return None
    return sum(
        (tally.n_prompt_tokens - tally.n_shared_tokens) / speeds[model].read
        + tally.n_answer_tokens / speeds[model].write
        for model, tally in by_model.items()
    )


def some_of(everyone: Sequence[object], n: int = N_SAMPLE) -> list[int]:
    """Indices of n of them, evenly spread."""
    n = min(n, len(everyone))
    return [i * len(everyone) // n for i in range(n)]
