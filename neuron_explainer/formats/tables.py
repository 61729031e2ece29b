"""Lists of explanations as tables: csv, tsv, JSON lines, JSON, parquet, in any common spelling.

    layer,neuron,explanation,score            one explanation a row
    Layer,Feature,MaxAct Description,…        one a row and prompt style (spellings.py)
    {"id": [layer, neuron, text, score]}      lists by rank

What is written has the columns COLUMNS, and reads back equal.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from neuron_explainer.errors import RecordFormatError, UsageError
from neuron_explainer.formats.listed_rows import COLUMNS, read_claim, to_row
from neuron_explainer.formats.plain import why_no_json
from neuron_explainer.formats.rows import Row, has_columns, has_header, known_ending, read_rows
from neuron_explainer.formats.spellings import (
    PLAIN_SCORES,
    Columns,
    Role,
    TextColumn,
    find_columns,
    parse_place,
    parse_polarity,
    parse_score,
    parse_text,
    parse_unit,
    spell,
)
from neuron_explainer.records.listed import ListedExplanation, ListedScore
from neuron_explainer.records.neuron import NeuronId


def read_table(
    path: Path, left_out: Counter[str], *, source: str | None = None, model: str | None = None
) -> Iterator[ListedExplanation]:
    """The file's explanations in its order; RecordFormatError names what is wrong and where.

    What a row lacks, and columns that are not read, are counted in `left_out`. `source` (if None:
    the file's name) and `model` are for rows that do not say theirs.
    """
    reader = TableReader(path, left_out, source=source or path.name, model=model)
    for row in read_rows(path):
        yield from reader.read(row)


class TableReader:
    """Makes explanations of rows; what each column is for is found once for all rows alike."""

    def __init__(
        self, path: Path, left_out: Counter[str], *, source: str, model: str | None = None
    ) -> None:
        self._path = path
        self._left_out = left_out
        self._source = source
        self._model = model
        self._columns: dict[tuple[str, ...], Columns] = {}

    def read(self, row: Row) -> list[ListedExplanation]:
        """One for each text the row has; RecordFormatError for what cannot be meant."""
        try:
            columns = self._find_columns(tuple(row.fields))
            for name in columns.unread:
                if row.fields[name] not in (None, ""):
                    self._left_out[f"column {name!r}" if name else "column without a name"] += 1
            found = (self._read_text(row.fields, columns, text) for text in columns.texts)
            return [explanation for explanation in found if explanation is not None]
        except ValueError as error:
            raise RecordFormatError(self._path, f"{row.where}: {error}") from error

    def _find_columns(self, names: tuple[str, ...]) -> Columns:
        columns = self._columns.get(names)
        if columns is None:
            try:
                columns = find_columns(names, with_styles=has_columns(self._path))
            except ValueError as error:
                hint = "; does line 1 name the columns?" if has_header(self._path) else ""
                raise ValueError(f"{error}{hint}") from error
            self._columns[names] = columns
        return columns

    def _read_text(
        self, fields: Mapping[str, Any], columns: Columns, column: TextColumn
    ) -> ListedExplanation | None:
        said = partial(_said, fields, columns)
        text = read_claim(fields[column.name], self._left_out)
        place, unit = parse_place(said(Role.LAYER)), parse_unit(said(Role.UNIT))
        if unit is not None and unit[0] is not None:
            place = place or (unit[0], None)
            if place[0] != unit[0]:
                raise ValueError(f"layer {place[0]}, but the unit is {unit[0]}:{unit[1]}")
        if unit is None or place is None:
            self._left_out[f"explanation without a {'unit' if unit is None else 'layer'}"] += 1
            return None
        if text is None:
            return None
        if column.style is not None and _is_number(text):
            raise ValueError(
                f"column {column.name!r} holds {text!r:.40} where an explanation belongs; "
                "call the column of explanations 'explanation'"
            )
        return ListedExplanation(
            neuron_id=NeuronId(place[0], unit[1]),
            text=text,
            source=parse_text(said(Role.SOURCE), "source") or self._source,
            model=parse_text(said(Role.MODEL), "model") or self._model,
            site=_read_site(fields, columns) or place[1],
            polarity=parse_polarity(said(Role.POLARITY)),
            explainer=column.style or parse_text(said(Role.EXPLAINER), "explainer"),
            explainer_model=parse_text(said(Role.EXPLAINER_MODEL), "explainer model"),
            scores=tuple(self._read_scores(fields, columns, column)),
        )

    def _read_scores(
        self, fields: Mapping[str, Any], columns: Columns, column: TextColumn
    ) -> Iterator[ListedScore]:
        said = partial(_said, fields, columns)
        scorer = parse_text(said(Role.SCORER), "scorer")
        said_kind = parse_text(said(Role.SCORE_KIND), "score kind")
        named = [*column.scores]
        if (name := columns.by_role.get(Role.SCORE)) is not None:
            named.append((name, said_kind or name))
        for name, kind in named:
            if (value := parse_score(fields[name], self._left_out)) is not None:
                yield ListedScore(value, None if spell(kind) in PLAIN_SCORES else kind, scorer)
        yield from _parse_other_scores(said(Role.OTHER_SCORES))


def _said(fields: Mapping[str, Any], columns: Columns, role: Role) -> Any:
    """None when there is no column for it."""
    name = columns.by_role.get(role)
    return None if name is None else fields[name]


def _read_site(fields: Mapping[str, Any], columns: Columns) -> str | None:
    parts = [parse_text(fields[name], name) for name in columns.site]
    return "-".join(part for part in parts if part is not None) or None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip().lower() in ("true", "false")
    return True


def _parse_other_scores(value: Any) -> Iterator[ListedScore]:
    text = parse_text(value, "other scores")
    if text is None:
        return
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"other scores are {why_no_json(error)}") from error
    for entry in parsed if isinstance(parsed, list) else [parsed]:
        match entry:
            case [int() | float() as score, str() | None as kind, str() | None as scorer]:
                yield ListedScore(float(score), kind, scorer)
            case _:
                raise ValueError(f"{entry!r:.40} is not [score, kind, scorer]")


# Writing


def write_table(
    path: Path, explanations: Iterable[ListedExplanation], *, ending: str | None = None
) -> int:
    """How many were written, as COLUMNS; UsageError for a kind of file that is not known.

    ending: such as `.csv`, when the path's own name does not say it.
    """
    kind = ending or known_ending(path)
    if kind not in (".csv", ".jsonl", ".parquet"):
        raise UsageError(f"{path}: a table can be written as .csv, .jsonl or .parquet")
    if kind == ".jsonl":
        return _write_json_lines(path, explanations)
    frame = to_frame(explanations)
    if kind == ".csv":
        # Quoted throughout: a lone "\r" in a text would end the line for other readers.
        frame.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    else:
        frame.to_parquet(path, index=False)
    return len(frame)


def to_frame(explanations: Iterable[ListedExplanation]) -> pd.DataFrame:
    """A row each, with COLUMNS; what is not said is null."""
    rows = [to_row(explanation) for explanation in explanations]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    texts = [name for name in COLUMNS if name not in ("layer", "neuron", "score")]
    return frame.astype(
        {"layer": "int64", "neuron": "int64", "score": "float64"} | dict.fromkeys(texts, "object")
    )


def _write_json_lines(path: Path, explanations: Iterable[ListedExplanation]) -> int:
    """With all digits of each score, of which pandas keeps 15 at the most; null is left out."""
    n_written = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for explanation in explanations:
            fields = {k: v for k, v in to_row(explanation).items() if v is not None}
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")
            n_written += 1
    return n_written
