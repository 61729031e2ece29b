"""The patterns behind a method's explanations, for who shows them; nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.spec import fingerprint
from neuron_explainer.stores.pattern_store import PatternStore
from neuron_explainer.stores.results import Results

CHOICES = "patterns"
"""Among a method's choices: those that its patterns were found with."""
CONTEXT_CHOICES = ("collection", "n_contexts")
"""Of these, what the context means depend on."""
STAGES = "stages"
"""Among a cascade's choices: those of each of its stages."""


def find_choices(choices: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Those that a method's patterns were found with; None: it has none."""
    of_all = [choices, *choices.get(STAGES, ())]
    return next((one[CHOICES] for one in of_all if CHOICES in one), None)


def open_pattern_store(
    path: Path, choices: Mapping[str, Any], *, read_only: bool = False
) -> PatternStore:
    """choices: those that the patterns are found with."""
    contexts = fingerprint({name: choices[name] for name in CONTEXT_CHOICES})
    return PatternStore(path, fingerprint(choices), contexts, read_only=read_only)


def kept_budget(folder: RunFolder, collection: str) -> int | None:
    """Tokens of forward passes a unit, as they were last for the patterns of a collection."""
    if not folder.patterns.exists():
        return None
    with PatternStore(folder.patterns, "", "", read_only=True) as kept:
        return kept.kept_budget(collection)


@contextmanager
def open_kept_patterns(
    folder: RunFolder, choices: Mapping[str, Any]
) -> Iterator[PatternStore | None]:
    """choices: of the method. None: it has no patterns, or they are gone."""
    found = find_choices(choices)
    if found is None or not folder.patterns.exists():
        yield None
        return
    with open_pattern_store(folder.patterns, found, read_only=True) as kept:
        yield kept


@contextmanager
def open_current_patterns(folder: RunFolder, results: Results) -> Iterator[PatternStore | None]:
    """Of the method used last; None when none was used, or it has no patterns."""
    choices = results.choices(results.current_method()) if results.has_method() else {}
    with open_kept_patterns(folder, choices) as kept:
        yield kept
