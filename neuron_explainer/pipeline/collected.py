"""The subject of a folder's collection, read as it was read there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuron_explainer.errors import SpecMismatch
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.records import read_subject_choices
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.subject.model import Subject, load_subject
from neuron_explainer.subject.source import SubjectSource


def load_collected(spec: RunSpec, folder: RunFolder, *, only_here: bool = False) -> Subject:
    """With the choices of the collection, wherever it lies; the spec says on which device.

    only_here: see `load_subject`. SpecMismatch when other weights or another tokenizer are there
    now.
    """
    choices = read_subject_choices(folder)
    subject = load_subject(
        choices.get("model", spec.model),
        dtype=choices.get("dtype", spec.dtype),
        device=spec.device,
        site_module=choices.get("site_module"),
        activation_function=choices.get("activation_function"),
        chat_template=choices.get("chat_template", False),
        only_here=only_here,
    )
    _require_same(subject, choices)
    return subject


def open_collected(subject: Subject, folder: RunFolder) -> SubjectSource:
    """Every layer; the positions that did not count in the collection do not count here."""
    choices = read_subject_choices(folder)
    return SubjectSource(
        subject,
        skip_first=choices.get("skip_first", 0),
        max_norm_ratio=choices.get("max_norm_ratio"),
    )


def _require_same(subject: Subject, choices: Mapping[str, Any]) -> None:
    expected = choices.get("model_content")  # of published records it is not known
    if expected is not None and subject.content_hash() != expected:
        raise SpecMismatch(
            f"{subject.name} is not the model that the collection was made with (other weights, "
            "configuration or tokenizer); put it back, or collect again with another --run"
        )
