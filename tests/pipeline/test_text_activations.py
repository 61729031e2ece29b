"""A text is read as the collector would read it, and its record is its own tokens alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from neuron_explainer.errors import SubjectError
from neuron_explainer.pipeline.text_activations import TextReader
from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from neuron_explainer.subject.model import Subject, load_subject
from neuron_explainer.subject.source import SubjectSource
from tests.fakes import ScriptedSource
from tests.tiny_models import tiny_subject

UNIT = NeuronId(1, 5)
TEXTS = ["The cat sat.", "A dog", "The dog sat.", "A cat"]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny_subject()


def reader(subject: Subject, n_ctx: int = 64, skip_first: int = 0) -> TextReader:
    source = SubjectSource(subject, skip_first=skip_first)
    return TextReader(source, subject.tokenizer, n_ctx)


def full_forward(subject: Subject, text: str, unit: NeuronId) -> list[float]:
    """The unit's activations on the text with the separator before it, the plain way."""
    ids = [subject.tokenizer.separator_id, *subject.tokenizer.encode([text])[0].tolist()]
    seen: list[Tensor] = []
    handle = subject.site_module(unit.layer_index).register_forward_pre_hook(
        lambda _module, arguments: seen.append(arguments[0])
    )
    with torch.no_grad():
        subject.model(torch.tensor([ids]))
    handle.remove()
    activations: list[float] = seen[0][0, :, unit.neuron_index].tolist()
    return activations


def require_close(record: ActivationRecord | None, expected: Sequence[float | None]) -> None:
    found = np.array(require(record).activations, dtype=float)
    np.testing.assert_allclose(found, np.array(expected, dtype=float), atol=1e-4)


def require(record: ActivationRecord | None) -> ActivationRecord:
    assert record is not None
    return record


def test_activations_are_those_behind_the_separator(subject: Subject) -> None:
    for text, record in zip(TEXTS, reader(subject).read_activations(UNIT, TEXTS), strict=True):
        assert "".join(require(record).tokens) == text
        expected = full_forward(subject, text, UNIT)[1:]
        require_close(record, expected)


def test_the_bundled_model_is_read_in_the_same_way() -> None:
    bundled = load_subject(device="cpu")
    text = "Return the absolute value of a number. It may be an integer."
    (record,) = reader(bundled).read_activations(NeuronId(1, 7), [text])
    assert "".join(require(record).tokens) == text
    expected = full_forward(bundled, text, NeuronId(1, 7))[1:]
    require_close(record, expected)


def test_the_other_texts_play_no_part(subject: Subject) -> None:
    together = reader(subject).read_activations(UNIT, TEXTS)
    for text, record in zip(TEXTS, together, strict=True):
        (alone,) = reader(subject).read_activations(UNIT, [text])
        require_close(record, require(alone).activations)


def test_a_long_text_is_read_as_far_as_a_window_goes(subject: Subject) -> None:
    (cut,) = reader(subject, n_ctx=8).read_activations(UNIT, ["The cat sat."])
    assert "".join(require(cut).tokens) == "The cat"
    expected = full_forward(subject, "The cat", UNIT)[1:]
    require_close(cut, expected)


def test_positions_that_do_not_count_have_no_activation(subject: Subject) -> None:
    """The separator is the first of them."""
    (record,) = reader(subject, skip_first=3).read_activations(UNIT, ["A dog"])
    assert [a is None for a in require(record).activations] == [True, True, False, False, False]


def test_a_text_without_a_position_that_counts_has_no_record(subject: Subject) -> None:
    records = reader(subject, skip_first=3).read_activations(UNIT, ["", "ab", "abc"])
    assert [record is None for record in records] == [True, True, False]


def test_no_text_is_no_record(subject: Subject) -> None:
    assert reader(subject).read_activations(UNIT, []) == []


def test_activations_that_are_not_finite_are_an_error(subject: Subject) -> None:
    source = ScriptedSource(n_layers=2, n_units=6, scale=float("inf"))
    broken = TextReader(source, subject.tokenizer, 64)
    with pytest.raises(SubjectError, match="layer 1 gave activations that are not finite"):
        broken.read_activations(UNIT, ["A dog"])
