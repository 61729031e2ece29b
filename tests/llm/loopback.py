"""A server on this machine that speaks OpenAI's chat protocol over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server sends; a body that is a string is sent as it is."""

    body: Mapping[str, Any] | str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False
    """The connection ends in the middle of the body."""


def answer(text: str | None, **changes: Any) -> Reply:
    """A chat completion; `changes` are those of its one choice, or `usage` and `model`."""
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None,
              "message": {"role": "assistant", "content": text, "refusal": None}}  # fmt: skip
    usage = changes.pop("usage", {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9})
    choice["message"] |= {"refusal": changes.pop("refusal", None)}
    return Reply(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "loopback-1",
         "usage": usage, "choices": [choice | changes]}
    )  # fmt: skip


def failure(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply({"error": {"message": message, "code": code}}, status, named)


@dataclass
class Loopback:
    """Its address, and what it was asked."""

    base_url: str = ""
    replies: list[Reply] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def loopback(*replies: Reply) -> Iterator[Loopback]:
    """Sends the replies in order, one a request."""
    asked = Loopback(replies=list(replies))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.bodies.append(json.loads(body))
            asked.headers.append(dict(self.headers))
            reply = asked.replies.pop(0)
            text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode()) + 100 * reply.is_cut))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    asked.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
