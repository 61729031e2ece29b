"""The few-shot sets: sensible texts, values that teach what they should, and clear refusals."""

from __future__ import annotations

import pytest

from neuron_explainer.errors import UsageError
from neuron_explainer.prompts.activations import REPEAT_BELOW, ShownWindow, non_zero_share
from neuron_explainer.prompts.explain_examples import read_examples
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.prompts.few_shot import FewShotRecord, read_few_shot_set

SIMULATED = ("default", "short")
RECORDS = [r for name in SIMULATED for neuron in read_few_shot_set(name) for r in neuron.records]
DEFAULT = [record for neuron in read_few_shot_set() for record in neuron.records]


def n_words(record: FewShotRecord) -> int:
    return len("".join(record.tokens).split())


def test_windows_join_to_sensible_text() -> None:
    for record in RECORDS:
        text = "".join(record.tokens)
        assert text[0].isalpha()
        assert text.rstrip("\n").endswith((".", ")"))
        assert "  " not in text.replace("\n   ", "\n").replace("    ", "")
        assert all(record.tokens)


def test_tokens_are_those_of_a_byte_level_vocabulary() -> None:
    tokens = [token for record in RECORDS for token in record.tokens]
    assert sum(token.startswith(" ") for token in tokens) > len(tokens) / 2
    assert "\n" in tokens
    assert any(token.isalpha() and token.islower() for token in tokens)  # a piece within a word
    assert any(not token.strip().isalnum() for token in tokens)


def test_lengths_and_values_vary_as_those_of_real_windows() -> None:
    assert all(16 <= len(record.tokens) <= 40 for record in DEFAULT)
    assert sum(len(r.tokens) for r in RECORDS) - sum(len(r.tokens) for r in DEFAULT) < 0.3 * sum(
        len(r.tokens) for r in DEFAULT
    )
    assert {a for record in DEFAULT for a in record.activations} == set(range(11))
    unknown = [record.n_unknown / len(record.tokens) for record in DEFAULT]
    assert min(unknown) == 0
    assert max(unknown) > 0.6
    assert any(0.2 < share < 0.6 for share in unknown)


@pytest.mark.parametrize("name", SIMULATED)
def test_there_are_sparse_and_dense_neurons(name: str) -> None:
    shares = [
        non_zero_share([ShownWindow(r.tokens, r.activations) for r in neuron.records])
        for neuron in read_few_shot_set(name)
    ]
    assert min(shares) < REPEAT_BELOW <= max(shares)
    assert 2 <= len(shares) <= 4


def test_a_word_is_active_in_some_contexts_alone() -> None:
    values: dict[str, set[int]] = {}
    for neuron in read_few_shot_set():
        for record in neuron.records:
            for token, activation in zip(record.tokens, record.activations, strict=True):
                values.setdefault(neuron.explanation + token, set()).add(activation)
    assert any(0 in seen and max(seen) >= 7 and len(seen) >= 3 for seen in values.values())


@pytest.mark.parametrize("name", PROMPTS)
def test_explanations_are_phrases(name: str) -> None:
    examples = read_examples(PROMPTS[name])
    assert 2 <= len(examples) <= 4
    for example in examples:
        assert example.explanation[0].islower() or example.explanation[0] == "“"
        assert example.explanation[-1] not in ".:\n"
        assert "\n" not in example.explanation
    assert len({example.explanation for example in examples}) == len(examples)


@pytest.mark.parametrize("name", PROMPTS)
def test_every_example_has_what_its_prompt_shows(name: str) -> None:
    for example in read_examples(PROMPTS[name]):
        for need in PROMPTS[name].needs:
            assert getattr(example.evidence, need)
        assert all(window.max_activation == 0 for window in example.evidence.quiet)
        assert all(window.max_activation >= 7 for window in example.evidence.windows)


def test_quiet_windows_hold_the_neuron_s_own_tokens() -> None:
    for example in read_examples(PROMPTS["contrastive"]):
        own = {t for w in example.evidence.windows
               for t, a in zip(w.tokens, w.activations, strict=True) if a and a >= 5}  # fmt: skip
        assert all(own & set(window.tokens) for window in example.evidence.quiet)


def test_a_set_that_is_not_there_or_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no few-shot set 'long'; one of default, "):
        read_examples(PROMPTS["summary"], "long")
    with pytest.raises(UsageError, match="'short' has no quiet and the prompt 'contrastive'"):
        read_examples(PROMPTS["contrastive"], "short")
    assert read_examples(PROMPTS["summary"], "short") != read_examples(PROMPTS["summary"])
