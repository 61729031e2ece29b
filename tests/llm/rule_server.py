"""A server on this machine that answers by rule over real HTTP, fails on purpose, and keeps a log.

    with rule_server() as server: …                        in a thread
    python -m tests.llm.rule_server --port 8123 --log F    as a process, until it is ended

It speaks OpenAI's protocol: GET /v1/models, POST /v1/chat/completions, POST /v1/completions, and
where it is told to, /v1/files and /v1/batches.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from neuron_explainer.llm.messages import Usage
from tests.llm.rule_batches import BatchFaults, RuleBatches
from tests.llm.rule_faults import FaultPlan
from tests.llm.rule_log import ANSWER, Entry, RuleLog
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_protocol import Reply, RuleModel
from tests.llm.rule_refusals import NotTaken
from tests.llm.rule_tokens import BUNDLED, RuleTokenizer

CHAT, COMPLETIONS, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
           422: "Unprocessable Entity", 429: "Too Many Requests", 500: "Internal Server Error",
           503: "Service Unavailable"}  # fmt: skip


class Question(NamedTuple):
    """One HTTP request."""

    path: str
    authorization: str | None
    raw: bytes
    method: str = "POST"
    query: str = ""

    @property
    def key(self) -> str:
        return RuleLog.key(self.path, self.raw)


@dataclass
class Response:
    """What is written to the connection."""

    raw: bytes
    outcome: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    usage: Usage | None = None
    is_told: bool = False
    wait_s: float = 0.0
    is_cut: bool = False

    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {REASONS[self.status]}",
                 "Content-Type: application/json", f"Content-Length: {len(self.raw)}",
                 *(f"{name}: {value}" for name, value in self.headers.items())]  # fmt: skip
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


class RuleServer:
    """Answers of a model, with faults by plan; one connection after the other or many at once."""

    def __init__(
        self,
        model: RuleModel,
        options: ServerOptions,
        plan: FaultPlan,
        log: RuleLog,
        batches: BatchFaults | None = None,
    ) -> None:
        self._model = model
        self._options = options
        self._plan = plan
        self.log = log
        self.batches = RuleBatches(model, batches, log)
        self.base_url = ""
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, port: int, started: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", port, backlog=1024)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        started.set()
        await stop.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            status: int | None = 200
            while status is not None and (question := await read_question(reader)) is not None:
                if status == 500 and self._options.breaks_after_500:
                    break
                status = await self._attend(question, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the server ends: what was asked is in the log
        finally:
            writer.close()
            self._connections.discard(task)

    async def _attend(
        self, question: Question, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> int | None:
        """The status that was sent; None: the connection is to end."""
        entry = self.log.arrive(question.key, question.path)
        response = self._respond(question, entry.attempt)
        is_sent = False
        try:
            if response.wait_s:
                await asyncio.sleep(response.wait_s)
            raw = response.raw[: len(response.raw) // 2] if response.is_cut else response.raw
            if not reader.at_eof() and not writer.is_closing():
                writer.write(response.head() + raw)
                # What has left this process may be read, whatever becomes of the connection.
                is_sent = not response.is_cut and not writer.transport.get_write_buffer_size()
                await writer.drain()
                is_sent = not response.is_cut
        finally:
            self.log.end(ended(entry, response, is_sent))
        return response.status if is_sent else None

    def _respond(self, question: Question, attempt: int) -> Response:
        key = self._options.api_key
        if key is not None and question.authorization != f"Bearer {key}":
            error = NotTaken(401, "Incorrect API key provided", "invalid_api_key")
            return Response(as_json(error.body), "refused", error.status)
        try:
            if self.batches.is_for(question.path):
                found = self.batches.respond(
                    question.method, question.path, question.query, question.raw
                )
                raw = found.body if isinstance(found.body, bytes) else as_json(found.body)
                return Response(raw, "batch", found.status)
            if question.path == MODELS:
                return Response(as_json(self._model.models()), ANSWER)
            is_chat = question.path == CHAT
            if not is_chat and question.path != COMPLETIONS:
                raise NotTaken(404, "Not Found")
            body = json.loads(question.raw)
            reply = self._model.chat(body) if is_chat else self._model.complete(body)
        except NotTaken as error:
            return Response(as_json(error.body), "refused", error.status)
        fault = self._plan.choose(question.key, attempt, is_chat=is_chat)
        response = spoiled(reply, fault, self._plan, is_chat=is_chat)
        response.wait_s += self._options.latency_s
        response.is_told = response.is_told and self._options.tells_usage
        return response


def spoiled(reply: Reply, fault: str | None, plan: FaultPlan, *, is_chat: bool) -> Response:
    """The reply as the fault leaves it; None: as it is."""
    body, usage = reply.body, reply.usage
    choice = body["choices"][0]
    match fault:
        case None:
            return Response(as_json(body), ANSWER, usage=usage, is_told=True)
        case "rate_limit":
            headers = {"Retry-After": f"{plan.retry_after_s:g}"}
            return Response(failure("Rate limit reached"), fault, 429, headers)
        case "server_error":
            return Response(failure("The server had an error"), fault, 500)
        case "overloaded":
            return Response(failure("The engine is overloaded"), fault, 503)
        case "slow":
            return Response(as_json(body), fault, usage=usage, is_told=True, wait_s=plan.slow_s)
        case "cut":
            return Response(as_json(body), fault, usage=usage, is_cut=True)
        case "garbage":
            return Response(b"<html><body>502 Bad Gateway</body></html>", fault, usage=usage)
    if not is_chat:
        return Response(as_json({**body, "choices": []}), fault, usage=usage, is_told=True)
    text = choice["message"]["content"] or ""
    message = dict(choice["message"])
    match fault:
        case "empty":
            message["content"] = ""
        case "refusal":
            message |= {"content": None, "refusal": "I'm sorry, but I can't help with that."}
        case "off_topic":
            message["content"] = "What a lovely day it is! Shall we talk of something else?"
        case "cut_answer":
            message["content"] = text[: len(text) // 2]
    choice = {**choice, "message": message, "logprobs": None}
    if fault == "cut_answer":
        choice["finish_reason"] = "length"
    return Response(as_json({**body, "choices": [choice]}), fault, usage=usage, is_told=True)


async def read_question(reader: asyncio.StreamReader) -> Question | None:
    """The next request of a connection; None at its end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    method, target, _ = first.split()
    path, _, query = target.partition("?")
    return Question(path, headers.get("authorization"), raw, method, query)


def ended(entry: Entry, response: Response, is_sent: bool) -> Entry:
    return replace(
        entry,
        outcome=response.outcome,
        status=response.status,
        is_sent=is_sent,
        usage=response.usage,
        is_told=response.is_told and is_sent,
    )


def as_json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode()


def failure(message: str) -> bytes:
    return as_json({"error": {"message": message, "code": None}})


@contextmanager
def rule_server(
    options: ServerOptions | None = None,
    plan: FaultPlan | None = None,
    *,
    tokenizer: RuleTokenizer | None = None,
    log: Path | None = None,
    batches: BatchFaults | None = None,
) -> Iterator[RuleServer]:
    """In a thread of its own; its log stays readable after it has ended.

    batches None: it has no batch interface.
    """
    options = options or ServerOptions()
    model = RuleModel(tokenizer or RuleTokenizer.from_file(), options)
    server = RuleServer(model, options, plan or FaultPlan(), RuleLog(log), batches)
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(server.serve(0, started, stop),)
    )
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
        server.log.close()


def main(arguments: list[str]) -> None:
    """Prints its address as one line of JSON and serves until SIGTERM, with a whole log."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--tokenizer", type=Path, default=BUNDLED)
    parser.add_argument("--options", type=json.loads, default={}, help="ServerOptions as JSON")
    parser.add_argument("--faults", type=json.loads, default={}, help="FaultPlan as JSON")
    parser.add_argument("--batches", type=json.loads, help="BatchFaults as JSON")
    flags = parser.parse_args(arguments)
    options = made(ServerOptions, flags.options)
    model = RuleModel(RuleTokenizer.from_file(flags.tokenizer), options)
    batches = None if flags.batches is None else made(BatchFaults, flags.batches)
    plan = made(FaultPlan, flags.faults)
    server = RuleServer(model, options, plan, RuleLog(flags.log), batches)

    async def serve() -> None:
        started, stop = threading.Event(), asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        serving = asyncio.create_task(server.serve(flags.port, started, stop))
        while not started.is_set() and not serving.done():
            await asyncio.sleep(0)
        sys.stdout.write(json.dumps({"base_url": server.base_url}) + "\n")
        sys.stdout.flush()
        await serving

    asyncio.run(serve())


def made(kind: Any, raw: Mapping[str, Any]) -> Any:
    """A dataclass from JSON; lists become tuples."""
    names = {f.name for f in fields(kind)}
    if unknown := set(raw) - names:
        raise SystemExit(f"{kind.__name__} has no {sorted(unknown)}; it has {sorted(names)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()})


if __name__ == "__main__":
    main(sys.argv[1:])
