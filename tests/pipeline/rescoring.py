"""What the tests of rescoring share: a spec that asks a server, and results read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import Results
from tests.llm.rule_server import RuleServer


def asking(server: RuleServer, **more: object) -> RunSpec:
    """Kept explanations alone, with the server as simulator."""
    spec = RunSpec(
        simulator="openai:rule-1", base_url=server.base_url, simulation="structured",
        n_resamples=0, device="cpu", requests_a_minute=1_000_000,
    )  # fmt: skip
    return replace(spec, **more)  # type: ignore[arg-type]


def units_of(folder: RunFolder, method: str) -> dict[NeuronId, UnitResult]:
    with Results(folder.results, read_only=True) as results:
        return {unit.neuron_id: unit for unit in results.units(method)}


def everything(folder: RunFolder) -> Mapping[str, list[UnitResult]]:
    """Every method's results, without what they cost: an answer that was kept costs nothing."""
    with Results(folder.results, read_only=True) as results:
        return {
            use.fingerprint: [replace(unit, cost=None) for unit in results.units(use.fingerprint)]
            for use in results.method_uses()
        }


def value_of(unit: UnitResult) -> float | None:
    return None if unit.score is None else unit.score.value


def listing(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
