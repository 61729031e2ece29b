"""Explanations that are kept to be scored anew: those of a method in a run's results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from neuron_explainer.errors import CannotExplain, StoreError, UsageError
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.stores.results import MethodUse, Results

KEPT_FROM = "kept_from"
"""Among a method's choices: the method whose explanations are scored anew, by it or beside it."""
BEFORE = "as scored before"
NOTHING_TO_KEEP = "no explanation to keep"
MIN_PREFIX = 4
"""Characters of a fingerprint that name it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was said before, and the method in the results that said it."""

    origin: str
    """Its fingerprint."""
    label: str
    """What people call its scores."""
    explanations: Mapping[NeuronId, tuple[Explanation, ...]]
    """Each unit's, at least one; where there are several the best is chosen."""


class KeptExplainer:
    """Says again what was said before, without the spaces around it."""

    name = "kept"

    def __init__(self, explanations: Mapping[NeuronId, Sequence[Explanation]]) -> None:
        self._explanations = explanations

    async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
        """CannotExplain for a unit that has no explanation to keep."""
        if record.neuron_id not in self._explanations:
            raise CannotExplain(NOTHING_TO_KEEP)
        kept = self._explanations[record.neuron_id]
        return tuple(replace(one, text=one.text.strip()) for one in kept)


def keep_own(results: Results, method: str | None = None) -> Kept:
    """What a method of the results says; None: the current one.

    StoreError when nothing is explained yet; UsageError for a method that is not there.
    """
    if not results.has_method():
        raise StoreError("the run has no explanation yet; run `explain` first")
    fingerprint = results.current_method() if method is None else _find(results, method)
    uses = {use.fingerprint: use.choices or {} for use in results.method_uses()}
    # A rescoring is of the explanations of another method.
    fingerprint = str(uses[fingerprint].get(KEPT_FROM, fingerprint))
    explanations = read_explanations(results, fingerprint)
    return Kept(fingerprint, BEFORE, {i: (one,) for i, one in explanations.items()})


def read_explanations(results: Results, method: str) -> dict[NeuronId, Explanation]:
    """What a method says; StoreError when it says nothing of any unit."""
    found = {
        unit.neuron_id: unit.explanation
        for unit in results.units(method)
        if unit.explanation is not None
    }
    if not found:
        raise StoreError("the run has no explanation yet; run `explain` first")
    return found


@dataclass(frozen=True, slots=True)
class _Said:
    """A method that has explained something."""

    use: MethodUse
    made_by: tuple[str, ...]
    simulators: tuple[str, ...]
    n_units: int

    @property
    def names(self) -> set[str]:
        """What a person may call it: `token_lookup`, `summary by hf:model`, or `summary`."""
        return {
            part for made_by in self.made_by for part in (made_by, made_by.partition(" by ")[0])
        }

    def __str__(self) -> str:
        return (
            f"{self.use.fingerprint} ({', '.join(self.made_by)}, simulated by "
            f"{', '.join(self.simulators) or 'nobody'}, {self.n_units:,} neurons, "
            f"{self.use.used_at or 'used as a baseline'})"
        )


def _find(results: Results, name: str) -> str:
    """Fingerprint of the method of that name; of several, the one that was used last."""
    methods = list(_read_methods(results))
    found = [
        method
        for method in methods
        if name in method.names
        or (len(name) >= MIN_PREFIX and method.use.fingerprint.startswith(name))
    ]
    if not found:
        there = "; ".join(map(str, methods)) or "none"
        raise UsageError(f"--method {name!r}: the run has no such method; it has {there}")
    return max(found, key=lambda method: method.use.used_at or "").use.fingerprint


def _read_methods(results: Results) -> Iterator[_Said]:
    for use in results.method_uses():
        units = [unit for unit in results.units(use.fingerprint) if unit.text is not None]
        made_by = sorted({unit.made_by for unit in units})
        simulators = sorted({unit.simulator for unit in units if unit.simulator})
        if units:
            yield _Said(use, tuple(made_by), tuple(simulators), len(units))
