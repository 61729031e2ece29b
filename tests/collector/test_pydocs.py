"""Documentation as a corpus: the same everywhere, never imported, English, and enough of it."""

from __future__ import annotations

import logging
import re
import sys
import time
from pathlib import Path

import pytest

from neuron_explainer.collector.documents import Document, mixing_key
from neuron_explainer.collector.pydocs import PydocsCorpus, installed_roots
from neuron_explainer.errors import CorpusError

PROSE = "The queue holds every item until a worker asks for it, and then hands it over once. " * 4

PACKAGE = {
    "__init__.py": f'"""Package. {PROSE}"""\nraise RuntimeError("imported")\n',
    "queues.py": f'"""Queues. {PROSE}"""\n\nclass Queue:\n    """Shared. {PROSE}"""\n',
    "stacks.py": f'class Stack:\n    """Shared. {PROSE}"""\n\ndef pop():\n    """Pop. {PROSE}"""\n',
    "inner/deep.py": f'"""Deep. {PROSE}\n\n    >>> deep()\n        1\n    """\n',
    "inner/short.py": '"""Too short to be worth a document."""\n',
    "inner/numbers.py": '"""' + "0.125, 3.5e-7; " * 40 + '"""\n',
    "tests/test_queues.py": f'"""Tests. {PROSE}"""\n',
    "_vendor/copy.py": f'"""Vendored. {PROSE}"""\n',
}


def write_tree(folder: Path, files: dict[str, str] = PACKAGE) -> Path:
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source, encoding="utf-8")
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> PydocsCorpus:
    return PydocsCorpus({"fake": write_tree(tmp_path / "fake")})


def test_text_order_and_hash_do_not_depend_on_where_packages_are(tmp_path: Path) -> None:
    here = PydocsCorpus({"fake": write_tree(tmp_path / "here")})
    there = PydocsCorpus({"fake": write_tree(tmp_path / "far" / "away" / "tests" / "there")})
    assert list(here.documents()) == list(there.documents())
    assert here.content_hash() == there.content_hash()


def test_same_documents_and_hash_twice(corpus: PydocsCorpus) -> None:
    assert list(corpus.documents()) == list(corpus.documents())
    assert corpus.content_hash() == corpus.content_hash()


def test_a_module_that_raises_on_import_is_read(corpus: PydocsCorpus) -> None:
    text = {document.name: document.text for document in corpus.documents()}
    assert text["fake/__init__.py"].startswith("Package. ")
    assert "fake" not in sys.modules


def test_looking_packages_up_imports_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "networkx", raising=False)
    assert "networkx" in installed_roots()
    assert "networkx" not in sys.modules


def test_one_document_a_module_without_tests_vendored_short_and_numeric_ones(
    corpus: PydocsCorpus,
) -> None:
    names = {document.name for document in corpus.documents()}
    modules = {"__init__.py", "queues.py", "stacks.py", "inner/deep.py"}
    assert names == {f"fake/{module}" for module in modules}


def test_order_is_by_mixing_key(corpus: PydocsCorpus) -> None:
    names = [document.name for document in corpus.documents()]
    assert names == sorted(names, key=mixing_key)


def test_docstrings_are_cleaned_and_joined_in_source_order(tmp_path: Path) -> None:
    source = (
        f'"""Module. {PROSE}"""\n'
        "try:\n    import a\n"
        'except ImportError:\n    def f():\n        """In a handler,\n        indented."""\n'
        'class C:\n    """Class."""\n    async def m(self):\n        """Method."""\n'
        'x = 1\n"""A string that is no docstring."""\n'
    )
    root = write_tree(tmp_path, {"m.py": source})
    (document,) = PydocsCorpus({"": root}).documents()
    assert document.name == "m.py"
    assert document.text.split("\n\n") == [
        f"Module. {PROSE}".strip(),
        "In a handler,\nindented.",
        "Class.",
        "Method.",
    ]


def test_a_docstring_of_an_earlier_module_is_left_out(corpus: PydocsCorpus) -> None:
    text = "\n".join(document.text for document in corpus.documents())
    assert text.count("Shared. ") == 1


def test_code_examples_stay_in_docstrings(corpus: PydocsCorpus) -> None:
    text = {document.name: document.text for document in corpus.documents()}
    assert text["fake/inner/deep.py"].endswith(">>> deep()\n    1")


def test_hash_changes_with_one_character(tmp_path: Path) -> None:
    before = PydocsCorpus({"fake": write_tree(tmp_path / "before")}).content_hash()
    edited = PACKAGE | {"queues.py": PACKAGE["queues.py"].replace("once", "ounce", 1)}
    after = PydocsCorpus({"fake": write_tree(tmp_path / "after", edited)}).content_hash()
    assert before != after


def test_each_help_topic_is_a_document(tmp_path: Path) -> None:
    topics = f"topics = {{'with': 'With. {PROSE}', 'yield': 'Yield. ' '{PROSE}'}}\n"
    root = write_tree(tmp_path, {"pydoc_data/topics.py": topics})
    documents = {document.name: document.text for document in PydocsCorpus({"": root}).documents()}
    assert documents == {
        "pydoc_data/topics.py:with": f"With. {PROSE}".strip(),
        "pydoc_data/topics.py:yield": f"Yield. {PROSE}".strip(),
    }


def test_what_does_not_parse_is_counted_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_tree(tmp_path, PACKAGE | {"python2.py": 'print "two"\n'})
    (root / "latin.py").write_bytes(b'"""caf\xe9"""\n')
    with caplog.at_level(logging.INFO):
        assert len(list(PydocsCorpus({"fake": root}).documents())) == 4
    (line,) = caplog.messages
    assert "2 files that do not parse" in line
    assert "1 repeated docstrings" in line
    assert "1 docstrings that are not prose" in line


def test_invalid_escapes_in_a_source_are_no_warning(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"escapes.py": f'"""\\d {PROSE}"""\n'})
    assert len(list(PydocsCorpus({"": root}).documents())) == 1


def test_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"m.py": f'"""\\udc80 {PROSE}"""\n'})
    (document,) = PydocsCorpus({"": root}).documents()
    assert document.text.startswith("? The queue")


def test_a_missing_package_is_named_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("neuron_explainer.collector.pydocs.PACKAGES", ("numpy", "no_such_package"))
    assert set(installed_roots()) == {"", "numpy"}
    assert caplog.messages == ["pydocs: not installed, so not part of the text: no_such_package"]


def test_nothing_documented_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="pydocs: no document with any text"):
        list(PydocsCorpus({"": tmp_path}).documents())


@pytest.fixture(scope="module")
def machine() -> list[Document]:
    return list(PydocsCorpus().documents())


def test_this_machine_gives_enough_english(machine: list[Document]) -> None:
    assert sum(len(document.text) for document in machine) > 6_000_000
    assert 500 < len(machine) < 5_000
    words = re.findall(r"[a-z]+", " ".join(document.text for document in machine[::20]).lower())
    commonest = {"the", "of", "to", "a", "and", "in", "is", "for", "that", "be", "with", "or"}
    assert sum(word in commonest for word in words) / len(words) > 0.15


def test_a_prefix_samples_every_package(machine: list[Document]) -> None:
    prefixes = {document.name.split("/")[0] for document in machine[:100]}
    assert {"numpy", "scipy", "pandas", "torch", "transformers", "pydoc_data"} <= prefixes


def test_the_first_document_comes_before_the_rest_is_read() -> None:
    started = time.perf_counter()
    next(PydocsCorpus().documents())
    assert time.perf_counter() - started < 2.0  # 0.15 s on a quiet machine, 5 s for all
