"""Stages of a cascade by the names a user gives them, and what stands behind a name.

    token_lookup            the token lookup table; asks nobody, and is always the first
    patterns                tokens in their context; asks nobody either
    openai:MODEL[/PROMPT]   a language model that explains, with a prompt of `explain_kinds.py`
    hf:MODEL[/PROMPT]

A further kind of stage is one more row of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from neuron_explainer.errors import UsageError
from neuron_explainer.explainers.base import Explainer
from neuron_explainer.explainers.patterns import PatternExplainer
from neuron_explainer.explainers.token_lookup import TokenLookupExplainer
from neuron_explainer.pipeline.explain import UnitScorer
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.methods import (
    Models,
    PatternReaders,
    make_explainer,
    make_scorer,
)
from neuron_explainer.pipeline.model_names import parse_model_name
from neuron_explainer.pipeline.opening import output_reader
from neuron_explainer.pipeline.spec import PATTERNS, TOKEN_LOOKUP, RunSpec
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.simulators.base import Simulator
from neuron_explainer.simulators.patterns import PatternSimulator
from neuron_explainer.simulators.token_lookup import TokenLookupSimulator
from neuron_explainer.stores.record_source import RecordSource

FLAG = "--stages"


@dataclass(frozen=True, slots=True)
class StageName:
    """One entry of `--stages`."""

    explainer: str
    """`token_lookup`, `patterns`, `openai:MODEL` or `hf:MODEL`."""
    prompt: str | None = None
    """How the model is shown a unit; None: as `--explainer-prompt` says."""

    def __str__(self) -> str:
        return self.explainer if self.prompt is None else f"{self.explainer}/{self.prompt}"

    @property
    def kind(self) -> StageKind:
        return KINDS[self.explainer.partition(":")[0]]

    def spec(self, spec: RunSpec) -> RunSpec:
        """The choices of this stage alone."""
        return replace(
            spec, explainer=self.explainer, explainer_prompt=self.prompt or spec.explainer_prompt
        )


@dataclass(frozen=True, slots=True)
class StageParts:
    """What stages are put together from; models and simulator are the same for all."""

    store: RecordSource
    folder: RunFolder
    models: Models
    simulator: Simulator
    patterns: PatternReaders | None = None
    """None: no stage reads patterns."""


@dataclass(frozen=True, slots=True)
class StageKind:
    form: str
    """As a user writes it."""
    asks: bool
    """Whether a language model is asked, for the explanation and for its simulation."""
    open: Callable[[RunSpec, StageParts], tuple[Explainer, UnitScorer]]
    """From the stage's own spec."""


def parse_stages(text: str, base_url: str | None = None) -> tuple[StageName, ...]:
    """`openai:a,openai:b/summary` -> three stages, as the token lookup table goes before them.

    UsageError for a stage that is not known, one that comes twice, and for none at all.
    """
    names = [_parse(part, base_url) for part in text.split(",") if part.strip()]
    if names[:1] != [StageName(TOKEN_LOOKUP)]:
        names.insert(0, StageName(TOKEN_LOOKUP))
    if len(names) == 1:
        raise UsageError(f"{FLAG} names no stage after the token lookup table; {_known()}")
    for at, name in enumerate(names):
        if name in names[:at]:
            raise UsageError(
                f"{FLAG} names {name} twice; the same model with another prompt is written "
                "openai:MODEL/summary, and the token lookup table comes first"
            )
    return tuple(names)


def _parse(part: str, base_url: str | None) -> StageName:
    text = part.strip()
    kind, _, model = text.partition(":")
    if kind not in KINDS or bool(model) != KINDS[kind].asks:
        raise UsageError(f"{FLAG}: {text!r} is not known; {_known()}")
    if not KINDS[kind].asks:
        return StageName(text)
    before, slash, last = text.rpartition("/")
    # A model's own name may have a slash: what is no prompt is part of it.
    name = StageName(before, last) if slash and last in PROMPTS else StageName(text)
    parse_model_name(name.explainer, FLAG, base_url)
    return name


def _known() -> str:
    forms = ", ".join(kind.form for kind in KINDS.values())
    return f"known are {forms}, with one of the prompts {', '.join(sorted(PROMPTS))}"


def _open_lookup(spec: RunSpec, parts: StageParts) -> tuple[Explainer, UnitScorer]:
    scorer = make_scorer(spec, TokenLookupSimulator())
    return TokenLookupExplainer(parts.store.read_token_lookup), scorer


def _open_patterns(spec: RunSpec, parts: StageParts) -> tuple[Explainer, UnitScorer]:
    assert parts.patterns is not None
    read_table = parts.store.read_token_lookup
    explainer = PatternExplainer(read_table, parts.patterns.found, parts.patterns.contexts)
    return explainer, make_scorer(spec, PatternSimulator())


def _open_model(spec: RunSpec, parts: StageParts) -> tuple[Explainer, UnitScorer]:
    explainer = make_explainer(
        spec,
        parts.models,
        parts.store.read_token_lookup,
        output_reader(spec, parts.folder),
        parts.patterns if spec.needs_patterns else None,
    )
    return explainer, make_scorer(spec, parts.simulator)


KINDS: Mapping[str, StageKind] = {
    TOKEN_LOOKUP: StageKind(TOKEN_LOOKUP, False, _open_lookup),
    PATTERNS: StageKind(PATTERNS, False, _open_patterns),
    "openai": StageKind("openai:MODEL[/PROMPT]", True, _open_model),
    "hf": StageKind("hf:MODEL[/PROMPT]", True, _open_model),
}
"""By what a stage's name begins with."""
