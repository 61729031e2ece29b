"""A library: nothing twice, batches whole or absent, any query answered, rare words first."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuron_explainer.errors import RecordFormatError, StoreError, UsageError
from neuron_explainer.formats.tables import read_table
from neuron_explainer.records.listed import ListedExplanation, ListedScore, Polarity
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.library import Added, Library
from neuron_explainer.stores.library_search import LEAST_COMMON, MOST_RANKED, MOST_WORDS
from tests.listed import FULL, LISTED, PLAIN

KILLED = """
import os, signal, sys
from pathlib import Path
from neuron_explainer.records.listed import ListedExplanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.library import Library

def explanations():
    for unit in range(5000):
        yield ListedExplanation(NeuronId(0, unit), "lakes", "list")
    os.kill(os.getpid(), signal.SIGKILL)

library = Library(Path(sys.argv[1]))
library.add([ListedExplanation(NeuronId(0, 0), "rivers", "a list.csv")])
library.add(explanations())
"""


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "folder" / "library.sqlite") as opened:
        yield opened


def listed(
    text: str, unit: int = 0, score: float | None = None, **more: object
) -> ListedExplanation:
    scores = () if score is None else (ListedScore(score, "ev_correlation_score"),)
    layer = more.pop("layer", 0)
    assert isinstance(layer, int)
    made = ListedExplanation(NeuronId(layer, unit), text, "list", scores=scores)
    return replace(made, **more)  # type: ignore[arg-type]


def texts(library: Library, words: str, **filters: object) -> list[str]:
    return [e.text for e in library.search(words, **filters).hits]  # type: ignore[arg-type]


# What is kept


def test_everything_said_of_an_explanation_is_kept(library: Library) -> None:
    assert library.add([FULL, PLAIN]) == Added(n_added=2, n_scores_added=3)
    assert list(library.all()) == [FULL, PLAIN]
    assert library.of_unit(FULL.neuron_id) == (FULL,)
    assert library.search("halves").hits == (FULL,)
    assert (len(library), library.sources()) == (2, {"a list.csv": 2})


@settings(
    max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(explanations=st.lists(LISTED, max_size=4))
def test_any_explanation_is_kept(library: Library, explanations: list[ListedExplanation]) -> None:
    library.add(explanations)
    kept = {e.digest(): e for e in library.all()}
    for explanation in explanations:
        one = kept[explanation.digest()]
        assert replace(one, scores=()) == replace(explanation, scores=())
        kinds = {(s.kind, s.scorer) for s in explanation.scores}
        assert kinds <= {(s.kind, s.scorer) for s in one.scores}
        if explanation.scores:
            assert one.score is not None


def test_the_same_list_adds_nothing_twice(library: Library) -> None:
    library.add([FULL, PLAIN])
    assert library.add([PLAIN, FULL]) == Added(n_known=2)
    assert library.add([PLAIN, PLAIN]) == Added(n_known=2)
    assert len(library) == 2
    assert texts(library, "rivers") == ["rivers"]


def test_an_explanation_twice_in_one_batch_is_added_once(library: Library) -> None:
    assert library.add([PLAIN, PLAIN]) == Added(n_added=1, n_known=1)


def test_the_same_text_from_elsewhere_or_by_another_explainer_is_another(library: Library) -> None:
    others = [
        PLAIN, replace(PLAIN, source="b"), replace(PLAIN, explainer="summary"),
        replace(PLAIN, polarity=Polarity.NEGATIVE), replace(PLAIN, model="gpt2"),
    ]  # fmt: skip
    assert library.add(others) == Added(n_added=5)
    assert library.of_unit(PLAIN.neuron_id) == tuple(others)


def test_scores_that_a_known_explanation_lacks_are_added_to_it(library: Library) -> None:
    fuzz, detection = ListedScore(0.8, "fuzz"), ListedScore(0.6, "detection", "judge")
    library.add([PLAIN])
    assert library.add([replace(PLAIN, scores=(fuzz,))]) == Added(n_known=1, n_scores_added=1)
    assert library.add([replace(PLAIN, scores=(detection, fuzz))]) == Added(
        n_known=1, n_scores_added=1
    )
    assert library.of_unit(PLAIN.neuron_id) == (replace(PLAIN, scores=(fuzz, detection)),)
    assert texts(library, "rivers", min_score=0.75) == ["rivers"]
    assert texts(library, "rivers", min_score=0.85) == []


def test_a_score_that_differs_from_a_known_one_is_counted_and_left(library: Library) -> None:
    library.add([replace(PLAIN, scores=(ListedScore(0.8, "fuzz"),))])
    other = replace(PLAIN, scores=(ListedScore(0.7, "fuzz"),))
    assert library.add([other]) == Added(n_known=1, n_scores_differing=1)
    assert next(library.all()).scores == (ListedScore(0.8, "fuzz"),)


def test_a_batch_is_whole_or_absent(library: Library) -> None:
    def damaged() -> Iterator[ListedExplanation]:
        for number in range(5000):
            yield listed("rivers", number)
        raise RecordFormatError("list.csv", "line 5001: damaged")

    library.add([FULL])
    with pytest.raises(RecordFormatError, match="line 5001"):
        library.add(damaged())
    assert list(library.all()) == [FULL]
    assert library.search("rivers").hits == ()
    assert library.add([PLAIN]) == Added(n_added=1)


def test_a_killed_process_leaves_the_batches_that_were_whole(tmp_path: Path) -> None:
    path = tmp_path / "library.sqlite"
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -9
    with Library(path) as library:
        assert list(library.all()) == [PLAIN]
        assert library.search("lakes").hits == ()
        assert library.add([FULL]) == Added(n_added=1, n_scores_added=3)


def test_readers_see_whole_batches_while_another_writes(library: Library) -> None:
    with Library(library.path, read_only=True) as reader:

        def explanations() -> Iterator[ListedExplanation]:
            yield PLAIN
            assert list(reader.all()) == []

        library.add(explanations())
        assert reader.search("rivers").hits == (PLAIN,)


def test_a_reader_cannot_write(library: Library) -> None:
    with (
        Library(library.path, read_only=True) as reader,
        pytest.raises(StoreError, match="readonly"),
    ):
        reader.add([PLAIN])


def test_units_are_told_apart_by_model_and_site(library: Library) -> None:
    sites = [listed("a", site=site, model=model) for model in ("m", "n") for site in ("x", "y")]
    unsaid = listed("b")
    library.add([*sites, unsaid])
    assert library.of_unit(NeuronId(0, 0), model="m", site="y") == (sites[1], unsaid)
    assert library.of_unit(NeuronId(0, 0)) == (*sites, unsaid)
    assert library.of_unit(NeuronId(0, 1)) == ()


def test_all_of_one_source_are_read_in_order(library: Library) -> None:
    made = [listed("rivers", n, source="ab"[n % 2]) for n in range(4500)]
    library.add(made)
    assert list(library.all()) == made
    assert list(library.all("b")) == made[1::2]
    assert library.sources() == {"a": 2250, "b": 2250}


def test_a_library_that_is_absent_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no library at"):
        Library(tmp_path / "library.sqlite", read_only=True)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_library_is_refused(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "library.sqlite"
    path.write_bytes(b"no database, but long enough to be taken for the head of one" * 20)
    with pytest.raises(StoreError, match=r"library\.sqlite: file is not a database"):
        Library(path, read_only=read_only)


def test_a_library_of_a_later_version_is_refused(library: Library) -> None:
    connection = sqlite3.connect(library.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="of another version"):
        Library(library.path)


# Search


def fill(library: Library, counts: Sequence[tuple[str, int]]) -> None:
    library.add(
        listed(text, number, layer=layer)
        for layer, (text, n) in enumerate(counts)
        for number in range(n)
    )


def test_all_words_come_before_some_and_rare_words_before_others(library: Library) -> None:
    fill(library, [("rivers and lakes of Asia", 1), ("lakes", 3), ("rivers of Europe", 1)])
    found = library.search("lakes rivers")
    assert found.n_with_all == 1
    assert [e.text for e in found.hits] == ["rivers and lakes of Asia", "rivers of Europe"] + [
        "lakes"
    ] * 3


def test_shorter_ones_come_first_and_then_better_scored_ones(library: Library) -> None:
    library.add([
        listed("names of rivers", 1, 0.9), listed("rivers", 2), listed("rivers", 3, 0.2),
        listed("rivers", 4, 0.7),
    ])  # fmt: skip
    assert [e.neuron_id.neuron_index for e in library.search("river").hits] == [4, 3, 2, 1]


def test_words_are_found_by_their_stem_and_in_any_case(library: Library) -> None:
    library.add([listed("Animals that Défend")])
    for words in ("animal", "ANIMALS", "defending", "animals defend"):
        assert texts(library, words) == ["Animals that Défend"]


def test_the_last_word_may_be_the_beginning_of_one(library: Library) -> None:
    library.add([listed("names of cryptocurrencies")])
    assert texts(library, "names crypto") == ["names of cryptocurrencies"]
    assert texts(library, "cr") == []


def test_a_phrase_is_found_as_it_stands(library: Library) -> None:
    library.add([listed("the word of a king"), listed("a word of the king")])
    assert texts(library, '"the word"') == ["the word of a king"]
    assert texts(library, "king's") == []
    assert texts(library, '"the') == ["the word of a king", "a word of the king"]  # unbalanced


def test_words_that_say_little_are_left_out_where_others_are_there(library: Library) -> None:
    n = LEAST_COMMON + 1
    fill(library, [("words", n), ("time and words", 1), ("about time", 1)])
    found = library.search("words about time")
    assert (found.words, found.left_out) == (("time",), ("words", "about"))
    assert [e.text for e in found.hits] == ["about time", "time and words"]
    assert library.search("words").words == ("words",)
    assert library.search("about words").words == ("about", "words")
    assert library.search('"words" time').words == ("words", "time")


def test_filters_hold_for_the_commonest_words(library: Library) -> None:
    fill(library, [("words", MOST_RANKED + 10), ("words", 1)])
    library.add([listed("words", 7, 0.95, layer=5), listed("words", 8, -0.2, source="own")])
    assert len(library.search("words", limit=3).hits) == 3
    for filters, neuron_id in [
        ({"layer_index": 1}, NeuronId(1, 0)),
        ({"min_score": 0.9}, NeuronId(5, 7)),
        ({"source": "own"}, NeuronId(0, 8)),
        ({"source": "own", "min_score": -0.5, "layer_index": 0}, NeuronId(0, 8)),
    ]:
        found = library.search("words", **filters)  # type: ignore[arg-type]
        assert [e.neuron_id for e in found.hits] == [neuron_id]
    assert library.search("words", layer_index=-1).hits == ()
    assert library.search("words", layer_index=10**30).hits == ()


@pytest.mark.parametrize("score", [-3.0, -0.05, 0.0, 0.3, 0.7, 0.29999, 0.999, 1.0, 1.5, 1e300])
def test_a_score_is_found_from_itself_on(library: Library, score: float) -> None:
    library.add([listed("rivers", 1, score)])
    assert texts(library, "rivers", min_score=score) == ["rivers"]
    assert texts(library, "rivers", min_score=score - 0.01) == ["rivers"]
    assert texts(library, "rivers", min_score=score + abs(score) * 1e-9 + 1e-9) == []


def test_an_unscored_explanation_does_not_pass_a_filter_by_score(library: Library) -> None:
    library.add([listed("rivers")])
    assert texts(library, "rivers", min_score=-1e300) == []


def test_a_source_that_is_not_there_is_refused(library: Library) -> None:
    library.add([PLAIN])
    with pytest.raises(StoreError, match=r"no source 'b' \(has a list\.csv\)"):
        library.search("rivers", source="b")


@pytest.mark.parametrize("min_score", [float("nan"), float("inf")])
def test_a_score_to_search_from_is_a_number(library: Library, min_score: float) -> None:
    with pytest.raises(UsageError, match="is not a score to search from"):
        library.search("rivers", min_score=min_score)


@pytest.mark.parametrize("words", ["", " ", '"', '""', "- + * ^", "_", "\0", "🙂", "\ud83d"])
def test_a_query_without_a_word_finds_nothing(library: Library, words: str) -> None:
    library.add([PLAIN])
    found = library.search(words)
    assert (found.hits, found.words) == ((), ())


@pytest.mark.parametrize(
    "words",
    ["rivers AND", "NEAR(rivers, 2)", "text:rivers", "rivers*", "^rivers", "-rivers", "{rivers}",
     "rivers\0", "(rivers", 'rivers"', "tags : rivers", "rivers\ud83d", "rivers OR NOT"],
)  # fmt: skip
def test_no_query_is_a_syntax_error(library: Library, words: str) -> None:
    library.add([PLAIN])
    assert texts(library, words) == ["rivers"]


@settings(
    max_examples=150, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    words=st.text() | st.lists(st.sampled_from(["a", '"', "*", "AND", "(", "x:", " "])).map("".join)
)
def test_any_text_is_a_query(library: Library, words: str) -> None:
    library.add([PLAIN])
    assert len(library.search(words).hits) <= 1


def test_punctuation_parts_words_but_not_within_them(library: Library) -> None:
    library.add([PLAIN])
    assert library.search("a,b/c:d (e) [f] don't all-at-once x_y").words == (
        "a", "b", "c", "d", "e", "f", "don't", "all-at-once", "x_y",
    )[1:]  # fmt: skip


def test_a_filter_cannot_be_searched_for(library: Library) -> None:
    library.add([PLAIN])
    assert texts(library, "layer0") == texts(library, "source1") == texts(library, "unscored") == []


def test_too_many_words_are_left_out_and_named(library: Library) -> None:
    library.add([listed("w0 w1")])
    found = library.search(" ".join(f"w{n}" for n in range(MOST_WORDS + 3)))
    assert found.left_out == tuple(f"w{n}" for n in range(MOST_WORDS, MOST_WORDS + 3))
    assert [e.text for e in found.hits] == ["w0 w1"]
    assert library.search("w " * 100_000).words == ("w",)


def test_not_more_than_asked_for_is_found(library: Library) -> None:
    fill(library, [("rivers", 30)])
    assert len(library.search("rivers").hits) == 20
    assert len(library.search("rivers", limit=3).hits) == 3
    assert library.search("rivers", limit=0).hits == ()
    assert len(library.search("rivers lakes", limit=10**9).hits) == 30


@pytest.mark.shared_data
def test_every_published_explanation_is_found_by_its_own_words(
    library: Library, shared_data: Path
) -> None:
    names = ("gpt2xl_explanations_960.csv", "gpt2xl_explanations_60.csv",
             "gpt2xl_explanations_16517.json")  # fmt: skip
    lists = [[*read_table(shared_data / "published" / name, Counter())] for name in names]
    assert [library.add(explanations).n_added for explanations in lists] == [960, 60, 16_517]
    assert [library.add(explanations).n_added for explanations in lists] == [0, 0, 0]
    assert len(library) == 17_537
    for explanation in (explanation for one in lists for explanation in one[::25]):
        assert explanation in library.of_unit(explanation.neuron_id)
        found = library.search(
            f'"{explanation.text}"'.replace('"', " ").join('""'),
            layer_index=explanation.neuron_id.layer_index,
            source=explanation.source,
        )
        assert explanation in found.hits
