"""What the viewer shows: runs and published archives, each under a key that its addresses have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from neuron_explainer.errors import StoreError, UnitNotFound
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import Pattern
from neuron_explainer.records.score import Score, ScoredWindow
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.pattern_store import PatternStore
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.result_rows import ResultRow
from neuron_explainer.stores.results import BASELINE, BASELINE_LABEL, MethodUse, Results

KEYS = "abcdefghijklmnopqrstuvwxyz"
"""Of the sources, in the order in which they were named."""
PatternsOpener = Callable[[Mapping[str, Any]], AbstractContextManager[PatternStore | None]]
"""The choices of a method -> the patterns behind it; None: it has none."""
SearchImported = Callable[[str, int | None, float | None, int], Sequence[tuple[str, UnitResult]]]
"""Words, a layer or any, the least score or any, how many at most."""


class RowFeed(AbstractContextManager[Any], Protocol):
    """Results of units by growing numbers, as `stores.result_rows.ResultRows` reads them."""

    @property
    def last_number(self) -> int:
        """0: there is none."""

    def birth(self) -> str | None:
        """The same as long as it is the same file; None: nothing is in it yet."""

    def methods(self) -> tuple[MethodUse, ...]:
        """The one used last, which is the current one, at the end."""

    def cost(self, method: str) -> UnitCost | None:
        """Of all units of a method; None where no language model was asked, or it is not said."""

    def after(self, number: int) -> Iterator[ResultRow]: ...

    def of_numbers(self, numbers: Sequence[int]) -> Iterator[ResultRow]: ...


@dataclass(frozen=True, slots=True)
class Claim:
    """What one method says of a unit, with all that was simulated from it."""

    method: str
    """Fingerprint."""
    label: str
    """What people call the method."""
    result: UnitResult
    windows: tuple[ScoredWindow, ...] = ()
    candidates: tuple[tuple[str, Score], ...] = ()
    """Texts that the explanation was chosen from."""
    patterns: tuple[Pattern, ...] = ()
    """Behind the explanation, where it was made of some."""
    baseline: str | None = None
    """Fingerprint of the method that it is read beside."""
    simulation_prompt: str | None = None
    """Version of the simulation's prompt; None: it has none, or none was kept."""


class MeanToken(NamedTuple):
    """A token, its mean activation, and how often it came."""

    token: str
    mean: float
    n_times: int | None
    """None: it is not said."""


@dataclass(frozen=True, slots=True)
class ViewSource:
    """One run, or one published dataset."""

    key: str
    """One of `KEYS`."""
    title: str
    records: RecordSource
    folder: Path
    """Where the viewer keeps its own files of this source."""
    watched: tuple[Path, ...]
    """Files that change when there are new results."""
    open_rows: Callable[[], RowFeed] | None
    """None: nothing is explained yet, and nothing can be."""
    read_claims: Callable[[NeuronId], tuple[Claim, ...]]
    """All that is said of a unit, the current method's first; empty: nothing is."""
    records_file: Path | None = None
    """Another one in its place: other records; None: they stay as they are."""
    asked: str = "no language model"
    """What home says of a method without a cost."""
    read_imported: Callable[[NeuronId], tuple[tuple[str, UnitResult], ...]] = lambda _id: ()
    """(list, what it says) of explanations that were imported from elsewhere."""
    search_imported: SearchImported = lambda _words, _layer, _min_score, _n: ()
    """(list, what it says) of those that fit words best."""
    read_token_means: Callable[[NeuronId], Sequence[MeanToken]] | None = None
    """The tokens with the largest mean activation; CannotExplain where they are not said. None:
    the records say it."""

    @property
    def awaited(self) -> str | None:
        """Why there are no records yet; None: there are."""
        try:
            self.records.manifest  # noqa: B018
        except StoreError as error:
            return str(error)
        return None

    @property
    def is_gone(self) -> bool:
        """Whether nothing of it is there any more."""
        own = () if self.records_file is None else (self.records_file,)
        return not any(path.exists() for path in (self.folder, *self.watched, *own))

    def has(self, neuron_id: NeuronId) -> bool:
        """Whether the unit is in the records, or something is said of it."""
        try:
            self.records.read_density(neuron_id)
        except UnitNotFound:
            return bool(self.read_claims(neuron_id))
        return True


class RunClaims:
    """What the methods of a run say of a unit; the file is opened anew for each."""

    def __init__(self, results: Path, open_patterns: PatternsOpener) -> None:
        self._path = results
        self._open_patterns = open_patterns

    def __call__(self, neuron_id: NeuronId) -> tuple[Claim, ...]:
        if not self._path.exists():
            return ()
        with Results(self._path, read_only=True) as results, results.snapshot():
            uses = results.method_uses()
            labels = method_labels(uses)
            current = results.current_method() if results.has_method() else None
            ordered = sorted(uses, key=lambda use: use.fingerprint != current)
            claims = (
                self._read(results, use, labels[use.fingerprint], neuron_id) for use in ordered
            )
            return tuple(claim for claim in claims if claim is not None)

    def _read(
        self, results: Results, use: MethodUse, label: str, neuron_id: NeuronId
    ) -> Claim | None:
        method = use.fingerprint
        result = next(results.units(method, neuron_id), None)
        if result is None:
            return None
        patterns: tuple[Pattern, ...] = ()
        with self._open_patterns(use.choices or {}) as kept:
            if kept is not None and result.text is not None:
                patterns = kept.read_patterns(neuron_id).patterns
        return Claim(
            method,
            label,
            result,
            results.windows(method, neuron_id),
            results.candidates(method, neuron_id),
            patterns,
            baseline=(use.choices or {}).get(BASELINE),
            simulation_prompt=(use.choices or {}).get("simulation_prompt"),
        )


def method_labels(uses: Sequence[MethodUse]) -> dict[str, str]:
    """Fingerprint -> what people call a method; no two are called the same."""
    named = {
        (use.choices or {}).get(BASELINE): (use.choices or {}).get(BASELINE_LABEL) for use in uses
    }
    labels = {use.fingerprint: _label(use, named.get(use.fingerprint)) for use in uses}
    all_labels = list(labels.values())
    return {
        method: label if all_labels.count(label) == 1 else f"{label} ({method[:6]})"
        for method, label in labels.items()
    }


def _label(use: MethodUse, name: str | None) -> str:
    """`summary by openai:m, simulated by openai:m`; what others call it, where it does not say."""
    choices = use.choices or {}
    explainer, simulator = choices.get("explainer"), choices.get("simulator")
    if not isinstance(explainer, str):
        return name or f"method {use.fingerprint[:6]}"
    explainer = explainer.replace("_", " ")
    if not isinstance(simulator, str) or simulator in (choices["explainer"], "auto"):
        return explainer
    return f"{explainer}, simulated by {simulator.replace('_', ' ')}"
