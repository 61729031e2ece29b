"""A mix of corpora: every prefix in proportion, nothing lost, and what cannot be meant refused."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

from neuron_explainer.collector.corpus import open_corpus
from neuron_explainer.collector.documents import Document
from neuron_explainer.collector.mixed_corpus import MixedCorpus, Part, Wish, parse_mix
from neuron_explainer.collector.pydocs import PydocsCorpus
from neuron_explainer.errors import CorpusError, UsageError


class ListedCorpus:
    """Documents from a list."""

    def __init__(self, name: str, texts: list[str]) -> None:
        self.name = name
        self._texts = texts

    def documents(self) -> Iterator[Document]:
        for number, text in enumerate(self._texts, start=1):
            yield Document(str(number), text)

    def content_hash(self) -> str:
        return f"{self.name} {self._texts}"


def listed(name: str, n: int, seed: int = 0) -> ListedCorpus:
    """A corpus of `n` texts of 1 to 50 characters."""
    rng = random.Random(f"{name} {seed}")
    return ListedCorpus(name, [name * rng.randint(1, 50) for _ in range(n)])


def mixed(*parts: tuple[ListedCorpus, float]) -> MixedCorpus:
    return MixedCorpus("mix", [Part(*part) for part in parts])


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 1, 0.5), (100, 1, 7)])
def test_every_prefix_is_in_proportion_by_characters(weights: tuple[float, ...]) -> None:
    parts = {name: weight for name, weight in zip("abc", weights, strict=True)}
    mix = mixed(*((listed(name, 3_000), weight) for name, weight in parts.items()))
    n_chars = Counter(dict.fromkeys(parts, 0))
    for document, total in zip(mix.documents(), range(1_000), strict=False):
        n_chars[document.name[0]] += len(document.text)
        done = [n_chars[name] / weight for name, weight in parts.items()]
        assert max(done) - min(done) <= 50 / min(weights), total


def test_nothing_is_lost_and_each_corpus_keeps_its_order() -> None:
    parts = [listed("a", 5), listed("b", 90), listed("c", 40)]
    documents = list(mixed((parts[0], 1), (parts[1], 2), (parts[2], 0.5)).documents())
    for part in parts:
        mine = [d for d in documents if d.name.startswith(f"{part.name}:")]
        assert mine == [Document(f"{part.name}:{d.name}", d.text) for d in part.documents()]
    assert len(documents) == 135
    assert documents == list(mixed((parts[0], 1), (parts[1], 2), (parts[2], 0.5)).documents())


def test_a_corpus_that_ends_is_told_once_with_what_it_gave(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mix = mixed((ListedCorpus("a", ["aa"] * 10), 3), (ListedCorpus("b", ["b"] * 100), 1))
    with caplog.at_level(logging.INFO):
        names = [document.name[0] for document in mix.documents()]
    last = len(names) - names[::-1].index("a")
    n_chars = list(accumulate(2 if name == "a" else 1 for name in names[:last]))[-1]
    (message,) = caplog.messages
    assert message.startswith(
        "mix: a ended after 20 characters, so its share is 75 % in the first "
    )
    assert abs(int(message.split(" in the first ")[1].split()[0]) - n_chars) <= 1
    assert names[last:] == ["b"] * (110 - last)


def test_the_hash_tells_other_weights_and_other_parts() -> None:
    a, b = listed("a", 5), listed("b", 5)
    mixes = [
        mixed((a, 1), (b, 1)), mixed((a, 2), (b, 1)), mixed((b, 1), (a, 1)),
        mixed((a, 1), (listed("b", 5, seed=1), 1)), mixed((a, 1), (b, 1), (listed("c", 5), 1)),
    ]  # fmt: skip
    assert len({mix.content_hash() for mix in mixes}) == len(mixes)
    assert mixed((a, 1), (b, 1)).content_hash() == mixes[0].content_hash()


def test_files_are_mixed_by_a_list_and_named_by_their_path(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"Of {name}.", encoding="utf-8")
    corpus = open_corpus(f"{tmp_path}/a.txt=2, {tmp_path}/b.txt")
    assert {(d.name, d.text) for d in corpus.documents()} == {
        (f"{tmp_path}/a.txt:a.txt:1", "Of a."),
        (f"{tmp_path}/b.txt:b.txt:1", "Of b."),
    }


def test_a_part_without_text_is_named_by_its_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Some text.", encoding="utf-8")
    (tmp_path / "b.txt").touch()
    with pytest.raises(CorpusError, match=r"b\.txt: no document with any text"):
        list(open_corpus(f"{tmp_path}/a.txt,{tmp_path}/b.txt").documents())


def test_a_weight_is_what_follows_the_last_equals_sign() -> None:
    assert parse_mix("pydocs=3,books.jsonl") == [Wish("pydocs", 3), Wish("books.jsonl", 1)]
    assert parse_mix("a=b=1e-2") == [Wish("a=b", 0.01)]
    assert isinstance(open_corpus("pydocs=7"), PydocsCorpus)


def test_a_path_that_exists_is_meant_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a=1,b=2.txt", "c=x.txt"):
        Path(name).write_text("Text.", encoding="utf-8")
    assert parse_mix("a=1,b=2.txt") == [Wish("a=1,b=2.txt", 1)]
    assert parse_mix("c=x.txt,c=x.txt=3") == [Wish("c=x.txt", 1), Wish("c=x.txt", 3)]


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "many", ""])
def test_a_weight_that_cannot_be_meant_is_refused(weight: str) -> None:
    with pytest.raises(UsageError, match=f"'{weight}' is no weight for pydocs; give a number"):
        open_corpus(f"pydocs={weight},x.txt")


@pytest.mark.parametrize("text", ["", "pydocs,", ",pydocs", "pydocs,=3"])
def test_a_part_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a part has no name"):
        open_corpus(text)


def test_one_corpus_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Text.", encoding="utf-8")
    for text in ("pydocs,pydocs=2", f"{tmp_path}/a.txt,{tmp_path}/../{tmp_path.name}/a.txt"):
        with pytest.raises(UsageError, match="is there twice; name it once"):
            open_corpus(text)
