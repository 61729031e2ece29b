"""Kills collect, explain and report at random instants; what they make in the end must not differ.

    python -m jobs.kill_runs                       50 kills
    python -m jobs.kill_runs --kills 200 --json    {"n_kills": 200, "different": [], ...}

One run is left alone. Then run after run is made in folders of their own: each command is started,
killed with SIGKILL after a random part of the time it took undisturbed, started again, and so on,
and at last left to finish. Every file of the store, every result and the page must be those of the
run that was left alone; the exit code is 1 when one is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

RESULTS = {
    "methods": "SELECT DISTINCT fingerprint, choices FROM methods ORDER BY 1",
    "explanations": (
        "SELECT fingerprint, layer_index, neuron_index, explainer, model, prompt_version, text, "
        "reason FROM explanations ORDER BY 1, 2, 3"
    ),
    "scores": (
        "SELECT e.fingerprint, e.layer_index, e.neuron_index, s.* FROM scores s JOIN explanations "
        "e ON e.id = s.explanation_id ORDER BY 1, 2, 3, s.scorer, s.simulator, s.name"
    ),
    "scored_windows": (
        "SELECT e.fingerprint, e.layer_index, e.neuron_index, w.* FROM scored_windows w JOIN "
        "explanations e ON e.id = w.explanation_id ORDER BY 1, 2, 3, w.scorer, w.simulator"
    ),
}
"""What must be the same of the database: not the time, nor the order in which units came."""
PATTERNS = {
    "contexts": "SELECT * FROM contexts ORDER BY 1",
    "unit_contexts": "SELECT * FROM unit_contexts ORDER BY 1, 2, 3",
    "unit_patterns": "SELECT * FROM unit_patterns ORDER BY 1, 2, 3",
}
"""The same of the patterns."""
COLLECT = ("--tokens", "60000", "--corpus", "pydocs", "--checkpoint-s", "0.3")
EXPLAIN = ("--neurons", "300")
KILLS_A_FOLDER = {"collect": 5, "explain": 3, "report": 2}


def main(
    kills: Annotated[int, typer.Option(help="How many.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="Decides the instants.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Kills at random instants, and compares what is there in the end."""
    commands = {"collect": COLLECT, "explain": EXPLAIN, "report": ()}
    rng = random.Random(seed)
    different: list[str] = []
    n_kills = n_folders = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "undisturbed"
        took_s = {name: run_command(name, flags, whole) for name, flags in commands.items()}
        expected = digests(whole)
        while n_kills < kills:
            run = Path(folder) / f"killed_{n_folders}"
            for name, flags in commands.items():
                n_wanted = min(KILLS_A_FOLDER[name], kills - n_kills)
                n_kills += kill_often(name, flags, run, took_s[name], n_wanted, rng)
                run_command(name, flags, run)
            found = digests(run)
            n_folders += 1
            different += [f"{run.name}: {name}" for name in differences(expected, found)]
    if as_json:
        answer = {"n_kills": n_kills, "n_folders": n_folders, "different": different}
        print(json.dumps(answer))
    else:
        print(
            f"{n_kills} kills in {n_folders} runs; different: {', '.join(different) or 'nothing'}"
        )
    raise typer.Exit(1 if different else 0)


def kill_often(
    name: str, flags: Sequence[str], run: Path, took_s: float, n_wanted: int, rng: random.Random
) -> int:
    """How many times the command was killed before it came to an end."""
    for number in range(n_wanted):
        child = start(name, flags, run)
        try:
            child.wait(timeout=rng.random() * took_s)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
        else:
            require_success(name, child.returncode)
            return number
    return n_wanted


def run_command(name: str, flags: Sequence[str], run: Path) -> float:
    """Seconds it took."""
    started = time.perf_counter()
    require_success(name, start(name, flags, run).wait())
    return time.perf_counter() - started


def start(name: str, flags: Sequence[str], run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "neuron_explainer", name, *flags, "--run", str(run)]
    # One thread: sums come in one order, whatever else the machine does.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)


def require_success(name: str, code: int) -> None:
    if code != 0:
        raise SystemExit(f"{name} ended with exit code {code}")


LEFT_OUT = ("results.sqlite", "patterns.sqlite", ".lock", "progress.json")
"""The first two are compared table by table, the last says when things happened."""


def digests(run: Path) -> dict[str, str]:
    """Of every file of a run but its lock and its clock, and of every table of the database."""
    return {
        **{
            str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(run.rglob("*"))
            if path.is_file() and not path.name.startswith(LEFT_OUT)
        },
        **dict(_table_digests(run / "results.sqlite", RESULTS)),
        **dict(_table_digests(run / "patterns.sqlite", PATTERNS)),
    }


def _table_digests(path: Path, queries: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        for name, query in queries.items():
            cursor = connection.execute(query)
            columns = [column[0] for column in cursor.description]
            kept = [i for i, column in enumerate(columns) if column != "explanation_id"]
            digest = hashlib.sha256()
            for row in cursor:
                digest.update(repr([row[i] for i in kept]).encode())
            yield f"{path.stem}: {name}", digest.hexdigest()


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Names of what is missing, too much or not the same."""
    names = sorted({*expected, *found})
    return [name for name in names if expected.get(name) != found.get(name)]


if __name__ == "__main__":
    typer.run(main)
