"""Batches of questions at a provider, in sqlite: how far each has come, and answers not yet taken.

A batch is a row before anything of it is sent, and each step is noted when it is done, so that a
process that takes over knows what may have been done. A batch is over when none of its items waits
for an answer; an item stays until its answer was taken.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from neuron_explainer.errors import StoreError
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.sqlite_file import SqliteFile

BATCHES = """
CREATE TABLE IF NOT EXISTS batches (
    intent TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    model TEXT NOT NULL,
    created_at TEXT NOT NULL,
    n_requests INTEGER NOT NULL,
    file_id TEXT,
    batch_id TEXT,
    status TEXT NOT NULL,
    n_done INTEGER NOT NULL,
    n_failed INTEGER NOT NULL
) WITHOUT ROWID
"""
ITEMS = """
CREATE TABLE IF NOT EXISTS items (
    key TEXT PRIMARY KEY,
    intent TEXT NOT NULL,
    n_prompt_tokens INTEGER NOT NULL,
    n_answer_tokens INTEGER NOT NULL,
    answer BLOB
)
"""
BY_BATCH = "CREATE INDEX IF NOT EXISTS items_by_batch ON items (intent) WHERE answer IS NULL"
ADD_ITEMS = """
INSERT INTO items (key, intent, n_prompt_tokens, n_answer_tokens)
SELECT value ->> 0, ?, value ->> 1, value ->> 2 FROM json_each(?)
"""
NOTE_BATCH = (
    "UPDATE batches SET batch_id = ?, status = ?, n_done = ?, n_failed = ? WHERE intent = ?"
)
KEEP = "UPDATE items SET answer = ? WHERE key = ? AND intent = ? AND answer IS NULL"
OPEN = """
SELECT intent, batch_id, status, created_at, n_requests, n_done, n_failed FROM batches
WHERE file_id IS NOT NULL
    AND EXISTS (SELECT 1 FROM items WHERE intent = batches.intent AND answer IS NULL)
ORDER BY created_at, intent
"""
OWED = """
SELECT address, model, sum(n_prompt_tokens), sum(n_answer_tokens), count(*)
FROM items JOIN batches USING (intent) GROUP BY address, model
"""
INTENDED = "intended"
"""Status of a batch of which the provider does not know yet."""


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that has not been read."""

    intent: str
    batch_id: str | None
    """The provider's name; None: it is not known whether it was created."""
    status: str
    """In the provider's words, when it was last looked at."""
    created_at: str
    """ISO 8601, UTC."""
    n_requests: int
    n_done: int
    n_failed: int

    def sentence(self) -> str:
        """One line for a person."""
        name = self.batch_id or "not known whether it was created"
        failed = f", {self.n_failed:,} failed" if self.n_failed else ""
        since = datetime.fromisoformat(self.created_at).astimezone()
        return (
            f"batch at the provider: {name}, {self.status}, {self.n_done:,} of "
            f"{self.n_requests:,} requests done{failed}, since {since:%Y-%m-%d %H:%M}"
        )


@dataclass(frozen=True, slots=True)
class Sent:
    """How far a batch has come."""

    n_requests: int
    file_id: str | None
    batch_id: str | None


@dataclass(frozen=True, slots=True)
class Owed:
    """What questions whose answers were not taken yet can cost at the most, in tokens."""

    address: str
    model: str
    n_prompt_tokens: int
    n_answer_tokens: int
    n_requests: int


class SqliteBatches(Closing):
    """One file of a run folder; one process writes, others may read."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._file = SqliteFile(path, BATCHES, ITEMS, BY_BATCH, read_only=read_only)

    def close(self) -> None:
        self._file.close()

    def drop_unsent(self) -> None:
        """Batches whose questions never reached the provider, as after a kill: for who starts."""
        for (intent,) in self._file.execute("SELECT intent FROM batches WHERE file_id IS NULL"):
            self.drop(intent)

    def forget_taken(self, is_taken: Callable[[str], bool]) -> None:
        """Answers that were taken, by whoever keeps them now, and not forgotten before a kill."""
        for (key,) in self._file.execute("SELECT key FROM items WHERE answer IS NOT NULL"):
            if is_taken(key):
                self.forget(key)

    def intend(
        self, intent: str, address: str, model: str, items: Iterable[tuple[str, int, int]]
    ) -> None:
        """items: (key, tokens of the prompt, of the answer), each at the most. The batch stands
        before its items: a kill between the two leaves an unsent one."""
        rows = [list(item) for item in items]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._file.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?, NULL, NULL, ?, 0, 0)",
            (intent, address, model, now, len(rows), INTENDED),
        )
        self._file.execute(ADD_ITEMS, (intent, json.dumps(rows)))

    def note_file(self, intent: str, file_id: str) -> None:
        self._file.execute("UPDATE batches SET file_id = ? WHERE intent = ?", (file_id, intent))

    def note_batch(
        self, intent: str, batch_id: str, status: str, *, n_done: int, n_failed: int
    ) -> None:
        self._file.execute(NOTE_BATCH, (batch_id, status, n_done, n_failed, intent))

    def drop(self, intent: str) -> None:
        """With its questions."""
        self._file.execute("DELETE FROM items WHERE intent = ?", (intent,))
        self._file.execute("DELETE FROM batches WHERE intent = ?", (intent,))

    def read(self, intent: str) -> Sent:
        """KeyError for one that is not there."""
        select = "SELECT n_requests, file_id, batch_id FROM batches WHERE intent = ?"
        for row in self._file.execute(select, (intent,)):
            return Sent(*row)
        raise KeyError(intent)

    def holds(self, key: str) -> bool:
        """Whether the question was sent, or has its answer, and that was not taken."""
        return bool(self._file.execute("SELECT 1 FROM items WHERE key = ?", (key,)))

    def intent_of(self, key: str) -> str | None:
        """None: the question was not sent, or has its answer."""
        select = "SELECT intent FROM items WHERE key = ? AND answer IS NULL"
        return next((intent for (intent,) in self._file.execute(select, (key,))), None)

    def keep(self, intent: str, key: str, answer: str) -> None:
        """Ignored where nobody waits for it: it is there already, or was taken."""
        self._file.execute(KEEP, (zlib.compress(answer.encode()), key, intent))

    def end(self, intent: str) -> list[str]:
        """Keys of the questions without an answer, which may be sent again from now on."""
        unanswered = "FROM items WHERE intent = ? AND answer IS NULL"
        keys = [key for (key,) in self._file.execute(f"SELECT key {unanswered}", (intent,))]
        self._file.execute(f"DELETE {unanswered}", (intent,))
        return keys

    def answer(self, key: str) -> str | None:
        """StoreError for one that is damaged."""
        select = "SELECT answer FROM items WHERE key = ? AND answer IS NOT NULL"
        for (packed,) in self._file.execute(select, (key,)):
            try:
                return zlib.decompress(packed).decode()
            except (zlib.error, UnicodeError) as error:
                raise StoreError(f"an answer of a batch is damaged ({error})") from error
        return None

    def forget(self, key: str) -> None:
        self._file.execute("DELETE FROM items WHERE key = ?", (key,))

    def open_batches(self) -> list[OpenBatch]:
        """The oldest first."""
        return [OpenBatch(*row) for row in self._file.execute(OPEN)]

    def owed(self) -> list[Owed]:
        """A sum a server and model."""
        return [Owed(*row) for row in self._file.execute(OWED)]
