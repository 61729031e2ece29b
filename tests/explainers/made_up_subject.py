"""A subject of words whose unit is a known function of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from neuron_explainer.explainers.pattern_questions import Answer, Question, count_tokens
from neuron_explainer.explainers.pattern_search import Known, PatternPlan, UnitSearch
from neuron_explainer.records.neuron import ActivationRecord, Moments, NeuronRecord, Stratum
from neuron_explainer.records.patterns import FoundPatterns
from tests.scoring.builders import NEURON_ID, window

Unit = Callable[[Sequence[str]], float]
"""Tokens of a text -> activation at the last one."""
OTHER_WORDS = [f"w{i}" for i in range(40)]
FILLERS = [["w1", "w2", "w3", "w4"], ["w5", "w6", "w7", "w8"]]
OTHERS = ["w9", "w10"]


class MadeUpSubject:
    """Its vocabulary, its answers, and windows of text; it remembers what it was asked."""

    def __init__(
        self,
        unit: Unit,
        words: Iterable[str],
        near: Mapping[str, str] | None = None,
        expected: Mapping[str, str] | None = None,
    ) -> None:
        """near: a token -> its neighbours; expected: -> what comes next, the likeliest first."""
        self._unit = unit
        self._words = [*OTHER_WORDS, *words]
        self._near = near or {}
        self._expected = expected or {}
        self.asked: list[Question] = []
        self.n_asked = 0
        """Tokens; what questions share once."""

    def display(self, token_id: int) -> str:
        return self._words[token_id]

    def ids_of(self, tokens: Sequence[str]) -> list[int]:
        return [self._words.index(token) for token in tokens]

    def neighbours(self, token_id: int) -> Sequence[int]:
        return self.ids_of(self._near.get(self._words[token_id], "").split())

    def window(self, text: str) -> ActivationRecord:
        tokens = tuple(text.split())
        return ActivationRecord(
            tokens, tuple(self._unit(tokens[: i + 1]) for i in range(len(tokens)))
        )

    def answer(self, question: Question) -> Answer:
        self.asked.append(question)
        tokens = [self._words[i] for i in question.ids]
        if question.n_expected:
            expected = self._expected.get(tokens[-1], "").split()[: question.n_expected]
            return Answer(None, tuple(self.ids_of(expected)))
        return Answer(self._unit(tokens))

    def search(
        self,
        record: NeuronRecord,
        plan: PatternPlan | None = None,
        known: Known = lambda _tokens: None,
        others: Sequence[str] = OTHERS,
    ) -> FoundPatterns:
        """As much is asked as the search asks for."""
        search = UnitSearch(
            record=record,
            plan=plan or PatternPlan(budget_tokens=100_000),
            vocabulary=self,
            fillers=tuple(tuple(self.ids_of(filler)) for filler in FILLERS),
            others=tuple(self.ids_of(others)),
            known=known,
        ).run()
        try:
            asked = next(search)
            while True:
                self.n_asked += count_tokens(asked)
                asked = search.send([self.answer(question) for question in asked])
        except StopIteration as end:
            found: FoundPatterns = end.value
        return found

    def find(self, *texts: str, plan: PatternPlan | None = None) -> FoundPatterns:
        """In a record with these windows of the train split."""
        return self.search(record_of([self.window(text) for text in texts]), plan)


def record_of(train: Sequence[ActivationRecord], strata: Sequence[Stratum] = ()) -> NeuronRecord:
    """Other splits hold what no search may read: tokens that no vocabulary has."""
    unreadable = window([1e6, 1e6], "of another split")
    top = [one for own in train for one in (own, unreadable, unreadable, unreadable)]
    return NeuronRecord(
        neuron_id=NEURON_ID,
        top=tuple(top),
        strata=tuple(strata),
        random=(unreadable,),
        moments=Moments(n_tokens=1000, mean=0.0, variance=1.0, skewness=None, kurtosis=None),
    )
