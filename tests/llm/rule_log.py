"""What the rule server saw: every request, what it came to, and what it charged."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from neuron_explainer.llm.messages import Usage

ANSWER = "answer"
KEPT = frozenset({ANSWER, "slow", "off_topic", "cut_answer"})
"""Outcomes with a text: a client that has read one need not ask again."""


@dataclass(frozen=True)
class Entry:
    """One request that has ended."""

    key: str
    """Equal for equal bodies."""
    path: str
    attempt: int
    """How often the same body came before."""
    arrived_s: float
    """`time.time()`."""
    n_in_flight: int
    """When it arrived, itself included."""
    outcome: str
    """`answer`, a fault, or `refused` for a request that the server does not take."""
    status: int
    is_sent: bool
    """The whole body was written to a connection that was open."""
    usage: Usage | None
    """None: it cost nothing."""
    is_told: bool
    """The usage stands in a body that was sent whole, so the client can know it."""
    ended_s: float = 0.0
    """When its answer had been written."""


class RuleLog:
    """Kept in memory, and as JSON lines where a path is given: one when a request arrives (the
    first five fields of its entry), one when it has ended."""

    def __init__(self, path: Path | None = None) -> None:
        self.entries: list[Entry] = []
        self.n_in_flight = 0
        self.most_in_flight = 0
        self._n_arrived: Counter[str] = Counter()
        self._lines: TextIO | None = None if path is None else path.open("a", encoding="utf-8")

    @staticmethod
    def key(path: str, raw: bytes) -> str:
        """Of a request."""
        return hashlib.blake2b(path.encode() + raw, digest_size=16).hexdigest()

    def arrive(self, key: str, path: str) -> Entry:
        """The entry as far as it is known."""
        attempt = self._n_arrived[key]
        self._n_arrived[key] += 1
        self.n_in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.n_in_flight)
        entry = Entry(key, path, attempt, time.time(), self.n_in_flight, "", 0, False, None, False)
        self._write("arrived", entry)
        return entry

    def end(self, entry: Entry) -> None:
        self.n_in_flight -= 1
        entry = replace(entry, ended_s=time.time())
        self.entries.append(entry)
        self._write("ended", entry)

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()

    @property
    def n_arrived(self) -> Counter[str]:
        """By key."""
        return Counter(self._n_arrived)

    @property
    def n_answered(self) -> Counter[str]:
        """By key: texts that were sent whole; a client that keeps them asks once."""
        texts = (e for e in self.entries if e.path.endswith("completions"))
        return Counter(e.key for e in texts if e.outcome in KEPT and e.is_sent)

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(entry.outcome for entry in self.entries)

    @property
    def n_told(self) -> int:
        """Answers with a usage that the client can know."""
        return sum(entry.is_told for entry in self.entries)

    @property
    def charged(self) -> Usage:
        """What the client can know: the usage in all bodies that were sent whole."""
        return add_usages(e.usage for e in self.entries if e.usage is not None and e.is_told)

    @property
    def charged_untold(self) -> Usage:
        """What it cannot know: answers that came too late, cut connections, bodies that are no
        JSON."""
        return add_usages(e.usage for e in self.entries if e.usage is not None and not e.is_told)

    def _write(self, event: str, entry: Entry) -> None:
        if self._lines is not None:
            self._lines.write(json.dumps({"event": event, **asdict(entry)}) + "\n")
            self._lines.flush()


def read_log(path: Path) -> RuleLog:
    """A log that another process wrote; requests that have not ended are among the arrived."""
    log = RuleLog()
    for line in path.read_text("utf-8").splitlines():
        fields = json.loads(line)
        event, usage = fields.pop("event"), fields.pop("usage")
        entry = Entry(**fields, usage=None if usage is None else Usage(**usage))
        if event == "arrived":
            log._n_arrived[entry.key] += 1
            log.n_in_flight += 1
            log.most_in_flight = max(log.most_in_flight, entry.n_in_flight)
        else:
            log.n_in_flight -= 1
            log.entries.append(entry)
    return log


def add_usages(usages: Iterable[Usage]) -> Usage:
    total = (0, 0, 0)
    for usage in usages:
        total = (
            total[0] + usage.n_prompt_tokens,
            total[1] + usage.n_cached_tokens,
            total[2] + usage.n_completion_tokens,
        )
    return Usage(*total)
