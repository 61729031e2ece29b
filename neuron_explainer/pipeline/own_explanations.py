"""A run's own explanations as a list, and its library with them in it: one search finds all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.records import read_subject_choices
from neuron_explainer.records.listed import ListedExplanation, ListedScore
from neuron_explainer.records.score import reason_kind
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.library import Library
from neuron_explainer.stores.results import Results


@contextmanager
def open_with_own(folder: RunFolder) -> Iterator[Library]:
    """StoreError when there is nothing to search: neither a library nor results.

    What the run has explained since the last time is taken in first; a folder that may not be
    written is searched as it is.
    """
    if not folder.library.exists() and not folder.results.exists():
        raise StoreError(
            f"nothing to search in {folder.path}; run `explain`, or `import` some explanations"
        )
    if folder.results.exists() and os.access(folder.path, os.W_OK):
        with Library(folder.library) as library:
            _take_in(folder, library)
            yield library
        return
    with Library(folder.library, read_only=True) as library:
        yield library


def read_own(
    path: Path, left_out: Counter[str], *, source: str | None = None, model: str | None = None
) -> Iterator[ListedExplanation]:
    """What the current method of a run folder says; units of which it says nothing are counted.

    source, model: where the folder does not say its own.
    """
    folder = RunFolder(path)
    subject = read_subject_choices(folder).get("model") or model
    with Results(folder.results, read_only=True) as results:
        for unit in results.units(results.current_method()):
            if has_text(unit, left_out):
                yield list_unit(unit, source=source or path.resolve().name, model=subject)


def has_text(unit: UnitResult, left_out: Counter[str]) -> bool:
    """Whether there is an explanation; one that is missing is counted."""
    if unit.text is None:
        left_out[f"unit without an explanation: {reason_kind(unit.reason or '')}"] += 1
    return unit.text is not None


def list_unit(unit: UnitResult, *, source: str, model: str | None) -> ListedExplanation:
    """A unit's explanation of a run, its headline score first; it must have a text."""
    if unit.text is None:
        raise ValueError(f"unit {unit.neuron_id} has no explanation")
    names = sorted(unit.scores, key=lambda name: name != unit.headline)
    values = [(name, unit.scores[name].value) for name in names]
    return ListedExplanation(
        unit.neuron_id,
        unit.text,
        source,
        model,
        explainer=unit.explainer,
        explainer_model=unit.model,
        scores=tuple(
            ListedScore(value, name, unit.simulator) for name, value in values if value is not None
        ),
    )


def _take_in(folder: RunFolder, library: Library) -> None:
    """Unless nothing was written since the last time."""
    written = _written_at(folder)
    mark = f"results of {folder.path.resolve().name}"
    if library.marks().get(mark) == written:
        return
    with Results(folder.results, read_only=True) as results:
        is_begun = results.has_method()
    own = read_own(folder.path, Counter()) if is_begun else ()
    library.add(own, marks={mark: written})


def _written_at(folder: RunFolder) -> int:
    """Nanoseconds; what is not yet in the file itself is in its -wal, which readers leave empty."""
    paths = (folder.results, Path(f"{folder.results}-wal"))
    found = [path.stat() for path in paths if path.exists()]
    return max((file.st_mtime_ns for file in found if file.st_size), default=0)
