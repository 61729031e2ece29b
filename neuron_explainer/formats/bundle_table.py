"""The explanations of a bundle as parquet: a row each, a column for each score.

method, layer, neuron, explanation, reason, explainer, explainer_model, prompt_version,
simulator, headline, cost_usd      as in explanations.jsonl; null where there is none
NAME, NAME_low, NAME_high, NAME_n_tokens, NAME_reason      of each score
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, Any, cast

import pandas as pd
import pyarrow
import pyarrow.parquet

from neuron_explainer.formats.bundle_files import HashedFile
from neuron_explainer.records.bundle import BundledExplanation
from neuron_explainer.records.score import Score

ROWS_A_GROUP = 8192
"""Rows that are in memory at once."""
TEXTS = ("explanation", "reason", "explainer", "explainer_model", "prompt_version", "simulator",
         "headline")  # fmt: skip


def write_bundle_table(
    file: HashedFile, explanations: Iterable[BundledExplanation], score_names: Sequence[str]
) -> int:
    """How many rows were written; score_names: all that any explanation has, in order."""
    schema = _schema(score_names)
    remaining = iter(explanations)
    n_rows = 0
    with pyarrow.parquet.ParquetWriter(cast(IO[bytes], file), schema) as writer:
        while rows := [_row(e, score_names) for e in islice(remaining, ROWS_A_GROUP)]:
            frame = pd.DataFrame(rows, columns=schema.names, dtype=object)
            writer.write_table(pyarrow.Table.from_pandas(frame, schema, preserve_index=False))
            n_rows += len(rows)
    return n_rows


def _schema(score_names: Sequence[str]) -> Any:
    text, number, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    columns = [("method", text), ("layer", whole), ("neuron", whole)]
    columns += [(name, text) for name in TEXTS]
    columns.append(("cost_usd", number))
    for name in score_names:
        columns += [(name, number), (f"{name}_low", number), (f"{name}_high", number)]
        columns += [(f"{name}_n_tokens", whole), (f"{name}_reason", text)]
    return pyarrow.schema(columns)


def _row(explanation: BundledExplanation, score_names: Sequence[str]) -> list[Any]:
    result = explanation.result
    place = result.neuron_id
    row: list[Any] = [
        explanation.method, place.layer_index, place.neuron_index, result.text, result.reason,
        result.explainer, result.model, result.prompt_version, result.simulator, result.headline,
        result.cost and result.cost.cost_usd,
    ]  # fmt: skip
    for name in score_names:
        row += _cells(result.scores.get(name))
    return row


def _cells(score: Score | None) -> Iterator[Any]:
    for name in ("value", "low", "high", "n_tokens", "reason"):
        yield getattr(score, name) if score is not None else None
