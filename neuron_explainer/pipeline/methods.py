"""What the names in a spec stand for: explainers and simulators, put together from their parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypedDict

from neuron_explainer.errors import UsageError
from neuron_explainer.explainers.base import Explainer
from neuron_explainer.explainers.evidence import EvidenceSources, OutputTokens
from neuron_explainer.explainers.llm import LLMExplainer
from neuron_explainer.explainers.patterns import PatternExplainer
from neuron_explainer.explainers.token_lookup import TokenLookupExplainer
from neuron_explainer.llm.capabilities import (
    ALL_AT_ONCE,
    ONE_AT_A_TIME,
    STREAMING,
    STRUCTURED,
    Capabilities,
    simulations_for,
)
from neuron_explainer.llm.client import LLMClient, PieceTokenizer, PromptLogprobClient
from neuron_explainer.llm.pieces import ValueTokens, read_value_tokens
from neuron_explainer.pipeline.model_names import ModelName, parse_model_name
from neuron_explainer.pipeline.order import check_order
from neuron_explainer.pipeline.spec import (
    ASK,
    EMBEDDED,
    EXPLAIN,
    PATTERNS,
    SAME_MODEL,
    TOKEN_LOOKUP,
    RunSpec,
)
from neuron_explainer.prompts import (
    simulate,
    simulate_distilled,
    simulate_json,
    simulate_lines,
    simulate_one,
)
from neuron_explainer.prompts.explain_fit import CountTokens
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.prompts.few_shot import read_few_shot_set
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import ContextMeans, FoundPatterns
from neuron_explainer.scoring.simulation import SimulationScorer
from neuron_explainer.simulators.all_at_once import AllAtOnceSimulator
from neuron_explainer.simulators.base import Simulator
from neuron_explainer.simulators.distilled import VALUES as DISTILLED_VALUES
from neuron_explainer.simulators.distilled import DistilledSimulator
from neuron_explainer.simulators.one_at_a_time import OneAtATimeSimulator
from neuron_explainer.simulators.patterns import PatternSimulator
from neuron_explainer.simulators.streaming import StreamingSimulator
from neuron_explainer.simulators.structured import StructuredSimulator
from neuron_explainer.simulators.token_lookup import TokenLookupSimulator

DISTILLED = "distilled"
AUTO = "auto"
PROMPT_VERSIONS: Mapping[str, str] = {
    ALL_AT_ONCE: simulate.PROMPT_VERSION,
    STREAMING: simulate_lines.PROMPT_VERSION,
    STRUCTURED: simulate_json.PROMPT_VERSION,
    ONE_AT_A_TIME: simulate_one.PROMPT_VERSION,
    DISTILLED: simulate_distilled.PROMPT_VERSION,
}
"""By the way to simulate."""
N_CONTEXT_TOKENS = 8192
"""Of a model that does not say."""
N_THOUGHT_TOKENS = 8192
"""That a reasoning model may think before an answer."""


@dataclass(frozen=True, slots=True)
class TextModel:
    """A model that writes."""

    client: LLMClient
    is_chat: bool
    is_reasoning: bool
    count_tokens: CountTokens
    n_context_tokens: int | None


@dataclass(frozen=True, slots=True)
class ValueModel:
    """A model that tells what it expects at places of a prompt."""

    client: PromptLogprobClient
    pieces: PieceTokenizer
    values: tuple[tuple[int, ...], ...]
    end: int
    n_context_tokens: int | None


class PatternReaders(NamedTuple):
    """Where what was found of a unit comes from."""

    found: Callable[[NeuronId], FoundPatterns]
    contexts: Callable[[NeuronId], ContextMeans]


class Models(Protocol):
    """Where models come from: this machine and servers, or nowhere for an estimate."""

    def text_model(self, name: ModelName, *, for_numbers: bool = False) -> TextModel:
        """For explanations, and for simulations that are written; of those the numbers are used
        alone."""

    def value_model(self, name: ModelName, *, distilled: bool) -> ValueModel:
        """For simulations by prompt logprobs; a distilled model needs no numbers as tokens."""

    def identity(self, name: ModelName) -> str:
        """What tells a model from others of its name."""

    def capabilities(self, name: ModelName) -> Capabilities | None:
        """What the simulator's server can do; None: a local model, which can do all."""


def check_method(spec: RunSpec) -> None:
    """UsageError for names that are not known; no model is opened and nobody is asked."""
    check_order(spec.order)
    explainer_name(spec)
    name = simulator_name(spec)
    if spec.explainer_prompt not in PROMPTS:
        raise UsageError(
            f"--explainer-prompt {spec.explainer_prompt!r} is not known; one of "
            f"{', '.join(sorted(PROMPTS))}"
        )
    if spec.simulation not in (*PROMPT_VERSIONS, AUTO):
        raise UsageError(
            f"--simulation {spec.simulation!r} is not known; one of "
            f"{', '.join(PROMPT_VERSIONS)}, auto"
        )
    if spec.simulation == DISTILLED and name is not None and not name.is_local:
        raise UsageError("--simulation distilled reads a local model; use --simulator hf:MODEL")
    if name is None and spec.simulator not in (SAME_MODEL, spec.explainer):
        raise UsageError(
            f"--simulator {spec.simulator} predicts from its own explanations alone; give "
            "--simulator openai:MODEL, hf:MODEL, or auto for the explainer's own"
        )


def explainer_name(spec: RunSpec) -> ModelName | None:
    """None: no language model explains."""
    if spec.explainer in EMBEDDED:
        return None
    return parse_model_name(spec.explainer, "--explainer", spec.base_url)


def simulator_name(spec: RunSpec) -> ModelName | None:
    """None: no language model simulates."""
    if spec.simulator == SAME_MODEL:
        return explainer_name(spec)
    if spec.simulator in EMBEDDED:
        return None
    base_url = spec.simulator_base_url or spec.base_url
    return parse_model_name(spec.simulator, "--simulator", base_url)


def baseline_spec(spec: RunSpec) -> RunSpec:
    """The token lookup table on the same windows."""
    return replace(spec, explainer=TOKEN_LOOKUP, simulator=TOKEN_LOOKUP)


def lookup_choices(spec: RunSpec, collection: str) -> dict[str, Any]:
    """What can change the results of the token lookup table; collection: its fingerprint."""
    return {"collection": collection, **baseline_spec(spec).choices(EXPLAIN)}


def method_choices(
    spec: RunSpec, collection: str, models: Models, simulation: str
) -> dict[str, Any]:
    """What can change the results of language models; simulation: as it was resolved."""
    explainer, simulator = explainer_name(spec), simulator_name(spec)
    choices = {"collection": collection} | spec.choices(EXPLAIN) | spec.choices(ASK)
    choices |= {
        "simulator": str(simulator or spec.explainer),
        "simulation": simulation,
        "simulation_prompt": PROMPT_VERSIONS.get(simulation),
        "models": [models.identity(name) for name in (explainer, simulator) if name is not None],
    }
    if explainer is not None:
        choices["explainer_prompt"] = PROMPTS[spec.explainer_prompt].version
    return choices


def make_scorer(spec: RunSpec, simulator: Simulator) -> SimulationScorer:
    """By simulation, with the spec's choices."""
    return SimulationScorer(
        simulator,
        spec.n_per_split,
        spec.n_resamples,
        spec.seed,
        spec.max_missing_share,
        spec.calibration,
    )


SCORERS: Mapping[str, Callable[[RunSpec, Simulator], SimulationScorer]] = {
    SimulationScorer.name: make_scorer
}
"""By the name that `--scorers` takes."""


def parse_scorers(text: str) -> tuple[str, ...]:
    """`simulation` -> ("simulation",), separated by commas; UsageError for one not in SCORERS."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in SCORERS]
    if unknown or not names:
        raise UsageError(
            f"--scorers {text!r}: {', '.join(unknown) or 'nothing'} is not known; one or more of "
            f"{', '.join(SCORERS)}"
        )
    return names


def make_explainer(
    spec: RunSpec,
    models: Models,
    read_table: Callable[[NeuronId], TokenLookupTable],
    read_output: Callable[[NeuronId], OutputTokens] | None = None,
    patterns: PatternReaders | None = None,
) -> Explainer:
    """read_table, read_output: a unit's mean activation by token, and what its output weights do,
    for the prompts that show it; patterns: where the spec needs them."""
    name = explainer_name(spec)
    if spec.explainer == PATTERNS:
        assert patterns is not None
        return PatternExplainer(read_table, patterns.found, patterns.contexts)
    if name is None:
        return TokenLookupExplainer(read_table)
    model = models.text_model(name)
    n_context = min(spec.explainer_context, model.n_context_tokens or spec.explainer_context)
    more: dict[str, Any] = {}
    if model.is_reasoning:
        more["max_tokens"] = N_THOUGHT_TOKENS
        n_context += N_THOUGHT_TOKENS
    return LLMExplainer(
        model.client,
        name.model,
        shown_model=str(name),
        prompt=spec.explainer_prompt,
        sources=EvidenceSources(
            n_windows=spec.n_per_split,
            read_table=read_table,
            read_output=read_output,
            read_patterns=None if patterns is None else patterns.found,
        ),
        n_explanations=spec.n_explanations,
        is_chat=model.is_chat,
        takes_temperature=not model.is_reasoning,
        reasoning_effort=spec.reasoning_effort if model.is_reasoning else None,
        n_context_tokens=n_context,
        count_tokens=model.count_tokens,
        **more,
    )


def resolve_simulation(spec: RunSpec, models: Models) -> str:
    """The way to simulate; UsageError when the simulator's server offers none, or not this one."""
    name = simulator_name(spec)
    if name is None:
        return spec.explainer
    can = models.capabilities(name)
    if can is None:
        return ALL_AT_ONCE if spec.simulation == AUTO else spec.simulation
    offered = simulations_for(can)
    if not offered:
        raise UsageError(
            f"{name}: {can.chat.found}; `neuron-explainer doctor --base-url` says more"
        )
    if spec.simulation == AUTO:
        needs_tokenizer = offered[0] == ALL_AT_ONCE and spec.simulator_tokenizer is None
        return offered[1] if needs_tokenizer and len(offered) > 1 else offered[0]
    if spec.simulation not in offered:
        raise UsageError(
            f"--simulation {spec.simulation}: {name} does not offer it; it does "
            f"{', '.join(offered)}"
        )
    return spec.simulation


def make_simulator(
    spec: RunSpec, models: Models, simulation: str, n_window_tokens: int
) -> Simulator:
    """simulation: as it was resolved; n_window_tokens: of the longest window."""
    name = simulator_name(spec)
    if name is None:
        return EMBEDDED_SIMULATORS[spec.explainer]
    few_shot = read_few_shot_set()
    label: _Label = {"model": name.model, "model_label": str(name)}
    if simulation in (ALL_AT_ONCE, DISTILLED):
        value_model = models.value_model(name, distilled=simulation == DISTILLED)
        n_context = spec.simulator_context or value_model.n_context_tokens or N_CONTEXT_TOKENS
        if simulation == DISTILLED:
            return DistilledSimulator(
                value_model.client, value_model.pieces, n_context_tokens=n_context, **label
            )
        return AllAtOnceSimulator(
            value_model.client,
            value_model.pieces,
            values=value_model.values,
            end=value_model.end,
            few_shot=few_shot,
            n_context_tokens=n_context,
            n_window_tokens=n_window_tokens,
            **label,
        )
    model = models.text_model(name, for_numbers=True)
    can = models.capabilities(name)
    temperature = None if model.is_reasoning else 0.0
    if simulation == STRUCTURED:
        return StructuredSimulator(
            model.client,
            few_shot=few_shot,
            temperature=temperature,
            reasoning_effort=spec.reasoning_effort if model.is_reasoning else None,
            n_thought_tokens=N_THOUGHT_TOKENS if model.is_reasoning else 0,
            use_schema=can is not None and can.json_schema.has,
            **label,
        )
    kind = StreamingSimulator if simulation == STREAMING else OneAtATimeSimulator
    n_top = 20 if can is None else can.n_top_logprobs
    return kind(
        model.client, few_shot=few_shot, temperature=temperature, n_top_logprobs=n_top, **label
    )


EMBEDDED_SIMULATORS: Mapping[str, Simulator] = {
    TOKEN_LOOKUP: TokenLookupSimulator(),
    PATTERNS: PatternSimulator(),
}


class _Label(TypedDict):
    model: str
    model_label: str


def value_tokens(pieces: PieceTokenizer, *, distilled: bool) -> ValueTokens:
    """What a simulation by prompt logprobs asks for; UsageError for a tokenizer without numbers."""
    return ValueTokens(DISTILLED_VALUES, 0) if distilled else read_value_tokens(pieces)
