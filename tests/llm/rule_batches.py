"""OpenAI's Batch API as the rule server speaks it: files up, batches of them, answers down.

Every line is answered by the same rule as a question to the chat, when the batch is created; what
goes wrong with the first batches is said beforehand.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from tests.llm.rule_log import ANSWER, RuleLog
from tests.llm.rule_protocol import Reply, RuleModel
from tests.llm.rule_refusals import NotTaken

FILES, BATCHES, CHAT = "/v1/files", "/v1/batches", "/v1/chat/completions"
OVER = {"completed", "failed", "expired", "cancelled"}


@dataclass(frozen=True)
class BatchFaults:
    """How the first batches fare; those after them are well."""

    n_faulty: int = 1
    """So many batches have the faults below."""
    n_polls: int = 1
    """Looks at any batch that find it still in progress."""
    statuses: tuple[int, ...] = ()
    """Of the first requests of a batch, in place of their answers: 429, 500, 400."""
    n_left_out: int = 0
    """Requests, from the end, of which nothing is said."""
    n_before_expiry: int | None = None
    """Requests that are answered before the batch expires; None: it does not."""
    invalid: str | None = None
    """What validation says; None: it takes the file."""
    most_tokens: int | None = None
    """Of prompts, in a batch, of any number of batches; None: no limit."""
    n_broken_creates: int = 0
    """Batches that are created, and the answer is a 500."""
    n_uncreated: int = 0
    """The same, and not created."""


class HttpReply(NamedTuple):
    """Status, body as JSON, or as it is."""

    status: int
    body: Mapping[str, Any] | bytes


@dataclass
class Batch:
    """One that was created."""

    number: int
    created: Mapping[str, Any]
    lines: list[Mapping[str, Any]]
    output: bytes = b""
    errors: bytes = b""
    end: str = "completed"
    problem: Mapping[str, Any] | None = None
    n_looks: int = 0
    is_cancelled: bool = False
    created_at: int = field(default_factory=lambda: int(time.time()))

    @property
    def id(self) -> str:
        return f"batch_{self.number}"


class RuleBatches:
    """Files and batches of one server."""

    def __init__(self, model: RuleModel, faults: BatchFaults | None, log: RuleLog) -> None:
        """faults None: the server has no batch interface."""
        self._model = model
        self._faults = faults
        self._log = log
        self.files: dict[str, bytes] = {}
        self.batches: list[Batch] = []
        self.n_sent: Counter[str] = Counter()
        """By custom id: batches that were created with it."""
        self.was_created = threading.Event()
        self.is_held = False
        """No batch is over while this is so."""
        self._n_creates = 0

    def is_for(self, path: str) -> bool:
        return path.startswith((FILES, BATCHES))

    def respond(self, method: str, path: str, query: str, raw: bytes) -> HttpReply:
        if self._faults is None:
            raise NotTaken(404, "Not Found")
        match method, path.removeprefix("/v1/").split("/"):
            case "POST", ["files"]:
                return self._upload(raw)
            case "GET", ["files", file_id, "content"] if file_id in self.files:
                return HttpReply(200, self.files[file_id])
            case "POST", ["batches"]:
                return self._create(json.loads(raw))
            case "GET", ["batches"]:
                return self._list(parse_qs(query))
            case "GET", ["batches", batch_id]:
                batch = self._find(batch_id)
                batch.n_looks += 1
                return HttpReply(200, self._shown(batch))
            case "POST", ["batches", batch_id, "cancel"]:
                batch = self._find(batch_id)
                batch.is_cancelled = True
                return HttpReply(200, self._shown(batch))
        raise NotTaken(404, f"no {method} {path}")

    def _upload(self, raw: bytes) -> HttpReply:
        """The parts of a form: one says the purpose, one is the file."""
        boundary = raw.split(b"\r\n", 1)[0]
        parts = [part.strip(b"\r\n") for part in raw.split(boundary)[1:-1]]
        found = {}
        for part in parts:
            head, _, content = part.partition(b"\r\n\r\n")
            name = re.search(rb'name="(\w+)"', head)
            assert name is not None
            found[name[1]] = content
        if found.get(b"purpose") != b"batch":
            raise NotTaken(400, "purpose must be batch")
        file_id = f"file_{len(self.files)}"
        self.files[file_id] = found[b"file"]
        return HttpReply(200, {"id": file_id, "object": "file", "purpose": "batch"})

    def _create(self, body: Mapping[str, Any]) -> HttpReply:
        assert self._faults is not None
        self._n_creates += 1
        if self._n_creates <= self._faults.n_uncreated:
            return HttpReply(500, {"error": {"message": "try again"}})
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        batch = Batch(len(self.batches), body, lines)
        self.batches.append(batch)
        self.n_sent.update(line["custom_id"] for line in lines)
        is_faulty = batch.number < self._faults.n_faulty
        self._run(batch, self._faults if is_faulty else BatchFaults(n_faulty=0))
        self.was_created.set()
        if self._n_creates <= self._faults.n_uncreated + self._faults.n_broken_creates:
            return HttpReply(500, {"error": {"message": "the batch may have been created"}})
        return HttpReply(200, self._shown(batch))

    def _run(self, batch: Batch, faults: BatchFaults) -> None:
        assert self._faults is not None
        if faults.invalid is not None:
            batch.end = "failed"
            batch.problem = {"code": "invalid_json_line", "message": faults.invalid, "line": 1}
            return
        replies = [self._answer(line["body"]) for line in batch.lines]
        n_tokens = sum(r.usage.n_prompt_tokens for r in replies if isinstance(r, Reply))
        limit = self._faults.most_tokens
        if limit is not None and n_tokens > limit:
            batch.end = "failed"
            said = f"Enqueued token limit reached for rule-1. Limit: {limit:,} enqueued tokens."
            batch.problem = {"code": "token_limit_exceeded", "message": said}
            return
        n_run = len(replies) - faults.n_left_out
        if faults.n_before_expiry is not None:
            batch.end, n_run = "expired", faults.n_before_expiry
        good, bad = [], []
        for number, (line, reply) in enumerate(zip(batch.lines, replies, strict=True)):
            if number < len(faults.statuses):
                error = {"error": {"message": "spoiled", "code": None}}
                bad.append(answer_line(line, faults.statuses[number], error))
            elif number >= n_run:
                if batch.end == "expired":
                    bad.append(never_run_line(line, "batch_expired"))
            elif isinstance(reply, NotTaken):
                bad.append(answer_line(line, reply.status, reply.body))
            else:
                good.append(answer_line(line, 200, reply.body))
                self._note(line["body"], reply)
        batch.output, batch.errors = b"".join(reversed(good)), b"".join(bad)  # in any order

    def _answer(self, body: Mapping[str, Any]) -> Reply | NotTaken:
        try:
            return self._model.chat(body)
        except NotTaken as error:
            return error

    def _note(self, body: Mapping[str, Any], reply: Reply) -> None:
        """As though it had been asked of the chat; equal bodies have equal keys there and here."""
        entry = self._log.arrive(RuleLog.key(CHAT, json.dumps(body).encode()), CHAT)
        self._log.end(
            replace(
                entry, outcome=ANSWER, status=200, is_sent=True, usage=reply.usage, is_told=True
            )
        )

    def _list(self, query: Mapping[str, list[str]]) -> HttpReply:
        """The newest first, a page of them."""
        newest = self.batches[::-1]
        start = 0
        if "after" in query:
            start = 1 + [batch.id for batch in newest].index(query["after"][0])
        n_most = int(query.get("limit", ["20"])[0])
        page = newest[start : start + n_most]
        return HttpReply(200, {"object": "list", "data": [self._shown(b) for b in page],
                               "has_more": start + n_most < len(newest)})  # fmt: skip

    def _find(self, batch_id: str) -> Batch:
        for batch in self.batches:
            if batch.id == batch_id:
                return batch
        raise NotTaken(404, f"No batch found with id '{batch_id}'.")

    def _shown(self, batch: Batch) -> Mapping[str, Any]:
        assert self._faults is not None
        status = batch.end
        if batch.is_cancelled:
            status = "cancelled"
        elif self.is_held or batch.n_looks <= self._faults.n_polls:
            status = "in_progress"
        is_read = status in OVER - {"failed"}
        shown = {
            "id": batch.id, "object": "batch", "endpoint": CHAT, "status": status,
            "input_file_id": batch.created["input_file_id"], "completion_window": "24h",
            "created_at": batch.created_at, "metadata": batch.created.get("metadata"),
            "request_counts": {
                "total": len(batch.lines),
                "completed": batch.output.count(b"\n") if is_read else 0,
                "failed": batch.errors.count(b"\n") if is_read else 0,
            },
        }  # fmt: skip
        if batch.problem is not None and status == "failed":
            shown["errors"] = {"object": "list", "data": [batch.problem]}
        for name, content in (("output", batch.output), ("error", batch.errors)):
            if is_read and content:
                file_id = f"{batch.id}_{name}"
                self.files[file_id] = content
                shown[f"{name}_file_id"] = file_id
        return shown


def answer_line(line: Mapping[str, Any], status: int, body: Mapping[str, Any]) -> bytes:
    response = {"status_code": status, "request_id": "r", "body": body}
    return _line({"id": "a", "custom_id": line["custom_id"], "response": response, "error": None})


def never_run_line(line: Mapping[str, Any], code: str) -> bytes:
    error = {"code": code, "message": "This request could not be executed in time."}
    return _line({"id": "a", "custom_id": line["custom_id"], "response": None, "error": error})


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
