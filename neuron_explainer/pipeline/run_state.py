"""What a run folder holds, what in it is damaged, and which command makes what is missing.

Nothing is written. Only where a process writes results, or was killed at it, does sqlite do as for
any reader: it puts its marks into `results.sqlite-shm`.
"""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.check import Check, first_line, note, ok, problem
from neuron_explainer.pipeline.folder import DEFAULT_RUN, RunFolder
from neuron_explainer.pipeline.records import RECORDS, has_records, open_records
from neuron_explainer.pipeline.shard_status import read_shards
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.units import Units
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import Results
from neuron_explainer.stores.store_manifest import StoreManifest, holds_store, read_manifest

WRONG_BYTES = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What comes of a file that can be opened and holds nonsense."""


def check_run(folder: RunFolder) -> Iterator[Check]:
    """The folder, then its choices, collection, results and report, as far as there are any."""
    name, path = "run folder", folder.path
    begin = f"begin one: {_command('run', folder)}"
    try:
        is_empty = not any(path.iterdir())
        is_locked = any(each.is_locked() for each in (folder, *folder.shards()))
    except FileNotFoundError:
        yield note(name, f"{path}: no run yet", begin)
        return
    except OSError as error:
        yield problem(name, f"{path}: {error.strerror}", "use --run with another folder")
        return
    if is_empty:
        yield note(name, f"{path}: no run yet", begin)
        return
    if is_locked:
        yield note(name, f"{path}: a process is writing to it", "wait for it to end")
    else:
        yield ok(name, f"{path}: no process writes to it")
    yield from _check_choices(folder)
    if holds_store(folder.store):
        yield from _check_finished(folder, is_locked)
    elif folder.shards():
        yield _check_shards(folder)
    elif _is_over_others(folder):
        yield from _check_elsewhere(folder, is_locked)
    else:
        yield _check_unfinished(folder, is_locked)


def _check_choices(folder: RunFolder) -> Iterator[Check]:
    try:
        choices = _read_choices(folder)
    except (StoreError, OSError, ValueError) as error:
        yield _damage("choices", error, folder)
        return
    if choices is None and holds_store(folder.store):
        todo = "show, scores, explain and report work; run needs another --run, or --fresh"
        yield problem("choices", f"{folder.path} holds a collection without its run.json", todo)


def _check_unfinished(folder: RunFolder, is_locked: bool) -> Check:
    name = "collection"
    try:
        choices = _read_choices(folder)
    except (StoreError, OSError, ValueError):
        choices = None
    if choices is None:
        return note(name, "none", f"make one: {_command('run', folder)}")
    what = f"{choices.get('model')}, {choices.get('n_tokens'):,} tokens"
    if is_locked:
        return note(name, f"{what}: being made", "wait for it")
    todo = f"give the command that began it again: {_command('run', folder)} …"
    return note(name, f"{what}: begun, not finished", todo)


def _check_shards(folder: RunFolder) -> Check:
    merge = _command("merge", folder)
    try:
        shards = read_shards(folder)
    except StoreError as error:
        return _damage("collection", error, folder)
    if shards is None:
        return note("collection", "shards of another kind", f"see {folder.path / 'shards'}")
    found = f"{shards.sentence()}; not merged"
    if shards.is_done:
        return note("collection", found, f"merge them: {merge}")
    return note("collection", found, f"read the others with `collect --shard`, then: {merge}")


def _check_finished(folder: RunFolder, is_locked: bool) -> Iterator[Check]:
    collection = _check_collection(folder)
    yield collection
    if collection.status == "ok":
        yield from _check_made(folder, is_locked, len(read_manifest(folder.store).units))


def _check_elsewhere(folder: RunFolder, is_locked: bool) -> Iterator[Check]:
    """Of a folder without a collection of its own."""
    try:
        manifest = open_records(folder).manifest
    except (StoreError, OSError) as error:
        yield _damage("records", error, folder)
        return
    yield ok("records", f"{manifest.subject}, not in the folder: {manifest.size()}")
    yield from _check_made(folder, is_locked, None)


def _is_over_others(folder: RunFolder) -> bool:
    try:
        return has_records(folder)
    except (StoreError, OSError, ValueError):  # its choices are damaged, which is told of already
        return False


def _check_made(folder: RunFolder, is_locked: bool, n_units: int | None) -> Iterator[Check]:
    results = _check_results(folder, is_locked, n_units)
    yield results
    if results.status == "ok" and not is_locked:
        yield _check_report(folder)


def _check_collection(folder: RunFolder) -> Check:
    """Reads the manifest, and one unit of every layer in full."""
    name = "collection"
    try:
        store = NeuronStore(folder.store)
        for layer in store.manifest.layers:
            neuron_id = NeuronId(layer, store.units.of_layer(layer)[-1])
            store.read_neuron(neuron_id)
            store.read_token_lookup(neuron_id)
    except (StoreError, OSError, *WRONG_BYTES) as error:
        return _damage(name, error, folder)
    return ok(name, _describe_store(store.manifest))


def _check_results(folder: RunFolder, is_locked: bool, n_units: int | None) -> Check:
    """n_units: of the collection; None: those that were scored are all that there is to do."""
    name, explain = "results", f"explain them: {_command('explain', folder)}"
    if not folder.results.exists():
        return note(name, "no neuron is explained yet", explain)
    # Elsewhere sqlite, asked to read, would leave two files beside the results.
    untouched = not is_locked and not _size(Path(f"{folder.results}-wal"))
    try:
        with Results(folder.results, read_only=True, immutable=untouched) as results:
            try:
                method = results.current_method()
            except StoreError:
                return note(name, "no neuron is explained yet", explain)
            n_explained = sum(unit.text is not None for unit in results.units(method))
            tally = results.tally(method)
        n_all = tally.n_units if n_units is None else n_units
        explained = f"{n_explained:,} of {n_all:,} neurons explained"
        return ok(name, f"{explained}; {tally.sentence()}")
    except (StoreError, sqlite3.Error, OSError, *WRONG_BYTES) as error:
        is_whole = isinstance(error, StoreError)
        found = str(error) if is_whole else f"{folder.results} is damaged ({_reason(error)})"
        return problem(name, found, f"remove it, then {explain}")


def _check_report(folder: RunFolder) -> Check:
    name, todo = "report", f"write it: {_command('report', folder)}"
    try:
        if not folder.report.exists():
            return note(name, "no page yet", todo)
        page = folder.report.stat()
        if not _ends_with(folder.report, b"</html>"):
            return note(name, f"{folder.report} is not whole", todo)
        if page.st_mtime < folder.results.stat().st_mtime:
            go_on = f"go on: {_command('explain', folder)}, or {todo}"
            return note(name, f"{folder.report} is older than the results", go_on)
    except OSError as error:
        return problem(name, f"{folder.report}: {error.strerror}", "see to its permissions")
    return ok(name, str(folder.report))


def _describe_store(manifest: StoreManifest) -> str:
    return (
        f"{manifest.subject} on {manifest.corpus}: {manifest.n_tokens:,} tokens of "
        f"{manifest.n_documents:,} documents; {_describe_units(manifest.units)}; "
        f"token means cover {manifest.coverage:.1%} of the fit text"
    )


def _describe_units(units: Units) -> str:
    layers = f"layers {_format_layers(units.layers)}"
    if units.chosen is None:
        return f"{layers} of {units.n_a_layer:,} neurons each"
    return f"{len(units):,} chosen neurons of {layers}"


def _damage(name: str, error: Exception, folder: RunFolder) -> Check:
    """From a message "what is wrong; what to do", or from whatever was raised instead."""
    found, _, todo = str(error).partition("; ")
    if isinstance(error, StoreError) and todo:
        return problem(name, found, todo)
    if isinstance(error, OSError):
        return problem(name, f"{error.filename}: {error.strerror}", "see to its permissions")
    found = f"{folder.path} holds wrong bytes ({_reason(error)})"
    return problem(name, found, "give the command that made it again, with --fresh")


def _read_choices(folder: RunFolder) -> Mapping[str, Any] | None:
    choices = folder.read_choices()
    if choices is not None and not (RECORDS in choices or isinstance(choices.get("n_tokens"), int)):
        raise StoreError(f"{folder.path / 'run.json'} is damaged; use --fresh to start over")
    return choices


def _ends_with(path: Path, ending: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, _size(path) - 64))
        return file.read().rstrip().endswith(ending)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    is_plain = isinstance(error, StoreError | sqlite3.Error)
    return str(error) if is_plain else first_line(error)


def _format_layers(layers: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> `0-2, 5`"""
    ranges: list[tuple[int, int]] = []
    for layer in layers:
        if ranges and layer == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], layer)
        else:
            ranges.append((layer, layer))
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def _command(name: str, folder: RunFolder) -> str:
    at = "" if folder.path == DEFAULT_RUN else f" --run {shlex.quote(str(folder.path))}"
    return f"neuron-explainer {name}{at}"
