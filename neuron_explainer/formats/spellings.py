"""What lists of explanations call their columns, and how they write what is in them.

A name is compared without case, spaces and punctuation: `Neuron Index` is `neuronindex`. Where
several names of one role are there, the first of its spellings is read.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from neuron_explainer.records.listed import Polarity


class Role(StrEnum):
    """What a column is for."""

    LAYER = "layer"
    UNIT = "neuron"
    TEXT = "explanation"
    MODEL = "model"
    POLARITY = "polarity"
    EXPLAINER = "explainer"
    EXPLAINER_MODEL = "explainer_model"
    SCORE = "score"
    SCORE_KIND = "score_kind"
    SCORER = "scorer"
    OTHER_SCORES = "other_scores"
    SOURCE = "source"


SPELLINGS: Mapping[Role, tuple[str, ...]] = {
    Role.LAYER: ("layer", "layerindex", "layeridx", "layernumber"),
    Role.UNIT: (
        "neuron", "neuronindex", "neuronidx", "neuronid", "unit", "unitindex", "unitidx", "unitid",
        "feature", "featureindex", "featureidx", "featureid", "latent", "latentindex", "latentidx",
        "latentid", "index",
    ),
    Role.TEXT: ("explanation", "description", "explanationtext", "descriptiontext", "label"),
    Role.MODEL: ("model", "modelid", "modelname", "subject", "subjectmodel"),
    Role.POLARITY: ("polarity", "sign"),
    Role.EXPLAINER: ("explainer", "method", "typename", "explanationtype"),
    Role.EXPLAINER_MODEL: ("explainermodel", "explanationmodel", "explanationmodelname"),
    Role.SCORE: ("score", "explanationscore", "evcorrelationscore", "correlation"),
    Role.SCORE_KIND: ("scorekind", "scoretype", "explanationscoretypename", "metric"),
    Role.SCORER: ("scorer", "simulator", "scorermodel", "explanationscoremodelname"),
    Role.OTHER_SCORES: ("otherscores",),
    Role.SOURCE: ("source",),
}  # fmt: skip
SITE = ("site", "hookpoint", "hook", "sourceset", "sourcesetname", "sae", "saetype", "saesize")
"""What these hold, joined by `-`, says where in the layer a unit is."""
PLAIN_SCORES = ("score", "explanationscore")
"""Names of a score that do not say its kind."""
_TEXT_SUFFIX = re.compile(r"[\s_-]*(description|explanation)\s*$", re.IGNORECASE)
_PLACE = re.compile(r"(\d+)(?:\.0+)?")
_SAE_PLACE = re.compile(r"(\d+)-(.+)", re.DOTALL)
_HOOKPOINT_NUMBER = re.compile(r"(?:(?<=[./])|^)\d+(?=[./]|$)")
_UNIT_WITH_LAYER = re.compile(r"\s*(\d+):(\d+)\s*")
_NO_NUMBER = ("none", "null", "na", "n/a", "<na>")


class TextColumn(NamedTuple):
    """A column of explanations."""

    name: str
    style: str | None
    """The prompt's style, where there is a column for each; else None."""
    scores: tuple[tuple[str, str], ...] = ()
    """(column, kind) of the scores of this style."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a table is what."""

    by_role: Mapping[Role, str]
    site: tuple[str, ...]
    texts: tuple[TextColumn, ...]
    """Several: one for each prompt style."""
    unread: tuple[str, ...]
    """What has no place in an explanation."""


def find_columns(names: Collection[str], *, with_styles: bool) -> Columns:
    """What each column is for; ValueError when there is none of explanations or of units.

    Without a column of explanations, those named `STYLE description` are it, with the columns
    `STYLE …` as their scores. Without these, `with_styles` takes every other column for a style.
    """
    by_spelling = {spell(name): name for name in reversed([*names])}  # the first one stays
    by_role = {
        role: by_spelling[found[0]]
        for role, spellings in SPELLINGS.items()
        if (found := [spelling for spelling in spellings if spelling in by_spelling])
    }
    site = tuple(by_spelling[spelling] for spelling in SITE if spelling in by_spelling)
    others = [name for name in names if name not in {*by_role.values(), *site}]
    texts = _text_columns(by_role.get(Role.TEXT), others, with_styles=with_styles)
    if not texts:
        raise ValueError(f"no column of explanations (has {_list(names)})")
    if Role.UNIT not in by_role:
        raise ValueError(f"no column of neurons or units (has {_list(names)})")
    read = {name for text in texts for name in (text.name, *(score for score, _ in text.scores))}
    return Columns(by_role, site, texts, tuple(name for name in others if name not in read))


def spell(name: str) -> str:
    """How a name is compared: `Neuron Index` is `neuronindex`."""
    return re.sub(r"[^a-z0-9]+", "", name.casefold())


def _text_columns(
    text: str | None, others: Iterable[str], *, with_styles: bool
) -> tuple[TextColumn, ...]:
    if text is not None:
        return (TextColumn(text, None),)
    named = {name: _TEXT_SUFFIX.sub("", name) for name in others if _TEXT_SUFFIX.search(name)}
    if not named and with_styles:
        named = {name: name for name in others if name}
    styles = sorted(named.values(), key=len, reverse=True)
    owner = {
        other: next((style for style in styles if other.startswith(f"{style} ")), None)
        for other in others
        if other not in named
    }
    return tuple(
        TextColumn(name, style, tuple(_scores_of(style, owner))) for name, style in named.items()
    )


def _scores_of(style: str, owner: Mapping[str, str | None]) -> Iterable[tuple[str, str]]:
    """(column, kind): `MaxAct Input Success` of `MaxAct` is of the kind `input_success`."""
    for column, its_style in owner.items():
        if its_style == style:
            yield column, re.sub(r"\W+", "_", column.removeprefix(style).strip()).lower()


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


# Values


def parse_text(value: Any, name: str) -> str | None:
    """None for what is missing or blank; spaces around it are left out."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.40}, not a text")
    return value.strip() or None


def parse_place(value: Any) -> tuple[int, str | None] | None:
    """A layer and the site its name holds; None for what is missing.

    9, "9", 9.0 -> (9, None)     "6-res-jb" -> (6, "res-jb")
    "layers.5.mlp" -> (5, "layers.{layer}.mlp"): the first number between dots is the layer
    """
    if not isinstance(value, str):
        index = parse_index(value, "layer")
        return None if index is None else (index, None)
    text = value.strip()
    if not text:
        return None
    if plain := _PLACE.fullmatch(text):
        return parse_digits(plain[1], "layer"), None
    if of_sae := _SAE_PLACE.fullmatch(text):
        return parse_digits(of_sae[1], "layer"), of_sae[2]
    if number := _HOOKPOINT_NUMBER.search(text):
        return (
            parse_digits(number[0], "layer"),
            f"{text[: number.start()]}{{layer}}{text[number.end() :]}",
        )
    raise ValueError(f"{text!r:.40} is not a layer")


def format_place(layer_index: int, site: str | None) -> str:
    """`6-res-jb`, or `6` without a site: what `parse_place` reads back."""
    return str(layer_index) if site is None else f"{layer_index}-{site}"


def parse_unit(value: Any) -> tuple[int | None, int] | None:
    """The layer, when the unit is written `9:6236`, and its number; None for what is missing."""
    if isinstance(value, str) and (both := _UNIT_WITH_LAYER.fullmatch(value)):
        return parse_digits(both[1], "layer"), parse_digits(both[2], "unit")
    index = parse_index(value, "unit")
    return None if index is None else (None, index)


def parse_index(value: Any, name: str) -> int | None:
    """17, 17.0, "17" and "17.0" are 17; None for what is missing."""
    match value:
        case None:
            return None
        case bool():
            pass
        case int():
            return value
        case float() if math.isnan(value):
            return None
        case float() if value.is_integer():
            return int(value)
        case str() if not value.strip():
            return None
        case str() if plain := _PLACE.fullmatch(value.strip()):
            return parse_digits(plain[1], name)
    raise ValueError(f"{value!r:.40} is not the number of a {name}")


def parse_digits(digits: str, name: str) -> int:
    if len(digits) > 19:
        raise ValueError(f"{digits:.40} is not the number of a {name}")
    return int(digits)


def parse_score(value: Any, left_out: Counter[str]) -> float | None:
    """True is 1, False is 0; None for what is missing, and for what is no number, counted."""
    if value is None:
        return None
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
        if value.lower() in _NO_NUMBER:
            value = math.nan
        elif value.lower() in ("true", "false"):
            value = value.lower() == "true"
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{value!r:.40} is not a score") from error
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        left_out["score that is no number"] += 1
        return None
    return number


def parse_polarity(value: Any) -> Polarity | None:
    """`positive`, `pos`, `+`, 1 and their opposites, in any case; None for what is missing."""
    match value:
        case None:
            return None
        case bool():
            pass
        case int() | float() if value in (1, -1):
            return Polarity.POSITIVE if value == 1 else Polarity.NEGATIVE
        case str():
            text = value.strip().lower()
            if text in ("positive", "pos", "+", "1", "+1", "1.0", "max"):
                return Polarity.POSITIVE
            if text in ("negative", "neg", "-", "-1", "-1.0", "min"):
                return Polarity.NEGATIVE
            if not text:
                return None
    raise ValueError(f"{value!r:.40} is not a polarity")
