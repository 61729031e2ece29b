"""Every choice of a run, in one place, and the fingerprint that names a set of choices."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from neuron_explainer.collector.collect import CollectPlan
from neuron_explainer.collector.windows import Cut, WindowPlan
from neuron_explainer.errors import UnitNotFound, UsageError
from neuron_explainer.records.neuron import NeuronId

COLLECT = {"stage": "collect"}
EXPLAIN = {"stage": "explain"}
WHERE = {"stage": None}
"""Choices that say where or for which units, and change no unit's result."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What to explain, on which text, and how; the defaults are the embedded run."""

    model: str = field(default="bundled", metadata=COLLECT)
    """`bundled`, a hub id or a local folder."""
    dtype: str = field(default="auto", metadata=COLLECT)
    device: str = field(default="auto", metadata=WHERE)
    corpus: str = field(default="pydocs", metadata=WHERE)
    """`pydocs`, or a file or folder; its content is part of the fingerprint, its path is not."""
    text_field: str = field(default="text", metadata=COLLECT)
    layers: str | None = field(default=None, metadata=COLLECT)
    """Such as `0,2-5`; None: all."""
    n_tokens: int = field(default=1_500_000, metadata=COLLECT)
    """Tokens of text to read."""
    n_ctx: int = field(default=64, metadata=COLLECT)
    """Longest window, in tokens."""
    cut: Cut = field(default=Cut.ALL, metadata=COLLECT)
    max_a_document: int | None = field(default=None, metadata=COLLECT)
    fit_share: float = field(default=0.5, metadata=COLLECT)
    block_size: int = field(default=64, metadata=COLLECT)
    top_k: int = field(default=20, metadata=COLLECT)
    n_a_band: int = field(default=10, metadata=COLLECT)
    n_random: int = field(default=32, metadata=COLLECT)
    n_boundary_windows: int = field(default=2048, metadata=COLLECT)
    token_means_gb: float = field(default=2.0, metadata=COLLECT)
    seed: int = field(default=0, metadata=COLLECT)
    neurons: str | None = field(default=None, metadata=WHERE)
    """A number, for a random sample, or a list such as `0:3,2:417`; None: all."""
    explainer: str = field(default="token_lookup", metadata=EXPLAIN)
    simulator: str = field(default="token_lookup", metadata=EXPLAIN)
    n_per_split: int = field(default=5, metadata=EXPLAIN)
    n_resamples: int = field(default=200, metadata=EXPLAIN)

    def __post_init__(self) -> None:
        positive = ("n_tokens", "n_ctx", "block_size", "top_k", "n_random", "n_boundary_windows")
        for name in positive:
            if getattr(self, name) < 1:
                raise UsageError(f"{flag_of(name)} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.fit_share < 1:
            raise UsageError(f"--fit-share must lie between 0 and 1, not {self.fit_share}")

    @property
    def window_plan(self) -> WindowPlan:
        return WindowPlan(**self._taken_by(WindowPlan))

    @property
    def collect_plan(self) -> CollectPlan:
        return CollectPlan(**self._taken_by(CollectPlan))

    def choices(self, stage: str) -> dict[str, Any]:
        """The choices that can change the results of a stage."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["stage"] == stage}

    def _taken_by(self, plan: type[WindowPlan] | type[CollectPlan]) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(plan)}


def flag_of(name: str) -> str:
    """The flag that sets a field: the same name, but for the commonest ones."""
    return "--" + {"n_tokens": "tokens"}.get(name, name).replace("_", "-")


def fingerprint(choices: Mapping[str, Any]) -> str:
    """Names a set of choices: equal choices, equal fingerprints."""
    text = json.dumps(choices, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def parse_layers(text: str | None, n_layers: int) -> list[int]:
    """`0,2-5` -> [0, 2, 3, 4, 5]; None: all of the model's. UsageError for what it has not."""
    if text is None:
        return list(range(n_layers))
    layers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise UsageError(f"--layers {text!r}: write numbers and ranges, such as 0,2-5")
        first, last = int(match[1]), int(match[2] or match[1])
        if last >= n_layers or first > last:
            raise UsageError(f"--layers {text!r}: the model has layers 0-{n_layers - 1}")
        layers.update(range(first, last + 1))
    return sorted(layers)


def choose_neurons(
    text: str | None, layers: Sequence[int], n_units: int, seed: int
) -> list[NeuronId]:
    """The units that `--neurons` means, in a random order that mixes the layers."""
    if text is not None and ":" in text:
        return _listed_neurons(text, layers, n_units)
    everyone = [NeuronId(layer, unit) for layer in layers for unit in range(n_units)]
    random.Random(seed).shuffle(everyone)
    if text is None:
        return everyone
    if not text.strip().isdecimal() or int(text) < 1:
        raise UsageError(f"--neurons {text!r}: write a number, or a list such as 0:3,2:417")
    return everyone[: int(text)]


def _listed_neurons(text: str, layers: Iterable[int], n_units: int) -> list[NeuronId]:
    found = [NeuronId.parse(part) for part in text.split(",") if part.strip()]
    for neuron_id in found:
        if neuron_id.layer_index not in layers or neuron_id.neuron_index >= n_units:
            raise UnitNotFound(
                f"no neuron {neuron_id} in this collection: it has layers "
                f"{', '.join(map(str, layers))} of neurons 0..{n_units - 1} each"
            )
    return list(dict.fromkeys(found))
