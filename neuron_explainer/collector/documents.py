"""What a corpus is: named texts in a fixed order, with a hash that tells when they change."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple, Protocol

from neuron_explainer.errors import CorpusError

logger = logging.getLogger(__name__)


class Document(NamedTuple):
    """One text, such as an article, a chapter's part or a module's documentation."""

    name: str
    """Where it comes from, for messages and provenance: "asyncio/queues.py", "notes.jsonl:17"."""
    text: str


class Corpus(Protocol):
    """Text for the subject to read; `open_corpus` makes one."""

    name: str
    """"pydocs", or the path as given."""

    def documents(self) -> Iterator[Document]:
        """Every document with text, the same ones in the same order each time, one in memory.

        Raises CorpusError when something cannot be read, or at the end when there was nothing.
        """

    def content_hash(self) -> str:
        """64 hex digits that change whenever a text, or the order of the texts, would."""


def mixing_key(name: str) -> bytes:
    """Sorting by it puts names in an order that is fixed, and unrelated to what the names say."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def valid_unicode(text: str) -> str:
    """`text` with lone surrogates, which no tokenizer takes, replaced by "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def with_text(corpus_name: str, documents: Iterable[Document]) -> Iterator[Document]:
    """The documents that are more than white space; CorpusError at the end when none is."""
    n_full = n_blank = 0
    for document in documents:
        if document.text and not document.text.isspace():
            n_full += 1
            yield document
        else:
            n_blank += 1
    if n_blank:
        logger.info("%s: %d blank documents left out", corpus_name, n_blank)
    if not n_full:
        raise CorpusError(f"{corpus_name}: no document with any text; give a corpus that has some")


def drop_duplicates(
    documents: Iterable[Document], on_duplicate: Callable[[Document], object]
) -> Iterator[Document]:
    """The first document of each text, compared without the white space around it.

    Later ones go to `on_duplicate`; blank ones are left out. The texts' digests (16 bytes each)
    are kept in a temporary file, so memory does not grow with the corpus.
    """
    with closing(sqlite3.connect("")) as seen:
        seen.execute("PRAGMA journal_mode = OFF")  # the file is never read by another run
        seen.execute("CREATE TABLE texts (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        for document in documents:
            text = document.text.strip()
            if not text:
                continue
            digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if seen.execute("INSERT OR IGNORE INTO texts VALUES (?)", (digest,)).rowcount:
                yield document
            else:
                on_duplicate(document)
