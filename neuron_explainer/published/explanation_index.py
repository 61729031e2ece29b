"""A library of the explanations in an archive, so that they are searched without reading it.

It lies beside the archive and grows with it: each time, what came since the last time is read, in
steps that are each in the library whole or not at all. An archive made anew has another index.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.openai_listed import list_results
from neuron_explainer.formats.openai_results import read_claims
from neuron_explainer.published.archive import Archive, Numbered
from neuron_explainer.published.locations import Kind
from neuron_explainer.records.listed import ListedExplanation
from neuron_explainer.stores.library import Library
from neuron_explainer.stores.sqlite_file import is_writable

logger = logging.getLogger(__name__)
DOCUMENTS_AT_ONCE = 2000
DAMAGED = "document not in the format"

OnRead = Callable[[int], None]
"""Is told how many documents were read so far."""


@contextmanager
def open_index(
    archive: Archive,
    dataset: str,
    *,
    elsewhere: Path,
    on_read: OnRead = lambda _n: None,
) -> Iterator[Library]:
    """The explanations of one dataset that the archive holds by now, to be searched.

    elsewhere: a folder for the index where it cannot be beside the archive.
    """
    path = archive.path.with_name(f"{archive.path.stem}.{dataset}.search.sqlite")
    if not is_writable(path):
        if path.exists():
            with Library(path, read_only=True) as library:
                if library.marks().get(archive.name) == archive.last_number:
                    yield library
                    return
        path = elsewhere / f"{archive.name}.{dataset}.search.sqlite"
    if path.exists() and not _is_of(archive, path):
        logger.info("%s is of an archive that is no more; it is made anew", path)
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
    with Library(path) as library:
        update_index(library, archive, dataset, on_read)
        yield library


def update_index(
    library: Library, archive: Archive, dataset: str, on_read: OnRead = lambda _n: None
) -> Counter[str]:
    """Adds what the archive got since the last time; how much could not be taken, by reason."""
    left_out: Counter[str] = Counter()
    name, n_read = archive.name, 0
    last = archive.last_number
    done = library.marks().get(name, 0)
    new = archive.since(done, dataset, Kind.EXPLANATIONS) if done < last else iter(())
    while batch := list(islice(new, DOCUMENTS_AT_ONCE)):
        library.add(_list_all(batch, dataset, left_out), marks={name: batch[-1].number})
        n_read += len(batch)
        on_read(n_read)
    library.add((), marks={name: last})
    if left_out:
        counts = ", ".join(f"{reason} {n:,}" for reason, n in left_out.most_common())
        logger.info("not in the index: %s", counts)
    return left_out


def _is_of(archive: Archive, path: Path) -> bool:
    with Library(path) as library:
        return not library.marks() or archive.name in library.marks()


def _list_all(
    batch: Sequence[Numbered], dataset: str, left_out: Counter[str]
) -> Iterator[ListedExplanation]:
    """A document that cannot be read is counted: the others are worth searching all the same."""
    for _, which, document in batch:
        try:
            results = read_claims(document, which.path)
            left_out.update(results.left_out)
            yield from list_results(results.value, which.path, left_out, model=dataset)
        except RecordFormatError as error:
            logger.warning("%s", error)
            left_out[DAMAGED] += 1
