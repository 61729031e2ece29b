"""Activations of the published dataset, both ways (Bills et al. 2023).

    NeuronRecord  {layer}/{neuron}.json   a unit's windows and moments

Read: a byte order mark, any line ends, NaN and Infinity where null belongs, objects that do not
name their class, the older names of classes and fields, unknown fields (left out, counted), 4 or
6 boundaries of 5 bands, windows of any length. A window without a single activation is left out
and counted. All else raises RecordFormatError.

Written: what OpenAI's own loader takes, which refuses a field that it does not know: the class
first, then every field by its published name, null where there is no number. What was written
reads back equal, but for half a surrogate pair, which becomes U+FFFD and is counted.
"""

from __future__ import annotations

import re
from typing import Any

from neuron_explainer.formats.openai_json import (
    CLASS,
    Damaged,
    LeftOut,
    Reading,
    Shape,
    Written,
    check_lengths,
    read_document,
    read_list,
    read_number,
    read_numbers,
    read_texts,
    take,
    write_document,
)
from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from neuron_explainer.records.published import (
    PublishedRecord,
    Values,
)

NO_ACTIVATION = "window without an activation"
MOMENTS = ("mean", "variance", "skewness", "kurtosis")

NEURON_ID = Shape(
    "NeuronId",
    ("layer_index", "neuron_index"),
    older_fields={"layer": "layer_index", "idx": "neuron_index"},
)
ACTIVATION_RECORD = Shape("ActivationRecord", ("tokens", "activations"))
NEURON_RECORD = Shape(
    "NeuronRecord",
    ("neuron_id",),
    (
        "random_sample", "random_sample_by_quantile", "quantile_boundaries", *MOMENTS,
        "most_positive_activation_records",
    ),
)  # fmt: skip


def read_record(document: bytes, path: object) -> Reading[PublishedRecord]:
    """A `NeuronRecord`; RecordFormatError, which names `path`, when it is none."""
    return read_document(document, path, _parse_record)


def write_record(record: PublishedRecord) -> Written:
    """A `NeuronRecord`, with one boundary more than there are bands: null at an unbounded end."""
    bands = [[_plain_window(window) for window in band] for band in record.bands]
    return write_document(
        {
            CLASS: NEURON_RECORD.name,
            "neuron_id": plain_id(record.neuron_id),
            "random_sample": [_plain_window(window) for window in record.random],
            "random_sample_by_quantile": bands or None,
            "quantile_boundaries": record.boundaries or None,
            **{name: getattr(record, name) for name in MOMENTS},
            "most_positive_activation_records": [_plain_window(window) for window in record.top],
        }
    )


def _parse_record(raw: Any, left_out: LeftOut) -> PublishedRecord:
    fields = take(raw, NEURON_RECORD, left_out)
    bands, boundaries = _parse_bands(
        fields.get("random_sample_by_quantile"), fields.get("quantile_boundaries"), left_out
    )
    top = fields.get("most_positive_activation_records", [])
    return PublishedRecord(
        neuron_id=parse_id(fields["neuron_id"], left_out),
        top=_parse_windows(top, "most_positive_activation_records", left_out),
        random=_parse_windows(fields.get("random_sample", []), "random_sample", left_out),
        bands=bands,
        boundaries=boundaries,
        **{name: read_number(fields.get(name), name) for name in MOMENTS},
    )


def _parse_bands(
    lists: Any, limits: Any, left_out: LeftOut
) -> tuple[tuple[tuple[ActivationRecord, ...], ...], Values]:
    """n lists and n - 1 or n + 1 boundaries -> n bands and n + 1 boundaries."""
    if not lists and (lists is None or isinstance(lists, list)):
        if limits is not None and read_list(limits, "quantile_boundaries"):
            left_out["quantile_boundaries of no windows"] += 1
        return (), ()
    bands = tuple(
        _parse_windows(windows, "one of random_sample_by_quantile", left_out)
        for windows in read_list(lists, "random_sample_by_quantile")
    )
    boundaries: Values = (None,) * (len(bands) + 1)
    if limits is not None:
        boundaries = read_numbers(limits, "quantile_boundaries")
        if len(boundaries) == len(bands) - 1:
            boundaries = (None, *boundaries, None)
    if len(boundaries) != len(bands) + 1:
        raise Damaged(f"{len(boundaries)} quantile_boundaries of {len(bands)} lists of windows")
    return bands, boundaries


def _parse_windows(raw: Any, name: str, left_out: LeftOut) -> tuple[ActivationRecord, ...]:
    windows = []
    for one in read_list(raw, name):
        fields = take(one, ACTIVATION_RECORD, left_out)
        tokens = read_texts(fields["tokens"], "tokens")
        activations = read_numbers(fields["activations"], "activations")
        check_lengths(len(tokens), activations=len(activations))
        if any(activation is not None for activation in activations):
            windows.append(ActivationRecord(tokens, activations))
        else:
            left_out[NO_ACTIVATION] += 1
    return tuple(windows)


def parse_id(raw: Any, left_out: LeftOut) -> NeuronId:
    fields = take(raw, NEURON_ID, left_out)
    return NeuronId(*(_parse_index(fields[name], name) for name in NEURON_ID.required))


def _parse_index(raw: Any, name: str) -> int:
    """A number from 0, which older files may have as a text."""
    if isinstance(raw, str) and re.fullmatch(r"[0-9]{1,9}", raw):
        return int(raw)
    if type(raw) is not int or raw < 0:
        raise Damaged(f"{name} is no whole number from 0")
    return raw


def plain_id(neuron_id: NeuronId) -> dict[str, Any]:
    return {
        CLASS: NEURON_ID.name,
        "layer_index": neuron_id.layer_index,
        "neuron_index": neuron_id.neuron_index,
    }


def _plain_window(window: ActivationRecord) -> dict[str, Any]:
    return {
        CLASS: ACTIVATION_RECORD.name,
        "tokens": window.tokens,
        "activations": window.activations,
    }
