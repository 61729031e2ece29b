"""What a score came from: explainer, simulator, their prompts, scorer."""

from __future__ import annotations

from typing import NamedTuple

from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import Results


class Makers(NamedTuple):
    """What a score came from; without these a number says little."""

    explainer: str
    """`token_lookup`, or `summary by hf:model`."""
    explainer_prompt: str
    """Version of its prompt; empty: it has none, or none was kept."""
    simulator: str
    simulator_prompt: str
    """Version of its prompt; empty: it has none, or none was kept."""
    scorer: str
    """What compared the simulation with reality, and by which metric."""


def simulator_prompt(results: Results, method: str) -> str | None:
    """Version of a method's simulation prompt; None: it has none, or its choices were not kept."""
    choices = next(
        (use.choices for use in results.method_uses() if use.fingerprint == method), None
    )
    return None if choices is None else choices.get("simulation_prompt")


def makers_of(unit: UnitResult, simulation_prompt: str | None) -> Makers:
    """What a scored unit's headline score came from."""
    metric = "" if unit.score is None else unit.score.metric
    return Makers(
        unit.made_by,
        unit.prompt_version or "",
        unit.simulator or "",
        simulation_prompt or "",
        f"{unit.scorer or ''} ({metric})".strip(),
    )
