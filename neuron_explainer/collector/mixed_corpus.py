"""Several corpora read as one, in proportion to their weights: `pydocs=3,books.jsonl=1`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from neuron_explainer.collector.documents import Corpus, Document
from neuron_explainer.errors import UsageError

logger = logging.getLogger(__name__)


class Wish(NamedTuple):
    """One part of a mix, as it was asked for."""

    name: str
    weight: float


class Part(NamedTuple):
    """One corpus of a mix."""

    corpus: Corpus
    weight: float
    """Its characters, relative to those of the others."""


def parse_mix(text: str) -> list[Wish]:
    """`a=3,b` -> a at weight 3, b at weight 1; what names a path that exists is that path.

    UsageError for a weight that is not a positive number, or a part without a name.
    """
    if text and Path(text).exists():
        return [Wish(text, 1.0)]
    return [_parse_wish(part.strip(), text) for part in text.split(",")]


class MixedCorpus:
    """Documents of several corpora, so that every prefix is in proportion by characters.

    The next document is of the corpus that has given the fewest characters for its weight. When
    one ends, the others go on.
    """

    def __init__(self, name: str, parts: Sequence[Part]) -> None:
        self.name = name
        self._parts = list(parts)

    def documents(self) -> Iterator[Document]:
        """Named by corpus, and by the name there: "pydocs:asyncio/queues.py"."""
        streams = [part.corpus.documents() for part in self._parts]
        n_chars = [0] * len(streams)
        running = list(range(len(streams)))
        while running:
            i = min(running, key=lambda i: n_chars[i] / self._parts[i].weight)
            document = next(streams[i], None)
            if document is None:
                running.remove(i)
                if running:
                    self._say_ended(i, n_chars)
            else:
                n_chars[i] += len(document.text)
                yield Document(f"{self._parts[i].corpus.name}:{document.name}", document.text)

    def content_hash(self) -> str:
        """Hash of the parts' hashes and weights, in their order."""
        digest = hashlib.blake2b(digest_size=32)
        for part in self._parts:
            digest.update(f"{part.weight!r} {part.corpus.content_hash()}\n".encode())
        return digest.hexdigest()

    def _say_ended(self, i: int, n_chars: Sequence[int]) -> None:
        share = self._parts[i].weight / sum(part.weight for part in self._parts)
        logger.info(
            "%s: %s ended after %s characters, so its share is %.0f %% in the first %s characters "
            "alone; the rest is of the others",
            self.name,
            self._parts[i].corpus.name,
            f"{n_chars[i]:,}",
            100 * share,
            f"{sum(n_chars):,}",
        )


def _parse_wish(part: str, whole: str) -> Wish:
    name, equals, weight = part.rpartition("=")
    if not equals or Path(part).exists():
        name, weight = part, "1"
    if not name:
        raise UsageError(f"--corpus {whole!r}: a part has no name; write pydocs=3,books.jsonl=1")
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(
            f"--corpus {whole!r}: {weight!r} is no weight for {name}; give a number above 0"
        )
    return Wish(name, value)
