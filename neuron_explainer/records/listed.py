"""An explanation as a list gives it: of a unit of any model, by anyone, with its scores.

Lists: Bills et al. 2023 (the published dataset), Neuronpedia, delphi, Transluce, any table.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from neuron_explainer.records.neuron import NeuronId

MAX_INDEX = 2**63 - 1
"""The largest number of a layer or a unit that every store can hold."""
QUOTES = "\"'`“”‘’«»"
_AROUND = string.whitespace + QUOTES
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


class Polarity(StrEnum):
    """Which of a unit's activations an explanation speaks of."""

    POSITIVE = "positive"
    NEGATIVE = "negative"


@dataclass(frozen=True, slots=True)
class ListedScore:
    """How well an explanation does, as the list has it."""

    value: float
    kind: str | None = None
    """Such as `ev_correlation_score`; None: the list does not say."""
    scorer: str | None = None
    """The simulator or the scorer; None: the list does not say."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.value} is not a score")
        _check_texts(kind=self.kind, scorer=self.scorer)


@dataclass(frozen=True, slots=True)
class ListedExplanation:
    """One claim about one unit. Everything but the unit, the text and the source may be unsaid."""

    neuron_id: NeuronId
    text: str
    """As it was written, with its spaces."""
    source: str
    """The list it is from, such as a file's name."""
    model: str | None = None
    """The subject."""
    site: str | None = None
    """Where in the layer: `res-jb`, `layers.{layer}.mlp`; None: the list does not say."""
    polarity: Polarity | None = None
    """None: the list does not say; most look at positive activations alone."""
    explainer: str | None = None
    """The method or the prompt's style."""
    explainer_model: str | None = None
    """The language model that was asked."""
    scores: tuple[ListedScore, ...] = ()
    """In the list's order; the first is the one to report."""

    def __post_init__(self) -> None:
        for name in ("layer_index", "neuron_index"):
            if not 0 <= getattr(self.neuron_id, name) <= MAX_INDEX:
                raise ValueError(f"{getattr(self.neuron_id, name)} is not a {name}")
        if not self.text.strip():
            raise ValueError("an explanation is empty")
        _check_texts(
            text=self.text, source=self.source, model=self.model, site=self.site,
            explainer=self.explainer, explainer_model=self.explainer_model,
        )  # fmt: skip

    @property
    def score(self) -> ListedScore | None:
        return self.scores[0] if self.scores else None

    def digest(self) -> bytes:
        """16 bytes: equal for the same claim, by the same explainer, in the same source."""
        identity = [
            self.source, self.model, self.site, self.neuron_id.layer_index,
            self.neuron_id.neuron_index, self.polarity, self.explainer, self.explainer_model,
            self.text,
        ]  # fmt: skip
        return blake2b(json.dumps(identity).encode(), digest_size=16).digest()


def plain_claim(text: str) -> str:
    """The text to compare by: without the spaces and quotes around it, and its final period."""
    return text.lstrip(_AROUND).rstrip(_AROUND + ".")


def is_storable(text: str) -> bool:
    """Whether every store can hold it: no NUL, no half of a surrogate pair."""
    return _NOT_STORABLE.search(text) is None


def _check_texts(**texts: str | None) -> None:
    """ValueError for one that is blank or cannot be stored."""
    for name, text in _said(texts):
        if not text.strip():
            raise ValueError(f"its {name} is blank")
        if not is_storable(text):
            raise ValueError(f"its {name} holds a NUL or half a surrogate pair")


def _said(texts: dict[str, str | None]) -> Iterator[tuple[str, str]]:
    return ((name, text) for name, text in texts.items() if text is not None)
