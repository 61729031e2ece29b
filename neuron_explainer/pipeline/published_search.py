"""The published explanations that an archive holds, as a library to search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.archives import default_archive, open_archive
from neuron_explainer.published.explanation_index import OnRead, open_index
from neuron_explainer.published.locations import find_dataset
from neuron_explainer.stores.library import Library


@contextmanager
def open_published(
    dataset: str, archive: Path | None = None, *, on_read: OnRead = lambda _n: None
) -> Iterator[Library]:
    """What the archive got since the last time is taken in first; None: the user's own archive.

    UsageError for an unknown dataset, StoreError when there is no archive, or nothing in it.
    """
    name = find_dataset(dataset).name
    path = archive or default_archive()
    if not path.is_file():
        raise StoreError(f"no archive {path}; run jobs/download.py --kind explanations first")
    elsewhere = default_archive().parent
    with (
        open_archive(path, is_offline=False) as kept,
        open_index(kept, name, elsewhere=elsewhere, on_read=on_read) as library,
    ):
        if not library.last_id:
            raise StoreError(
                f"{path} holds no explanations of {name}; "
                f"run jobs/download.py --dataset {name} --kind explanations first"
            )
        yield library
