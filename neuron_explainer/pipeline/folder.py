"""A run folder: what lies where in it, who may write to it, and which choices made it.

run.json          the choices of the collection, resolved, or whose records it is scored on
                  (records.py); a folder is never mixed
store/            stores/neuron_store.py
shards/03-of-16/  a run folder of its own for each shard, until they are merged
results.sqlite    stores/results.py
responses.sqlite  answers of language models, so that none is paid for twice
spending.sqlite   what was asked of them, and what it cost
batches.sqlite    batches at a provider, and answers of theirs that were not asked for yet
library.sqlite    explanations imported from elsewhere, for `search`
patterns.sqlite   stores/pattern_store.py
cascade.json      what the stages of a cascade came to, for `scores`
progress.json     how far the run has come, for `status`
report.html       viewer/report.py
.preview/         a run of its own on a little of the text, while the real one is collected
.lock             held by the one process that writes
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from neuron_explainer.collector.plans import Shard
from neuron_explainer.errors import SpecMismatch, StoreError
from neuron_explainer.pipeline.spec import flag_of
from neuron_explainer.stores import atomic
from neuron_explainer.stores.store_manifest import holds_store
from neuron_explainer.stores.windows import read_counts

DEFAULT_RUN = Path("runs/default")
LOCK_TRIES, LOCK_PAUSE_S = 500, 0.001
"""How often, and how long apart, a writer asks for the lock where another process only looks."""
_N_NAMED = 5
"""Of a long list, in a message."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run."""

    path: Path
    fresh: bool = False
    """Start over, once it is known that the new run can start."""

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def results(self) -> Path:
        return self.path / "results.sqlite"

    @property
    def responses(self) -> Path:
        return self.path / "responses.sqlite"

    @property
    def spending(self) -> Path:
        return self.path / "spending.sqlite"

    @property
    def batches(self) -> Path:
        return self.path / "batches.sqlite"

    @property
    def library(self) -> Path:
        return self.path / "library.sqlite"

    @property
    def patterns(self) -> Path:
        return self.path / "patterns.sqlite"

    @property
    def cascade(self) -> Path:
        return self.path / "cascade.json"

    @property
    def progress(self) -> Path:
        return self.path / "progress.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def preview(self) -> RunFolder:
        """A run of its own, on a little of the text; gone once the real one is done."""
        return RunFolder(self.path / ".preview")

    def shard(self, shard: Shard) -> RunFolder:
        """A run of its own, on a part of the blocks."""
        name = f"{shard.number:0{len(str(shard.n_shards))}d}-of-{shard.n_shards}"
        return RunFolder(self._shards / name, self.fresh)

    def shards(self) -> list[RunFolder]:
        """Those that were begun, in order of their number."""
        return [RunFolder(path) for path in sorted(self._shards.glob("*-of-*"))]

    @property
    def _shards(self) -> Path:
        return self.path / "shards"

    @property
    def _choices(self) -> Path:
        return self.path / "run.json"

    def read_choices(self) -> dict[str, Any] | None:
        """The choices of the collection, finished or not; None when none was begun."""
        damage = f"{self._choices} is damaged; use --fresh to start over"
        try:
            choices = json.loads(self._choices.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(damage) from error
        if not isinstance(choices, dict) or not isinstance(choices.get("seed", 0), int):
            raise StoreError(damage)
        return choices

    def claim(self, choices: Mapping[str, Any]) -> None:
        """Makes the folder that of these choices; SpecMismatch when it holds another collection.

        Choices whose text was never cut into windows to the end, and without results, bind nobody.
        """
        plain = json.loads(json.dumps(choices))  # as it reads back: tuples are lists
        has_windows = read_counts(self.store / "windows") is not None
        if holds_store(self.store) or has_windows or self.results.exists():
            self._require_same(plain)
        text = json.dumps(plain, indent=1, ensure_ascii=False)
        atomic.write_text(self._choices, text + "\n")

    def _require_same(self, choices: Mapping[str, Any]) -> None:
        way_out = "use --run with another folder, or --fresh to start this one over"
        known = self.read_choices()
        if known is None:
            raise SpecMismatch(f"{self.path} holds a collection without its run.json; {way_out}")
        if _whose(known) != _whose(choices):
            raise SpecMismatch(
                f"{self.path} holds {_whose(known)}, not {_whose(choices)}; use --run with another "
                "folder"
            )
        if "records" in choices:
            return  # the same ones, wherever they lie now
        difference = describe_differences(known, choices)
        if difference:
            raise SpecMismatch(f"{self.path} holds another run ({difference}); {way_out}")

    def clear(self) -> None:
        """Removes what a run made, and nothing else that may lie in the folder.

        The answers of language models stay, and the batches at a provider: they are the same for
        the same question, and are paid for.

        StoreError when there is a `store` that no run made.
        """
        if self.store.exists() and not (holds_store(self.store) or self._choices.exists()):
            raise StoreError(f"{self.store} was not made by a run; use --run with another folder")
        for path in (self.store, self.preview.path, self._shards):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self._choices, self.report, self.progress, self.cascade):
            path.unlink(missing_ok=True)
        for database in (self.results, self.patterns):
            for suffix in ("", "-wal", "-shm", "-journal"):  # sqlite's own
                Path(f"{database}{suffix}").unlink(missing_ok=True)

    def is_locked(self) -> bool:
        """Whether a process writes; it is tried for an instant, side by side with readers."""
        try:
            with (self.path / ".lock").open("rb") as lock:
                return not _lock(lock, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time; the lock goes with the process, however it ends.

        A folder that was made for it, and into which nothing was written, goes again.
        """
        is_new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise StoreError(f"{self.path} is not a folder; use --run with another one") from error
        with (self.path / ".lock").open("w") as lock:
            taken = f"another process is writing to {self.path}; wait for it, or use --run"
            if not _lock_alone(lock) or not self._holds(lock):  # or its owner has just removed it
                raise StoreError(taken)
            try:
                yield
            finally:
                if is_new:
                    self._remove_if_empty()

    def _holds(self, lock: IO[str]) -> bool:
        """Whether the open file is the one that others would lock."""
        try:
            return os.path.samestat(os.fstat(lock.fileno()), (self.path / ".lock").stat())
        except FileNotFoundError:
            return False

    def _remove_if_empty(self) -> None:
        """While the lock is held, so that no other process has begun to write."""
        if [path.name for path in self.path.iterdir()] == [".lock"]:
            (self.path / ".lock").unlink()
            self.path.rmdir()


def _lock_alone(lock: IO[Any]) -> bool:
    """Whether this process now has it, and no other; those that only look are waited for."""
    for _ in range(LOCK_TRIES):
        if _lock(lock, fcntl.LOCK_EX):
            return True
        if not _lock(lock, fcntl.LOCK_SH):  # a writer has it
            return False
        fcntl.flock(lock, fcntl.LOCK_UN)
        time.sleep(LOCK_PAUSE_S)
    return False


def _lock(lock: IO[Any], kind: int) -> bool:
    """Whether it could be had at once."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _whose(choices: Mapping[str, Any]) -> str:
    """What a folder's results are over."""
    match choices:
        case {"records": "published", "dataset": dataset, "source": source}:
            return f"results over the published records of {dataset} from {source}"
        case {"records": _, "fingerprint": fingerprint}:
            return f"results over the collection {fingerprint} of another run"
    return "a collection of its own"


def describe_differences(known: Mapping[str, Any], choices: Mapping[str, Any]) -> str:
    """What of `choices` is not as known: `seed was 0, now 1`; empty when all of it is."""
    return ", ".join(
        _describe_difference(flag_of(name).removeprefix("--"), known.get(name), value)
        for name, value in choices.items()
        if known.get(name) != value
    )


def _describe_difference(name: str, before: Any, now: Any) -> str:
    """`seed was 0, now 1`; of long lists what is new, and what is gone."""
    if all(isinstance(one, list) and len(one) > _N_NAMED for one in (before, now)):
        new = [value for value in now if value not in set(before)]
        gone = [value for value in before if value not in set(now)]
        return f"{name}: new {_shorten(new)}, gone {_shorten(gone)}"
    return f"{name} was {_shorten(before)}, now {_shorten(now)}"


def _shorten(value: Any) -> str:
    """`[0, 1]`, or `1,000: 0:3, 0:17, …`"""
    if not isinstance(value, list) or len(value) <= _N_NAMED:
        return str(value)
    return f"{len(value):,}: {', '.join(map(str, value[:_N_NAMED]))}, …"
