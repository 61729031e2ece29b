"""A revision sees the train windows and half of the sentences; it is scored on the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from neuron_explainer.errors import AuthFailed, Refused, ServerFailed
from neuron_explainer.explainers.revision import AskedModel, Reviser, SentenceWriter
from neuron_explainer.llm.budget import charged_to
from neuron_explainer.llm.messages import Completion, CompletionRequest
from neuron_explainer.pipeline.revise import (
    ReadActivations,
    Revision,
    RevisionEvidence,
    RevisionMethod,
    RevisionOutcome,
    draw_active_windows,
    revise_units,
)
from neuron_explainer.pipeline.text_activations import TextReader
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import ActivationRecord, NeuronId, NeuronRecord, Stratum
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.records.splits import Split, split_records
from neuron_explainer.scoring.metrics import correlation
from neuron_explainer.scoring.simulation import SimulationScorer
from neuron_explainer.subject.model import load_subject
from neuron_explainer.subject.source import SubjectSource
from tests.fakes import FakeClient, completion
from tests.scoring.builders import NEURON_ID, neuron_record, noisy_record, truth, window

OLD, NEW = "names of rivers", "rivers of Europe"
SENTENCES = tuple(f"sentence{i} word{i} {'Rhine' if i % 3 else 'Nile'}{i}" for i in range(10))
FOR_REVISION, FOR_SCORING = SENTENCES[0::2], SENTENCES[1::2]


def record_of(neuron_id: NeuronId = NEURON_ID) -> NeuronRecord:
    """With strata: a quiet one, and one of which each window stands for many."""
    quiet = tuple(window([-0.1] * 4, f"quiet{i}") for i in range(6))
    low = tuple(window([0.0, 0.4, 0.1, 0.0], f"low{i}") for i in range(6))
    high = tuple(window([0.0, 1.5, 0.9, 0.0], f"high{i}") for i in range(6))
    strata = (
        Stratum(None, 0.0, 60, quiet), Stratum(0.0, 1.0, 40, low), Stratum(1.0, None, 6, high)
    )  # fmt: skip
    return replace(noisy_record(neuron_id=neuron_id), strata=strata)


def read_words(_: NeuronId, texts: Sequence[str]) -> list[ActivationRecord | None]:
    """A unit that responds to every Rhine, and to nothing else."""
    return [
        ActivationRecord(tuple(text.split()), tuple(4.0 * ("Rhine" in w) for w in text.split()))
        for text in texts
    ]


def is_for_writer(request: CompletionRequest) -> bool:
    return request.messages[-1].content.endswith("sentences.")


def answer(request: CompletionRequest) -> Completion:
    if is_for_writer(request):
        return completion("\n".join(f"<answer>{sentence}</answer>" for sentence in SENTENCES))
    return completion(f"<answer>{NEW}</answer>")


@dataclass
class TwoMindedSimulator:
    """Knows the windows, and the truth about sentences when it is given the new explanation."""

    known: dict[str, float]
    seen: dict[str, list[str]] = field(default_factory=dict)
    name: str = "two-minded"

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        self.seen.setdefault(explanation.text, []).append(" ".join(tokens))
        rivers = ("Rhine",) if explanation.text == NEW else ("Rhine", "Nile")
        expected = tuple(
            self.known.get(token, 4.0 * any(river in token for river in rivers)) for token in tokens
        )
        return SequenceSimulation(tuple(tokens), expected, ActivationScale.NEURON)


@dataclass
class Setting:
    """A method with everything faked, and what its parts were asked."""

    reply: Callable[[CompletionRequest], Completion] = answer
    read: ReadActivations = read_words
    evidence: RevisionEvidence = RevisionEvidence.SENTENCES
    simulator: TwoMindedSimulator = field(
        default_factory=lambda: TwoMindedSimulator(truth(noisy_record()))
    )

    def __post_init__(self) -> None:
        self.client = FakeClient[CompletionRequest, Completion](self.reply)

    def method(self) -> RevisionMethod:
        asked = AskedModel(self.client, "m", "openai:m")
        scorer = SimulationScorer(self.simulator, n_resamples=0)
        return RevisionMethod(
            SentenceWriter(asked), Reviser(asked), self.read, scorer, self.evidence
        )

    def shown_to_reviser(self) -> str:
        (request,) = [r for r in self.client.requests if not is_for_writer(r)]
        return request.messages[-1].content


def outcomes(
    setting: Setting, records: Sequence[NeuronRecord] = (record_of(),)
) -> list[RevisionOutcome]:
    explained = [(r, Explanation(r.neuron_id, OLD, "token_activation")) for r in records]

    async def collect() -> list[RevisionOutcome]:
        return [outcome async for outcome in revise_units(setting.method(), explained)]

    return asyncio.run(collect())


def revision(setting: Setting, record: NeuronRecord | None = None) -> Revision:
    (outcome,) = outcomes(setting, [record or record_of()])
    assert outcome.revision is not None, outcome.reason
    return outcome.revision


def reason(setting: Setting, record: NeuronRecord | None = None) -> str:
    (outcome,) = outcomes(setting, [record or record_of()])
    assert (outcome.revision, outcome.neuron_id) == (None, NEURON_ID)
    assert outcome.reason is not None
    return outcome.reason


@pytest.mark.parametrize("evidence", RevisionEvidence)
def test_nothing_that_is_scored_on_is_shown_to_the_reviser(evidence: RevisionEvidence) -> None:
    setting = Setting(evidence=evidence)
    record = record_of()
    revision(setting, record)
    shown = setting.shown_to_reviser().replace("**", "")
    for split in (Split.CALIBRATION, Split.VALID, Split.TEST):
        for scored_on in (*split_records(record, split).top, *split_records(record, split).random):
            assert scored_on.tokens[0] not in shown  # "top3.0": no other window's text has it
    for sentence in FOR_SCORING:
        assert not any(word in shown for word in sentence.split())


def test_the_reviser_sees_the_train_windows_and_its_half_of_the_sentences() -> None:
    setting = Setting()
    revision(setting)
    shown = setting.shown_to_reviser().replace("**", "")
    for train in split_records(record_of(), Split.TRAIN).top:
        assert "".join(train.tokens) in shown
    for sentence in FOR_REVISION:
        assert "".join(sentence.split()) in shown


def test_the_new_windows_of_random_evidence_are_active_and_the_sentences_are_not_shown() -> None:
    setting = Setting(evidence=RevisionEvidence.RANDOM)
    revision(setting)
    shown = setting.shown_to_reviser()
    assert shown.count("low") + shown.count("high") == 5 * 4
    assert "quiet" not in shown.partition("New texts")[2].partition("\n")[2]
    assert "sentence" not in shown


def test_both_versions_are_scored_on_the_valid_windows_and_with_the_kept_sentences() -> None:
    setting = Setting()
    found = revision(setting)
    assert (found.old.explanation.text, found.new.explanation.text) == (OLD, NEW)
    # The windows are predicted by the truth under both.
    assert found.old.scored.score.value == pytest.approx(1)
    assert found.new.scored.score.value == pytest.approx(1)
    assert found.new.with_sentences.value == pytest.approx(1)
    real = [a for w in found.old.scored.windows for a in w.true_activations if a is not None]
    words = [word for sentence in FOR_SCORING for word in sentence.split()]
    expected = correlation(
        [*real, *(4.0 * ("Rhine" in word) for word in words)],
        [*real, *(4.0 * ("Rhine" in word or "Nile" in word) for word in words)],
    )
    assert found.old.with_sentences.value == pytest.approx(expected)
    assert found.old.with_sentences.n_tokens == len(real) + len(words)


def test_no_version_is_simulated_on_what_the_reviser_saw() -> None:
    setting = Setting()
    revision(setting)
    assert set(setting.simulator.seen) == {OLD, NEW}
    for texts in setting.simulator.seen.values():
        assert not set(texts) & set(FOR_REVISION)
        assert set(FOR_SCORING) <= set(texts)


def test_the_share_of_false_positives_is_of_all_the_sentences() -> None:
    found = revision(Setting())
    assert [s.is_false_positive for s in found.sentences] == [i % 3 == 0 for i in range(10)]
    assert found.false_positive_share.value == pytest.approx(0.4)
    assert found.false_positive_share.n_tokens == 30


def test_an_explanation_that_always_fits_has_no_false_positive() -> None:
    def read(_: NeuronId, texts: Sequence[str]) -> list[ActivationRecord | None]:
        return [ActivationRecord((text,), (4.0,)) for text in texts]

    assert revision(Setting(read=read)).false_positive_share.value == 0


def test_fewer_sentences_are_dealt_to_both_uses() -> None:
    def two(request: CompletionRequest) -> Completion:
        written = "<answer>a Rhine</answer><answer>b Nile</answer>"
        return completion(written) if is_for_writer(request) else answer(request)

    found = revision(Setting(two))
    assert [s.is_for_scoring for s in found.sentences] == [False, True]
    assert found.new.with_sentences.value is not None


def test_with_a_single_sentence_there_is_none_to_score_on() -> None:
    def one(request: CompletionRequest) -> Completion:
        return completion("<answer>a Rhine</answer>") if is_for_writer(request) else answer(request)

    found = revision(Setting(one))
    for version in (found.old, found.new):
        assert version.scored.score.value == pytest.approx(1)
        assert version.with_sentences.reason == "no sentence to score on"


def test_a_sentence_that_cannot_be_read_is_neither_active_nor_quiet() -> None:
    def read(neuron_id: NeuronId, texts: Sequence[str]) -> list[ActivationRecord | None]:
        return [None, *read_words(neuron_id, texts)[1:]]

    found = revision(Setting(read=read))
    assert found.sentences[0].is_false_positive is None
    assert found.false_positive_share.value == pytest.approx(3 / 9)


def test_without_any_that_can_be_read_there_is_no_revision() -> None:
    setting = Setting(read=lambda _, texts: [None] * len(texts))
    assert reason(setting) == "no test sentence could be read: none of their positions counts"
    setting = Setting(read=lambda _, texts: [None] * len(texts), evidence=RevisionEvidence.RANDOM)
    found = revision(setting)
    assert found.false_positive_share.reason == "no test sentence could be read"
    assert found.new.with_sentences.reason == "no sentence to score on"


def test_too_few_windows_leave_every_score_without_a_value() -> None:
    few = neuron_record(noisy_record().top[:8], noisy_record().random)
    found = revision(Setting(), few)
    for score in (found.new.scored.score, found.new.with_sentences):
        assert score.reason is not None
        assert score.reason.startswith("too few windows")


def test_a_refusal_or_an_unreadable_answer_is_a_reason() -> None:
    def refuse(_: CompletionRequest) -> Completion:
        raise Refused("not this one")

    def chat(request: CompletionRequest) -> Completion:
        return answer(request) if is_for_writer(request) else completion("I cannot say.")

    assert reason(Setting(refuse)) == "test sentences refused: not this one"
    assert reason(Setting(chat)).startswith("unreadable revision: ")


def test_a_dead_unit_is_not_asked_about() -> None:
    setting = Setting()
    dead = neuron_record([window([-1, -2])] * 20, [window([-1, -1])] * 15)
    assert reason(setting, dead).startswith("dead unit")
    assert setting.client.requests == []


def test_without_an_active_window_there_is_no_random_evidence() -> None:
    setting = Setting(evidence=RevisionEvidence.RANDOM)
    assert (
        reason(setting, noisy_record()) == "no active window outside the top windows and the splits"
    )


def test_a_unit_whose_request_failed_has_its_reason_and_its_error() -> None:
    def fail(_: CompletionRequest) -> Completion:
        raise ServerFailed("gone")

    (outcome,) = outcomes(Setting(fail))
    assert (outcome.revision, outcome.reason) == (None, "no answer: gone")
    assert isinstance(outcome.error, ServerFailed)


def test_a_wrong_key_ends_it_all() -> None:
    def fail(_: CompletionRequest) -> Completion:
        raise AuthFailed("no")

    with pytest.raises(AuthFailed):
        outcomes(Setting(fail))


def test_what_is_asked_for_a_unit_is_charged_to_it() -> None:
    charged: dict[str, int] = {}

    def note(request: CompletionRequest) -> Completion:
        charged[charged_to.get()] = charged.get(charged_to.get(), 0) + 1
        return answer(request)

    outcomes(Setting(note), [record_of(NeuronId(0, n)) for n in range(3)])
    assert charged == {f"revision/0:{n}/": 2 for n in range(3)}


def test_the_draw_is_of_different_active_windows_and_depends_on_seed_and_unit_alone() -> None:
    record = record_of()
    drawn = draw_active_windows(record, 5, seed=0)
    assert len({window.tokens for window in drawn}) == 5
    assert all(window.max_activation > 0 for window in drawn)
    assert drawn == draw_active_windows(record, 5, seed=0)
    others = [draw_active_windows(record_of(NeuronId(0, n)), 5, seed=0) for n in range(5)]
    assert any(other != drawn for other in others)
    assert len(draw_active_windows(record, 100, seed=0)) == 12


def test_a_stratum_is_drawn_from_in_proportion_to_its_population() -> None:
    """40 low windows to 6 high ones, of which six each are at hand."""
    first = [draw_active_windows(record_of(NeuronId(0, n)), 1, 0)[0] for n in range(1000)]
    share = sum(window.tokens[0].startswith("low") for window in first) / len(first)
    assert share == pytest.approx(40 / 46, abs=0.04)


def test_the_bundled_model_reads_what_was_written() -> None:
    subject = load_subject(device="cpu")
    reader = TextReader(SubjectSource(subject, layers=[1]), subject.tokenizer, n_ctx=64)
    record = record_of(NeuronId(1, 3))
    setting = Setting(read=reader.read_activations)
    (outcome,) = outcomes(setting, [record])
    assert outcome.revision is not None
    read = [sentence.record for sentence in outcome.revision.sentences]
    assert ["".join(record.tokens) for record in read if record is not None] == list(SENTENCES)
    assert outcome.revision.false_positive_share.value is not None
    assert outcome.revision.new.with_sentences.value is not None
