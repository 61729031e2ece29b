"""Where a run folder's records are: in its own collection, in another run's, or published.

`run.json` of a folder without a collection of its own says so:

    {"records": "published", "dataset": …, "source": …, "archive": …}
    {"records": PATH OF A RUN, "fingerprint": …}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.published.locations import find_dataset
from neuron_explainer.published.record_source import PublishedSource
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.store_manifest import MANIFEST, holds_store

RECORDS = "records"
PUBLISHED = "published"
HUB_IDS = {"gpt2-xl": "gpt2-xl", "gpt2-small": "gpt2"}
"""Published dataset -> the subject's name on the hub."""


def open_records(folder: RunFolder) -> RecordSource:
    """The units that a folder's results are of; StoreError when there are none, or others."""
    choices = read_elsewhere(folder)
    if choices is None:
        return NeuronStore(folder.store)
    if choices[RECORDS] == PUBLISHED:
        dataset = find_dataset(choices["dataset"])
        return PublishedSource(Path(choices["archive"]), dataset, choices["source"])
    store = NeuronStore(RunFolder(Path(choices[RECORDS])).store)
    if store.manifest.fingerprint != choices["fingerprint"]:
        raise StoreError(
            f"the collection in {choices[RECORDS]} is another one than {folder.path} was scored "
            "on; name another --run"
        )
    return store


def find_manifest(folder: RunFolder) -> Path | None:
    """The file that is another one once the records are; None: published ones stay as they are."""
    choices = read_elsewhere(folder)
    if choices is None:
        return folder.store / MANIFEST
    if choices[RECORDS] == PUBLISHED:
        return None
    return RunFolder(Path(choices[RECORDS])).store / MANIFEST


def has_records(folder: RunFolder) -> bool:
    """Whether there is something to open."""
    return holds_store(folder.store) or read_elsewhere(folder) is not None


def read_subject_choices(folder: RunFolder) -> Mapping[str, Any]:
    """The choices of the collection behind a folder, as far as they are known: model, site, …"""
    choices = read_elsewhere(folder)
    if choices is None:
        return folder.read_choices() or {}
    if choices[RECORDS] == PUBLISHED:
        return {"model": HUB_IDS[choices["dataset"]], "activation_function": "quick_gelu"}
    return RunFolder(Path(choices[RECORDS])).read_choices() or {}


def published_choices(dataset: str, source: str, archive: Path) -> dict[str, Any]:
    """For `RunFolder.claim`; source: as the archive remembers it."""
    place = str(archive.absolute())
    return {RECORDS: PUBLISHED, "dataset": dataset, "source": source, "archive": place}


def run_choices(other: RunFolder) -> dict[str, Any]:
    """For `RunFolder.claim`; StoreError when the other run has no collection."""
    fingerprint = NeuronStore(other.store).manifest.fingerprint
    return {RECORDS: str(other.path.resolve()), "fingerprint": fingerprint}


def read_elsewhere(folder: RunFolder) -> Mapping[str, Any] | None:
    """Choices of a folder whose records lie elsewhere; None: in it, or nowhere."""
    if holds_store(folder.store):
        return None
    choices = folder.read_choices()
    if choices is None or RECORDS not in choices:
        return None
    of_kind = (
        ("dataset", "source", "archive") if choices[RECORDS] == PUBLISHED else ("fingerprint",)
    )
    if not all(isinstance(choices.get(name), str) for name in (RECORDS, *of_kind)):
        raise StoreError(f"{folder.path / 'run.json'} is damaged; use --run with another folder")
    return choices
