"""Explanations of delphi (EleutherAI): a folder of small files, a text and its judged examples.

    explanations/layers.5.mlp_latent17.txt       the text, as a JSON string
    scores/SCORER/layers.5.mlp_latent17.txt      a JSON list: one object an example
    run_config.json                              {"model", "explainer_model", …}; may be missing

1. Where its explainer's answer could not be read, delphi keeps UNREADABLE as the explanation; that
   is none, and is counted.
2. The examples of a classifier (fuzzing, detection) hold `activating` (older: `ground_truth`) and
   `prediction`, which is null, NaN or -1 where the judge failed. Its score here is the balanced
   accuracy over the examples that were judged, as delphi's own report has it.
3. The groups of a simulation hold `ev_correlation_score`; that of all examples has the distance
   -1. delphi takes a simulation that failed for zeros, so it may be lower than it should.
4. Other scorers leave their score to the reader of their files, and are counted.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.listed_rows import read_claim
from neuron_explainer.formats.rows import read_json, readable
from neuron_explainer.formats.spellings import parse_digits, parse_place, parse_score, parse_text
from neuron_explainer.records.listed import ListedExplanation, ListedScore
from neuron_explainer.records.neuron import NeuronId

UNREADABLE = "Explanation could not be parsed"
"""What delphi writes for an answer it cannot read."""
BALANCED_ACCURACY = "balanced_accuracy"
EV_CORRELATION = "ev_correlation_score"
ALL_EXAMPLES = -1
"""Distance of the group that holds all examples of a simulation."""
_LATENT = re.compile(r"(.+)_latent(\d+)\.txt", re.DOTALL)


def is_delphi(folder: Path) -> bool:
    """Whether the folder holds explanations as delphi names them."""
    texts = (folder / "explanations").glob("*.txt")
    return any(_LATENT.fullmatch(path.name) for path in texts)


def read_delphi(
    folder: Path, left_out: Counter[str], *, source: str | None = None, model: str | None = None
) -> Iterator[ListedExplanation]:
    """By file name; RecordFormatError names the file that is not what it should be."""
    config = _read_config(folder / "run_config.json")
    with readable(folder):
        scorers = sorted(path for path in (folder / "scores").glob("*") if path.is_dir())
        paths = sorted((folder / "explanations").iterdir())
    for path in paths:
        match = _LATENT.fullmatch(path.name)
        if match is None:
            left_out["file that is not called HOOKPOINT_latentNUMBER.txt"] += 1
            continue
        text = _read_text(path, left_out)
        if text is None:
            continue
        try:
            place = parse_place(match[1].replace("--", "/"))
            if place is None:
                raise ValueError(f"{match[1]!r:.40} is not a hookpoint")
            yield ListedExplanation(
                neuron_id=NeuronId(place[0], parse_digits(match[2], "latent")),
                text=text,
                source=source or folder.resolve().name or "delphi",
                model=config.get("model") or model,
                site=place[1],
                explainer=config.get("explainer") or "delphi",
                explainer_model=config.get("explainer_model"),
                scores=tuple(_read_scores(scorers, path.name, left_out)),
            )
        except ValueError as error:
            raise RecordFormatError(path, str(error)) from error
    _count_scores_alone(scorers, {path.name for path in paths}, left_out)


def _read_config(path: Path) -> dict[str, str | None]:
    if not path.exists():
        return {}
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise RecordFormatError(path, f"{type(raw).__name__}, not an object")
    try:
        return {k: parse_text(raw.get(k), k) for k in ("model", "explainer", "explainer_model")}
    except ValueError as error:
        raise RecordFormatError(path, str(error)) from error


def _read_text(path: Path, left_out: Counter[str]) -> str | None:
    try:
        text = read_claim(read_json(path), left_out)
    except ValueError as error:
        raise RecordFormatError(path, str(error)) from error
    if text is not None and text.strip().rstrip(".") == UNREADABLE:
        left_out["explanation that delphi could not read"] += 1
        return None
    return text


def _read_scores(
    scorers: Sequence[Path], name: str, left_out: Counter[str]
) -> Iterator[ListedScore]:
    for scorer in scorers:
        path = scorer / name
        if not path.exists():
            continue
        examples = read_json(path)
        if not isinstance(examples, list) or not all(isinstance(e, dict) for e in examples):
            raise RecordFormatError(path, "not a list of objects")
        try:
            score = _read_score(examples, scorer.name, left_out)
        except ValueError as error:
            raise RecordFormatError(path, str(error)) from error
        if score is not None:
            yield score


def _read_score(
    examples: Sequence[Mapping[str, Any]], scorer: str, left_out: Counter[str]
) -> ListedScore | None:
    if any("prediction" in example for example in examples):
        value = _balanced_accuracy(examples, scorer, left_out)
        return None if value is None else ListedScore(value, BALANCED_ACCURACY, scorer)
    whole = [example for example in examples if example.get("distance") == ALL_EXAMPLES]
    if whole and EV_CORRELATION in whole[0]:
        value = parse_score(whole[0][EV_CORRELATION], left_out)
        return None if value is None else ListedScore(value, EV_CORRELATION, scorer)
    left_out[f"score of {scorer}, of no known form"] += 1
    return None


def _balanced_accuracy(
    examples: Sequence[Mapping[str, Any]], scorer: str, left_out: Counter[str]
) -> float | None:
    """Mean share of right answers among active and silent examples; None without one of them."""
    right: dict[bool, list[bool]] = {True: [], False: []}
    for example in examples:
        is_active = example.get("activating", example.get("ground_truth"))
        if not isinstance(is_active, bool):
            raise ValueError(f"an example is {is_active!r:.40}, neither active nor silent")
        prediction = example.get("prediction")
        if prediction is not None and not isinstance(prediction, bool | int | float):
            raise ValueError(f"{prediction!r:.40} is not a prediction")
        if prediction in (None, -1) or not -math.inf < prediction < math.inf:
            left_out[f"example that the judge of {scorer} failed on"] += 1
        else:
            right[is_active].append((prediction >= 0.5) == is_active)
    if not all(right.values()):
        left_out[f"score of {scorer}, without active or without silent examples"] += 1
        return None
    return sum(sum(answers) / len(answers) for answers in right.values()) / 2


def _count_scores_alone(scorers: Sequence[Path], names: set[str], left_out: Counter[str]) -> None:
    for scorer in scorers:
        n_alone = sum(path.name not in names for path in scorer.iterdir())
        if n_alone:
            left_out[f"score of {scorer.name} without an explanation"] += n_alone
