"""Mirror folders, in the layout of the published dataset, into an archive and out of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from neuron_explainer.errors import RecordFormatError, StoreError
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.documents import read_content, write_content
from neuron_explainer.published.locations import DATASETS, DocumentId
from neuron_explainer.stores.atomic import write_files


@dataclass(slots=True)
class MirrorCounts:
    """What came of a mirror's files."""

    n_documents: int = 0
    not_taken: list[str] = field(default_factory=list)
    """One line a file that is not in the format, with the reason."""
    n_other_files: int = 0
    """Below the datasets' folders, at no path of the layout."""
    left_out: Counter[str] = field(default_factory=Counter)
    """What the documents hold and what was written does not."""


def import_mirror(archive: Archive, folder: Path) -> MirrorCounts:
    """Keeps each document as it is, once it parses; says of no document that there is none."""
    counts = MirrorCounts()
    source = str(folder.resolve())
    for path in _files(folder):
        which = DocumentId.of_path(path.relative_to(folder).as_posix())
        if which is None:
            counts.n_other_files += 1
            continue
        document = path.read_bytes()
        try:
            read_content(which, document)
        except RecordFormatError as error:
            counts.not_taken.append(str(error))
            continue
        archive.add(which, document, source)
        counts.n_documents += 1
    return counts


def export_mirror(archive: Archive, folder: Path) -> MirrorCounts:
    """Each document read and written anew, so that whatever reads the dataset takes it.

    A file is whole or absent.
    """
    counts = MirrorCounts()
    counts.n_documents = write_files(
        (folder / which.path, _rewrite(archive, which, counts)) for which in archive.documents()
    )
    return counts


def _rewrite(archive: Archive, which: DocumentId, counts: MirrorCounts) -> bytes:
    archived = archive.read(which)
    if archived is None or archived.document is None:
        raise StoreError(f"{which.path} vanished from the archive")
    reading = read_content(which, archived.document)
    written = write_content(which, reading.value)
    counts.left_out.update(reading.left_out)
    counts.left_out.update(written.left_out)
    return written.document


def _files(folder: Path) -> Iterator[Path]:
    """In a fixed order, whatever lies below the datasets' folders."""
    for dataset in DATASETS.values():
        yield from sorted(p for p in (folder / dataset.folder).rglob("*") if p.is_file())
