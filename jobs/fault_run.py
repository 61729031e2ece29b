"""Explains neurons through a server that fails on purpose, and counts what was lost or paid twice.

    python -m jobs.fault_run                          500 neurons, a fifth of all requests spoiled
    python -m jobs.fault_run --kills 5 --json         and the command killed five times

The server is the one of the tests, on this machine, in a process of its own: rate limits, 500, 503,
slow answers, cut connections, garbage, empty answers, refusals, answers beside the question. The
exit code is 1 unless

- every neuron ends scored, or unscored with its reason,
- no answer that was stored is asked for again: at most what was in flight at a kill is repeated,
- the cost adds up exactly: what the run says it spent is what the server says it charged for in
  answers that arrived whole; after kills, less at most what was in flight.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from neuron_explainer.llm.messages import Usage
from neuron_explainer.llm.prices import Price
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.records.score import reason_kind
from neuron_explainer.stores.results import Results
from neuron_explainer.stores.spending import SpendingStore
from tests.llm.rule_log import Entry, RuleLog, read_log

PRICE = Price(input=Decimal("1.00"), cached_input=Decimal("0.25"), output=Decimal("4.00"))
COLLECT = ("--tokens", "150000", "--corpus", "pydocs")
SLOW_S, TIMEOUT_S = 4.0, 2.5
READING_S = 0.5
"""An answer that was written so long before a kill may not have been read yet."""
COMMAND = (sys.executable, "-m", "neuron_explainer")


@dataclass(frozen=True)
class Findings:
    """What came of the run."""

    n_neurons: int
    n_scored: int
    unscored: dict[str, int]
    n_without_result: int
    n_requests: int
    outcomes: dict[str, int]
    n_in_flight_at_kills: int
    n_repeated: int
    """Answers that had been sent whole and were sent again."""
    charged_picousd: int
    """By the server, in answers that arrived whole."""
    spent_picousd: int
    """By the run, in answers that it could read."""
    n_uncharged: int
    """Answers that arrived whole and that the run says nothing of: it was killed meanwhile."""

    def problems(self) -> list[str]:
        found = []
        if self.n_without_result:
            found.append(f"{self.n_without_result} neurons have neither a score nor a reason")
        if self.n_repeated > self.n_in_flight_at_kills:
            found.append(f"{self.n_repeated} answers were asked for again")
        if self.n_uncharged > self.n_in_flight_at_kills or (
            not self.n_in_flight_at_kills and self.charged_picousd != self.spent_picousd
        ):
            found.append(f"charged {self.charged_picousd}, spent {self.spent_picousd}")
        return found


def main(
    neurons: Annotated[int, typer.Option(help="How many.", min=1)] = 500,
    share: Annotated[float, typer.Option(help="Of requests that are spoiled.")] = 0.2,
    kills: Annotated[int, typer.Option(help="How often the command is killed.", min=0)] = 0,
    every_s: Annotated[float, typer.Option(help="About so long after each start.")] = 15.0,
    seed: Annotated[int, typer.Option(help="Decides faults and instants.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explains through a server that fails, and counts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = RunFolder(folder / "run")
        command = [*COMMAND, "collect", "--run", str(run.path), *COLLECT]
        subprocess.run(command, check=True, capture_output=True)
        findings = run_with_faults(
            folder, run, neurons, share=share, kills=kills, every_s=every_s, seed=seed
        )
    problems = findings.problems()
    if as_json:
        print(json.dumps(asdict(findings) | {"problems": problems}))
    else:
        for field, value in asdict(findings).items():
            print(f"{field:>22}  {value}")
        print(f"{'problems':>22}  {'; '.join(problems) or 'none'}")
    raise SystemExit(1 if problems else 0)


def run_with_faults(
    folder: Path,
    run: RunFolder,
    n_neurons: int,
    *,
    share: float,
    kills: int = 0,
    every_s: float = 15.0,
    seed: int = 0,
) -> Findings:
    """Explains in `run`, which holds a collection; logs and prices go into `folder`."""
    prices = folder / "prices.json"
    prices.write_text(json.dumps({"models": {"rule-1": _plain(PRICE)}}))
    log = folder / "server.log"
    rng = random.Random(seed)
    n_in_flight = 0
    with serving(log, {"share": share, "seed": seed, "slow_s": SLOW_S}) as base_url:
        command = [
            *COMMAND, "explain", "--run", str(run.path), "--neurons", str(n_neurons),
            "--explainer", "openai:rule-1", "--simulator", "auto", "--simulation", "structured",
            "--base-url", base_url, "--timeout-s", str(TIMEOUT_S), "--prices", str(prices),
            "--requests-a-minute", "1000000", "--n-resamples", "0",
        ]  # fmt: skip
        for _ in range(kills):
            n_in_flight += kill_after(command, every_s * (0.5 + rng.random()), log)
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
    return examine(run, read_log(log), n_neurons, n_in_flight)


def _plain(price: Price) -> dict[str, str]:
    return {"input": str(price.input), "cached_input": str(price.cached_input),
            "output": str(price.output)}  # fmt: skip


@contextmanager
def serving(log: Path, faults: dict[str, Any]) -> Iterator[str]:
    """The server in a process of its own; its address."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.llm.rule_server", "--port", "0", "--log", str(log),
         "--faults", json.dumps(faults)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        yield str(json.loads(server.stdout.readline())["base_url"])
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def kill_after(command: list[str], seconds: float, log: Path) -> int:
    """Starts the command and kills it; how many requests were then without an answer."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    is_over = child.poll() is not None
    child.send_signal(signal.SIGKILL)
    killed_s = time.time()
    child.wait()
    if is_over:
        return 0
    time.sleep(SLOW_S + 1)  # until the server has ended what it was at
    return len([entry for entry in read_log(log).entries if _was_in_flight(entry, killed_s)])


def _was_in_flight(entry: Entry, at_s: float) -> bool:
    """Whether the client had asked, and had not had the time to read the answer and store it."""
    return entry.arrived_s <= at_s <= entry.ended_s + READING_S


def examine(run: RunFolder, log: RuleLog, n_neurons: int, n_in_flight: int) -> Findings:
    """Reads the run's results and spending, and the server's log."""
    with Results(run.results, read_only=True) as results:
        units = list(results.units(results.current_method()))
    with SpendingStore(run.spending) as spending:
        spent = spending.of_purpose().counted
    scored = [unit for unit in units if unit.score is not None and unit.score.value is not None]
    reasons: dict[str, int] = {}
    for unit in units:
        if unit.unscored_reason is not None:
            kind = reason_kind(unit.unscored_reason)
            reasons[kind] = reasons.get(kind, 0) + 1
    told: Usage = log.charged
    return Findings(
        n_neurons=n_neurons,
        n_scored=len(scored),
        unscored=reasons,
        n_without_result=n_neurons - len(scored) - sum(reasons.values()),
        n_requests=len(log.entries),
        outcomes=dict(log.outcomes.most_common()),
        n_in_flight_at_kills=n_in_flight,
        n_repeated=sum(n - 1 for n in log.n_answered.values() if n > 1),
        charged_picousd=PRICE.picousd(told),
        spent_picousd=spent.cost_picousd or 0,
        n_uncharged=log.n_told - spent.n_requests,
    )


if __name__ == "__main__":
    typer.run(main)
