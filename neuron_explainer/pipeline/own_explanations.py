"""A run's library with the run's own explanations in it, so that one search finds all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.import_files import import_files
from neuron_explainer.stores.library import Library
from neuron_explainer.stores.results import Results


@contextmanager
def open_with_own(folder: RunFolder) -> Iterator[Library]:
    """StoreError when there is nothing to search: neither a library nor results.

    What the run has explained since the last time is taken in first; a folder that may not be
    written is searched as it is.
    """
    if not folder.library.exists() and not folder.results.exists():
        raise StoreError(
            f"nothing to search in {folder.path}; run `explain`, or `import` some explanations"
        )
    if folder.results.exists() and os.access(folder.path, os.W_OK):
        with Library(folder.library) as library:
            if _n_own(folder) > library.sources().get(folder.path.resolve().name, 0):
                for _ in import_files([folder.path], library):
                    pass
            yield library
        return
    with Library(folder.library, read_only=True) as library:
        yield library


def _n_own(folder: RunFolder) -> int:
    with Results(folder.results, read_only=True) as results:
        if not results.has_method():
            return 0
        return sum(unit.text is not None for unit in results.units(results.current_method()))
