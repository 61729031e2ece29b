"""Kills a download of the published dataset at random moments; in the end it must all be there.

    python -m jobs.kill_downloads                              2 layers of 400 neurons, 10 kills
    python -m jobs.kill_downloads --neurons 6400 --json        two whole layers of GPT-2 XL

A mirror of made-up documents (made_dataset.py), written by the package's own exporter, is served
on this machine; one request in twenty fails, in one of six ways. `jobs/download.py` is killed with
SIGKILL after a random number of answers and a random wait, started again, and at last left to
finish. Then every document must be in the archive byte for byte, what the mirror has not must be
known to be absent, and nothing may have been delivered whole again but for what was on its way at
a kill. The exit code is 1 when that is not so.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from jobs.made_dataset import MadeDataset
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.downloads import N_AT_ONCE
from neuron_explainer.published.locations import DATASETS, DocumentId, documents_of
from neuron_explainer.published.mirrors import export_mirror
from tests.published.mirror import Mirror, Reply, failing, mirror_server

XL = DATASETS["gpt2-xl"]
FAILING_SHARE = 0.05
ABSENT_EVERY = 97
"""One document of so many is not in the mirror."""
LONGEST_WAIT_S = 0.05
"""Between the answer that brings a kill about and the kill."""
QUIET_S = 0.2
"""After so long without a request, none of a killed process is under way."""
MOST_RUNS_MORE = 5


@dataclass
class Outcome:
    """What there is in the end, and what it took."""

    n_documents: int
    """That were asked for, absent ones among them."""
    n_kills: int = 0
    n_runs: int = 0
    n_equal: int = 0
    """In the archive byte for byte, or known to be absent."""
    n_delivered_again_after_a_kill: int = 0
    """Whole documents that were on their way at a kill."""
    n_delivered_twice: int = 0
    """Whole documents that the archive had, or that one run asked for twice: a defect."""
    failures: dict[str, int] = field(default_factory=dict)
    """That the server answered with, by kind."""
    made_s: float = 0.0
    exported_s: float = 0.0
    took_s: float = 0.0
    size_mb: float = 0.0

    @property
    def is_as_it_should_be(self) -> bool:
        return (
            self.n_equal == self.n_documents
            and self.n_delivered_twice == 0
            and self.n_delivered_again_after_a_kill <= N_AT_ONCE * self.n_kills
        )


def main(
    layers: Annotated[int, typer.Option(help="Layers, from the first.", min=1, max=48)] = 2,
    neurons: Annotated[int, typer.Option(help="Of each layer.", min=1, max=6400)] = 400,
    kills: Annotated[int, typer.Option(help="How many.", min=0)] = 10,
    size: Annotated[float, typer.Option(help="Of a document, beside a published one's.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of documents and moments.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Kills a download at random moments, and counts what is there in the end."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = measure(Path(folder), layers, neurons, kills, MadeDataset(seed, size), seed)
    if as_json:
        print(json.dumps(asdict(outcome)))
    else:
        for name, value in asdict(outcome).items():
            shown = value if not isinstance(value, dict) else json.dumps(value)
            print(f"{name.removeprefix('n_').replace('_', ' ')}: {shown}")
    raise typer.Exit(0 if outcome.is_as_it_should_be else 1)


def measure(
    folder: Path, n_layers: int, n_neurons: int, n_kills: int, made: MadeDataset, seed: int
) -> Outcome:
    """Makes a mirror in the folder, and downloads it."""
    everything = [*documents_of(XL, range(n_layers), XL.kinds, n_neurons)]
    outcome = Outcome(len(everything))
    _make_mirror(folder, everything, made, outcome)
    command = [
        *(sys.executable, "-m", "jobs.download", "--archive", str(folder / "archive.sqlite")),
        *("--layers", f"0-{n_layers - 1}", "--neurons", str(n_neurons)),
    ]
    rng = random.Random(seed)
    moments = sorted(rng.sample(range(1, len(everything)), min(n_kills, len(everything) - 1)))
    documents, answer = FolderDocuments(folder / "mirror"), CountedFailures(outcome.failures)
    started_s = time.monotonic()
    with mirror_server(documents, answer) as mirror:
        watch = Watch(mirror, folder / "archive.sqlite", everything, outcome)
        for moment in moments:
            documents.call_at(moment, rng.random() * LONGEST_WAIT_S)
            outcome.n_kills += watch.run(command, documents) == -signal.SIGKILL
        documents.call_at(None, 0)
        for _ in range(MOST_RUNS_MORE):
            if watch.run(command, documents) == 0:
                break
    outcome.took_s = round(time.monotonic() - started_s, 1)
    outcome.n_equal = sum(_equal(folder, everything))
    return outcome


class FolderDocuments(Mapping[str, bytes]):
    """A mirror's files by their path; kills a process after so many of them were asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._n_asked = 0
        self._moment: int | None = None
        self._wait_s = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def call_at(self, moment: int | None, wait_s: float) -> None:
        """The next kill: so long after that many answers; None: there is no more."""
        self._moment, self._wait_s = moment, wait_s

    def __getitem__(self, path: str) -> bytes:
        with self._lock:
            self._n_asked += 1
            is_time = self._moment is not None and self._n_asked >= self._moment
            if is_time and self.process is not None:
                self._moment = None
                threading.Timer(self._wait_s, _kill, [self.process]).start()
        try:
            return (self._folder / path).read_bytes()
        except FileNotFoundError as error:
            raise KeyError(path) from error

    def __iter__(self) -> Iterator[str]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        return (path.relative_to(self._folder).as_posix() for path in files)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class CountedFailures:
    """What goes wrong, by kind; the same in each call of the same job."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts = counts
        self._lock = threading.Lock()
        self._answer = failing(FAILING_SHARE)

    def __call__(self, path: str, n_before: int) -> Reply | None:
        reply = self._answer(path, n_before)
        if reply is not None:
            kind = _describe(reply)
            with self._lock:
                self._counts[kind] = self._counts.get(kind, 0) + 1
        return reply


class Watch:
    """Runs the download, and counts what was delivered whole more than once."""

    def __init__(
        self, mirror: Mirror, archive: Path, everything: list[DocumentId], outcome: Outcome
    ) -> None:
        self._mirror = mirror
        self._archive = archive
        self._of_layer = Counter(which.neuron_id.layer_index for which in everything)
        self._everything = everything
        self._outcome = outcome

    def run(self, command: list[str], documents: FolderDocuments) -> int:
        """The exit code."""
        known, before = self._known(), Counter(self._mirror.sent)
        source = ("--source", self._mirror.address)
        process = subprocess.Popen([*command, *source], stdout=subprocess.DEVNULL)
        documents.process = process
        code = process.wait()
        documents.process = None
        self._wait_until_quiet()
        self._outcome.n_runs += 1
        for path, n_sent in (self._mirror.sent - before).items():
            twice = n_sent if path in known else n_sent - 1
            self._outcome.n_delivered_twice += twice
            self._outcome.n_delivered_again_after_a_kill += path not in known and before[path] > 0
        return code

    def _known(self) -> set[str]:
        """Paths of which the archive says something."""
        if not self._archive.exists():
            return set()
        with Archive(self._archive, read_only=True) as archive:
            known = {
                (kind, layer): archive.known(XL.name, kind, layer, self._mirror.address)
                for kind in XL.kinds
                for layer in self._of_layer
            }
        return {
            which.path
            for which in self._everything
            if which.neuron_id.neuron_index in known[which.kind, which.neuron_id.layer_index]
        }

    def _wait_until_quiet(self) -> None:
        n_asked = -1
        while n_asked != (n_asked := self._mirror.asked.total()):
            time.sleep(QUIET_S)


def _make_mirror(
    folder: Path, everything: list[DocumentId], made: MadeDataset, outcome: Outcome
) -> None:
    started_s = time.monotonic()
    with Archive(folder / "made.sqlite") as archive:
        for number, which in enumerate(everything):
            if not _is_absent(number):
                document = made.document(which)
                outcome.size_mb += len(document) / 1e6
                archive.add(which, document, "made")
        outcome.made_s = round(time.monotonic() - started_s, 1)
        started_s = time.monotonic()
        export_mirror(archive, folder / "mirror")
    outcome.exported_s = round(time.monotonic() - started_s, 1)
    outcome.size_mb = round(outcome.size_mb, 1)


def _equal(folder: Path, everything: list[DocumentId]) -> Iterator[bool]:
    with Archive(folder / "archive.sqlite", read_only=True) as archive:
        for number, which in enumerate(everything):
            found = archive.read(which)
            if found is None or _is_absent(number):
                yield found is not None and found.document is None
            else:
                yield found.document == (folder / "mirror" / which.path).read_bytes()


def _is_absent(number: int) -> bool:
    return number % ABSENT_EVERY == ABSENT_EVERY - 1


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # it came to its end by itself
        os.kill(process.pid, signal.SIGKILL)


def _describe(reply: Reply) -> str:
    if reply.status == 0:
        return "hung up"
    if reply.is_cut:
        return "cut off"
    return f"HTTP {reply.status}" + (" not a document" if reply.status == 200 else "")


if __name__ == "__main__":
    typer.run(main)
