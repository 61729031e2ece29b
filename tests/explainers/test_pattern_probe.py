"""Many searches share forward passes, and get the answers that each would get alone."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from neuron_explainer.explainers import pattern_probe
from neuron_explainer.explainers.pattern_probe import (
    N_NEIGHBOURS,
    ProbeCost,
    SubjectProbe,
    SubjectVocabulary,
)
from neuron_explainer.explainers.pattern_questions import Answer, Question
from neuron_explainer.explainers.pattern_search import PatternPlan, UnitSearch
from neuron_explainer.records.neuron import ActivationRecord
from neuron_explainer.records.patterns import FoundPatterns
from neuron_explainer.subject.model import (
    BUNDLED,
    BUNDLED_FOLDER,
    Subject,
    load_subject,
    make_subject,
)
from neuron_explainer.subject.source import SubjectSource
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.explainers.made_up_subject import record_of
from tests.tiny_models import byte_tokenizer, tiny_gpt2, tiny_subject

Rounds = list[list[Question]]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny_subject(n_layer=3)


def probe_of(subject: Subject, cost: ProbeCost, tokens_at_once: int = 16_384) -> SubjectProbe:
    return SubjectProbe(subject, SubjectSource(subject), cost, tokens_at_once=tokens_at_once)


def drawn_rounds(seed: int, n_rounds: int) -> Rounds:
    """Texts of 1 to 9 tokens; a few ask for what comes next instead, others share beginnings."""
    rng = random.Random(seed)
    return [
        [
            Question(tuple(rng.choices(range(257), k=rng.randint(1, 9))), rng.choice([0, 0, 0, 3]))
            for _ in range(rng.randint(1, 6))
        ]
        + drawn_after(rng, rng.choices([7, 8], k=rng.randint(1, 3)))
        for _ in range(n_rounds)
    ]


def drawn_after(rng: random.Random, shared: Sequence[int]) -> list[Question]:
    rests = [rng.choices(range(257), k=rng.randint(1, 3)) for _ in range(rng.randint(0, 6))]
    return [Question((*shared, *rest), n_shared=len(shared)) for rest in rests]


def asking(
    rounds: Rounds, answers: list[Answer], number: int
) -> Generator[list[Question], list[Answer], FoundPatterns]:
    """A search that asks a list of questions after the other, and has a number of its own."""
    for questions in rounds:
        answered = yield questions
        assert len(answered) == len(questions)
        answers.extend(answered)
    return FoundPatterns((), number, is_cut_short=False)


def activation_of(subject: Subject, layer: int, unit: int, ids: Sequence[int]) -> float:
    """One forward pass of one text, to its end."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        found.append(arguments[0][0, -1, unit])

    handle = subject.site_module(layer).register_forward_pre_hook(keep)
    with torch.inference_mode():
        subject.model(input_ids=torch.tensor([list(ids)]))
    handle.remove()
    return float(found[0])


def expected_after(subject: Subject, ids: Sequence[int], n: int) -> tuple[int, ...]:
    with torch.inference_mode():
        logits = subject.model(input_ids=torch.tensor([list(ids)])).logits[0, -1]
    return tuple(logits.argsort(descending=True)[:n].tolist())


@pytest.mark.parametrize("tokens_at_once", [1, 17, 16_384])
@pytest.mark.parametrize("layer", [0, 2])
def test_answers_are_those_of_one_pass_a_question(
    subject: Subject, layer: int, tokens_at_once: int
) -> None:
    units = [5, 0, 63, 5]
    rounds = [drawn_rounds(seed, n) for seed, n in enumerate([4, 0, 1, 6])]
    answers: list[list[Answer]] = [[] for _ in units]
    searches = [
        (unit, asking(mine, into, i))
        for i, (unit, mine, into) in enumerate(zip(units, rounds, answers, strict=True))
    ]
    found = probe_of(subject, ProbeCost(), tokens_at_once).search(layer, searches)
    assert [of_unit.n_tokens for of_unit in found] == [0, 1, 2, 3]  # in the order given
    for unit, mine, answered in zip(units, rounds, answers, strict=True):
        questions = [question for questions in mine for question in questions]
        for question, answer in zip(questions, answered, strict=True):
            if question.n_expected:
                expected = expected_after(subject, question.ids, question.n_expected)
                assert answer == Answer(None, expected)
            else:
                alone = activation_of(subject, layer, unit, question.ids)
                assert answer.activation == pytest.approx(alone, abs=1e-5)
                assert answer.expected == ()


def test_every_pass_and_token_is_counted(subject: Subject) -> None:
    cost = ProbeCost(n_passes=100, n_tokens=1000)
    questions = [Question((1, 2, 3)), Question((4,)), Question((5, 6, 7)), Question((8, 9), 2)]
    searches = [(unit, asking([questions], [], 0)) for unit in range(3)]
    probe_of(subject, cost).search(0, searches)
    assert cost == ProbeCost(100 + 3, 1000 + 3 * (3 + 1 + 3 + 2))  # a pass for each length
    searches = [(unit, asking([questions[:1]], [], 0)) for unit in range(5)]
    probe_of(subject, cost, tokens_at_once=6).search(0, searches)
    assert cost == ProbeCost(103 + 3, 1027 + 15)  # two texts of three tokens at once


def test_a_beginning_that_texts_share_is_read_once(subject: Subject) -> None:
    cost = ProbeCost()
    questions = [Question((1, 2, 3, n), n_shared=3) for n in range(10)]
    searches = [(unit, asking([questions], [], 0)) for unit in range(4)]
    probe_of(subject, cost).search(0, searches)
    assert cost == ProbeCost(2, 3 + 40)


def test_no_more_is_kept_of_beginnings_than_there_is_room_for(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_a_token = 2 * 2 * 16 * 4  # keys and values, layers 0 and 1, d_model, float32
    monkeypatch.setattr(pattern_probe, "KEPT_BYTES", 9 * bytes_a_token)
    cost = ProbeCost()
    questions = [Question((1, 2, n), n_shared=2) for n in range(7)]
    probe_of(subject, cost).search(1, [(0, asking([questions], [], 0))])
    assert cost == ProbeCost(2 * 3, 3 * 2 + 7)  # three texts at once


def test_nothing_behind_the_units_layer_is_computed(subject: Subject) -> None:
    ran: list[str] = []
    behind = {
        "mlp 1": subject.site_module(1),
        "block 2": subject.layer_module(2),
        "head": subject.model.get_output_embeddings(),
    }
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in behind.items()
    ]
    try:
        probe = probe_of(subject, ProbeCost())
        probe.search(1, [(0, asking([[Question((1, 2))]], [], 0))])
        assert ran == []
        probe.search(1, [(0, asking([[Question((1, 2), 4)]], [], 0))])
        assert ran == ["mlp 1", "block 2", "head"]  # what comes next is read off the end
    finally:
        for handle in handles:
            handle.remove()


def test_no_search_asks_for_no_pass(subject: Subject) -> None:
    cost = ProbeCost()
    assert probe_of(subject, cost).search(0, []) == []
    assert cost == ProbeCost()


def test_only_tokens_that_the_tokenizer_has_are_expected() -> None:
    model = tiny_gpt2()
    model.resize_token_embeddings(300, mean_resizing=False)
    subject = make_subject("padded", model, SubjectTokenizer(byte_tokenizer()))
    answers: list[Answer] = []
    probe_of(subject, ProbeCost()).search(0, [(0, asking([[Question((1, 2), 1000)]], answers, 0))])
    assert sorted(answers[0].expected) == list(range(257))


def test_units_that_are_searched_together_come_to_what_each_comes_to_alone(
    subject: Subject,
) -> None:
    """The whole of it, on the tiny subject: windows, their activations, search and answers."""
    vocabulary = SubjectVocabulary(subject)
    source = SubjectSource(subject)
    rng = random.Random(0)
    windows = torch.tensor([rng.choices(range(97, 123), k=20) for _ in range(12)])
    read: list[Tensor] = []
    source.read(windows, [1], lambda _layer, acts, _counted: read.append(acts.clone()))

    def search(unit: int) -> tuple[int, Generator[list[Question], list[Answer], FoundPatterns]]:
        shown = [
            ActivationRecord(
                tuple(vocabulary.display(i) for i in ids), tuple(read[0][row, :, unit].tolist())
            )
            for row, ids in enumerate(windows.tolist())
        ]
        one = UnitSearch(
            record_of(shown), PatternPlan(budget_tokens=600), vocabulary,
            ((1, 2, 3), (4, 5, 6)), (7, 8), lambda _tokens: None,
        )  # fmt: skip
        return unit, one.run()

    units = [3, 40, 11]
    together = probe_of(subject, ProbeCost()).search(1, [search(unit) for unit in units])
    for unit, found in zip(units, together, strict=True):
        (alone,) = probe_of(subject, ProbeCost()).search(1, [search(unit)])
        assert found == alone
        assert found.patterns
        assert 0 < found.n_tokens <= 600


def test_neighbours_are_the_nearest_by_direction_and_never_the_token_itself(
    subject: Subject,
) -> None:
    vocabulary = SubjectVocabulary(subject)
    embedding = cast(nn.Embedding, subject.model.get_input_embeddings()).weight.detach()
    for token in (0, 50, 256):
        likeness = torch.nn.functional.cosine_similarity(embedding, embedding[token], dim=1)
        nearest = likeness.argsort(descending=True).tolist()
        assert nearest[0] == token
        found = list(vocabulary.neighbours(token))
        assert token not in found
        assert len(set(found)) == len(found)
        assert set(nearest[1 : N_NEIGHBOURS + 1]) <= set(found)
        assert found == list(vocabulary.neighbours(token))


def test_display_and_ids_are_each_others_inverse(subject: Subject) -> None:
    vocabulary = SubjectVocabulary(subject)
    shown = [vocabulary.display(i) for i in range(257)]
    assert vocabulary.ids_of(shown) == list(range(257))


def forms_of(word: str) -> list[str]:
    """word: in small letters."""
    return [word, word.capitalize(), word.upper()]


@pytest.mark.skipif(not BUNDLED_FOLDER.is_dir(), reason=f"no model in {BUNDLED_FOLDER}")
def test_other_spellings_of_a_word_are_its_neighbours() -> None:
    subject = load_subject(BUNDLED)
    vocabulary = SubjectVocabulary(subject)
    known = set(subject.tokenizer.display)
    for word in ["the", "error", "return", "in", "list", "model"]:
        spellings = [f"{space}{form}" for space in ("", " ") for form in forms_of(word)]
        there = known.intersection(spellings)
        assert len(there) > 1
        for own in there:
            (token,) = vocabulary.ids_of([own])
            shown = {vocabulary.display(i) for i in vocabulary.neighbours(token)}
            assert there - {own} <= shown
    (line_break,) = vocabulary.ids_of(["\n"])
    assert len(vocabulary.neighbours(line_break)) == N_NEIGHBOURS
