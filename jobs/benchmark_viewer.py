"""How quickly the viewer answers on a large run: home, unit pages, search, table and csv.

    python -m jobs.benchmark_viewer                      a made-up run of 48 layers of 6,400 units
    python -m jobs.benchmark_viewer --run runs/default   a run that is there
    python -m jobs.benchmark_viewer --json               {"start_s", "requests": {...}, ...}

The viewer is the real command in a process of its own. Clients keep their connections, each asks
for the next page as soon as it has one, and every address is asked for once, as far as there are as
many; the first seconds, in which the viewer starts processes for so many readers, are not counted.
Of the csv of all units the first 64 kB are read. A made-up run (made_run.py) has the sizes of
a real one on disk; --keep FOLDER leaves it there for the next time.
"""

from __future__ import annotations

import json
import random
import re
import socket
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from urllib.parse import urlencode

import typer
from rich.console import Console
from rich.table import Table

from jobs.benchmark_search import made_texts
from jobs.made_run import MadeRun
from jobs.viewer_process import HOST, ViewerProcess, viewing
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.neuron_store import NeuronStore

CSV_BYTES = 1 << 16
TIMEOUT_S = 60.0
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
_END = b"\r\n0\r\n\r\n"
"""Of a body in chunks."""
N_FIRST = 100
"""Requests of each kind that are not counted, while processes that make pages are started."""
N_TEXTS = 2000
"""Explanations that the words to search for are taken from."""
SORTS = ("unit", "score", "random", "baseline", "gain", "density")
FILTERS: tuple[dict[str, object], ...] = (
    {}, {}, {"layer": 0}, {"min_score": 0.5}, {"layer": 1, "max_density": 0.2}
)  # fmt: skip


@dataclass(frozen=True)
class Times:
    """Of the requests of a kind, in milliseconds."""

    n_requests: int
    median_ms: float
    p99_ms: float
    worst_ms: float
    median_kb: float
    """Size of an answer."""


@dataclass(frozen=True)
class Answer:
    """What was measured."""

    n_units: int
    n_clients: int
    start_s: float
    """From the command to the first answer, when the index is there."""
    first_start_s: float
    """The same, when nothing is indexed yet."""
    index_s: float
    """From the first answer until all is indexed; about 0: all was."""
    index_mb: float
    requests: dict[str, Times]
    peak_mb: float | None
    """Largest resident size while pages were read: memory, and pages of files that are mapped.
    None: this system does not say."""
    own_mb: float | None
    """Of it, memory that is no page of a file."""
    index_peak_mb: float | None
    """The same of the process that indexed all."""


def main(
    run: Annotated[Path | None, typer.Option(help="A run that is there.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Where to leave the made-up run.")] = None,
    n_layers: Annotated[int, typer.Option(help="Of the made-up run.", min=1)] = 48,
    n_units: Annotated[int, typer.Option(help="A layer.", min=1)] = 6400,
    n_requests: Annotated[int, typer.Option(help="Of each kind.", min=1)] = 1000,
    n_clients: Annotated[int, typer.Option(help="At once.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Of the made-up run and the requests.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Median and 99th percentile a kind of page, start, time to index, memory."""
    with TemporaryDirectory() as temporary:
        folder = run or keep or Path(temporary) / "run"
        if run is None and not (folder / "run.json").exists():
            texts = made_texts(random.Random(seed))
            MadeRun(n_layers, n_units, seed=seed).write(RunFolder(folder), texts)
        answer = measure(folder, n_requests, n_clients, seed)
    if as_json:
        print(json.dumps(asdict(answer)))
    else:
        print_answer(answer)


def measure(folder: Path, n_requests: int, n_clients: int, seed: int) -> Answer:
    """Starts the viewer twice: to index all, and to be asked."""
    with viewing("--run", str(folder)) as first:
        index_s = first.wait_for_index()
    with viewing("--run", str(folder)) as viewer:
        viewer.wait_for_index()
        for addresses in all_addresses(folder, min(N_FIRST, n_requests), seed + 1).values():
            time_requests(viewer, addresses, n_clients)
        requests = {
            kind: time_requests(viewer, addresses, n_clients)
            for kind, addresses in all_addresses(folder, n_requests, seed).items()
        }
    return Answer(
        n_units=sum(1 for _ in NeuronStore(folder / "store").neuron_ids()),
        n_clients=n_clients,
        first_start_s=round(first.start_s, 2),
        start_s=round(viewer.start_s, 2),
        index_s=round(index_s, 1),
        index_mb=round((folder / "view.sqlite").stat().st_size / 1e6, 1),
        requests=requests,
        index_peak_mb=first.peak_mb,
        peak_mb=viewer.peak_mb,
        own_mb=viewer.own_mb,
    )


def all_addresses(folder: Path, n_requests: int, seed: int) -> dict[str, list[str]]:
    """By kind; the same for the same seed."""
    rng = random.Random(seed)
    neuron_ids = list(NeuronStore(folder / "store").neuron_ids())
    texts = read_texts(folder / "results.sqlite", neuron_ids, rng)
    queries = made_queries(texts, rng)
    return {
        "home": ["/"] * n_requests,
        "unit page": [unit_address(rng.choice(neuron_ids)) for _ in range(n_requests)],
        "search": [_with("/search", q=next(queries)) for _ in range(n_requests)],
        "table": [
            _with("/table.json", sort=rng.choice(SORTS), **rng.choice(FILTERS))
            for _ in range(n_requests)
        ],
        "csv head": [_with("/export.csv", **rng.choice(FILTERS)) for _ in range(n_requests)],
    }


def unit_address(neuron_id: NeuronId) -> str:
    return f"/layers/{neuron_id.layer_index}/neurons/{neuron_id.neuron_index}"


def _with(path: str, **query: object) -> str:
    return f"{path}?{urlencode(query)}"


def read_texts(results: Path, neuron_ids: Sequence[NeuronId], rng: random.Random) -> list[str]:
    """Of some units, drawn at random."""
    query = (
        "SELECT text FROM explanations WHERE layer_index = ? AND neuron_index = ? "
        "AND fingerprint = (SELECT fingerprint FROM methods ORDER BY id DESC LIMIT 1)"
    )
    with closing(sqlite3.connect(f"{results.absolute().as_uri()}?mode=ro", uri=True)) as file:
        found = (
            file.execute(query, (one.layer_index, one.neuron_index)).fetchone()
            for one in rng.choices(neuron_ids, k=N_TEXTS)
        )
        texts = [row[0] for row in found if row is not None and row[0] is not None]
    if not texts:
        raise SystemExit(f"{results} has no explanation; run `explain` first")
    return texts


def made_queries(texts: Sequence[str], rng: random.Random) -> Iterator[str]:
    """One to three words of explanations, the commonest and the rarest among them."""
    counts = Counter(word for text in texts for word in re.findall(r"\w{2,}", text.lower()))
    common, words = [word for word, _ in counts.most_common(20)], list(counts)
    while True:
        yield rng.choice(words)
        yield rng.choice(common)
        yield f"{rng.choice(common)} {rng.choice(words)}"
        yield " ".join(rng.choices(common, k=3))


def time_requests(viewer: ViewerProcess, addresses: Sequence[str], n_clients: int) -> Times:
    """Each client takes every n-th address."""

    def ask_all(client: int) -> list[tuple[float, int]]:
        with Client(viewer.port) as reader:
            return [time_one(reader, one) for one in addresses[client::n_clients]]

    with ThreadPoolExecutor(n_clients) as clients:
        asked = [one for of in clients.map(ask_all, range(n_clients)) for one in of]
    times_ms = sorted(ms for ms, _ in asked)
    return Times(
        n_requests=len(asked),
        median_ms=round(statistics.median(times_ms), 1),
        p99_ms=round(times_ms[min(len(times_ms) - 1, round(0.99 * len(times_ms)))], 1),
        worst_ms=round(times_ms[-1], 1),
        median_kb=round(statistics.median(n_bytes for _, n_bytes in asked) / 1e3, 1),
    )


def time_one(client: Client, address: str) -> tuple[float, int]:
    """Milliseconds and bytes of one answer."""
    started_s = time.perf_counter()
    n_bytes = client.fetch(address)
    return (time.perf_counter() - started_s) * 1000, n_bytes


class Client:
    """A reader, over a bare connection that it keeps: as it works on the viewer's own machine, it
    should not take much of it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: socket.socket | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def fetch(self, address: str) -> int:
        """Bytes of the body, of a csv at most the first; HTTPException for a status that is not
        200."""
        connection = self._connection or socket.create_connection((HOST, self._port), TIMEOUT_S)
        self._connection = None
        connection.sendall(f"GET {address} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\n\r\n".encode())
        head, _, body = _receive_head(connection)
        status, length = head.split(b" ", 2)[1], _LENGTH.search(head)
        n_bytes = len(body)
        most = int(length[1]) if length else CSV_BYTES
        while n_bytes < most and (length or not body.endswith(_END)):
            more = connection.recv(most - n_bytes)
            if not more:
                break
            n_bytes += len(more)
            body = body[-len(_END) :] + more
        if status != b"200":
            raise HTTPException(f"{address}: {status.decode()}")
        if length:
            self._connection = connection
        else:
            connection.close()  # the rest is not wanted; the next request opens another
        return n_bytes


def _receive_head(connection: socket.socket) -> tuple[bytes, bytes, bytes]:
    """Head, the empty line behind it, and what has come of the body."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(1 << 18)
        if not more:
            raise HTTPException("the viewer has hung up")
        received += more
    return received.partition(b"\r\n\r\n")


def print_answer(answer: Answer) -> None:
    title = (
        f"{answer.n_units:,} units, {answer.n_clients} clients; started in {answer.start_s} s "
        f"({answer.first_start_s} s with nothing indexed)"
    )
    table = Table("request", "n", "median ms", "99 % ms", "worst ms", "kB", title=title)
    for kind, t in answer.requests.items():
        numbers = (t.median_ms, t.p99_ms, t.worst_ms, t.median_kb)
        table.add_row(kind, str(t.n_requests), *(f"{number:.1f}" for number in numbers))
    console = Console()
    console.print(table)
    console.print(
        f"index: {answer.index_mb} MB, made in {answer.index_s} s; peak memory meanwhile "
        f"{answer.index_peak_mb} MB, while asked {answer.peak_mb} MB with pages of mapped files, "
        f"{answer.own_mb} MB without"
    )


if __name__ == "__main__":
    typer.run(main)
