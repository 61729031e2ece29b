"""Transluce's descriptions of neurons: one a neuron and polarity.

They are published as a Postgres database (observatory, `lib/neurondb`); read here is its table
of descriptions as csv, JSON lines, JSON or parquet, with the columns' names as a header:

    neuron_id        MODEL_LAYER_NEURON_EXPERT; EXPERT is `None` but in a mixture of experts
    polarity         1: large activations, -1: small ones
    description      the explanation
    version          optional: which of their methods wrote it
    score            optional

Other columns, such as `description_summary` and `is_interesting`, are counted. Without the fourth
part of the id, which the published text on the layout leaves out, the third is the neuron.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.listed_rows import read_claim
from neuron_explainer.formats.rows import read_rows
from neuron_explainer.formats.spellings import (
    parse_digits,
    parse_polarity,
    parse_score,
    parse_text,
)
from neuron_explainer.records.listed import ListedExplanation, ListedScore
from neuron_explainer.records.neuron import NeuronId

TRANSLUCE = "transluce"
"""The source, and the explainer, of what does not say another."""
REQUIRED = frozenset(("neuron_id", "polarity", "description"))
_READ = REQUIRED | {"version", "score", "id"}
_WITH_EXPERT = re.compile(r"(.+)_(\d+)_(\d+)_(None|\d+)", re.DOTALL)
_WITHOUT_EXPERT = re.compile(r"(.+)_(\d+)_(\d+)", re.DOTALL)


class _Unit(NamedTuple):
    model: str
    neuron_id: NeuronId
    site: str | None


def is_transluce(fields: Mapping[str, Any]) -> bool:
    """Whether a row is one of their descriptions."""
    return fields.keys() >= REQUIRED


def read_transluce(
    path: Path, left_out: Counter[str], *, source: str | None = None
) -> Iterator[ListedExplanation]:
    """In the file's order; RecordFormatError names what is wrong and where."""
    for row in read_rows(path):
        try:
            explanation = _read_fields(row.fields, left_out, source or TRANSLUCE)
        except ValueError as error:
            raise RecordFormatError(path, f"{row.where}: {error}") from error
        if explanation is not None:
            yield explanation


def _read_fields(
    fields: Mapping[str, Any], left_out: Counter[str], source: str
) -> ListedExplanation | None:
    if not is_transluce(fields):
        raise ValueError(f"lacks {', '.join(sorted(REQUIRED - fields.keys()))}")
    for name, value in fields.items():
        if name not in _READ and value not in (None, ""):
            left_out[f"column {name!r}"] += 1
    unit = _parse_unit(parse_text(fields["neuron_id"], "neuron_id"))
    polarity = parse_polarity(fields["polarity"])
    if unit is None or polarity is None:
        left_out[f"explanation without a {'unit' if unit is None else 'polarity'}"] += 1
        return None
    text = read_claim(fields["description"], left_out)
    if text is None:
        return None
    version = parse_text(fields.get("version"), "version")
    value = parse_score(fields.get("score"), left_out)
    return ListedExplanation(
        neuron_id=unit.neuron_id,
        text=text,
        source=source,
        model=unit.model,
        site=unit.site,
        polarity=polarity,
        explainer=TRANSLUCE if version is None else f"{TRANSLUCE} {version}",
        scores=() if value is None else (ListedScore(value),),
    )


def _parse_unit(text: str | None) -> _Unit | None:
    """`org/model_3_17_None` -> model `org/model`, 3:17; None for what is missing."""
    if text is None:
        return None
    match = _WITH_EXPERT.fullmatch(text) or _WITHOUT_EXPERT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r:.60} is not MODEL_LAYER_NEURON_EXPERT")
    model, layer, neuron, *rest = match.groups()
    is_expert = rest not in ([], ["None"])
    return _Unit(
        model,
        NeuronId(parse_digits(layer, "layer"), parse_digits(neuron, "neuron")),
        f"expert-{rest[0]}" if is_expert else None,
    )
