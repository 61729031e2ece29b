"""Where the text comes from: `pydocs`, a file, a folder, a Hugging Face dataset, or a mix.

    open_corpus("pydocs")           documentation on this machine, no network (see pydocs.py)
    open_corpus("book.txt")         cut into documents, or split at <|endoftext|>; also .md
    open_corpus("web.jsonl.gz")     the field `text` of each line's object; also .jsonl, .parquet
    open_corpus("folder")           all of these in and below it, a document of each in turn
    open_corpus("hf:owner/name")    streamed with the optional `datasets` (see hub_corpus.py)
    open_corpus("pydocs=3,folder")  interleaved, three characters to one (see mixed_corpus.py)

A folder that is named pydocs is `./pydocs`.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from neuron_explainer.collector.documents import (
    Corpus,
    Document,
    drop_duplicates,
    mixing_key,
    with_text,
)
from neuron_explainer.collector.file_readers import (
    DOCUMENT_CHARS,
    KNOWN_ENDINGS,
    MAX_DOCUMENT_CHARS,
    known_ending,
    read_pieces,
    readable,
)
from neuron_explainer.collector.mixed_corpus import MixedCorpus, Part, parse_mix
from neuron_explainer.collector.pydocs import PydocsCorpus
from neuron_explainer.errors import CorpusError, UsageError

__all__ = ["Corpus", "Document", "FileCorpus", "drop_duplicates", "open_corpus"]

logger = logging.getLogger(__name__)

MAX_OPEN_FILES = 32
"""Of a folder, this many files are read side by side."""

_RULES = f"1 {DOCUMENT_CHARS} {MAX_DOCUMENT_CHARS} {MAX_OPEN_FILES}"


def open_corpus(spec: str, *, text_field: str = "text") -> Corpus:
    """The corpus that `spec` names: "pydocs", a path, "hf:" and a dataset, or a list of these.

    `text_field` names the text in JSON lines, parquet and datasets. CorpusError when there is
    nothing of that name, or nothing there of a known ending; what a file holds is seen as it is
    read. UsageError for a list that cannot be meant.
    """
    wishes = parse_mix(spec)
    parts = [Part(_open_one(wish.name, text_field), wish.weight) for wish in wishes]
    if len(parts) == 1:
        return parts[0].corpus
    identities = Counter(_identity(part.corpus.name) for part in parts)
    for part in parts:
        if identities[_identity(part.corpus.name)] > 1:
            raise UsageError(f"--corpus {spec!r}: {part.corpus.name} is there twice; name it once")
    return MixedCorpus(spec, parts)


def _open_one(name: str, text_field: str) -> Corpus:
    if name == "pydocs":
        return PydocsCorpus()
    if not name.startswith("hf:"):
        return FileCorpus(name, text_field=text_field)
    try:
        # Imported here because the package it needs is optional.
        from neuron_explainer.collector.hub_corpus import HubCorpus
    except ImportError as e:
        raise CorpusError(
            f"{name}: datasets are read with a package that is missing ({e}); install it with "
            'pip install "neuron-explainer[hf]"'
        ) from e
    return HubCorpus(name, text_field=text_field)


def _identity(name: str) -> str:
    """The same for two ways to write one path."""
    return name if name == "pydocs" or not Path(name).exists() else os.path.realpath(name)


class FileCorpus:
    """A file, or the files of known endings in and below a folder, hidden ones left out.

    A folder's files are opened in an order that has nothing to do with their names, and read a
    document of each in turn, so that a prefix is a sample of the whole.
    """

    def __init__(self, spec: str, *, text_field: str = "text") -> None:
        self.name = spec
        self._text_field = text_field
        self._files = _find_files(Path(spec))

    def documents(self) -> Iterator[Document]:
        """Named by file below the folder, and line, row or part: "notes.jsonl:17"."""
        names = sorted(self._files, key=mixing_key)
        return with_text(self.name, _in_turn(self._read(name) for name in names))

    def content_hash(self) -> str:
        """Hash of the files' names and bytes, and of what decides how they are read."""
        digest = hashlib.blake2b(f"{_RULES} {self._text_field}".encode(), digest_size=32)
        for name, path in sorted(self._files.items()):
            digest.update(b"\n" + os.fsencode(name) + b"\n")
            with readable(path), path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        return digest.hexdigest()

    def _read(self, name: str) -> Iterator[Document]:
        for number, text in read_pieces(self._files[name], self._text_field):
            yield Document(f"{name}:{number}", text)


def _find_files(path: Path) -> dict[str, Path]:
    """Name below the folder, or a single file's own name -> path; CorpusError when none."""
    if path.is_dir():
        return _files_below(path)
    if not path.exists():
        raise CorpusError(
            f"{path}: no such file or folder; give a path, or pydocs for the text on this machine"
        )
    if known_ending(path) is None:
        raise CorpusError(f"{path}: unknown file ending; known are {', '.join(KNOWN_ENDINGS)}")
    return {path.name: path}


def _files_below(folder: Path) -> dict[str, Path]:
    known: dict[str, Path] = {}
    unknown: Counter[str] = Counter()
    for inside, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for path in (Path(inside) / name for name in files if not name.startswith(".")):
            if known_ending(path) is None:
                unknown[path.suffix or "without ending"] += 1
            else:
                known[path.relative_to(folder).as_posix()] = path
    counts = ", ".join(f"{n} {ending}" for ending, n in unknown.most_common()) or "none"
    if not known:
        raise CorpusError(
            f"{folder}: no file of a known ending in or below it"
            f" (known: {', '.join(KNOWN_ENDINGS)}; other files: {counts})"
        )
    if unknown:
        logger.info("%s: left out files of unknown endings: %s", folder, counts)
    return known


def _in_turn(streams: Iterable[Iterator[Document]]) -> Iterator[Document]:
    """A document of each stream in turn; the next stream takes the place of one that ends."""
    waiting = iter(streams)
    running = deque(islice(waiting, MAX_OPEN_FILES))
    while running:
        stream = running.popleft()
        document = next(stream, None)
        if document is None:
            running.extendleft(islice(waiting, 1))
        else:
            yield document
            running.append(stream)
