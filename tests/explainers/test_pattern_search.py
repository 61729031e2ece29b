"""The search finds what a made-up unit does, within its budget, on the windows it may read."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from neuron_explainer.explainers.pattern_questions import Answer
from neuron_explainer.explainers.pattern_search import (
    LENGTHS,
    N_REPLACEMENTS,
    PatternPlan,
    UnitSearch,
)
from neuron_explainer.records.neuron import ActivationRecord, NeuronRecord, Stratum
from neuron_explainer.records.patterns import Before, FoundPatterns, Lack, Pattern, TokenSet
from tests.explainers.made_up_subject import (
    FILLERS,
    OTHER_WORDS,
    MadeUpSubject,
    record_of,
)

OF_WORDS = ["University", "Institute", "College", "of", "for"]
NEAR_OF = {"University": "College Institute", "Institute": "University", "of": "for w11"}


def of_unit(tokens: Sequence[str]) -> float:
    """“of” after “University” or “Institute”."""
    before = tokens[-2] if len(tokens) > 1 else ""
    return 5.0 if tokens[-1] == "of" and before in ("University", "Institute") else 0.1


def of_subject() -> MadeUpSubject:
    return MadeUpSubject(of_unit, OF_WORDS, NEAR_OF)


OF_TEXTS = [
    "w0 w1 w2 University of w20 w21",
    "w22 w23 College of w24 w25 Institute of w3",
    "w30 University of w31 of w32",
]


def sets(*texts: str | None) -> tuple[TokenSet, ...]:
    return tuple(None if text is None else frozenset(text.split()) for text in texts)


def test_a_context_is_found_with_its_true_substitutes() -> None:
    found = of_subject().find(*OF_TEXTS)
    (pattern,) = found.patterns
    assert pattern.sets == sets("University Institute", "of")
    assert pattern.lack is None
    assert not pattern.at_start
    assert (pattern.share, pattern.precision) == (1.0, 1.0)
    assert (pattern.activation, pattern.n_matches) == (5.0, 3)
    assert pattern.seed == ("University", "of")
    assert pattern.seed_activations == (0.1, 5.0)
    assert found.before is None
    assert not found.is_cut_short


def test_what_the_subject_expects_is_tried_as_well() -> None:
    def unit(tokens: Sequence[str]) -> float:
        return 5.0 if tokens[-2:] in (["new", "year"], ["new", "moon"]) else 0.0

    words = ["new", "year", "moon", "hat"]
    subject = MadeUpSubject(lambda t: unit(list(t)), words, expected={"new": "hat moon year"})
    (pattern,) = subject.find("w0 w1 new year w2").patterns
    assert pattern.sets == sets("new", "year moon")


def test_a_phrase_is_found_whole_and_no_longer() -> None:
    phrase = ["once", "upon", "a", "time"]

    def unit(tokens: Sequence[str]) -> float:
        return 3.0 if list(tokens[-4:]) == phrase else 0.0

    subject = MadeUpSubject(unit, phrase, {"time": "w11 w12"})
    (pattern,) = subject.find("w0 w1 w2 w3 w4 w5 once upon a time w6").patterns
    assert pattern.sets == sets(*phrase)
    assert pattern.seed == tuple(phrase)


def test_tokens_between_that_do_not_matter_may_be_any() -> None:
    def unit(tokens: Sequence[str]) -> float:
        return 3.0 if tokens[-1] == "close" and "open" in tokens[-4:-3] else 0.0

    subject = MadeUpSubject(unit, ["open", "close"])
    (pattern,) = subject.find("w0 w1 w2 open w20 w21 close w22").patterns
    assert pattern.sets == sets("open", None, None, "close")


def test_of_the_current_token_alone_no_context_is_claimed() -> None:
    subject = MadeUpSubject(
        lambda tokens: 4.0 if tokens[-1] in ("two", "three") else -0.2,
        ["two", "three", "four"],
        {"two": "three four", "three": "two four"},
    )
    (pattern,) = subject.find("w0 w1 two w2", "three w3", "w4 four two").patterns
    assert pattern.sets == sets("two three")
    assert (pattern.share, pattern.n_matches) == (1.0, 3)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_place_in_a_window_is_found_whatever_stands_there(place: int) -> None:
    def unit(tokens: Sequence[str]) -> float:
        return 6.0 if len(tokens) == place + 1 else 0.0

    subject = MadeUpSubject(unit, [])
    texts = [" ".join(OTHER_WORDS[first : first + 8]) for first in (12, 20, 30)]
    (pattern,) = subject.find(*texts).patterns
    assert pattern.at_start
    assert pattern.sets == (None,) * (place + 1)
    assert (pattern.share, pattern.precision, pattern.n_matches) == (1.0, 1.0, 3)


def test_a_token_at_a_windows_start_is_told_from_the_place_alone() -> None:
    def unit(tokens: Sequence[str]) -> float:
        return 6.0 if len(tokens) == 2 and tokens[-1] in ("Dear", "Hello") else 0.0

    subject = MadeUpSubject(unit, ["Dear", "Hello"], {"Dear": "Hello w12"})
    (pattern,) = subject.find("w20 Dear w21 Dear w22", "w30 Hello w31").patterns
    assert pattern.at_start
    assert pattern.sets == sets(None, "Dear Hello")
    assert pattern.n_matches == 2


def test_a_place_that_one_window_shows_is_not_claimed() -> None:
    subject = MadeUpSubject(lambda tokens: 6.0 if len(tokens) == 4 else 0.0, [])
    (pattern,) = subject.find("w12 w13 w14 w15 w16").patterns
    assert (pattern.sets, pattern.at_start, pattern.lack) == (sets("w15"), False, Lack.LONGER)


def test_tokens_stand_by_what_they_account_for() -> None:
    strength = {"two": 5.0, "three": 9.0, "four": 8.0}
    subject = MadeUpSubject(lambda t: strength.get(t[-1], 0.0), strength, {"two": "three four"})
    texts = ["w0 two w1"] * 5 + ["w2 three w3", "w4 four w5 four"]
    (pattern,) = subject.find(*texts).patterns
    assert pattern.strongest == ("two", "four", "three")


def test_pieces_that_begin_a_word_are_told_from_those_inside_one() -> None:
    subject = MadeUpSubject(lambda t: 4.0 if t[-1] in ("py", "ing") else 0.0, ["py", "ing", "`"])
    (one, other) = subject.find("w0 ` py w1", "w2 ` py w3", "w4 w0 ing w5").patterns
    assert [p.word_starts & {"py", "ing"} for p in (one, other)] == [{"py"}, set()]


def test_room_that_ends_before_it_is_known_what_matters_claims_nothing_of_it() -> None:
    phrase = ["once", "upon", "a", "time"]
    subject = MadeUpSubject(lambda t: 3.0 * (list(t[-4:]) == phrase), phrase)
    text = "w0 w1 w2 w3 w4 w5 once upon a time w6"
    lengths = [n for n in LENGTHS if n < 10] + [10]
    to_prune = sum(n + len(FILLERS[0]) for n in lengths) * len(FILLERS)
    (pattern,) = subject.find(text, plan=PatternPlan(budget_tokens=to_prune)).patterns
    assert (pattern.sets, pattern.lack) == (sets("time"), Lack.BUDGET)


def test_unrelated_things_are_patterns_of_their_own_by_share() -> None:
    def unit(tokens: Sequence[str]) -> float:
        return 4.0 if tokens[-1] == "cat" else of_unit(tokens)

    subject = MadeUpSubject(unit, [*OF_WORDS, "cat"], NEAR_OF)
    found = subject.find(*OF_TEXTS, "w2 cat w3", "w4 w5 cat")
    assert [p.sets for p in found.patterns] == [
        sets("University Institute", "of"), sets("cat")
    ]  # fmt: skip
    assert [p.share for p in found.patterns] == [15 / 23, 8 / 23]


def test_a_context_longer_than_any_that_is_tried_is_admitted() -> None:
    def unit(tokens: Sequence[str]) -> float:
        return 5.0 if tokens[-1] == "end" and "begin" in tokens[-31:-30] else 0.0

    middle = " ".join(OTHER_WORDS[i % 30] for i in range(29))
    subject = MadeUpSubject(unit, ["begin", "end"])
    (pattern,) = subject.find(f"w0 begin {middle} end w1 end").patterns
    assert pattern.lack is Lack.LONGER
    assert pattern.sets == sets("end")
    assert (pattern.activation, pattern.n_matches, pattern.precision) == (2.5, 2, 0.5)


def test_what_the_fit_text_tells_is_not_asked_for() -> None:
    asking, knowing = of_subject(), of_subject()
    record = record_of([asking.window(text) for text in OF_TEXTS])
    means = {("of",): 0.4, ("University", "of"): 4.9, ("w2", "University", "of"): 5.0}
    found = knowing.search(record, known=means.get)
    assert found.patterns == asking.search(record).patterns
    assert knowing.n_asked < asking.n_asked


def test_the_budget_is_never_exceeded_and_its_end_is_told() -> None:
    free = of_subject()
    whole = free.find(*OF_TEXTS, "w1 for w2")
    assert whole.n_tokens == free.n_asked
    for budget in range(0, free.n_asked + 30, 5):
        subject = of_subject()
        found = subject.find(*OF_TEXTS, "w1 for w2", plan=PatternPlan(budget_tokens=budget))
        assert found.n_tokens == subject.n_asked <= budget
        assert found.is_cut_short == (budget < free.n_asked)
        assert found.patterns
        if budget >= free.n_asked:
            assert found == whole


def test_with_nothing_to_spend_the_current_token_is_named_and_no_more_claimed() -> None:
    found = of_subject().find(*OF_TEXTS, plan=PatternPlan(budget_tokens=0))
    assert [(p.sets, p.lack) for p in found.patterns] == [(sets("of"), Lack.BUDGET)]


def test_without_pruning_the_longest_text_is_tried_first_and_alone() -> None:
    subject = of_subject()
    text = " ".join([*OTHER_WORDS[:20], "University", "of"])
    (pattern,) = subject.find(text, plan=PatternPlan(100_000, prunes=False)).patterns
    assert pattern.sets == sets("University Institute", "of")  # what matters is still found
    n_filler = len(FILLERS[0])
    first = subject.asked[: len(FILLERS)]
    assert [len(question.ids) for question in first] == [n_filler + LENGTHS[-1]] * len(FILLERS)
    assert all(len(question.ids) > n_filler + LENGTHS[-2] for question in subject.asked[:10])


def test_without_pruning_too_a_text_that_does_not_keep_the_activation_is_no_pattern() -> None:
    def unit(tokens: Sequence[str]) -> float:
        return 5.0 if tokens[-1] == "end" and "begin" in tokens[-31:-30] else -1.0

    middle = " ".join(OTHER_WORDS[i % 30] for i in range(29))
    subject = MadeUpSubject(unit, ["begin", "end"])
    plan = PatternPlan(100_000, prunes=False)
    (pattern,) = subject.find(f"w0 begin {middle} end w1", plan=plan).patterns
    assert pattern.lack is Lack.LONGER


def test_without_generalising_each_token_stands_for_itself() -> None:
    found = of_subject().find(*OF_TEXTS, plan=PatternPlan(100_000, generalises=False))
    assert [p.sets for p in found.patterns] == [
        sets("University", "of"), sets("Institute", "of")
    ]  # fmt: skip


@pytest.mark.parametrize("others", [["of", "University"], ["of", "of", "w9"], ["w9"]])
def test_a_token_is_not_replaced_by_itself(others: list[str]) -> None:
    subject = of_subject()
    record = record_of([subject.window(text) for text in OF_TEXTS])
    (pattern,) = subject.search(record, others=others).patterns
    assert pattern.sets == sets("University Institute", "of")
    assert len(others) <= N_REPLACEMENTS + 1


def test_a_search_comes_to_the_same_each_time() -> None:
    runs = [of_subject() for _ in range(2)]
    found = [subject.find(*OF_TEXTS) for subject in runs]
    assert found[0] == found[1]
    assert runs[0].asked == runs[1].asked


def test_a_unit_that_is_never_active_is_asked_nothing() -> None:
    subject = MadeUpSubject(lambda tokens: -0.5 * len(tokens), [])
    found = subject.find("w0 w1 w2", "w3")
    assert found == FoundPatterns((), 0, is_cut_short=False)
    assert subject.asked == []


def test_a_record_without_windows_to_search_has_no_patterns() -> None:
    subject = MadeUpSubject(lambda _tokens: 1.0, [])
    assert subject.search(record_of([])) == FoundPatterns((), 0, is_cut_short=False)


def test_positions_that_do_not_count_are_neither_seed_nor_match() -> None:
    subject = of_subject()
    whole = subject.window("w0 University of w1 University of w2")
    masked = ActivationRecord(whole.tokens, (*whole.activations[:5], None, 0.1))
    (pattern,) = subject.search(record_of([masked])).patterns
    assert (pattern.n_matches, pattern.activation, pattern.share) == (1, 5.0, 1.0)
    all_but_two = ActivationRecord(whole.tokens, (0.1, None, 5.0, 0.1, None, None, None))
    (pattern,) = subject.search(record_of([all_but_two])).patterns
    assert pattern.seed_activations == (None, 5.0)


def test_windows_of_bands_are_searched_and_weigh_as_many_as_they_stand_for() -> None:
    def unit(tokens: Sequence[str]) -> float:
        return {"cat": 8.0, "dog": 6.0}.get(tokens[-1], 0.0)

    subject = MadeUpSubject(unit, ["cat", "dog"])
    band = tuple(subject.window(text) for text in ("w0 dog w1", "w2 w3"))
    record = record_of(
        [subject.window("w4 cat w5")],
        [Stratum(low=1.0, high=7.0, population=20, records=band), Stratum(None, 1.0, 500, ())],
    )
    found = subject.search(record)
    assert [p.sets for p in found.patterns] == [sets("dog"), sets("cat")]
    dog, cat = 6 * 20 / 2, 8 * 4  # a train window stands for one of each split
    assert [p.share for p in found.patterns] == [dog / (dog + cat), cat / (dog + cat)]


def test_a_band_of_unknown_population_stands_for_one_window() -> None:
    subject = MadeUpSubject(lambda t: {"cat": 8.0, "dog": 8.0}.get(t[-1], 0.0), ["cat", "dog"])
    band = (subject.window("w0 dog w1"), subject.window("w2 dog"))
    record = record_of([subject.window("w4 cat w5")], [Stratum(1.0, None, None, band)])
    assert [p.share for p in subject.search(record).patterns] == [4 / 5, 1 / 5]


def test_a_rare_token_is_left_alone() -> None:
    subject = MadeUpSubject(lambda t: {"cat": 8.0, "dog": 8.0}.get(t[-1], 0.0), ["cat", "dog"])
    texts = ["w0 cat w1"] * 40 + ["w2 dog"]  # 1 of 41 is less than 5 %
    assert [p.sets for p in subject.find(*texts).patterns] == [sets("cat")]
    assert len(subject.find(*texts, plan=PatternPlan(least_share=0.02)).patterns) == 2


def test_a_unit_is_searched_even_where_each_token_has_little_of_it() -> None:
    words = [f"x{i}" for i in range(50)]
    subject = MadeUpSubject(lambda t: 5.0 if len(t) == 1 else 0.0, words)
    (pattern,) = subject.find(*(f"{word} w0 w1" for word in words)).patterns
    assert (pattern.sets, pattern.at_start, pattern.share) == ((None,), True, 1.0)


def test_no_more_patterns_are_searched_than_asked_for() -> None:
    words = [f"x{i}" for i in range(10)]
    subject = MadeUpSubject(lambda t: 5.0 if t[-1] in words else 0.0, words)
    found = subject.find(*(f"w0 {word} w1" for word in words), plan=PatternPlan(most_patterns=4))
    assert len(found.patterns) == 4
    assert [p.share for p in found.patterns] == [0.1] * 4


TO_BE = [f"w{i} to be w{i + 1} w20 w21 w22 w23 w24" for i in range(10)]


def test_what_mostly_follows_is_told() -> None:
    subject = MadeUpSubject(lambda t: 5.0 if t[-1] == "to" else 0.0, ["to", "be", "do"])
    before = subject.find(*TO_BE, *["w12 to do w13"] * 2).before
    assert before == Before("be", 10 / 12)


@pytest.mark.parametrize(
    "texts",
    [
        TO_BE[:7],
        [*TO_BE, *(text.replace("be", "do") for text in TO_BE), "w5 to w6"],
        [*TO_BE, "w1 be be be be be be be be be be be be"],
    ],
    ids=["too few", "no more than something else", "it stands everywhere"],
)
def test_nothing_is_said_to_follow_when_it_hardly_tells(texts: list[str]) -> None:
    subject = MadeUpSubject(lambda t: 5.0 if t[-1] == "to" else 0.0, ["to", "be", "do"])
    assert subject.find(*texts).before is None


def contains(pattern: Pattern, tokens: Sequence[str]) -> bool:
    return all(f is None or t in f for f, t in zip(pattern.sets, tokens, strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_patterns_of_any_unit_are_consistent(seed: int) -> None:
    rng = random.Random(seed)
    strength = {word: rng.choice([0.0, 0.0, 1.0, 3.0]) for word in OTHER_WORDS}

    def unit(tokens: Sequence[str]) -> float:
        before = tokens[-2] if len(tokens) > 1 else "w0"
        return strength[tokens[-1]] * strength[before] - 0.5 + 4 * (len(tokens) == 1)

    near = {word: " ".join(rng.sample(OTHER_WORDS, 5)) for word in OTHER_WORDS}
    subject = MadeUpSubject(unit, [], near)
    windows = [subject.window(" ".join(rng.choices(OTHER_WORDS, k=15))) for _ in range(8)]
    record = record_of(windows[:6], [Stratum(0.0, None, 7, tuple(windows[6:]))])
    found = subject.search(record, PatternPlan(budget_tokens=rng.choice([50, 500, 50_000])))
    assert found.patterns
    shares = [p.share for p in found.patterns]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1 + 1e-9
    for pattern in found.patterns:
        assert contains(pattern, pattern.seed)
        assert len(pattern.seed_activations) == len(pattern.seed)
        assert pattern.n_matches >= 1
        assert 0 < pattern.share <= 1
        assert 0 < pattern.precision <= 1
        assert pattern.activation <= max(w.max_activation for w in windows)


def test_an_answer_without_an_activation_is_not_taken_for_none() -> None:
    subject = of_subject()
    search = UnitSearch(
        record_of([subject.window(OF_TEXTS[0])]), PatternPlan(), subject, ((1, 2),), (3, 4),
        lambda _tokens: None,
    ).run()  # fmt: skip
    asked = next(search)
    with pytest.raises(ValueError, match="none was given"):
        search.send([Answer(None)] * len(asked))


def rare_peaks(n_top: int, n_band: int) -> tuple[MadeUpSubject, NeuronRecord]:
    """“rare” in the strongest windows, and “usual” in a band that stands for far more text."""
    activation = {"usual": 5.0, "rare": 9.0}
    words = [*activation, *(f"b{i}" for i in range(n_band))]
    subject = MadeUpSubject(lambda tokens: activation.get(tokens[-1], 0.0), words)
    top = [subject.window(f"w0 w1 rare w{20 + i}") for i in range(n_top)]
    band = tuple(subject.window(f"w2 usual b{i} w3 usual") for i in range(n_band))
    strata = [Stratum(low=4.0, high=6.0, population=10_000, records=band)]
    return subject, record_of(top, strata)


def test_what_the_strongest_windows_show_is_found_however_rare_it_is() -> None:
    subject, record = rare_peaks(n_top=3, n_band=4)
    usual, rare = subject.search(record).patterns
    assert (usual.sets, rare.sets) == (sets("usual"), sets("rare"))
    assert rare.share < 0.01
    assert (usual.peak_share, rare.peak_share) == (0.0, 1.0)
    plan = PatternPlan(budget_tokens=100_000, open_peaks=1.0)
    assert [p.sets for p in subject.search(record, plan).patterns] == [sets("usual")]


def test_of_peaks_that_are_accounted_for_none_is_sought_again() -> None:
    found = of_subject().find(*OF_TEXTS)
    (pattern,) = found.patterns
    assert pattern.peak_share == pytest.approx(1.0)
