"""A run as a bundle holds it: its choices, its methods, and what each says of each unit.

The files are those of formats/bundle.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import FoundPatterns
from neuron_explainer.records.score import Score, ScoredWindow
from neuron_explainer.records.unit_result import UnitResult


@dataclass(frozen=True, slots=True)
class BundledMethod:
    """A way to explain and score that the run has used."""

    fingerprint: str
    """Of its choices; the other files name the method by it."""
    choices: Mapping[str, Any] | None
    """By name; None: the run has not kept them."""
    used_at: str | None
    """Time of its last use, ISO 8601, UTC; None: not kept."""
    is_current: bool
    """Whether it is the one that was used last, whose results a reader is shown."""
    n_explained: int
    """Units that have an explanation by it."""
    n_unexplained: int
    """Units that have a reason in place of an explanation."""


@dataclass(frozen=True, slots=True)
class BundledFile:
    """What a whole file is known by."""

    size_bytes: int
    sha256: str
    n_rows: int | None = None
    """None: a text for people."""


@dataclass(frozen=True, slots=True)
class BundleContent:
    """What a bundle is of."""

    run: str
    """Name of the run's folder."""
    subject: str
    """The model that is explained, as it was named."""
    site: str
    """Where in a layer the units are read."""
    layers: tuple[int, ...]
    """Those that were collected, from 0."""
    choices: Mapping[str, Any]
    """Of the collection, as they resolved; with the hashes of the model and the text."""
    collection: Mapping[str, Any]
    """What the collection holds: text, windows, tokens."""
    sources: tuple[str, ...]
    """Where the model and the text come from, and what is known of their licences."""
    methods: tuple[BundledMethod, ...]


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """Everything about a bundle but its rows."""

    format: str
    version: int
    tool: str
    """The program that wrote it, with its version."""
    content: BundleContent
    files: Mapping[str, BundledFile]
    """Every file of the bundle but the manifest itself, by name."""


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A text that an explanation was chosen from."""

    text: str
    score: Score
    """On the calibration split, where the choice is made."""


@dataclass(frozen=True, slots=True)
class BundledExplanation:
    """What one method says of one unit."""

    method: str
    """Fingerprint."""
    result: UnitResult
    candidates: tuple[ScoredText, ...] = ()
    """Best first; empty where there was no choice."""


@dataclass(frozen=True, slots=True)
class BundledPatterns:
    """The patterns behind what one method says of one unit."""

    method: str
    """Fingerprint."""
    neuron_id: NeuronId
    found: FoundPatterns


@dataclass(frozen=True, slots=True)
class BundledSimulation:
    """What was predicted from one explanation, beside what is true."""

    method: str
    """Fingerprint."""
    neuron_id: NeuronId
    windows: tuple[ScoredWindow, ...] = field(default=())
