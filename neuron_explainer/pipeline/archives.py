"""Which archive of published documents is meant, and how it is opened; no network is asked."""

from __future__ import annotations

import os
from pathlib import Path

from neuron_explainer.published.archive import Archive
from neuron_explainer.stores.sqlite_file import is_writable


def default_archive() -> Path:
    """The user's own, which all lookups share."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "neuron-explainer" / "published.sqlite"


def open_archive(path: Path | None, *, is_offline: bool) -> Archive:
    """To read alone where nothing will be added, or nothing may; None: the default one.

    StoreError when it is not there and cannot be made.
    """
    path = path or default_archive()
    return Archive(path, read_only=is_offline or (path.exists() and not is_writable(path)))
