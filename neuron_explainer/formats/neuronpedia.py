"""Neuronpedia's export: explanations as JSON lines, by model and by layer of a set of units.

    MODEL/6-res-jb/explanations/batch-0.jsonl.gz   {"modelId", "layer": "6-res-jb", "index": "17",
                                                    "description", "typeName",
                                                    "explanationModelName"}: 1,024 a file
    MODEL/6-res-jb/{features,activations}/…        neuronpedia_units.py

Scores, in the web interface's answers and not in the export: `"scores": [{"value",
"explanationScoreTypeName", "explanationScoreModelName"}]`. An object of a unit with a list of
`explanations`, as that interface gives it, is read too. The layout has no field for the polarity
and for our `source`: what we write has them as JSON in `notes`, from where they are read back.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from neuron_explainer.errors import RecordFormatError, UsageError
from neuron_explainer.formats.listed_rows import read_claim
from neuron_explainer.formats.rows import Row, read_rows
from neuron_explainer.formats.spellings import (
    format_place,
    parse_place,
    parse_polarity,
    parse_score,
    parse_text,
    parse_unit,
)
from neuron_explainer.records.listed import ListedExplanation, ListedScore
from neuron_explainer.records.neuron import NeuronId

NEURONPEDIA = "neuronpedia"
"""The source of explanations that do not say another."""
EXPLANATIONS_A_FILE = 1024
FOLDERS = ("explanations", "explanation-scores", "activations", "features")
"""Where an export has what is read."""
_READ = frozenset((
    "modelId", "layer", "index", "description", "typeName", "explanationModelName", "scores",
    "notes", "explanations", "id",
))  # fmt: skip
_NOTES = frozenset(("polarity", "source"))


def is_neuronpedia(fields: Mapping[str, Any]) -> bool:
    """Whether an object is an explanation, or a unit with explanations, of Neuronpedia."""
    return {"modelId", "layer", "index"} <= fields.keys() and (
        "description" in fields or "explanations" in fields
    )


def find_batches(folder: Path) -> list[Path]:
    """The files of an export, or of any part of it; by folder and number."""
    batches = [
        path
        for pattern in ("batch-*.jsonl", "batch-*.jsonl.gz")
        for path in folder.rglob(pattern)
        if path.parent.name in FOLDERS
    ]
    return sorted(batches, key=lambda path: (path.parent, _batch_number(path), path.name))


def read_neuronpedia(
    path: Path, left_out: Counter[str], *, source: str | None = None, model: str | None = None
) -> Iterator[ListedExplanation]:
    """One file's explanations in its order; RecordFormatError names what is wrong and where."""
    for row in read_rows(path):
        try:
            for fields in _explanations_of(row, left_out):
                explanation = _read_fields(fields, left_out, source or NEURONPEDIA, model)
                if explanation is not None:
                    yield explanation
        except ValueError as error:
            raise RecordFormatError(path, f"{row.where}: {error}") from error


def _explanations_of(row: Row, left_out: Counter[str]) -> Iterator[Mapping[str, Any]]:
    """The object itself, or the explanations it holds, with its unit."""
    _count_unread(row.fields, left_out)
    nested = row.fields.get("explanations")
    if nested is None:
        yield row.fields
        return
    if not isinstance(nested, list):
        raise ValueError(f"explanations are {type(nested).__name__}, not a list")
    unit = {name: row.fields.get(name) for name in ("modelId", "layer", "index")}
    for fields in nested:
        if not isinstance(fields, dict):
            raise ValueError(f"an explanation is {type(fields).__name__}, not an object")
        _count_unread(fields, left_out)
        yield unit | fields


def _count_unread(fields: Mapping[str, Any], left_out: Counter[str]) -> None:
    for name, value in fields.items():
        if name not in _READ and value is not None:
            left_out[f"field {name!r}"] += 1


def _read_fields(
    fields: Mapping[str, Any], left_out: Counter[str], source: str, model: str | None
) -> ListedExplanation | None:
    place, unit = parse_place(fields.get("layer")), parse_unit(fields.get("index"))
    if place is None or unit is None:
        left_out[f"explanation without a {'layer' if place is None else 'unit'}"] += 1
        return None
    text = read_claim(fields.get("description"), left_out)
    if text is None:
        return None
    notes = _read_notes(fields.get("notes"), left_out)
    return ListedExplanation(
        neuron_id=NeuronId(place[0], unit[1]),
        text=text,
        source=parse_text(notes.get("source"), "source") or source,
        model=parse_text(fields.get("modelId"), "modelId") or model,
        site=place[1],
        polarity=parse_polarity(notes.get("polarity")),
        explainer=parse_text(fields.get("typeName"), "typeName"),
        explainer_model=parse_text(fields.get("explanationModelName"), "explanationModelName"),
        scores=tuple(_read_scores(fields.get("scores"), left_out)),
    )


def _read_scores(raw: Any, left_out: Counter[str]) -> Iterator[ListedScore]:
    if raw is not None and not isinstance(raw, list):
        raise ValueError(f"scores are {type(raw).__name__}, not a list")
    for score in raw or []:
        if not isinstance(score, dict):
            raise ValueError(f"a score is {type(score).__name__}, not an object")
        value = parse_score(score.get("value"), left_out)
        if value is not None:
            yield ListedScore(
                value,
                parse_text(score.get("explanationScoreTypeName"), "explanationScoreTypeName"),
                parse_text(score.get("explanationScoreModelName"), "explanationScoreModelName"),
            )


def _read_notes(raw: Any, left_out: Counter[str]) -> Mapping[str, Any]:
    """What we wrote there; other notes are counted."""
    text = parse_text(raw, "notes")
    if text is None:
        return {}
    try:
        notes = json.loads(text)
    except (ValueError, RecursionError):
        notes = None
    if isinstance(notes, dict) and notes.keys() <= _NOTES:
        return notes
    left_out["field 'notes'"] += 1
    return {}


def _batch_number(path: Path) -> int:
    number = re.search(r"batch-(\d{1,18})\.", path.name)
    return int(number[1]) if number else 0


# Writing


def write_neuronpedia(folder: Path, explanations: Iterable[ListedExplanation]) -> list[Path]:
    """The files of an export; UsageError for an explanation that names no model.

    A folder that holds explanations of the same model and layer is refused, as older batches would
    mix with the new ones. The same explanations give the same bytes. `authorId` and `embedding`,
    which are Neuronpedia's own, are null.
    """
    by_folder: dict[Path, list[ListedExplanation]] = defaultdict(list)
    for explanation in explanations:
        if explanation.model is None:
            unit = f"{explanation.neuron_id} of {explanation.source}"
            raise UsageError(f"Neuronpedia's layout needs the model's name, and {unit} has none")
        place = format_place(explanation.neuron_id.layer_index, explanation.site)
        by_folder[folder / _folder_name(explanation.model) / _folder_name(place)].append(
            explanation
        )
    written = []
    for inner, listed in by_folder.items():
        batches = inner / "explanations"
        if find_batches(batches):
            raise UsageError(f"{batches} holds explanations already; move them away")
        batches.mkdir(parents=True, exist_ok=True)
        for number, start in enumerate(range(0, len(listed), EXPLANATIONS_A_FILE)):
            path = batches / f"batch-{number}.jsonl.gz"
            _write_batch(path, listed[start : start + EXPLANATIONS_A_FILE])
            written.append(path)
    return written


def _write_batch(path: Path, explanations: Iterable[ListedExplanation]) -> None:
    lines = "".join(json.dumps(_plain(explanation)) + "\n" for explanation in explanations)
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))


def _plain(explanation: ListedExplanation) -> dict[str, Any]:
    neuron_id = explanation.neuron_id
    notes = {"source": explanation.source} if explanation.source != NEURONPEDIA else {}
    if explanation.polarity is not None:
        notes["polarity"] = explanation.polarity.value
    return {
        "id": explanation.digest().hex(),
        "modelId": explanation.model,
        "layer": format_place(neuron_id.layer_index, explanation.site),
        "index": str(neuron_id.neuron_index),
        "authorId": None,
        "description": explanation.text,
        "embedding": None,
        "typeName": explanation.explainer,
        "explanationModelName": explanation.explainer_model,
        "notes": json.dumps(notes) if notes else None,
        "scores": [
            {
                "value": score.value,
                "explanationScoreTypeName": score.kind,
                "explanationScoreModelName": score.scorer,
            }
            for score in explanation.scores
        ],
    }


def _folder_name(name: str) -> str:
    """The name as one safe folder: `openai/gpt2` -> `openai--gpt2`."""
    safe = re.sub(r"[^\w.{}-]", "-", name.replace("/", "--"))
    return safe if safe.strip(".") else safe.replace(".", "-")
