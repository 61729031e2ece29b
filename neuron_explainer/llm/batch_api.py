"""OpenAI's Batch API over HTTP: files up and down, batches created, looked at, and found again."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import httpx2

from neuron_explainer.errors import BadRequest, LLMError, ServerFailed
from neuron_explainer.llm.batch_files import ENDPOINT
from neuron_explainer.llm.chat_body import one_line
from neuron_explainer.llm.openai_client import OpenAIServer

FILES, BATCHES = "files", "batches"
INTENT = "intent"
"""In a batch's metadata: the name that it was given here before it was sent."""
OVER = frozenset({"completed", "failed", "expired", "cancelled"})
FAILED = "failed"
"""Not taken: none of its requests was run."""
PAGE = 100
"""Batches listed at once; the most that OpenAI allows."""


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch as the provider sees it."""

    id: str
    status: str
    n_requests: int
    """By the provider's count, which is 0 until it has looked at the file."""
    n_done: int
    n_failed: int
    file_ids: tuple[str, ...]
    """Of what came back, the output before the errors; those that there are."""
    intent: str | None
    error_code: str | None
    error: str | None
    """Why it was not taken."""


class BatchApi:
    """Each call asks once; an LLMError, with its own message, for whatever goes wrong."""

    def __init__(self, server: OpenAIServer) -> None:
        self._server = server

    async def close(self) -> None:
        await self._server.close()

    async def upload(self, file: IO[bytes], name: str) -> str:
        """The file's id at the provider."""
        file.seek(0)
        boundary = uuid.uuid4().hex  # said here, as the connection's own header says JSON
        reply = await self._server.send(
            "POST",
            FILES,
            data={"purpose": "batch"},
            files={"file": (name, file, "application/jsonl")},
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        return _text(_object(reply), "id")

    async def create(self, file_id: str, intent: str) -> RemoteBatch:
        body = {
            "input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": "24h",
            "metadata": {INTENT: intent},
        }  # fmt: skip
        reply = await self._server.send("POST", BATCHES, content=json.dumps(body).encode())
        return _read_batch(_object(reply))

    async def get(self, batch_id: str) -> RemoteBatch:
        try:
            return _read_batch(_object(await self._server.send("GET", f"{BATCHES}/{batch_id}")))
        except BadRequest as error:
            raise BadRequest(
                f"{error}; this run has sent {batch_id}: is the key that of the same project? To "
                "give its answers up and ask anew, move batches.sqlite away"
            ) from None

    async def find(self, intent: str) -> RemoteBatch | None:
        """The batch of that name, among all that the key may see; None: there is none."""
        after: dict[str, str] = {}
        while True:
            params = {"limit": str(PAGE), **after}
            page = _object(await self._server.send("GET", BATCHES, params=params))
            batches = [_read_batch(raw) for raw in page.get("data") or ()]
            found = next((batch for batch in batches if batch.intent == intent), None)
            if found is not None or not page.get("has_more") or not batches:
                return found
            after = {"after": batches[-1].id}

    async def download(self, file_id: str, into: IO[bytes]) -> None:
        """Leaves the file at its beginning."""
        into.seek(0)
        into.truncate()
        await self._server.download(f"{FILES}/{file_id}/content", into)
        into.seek(0)

    def status_error(self, status: int, body: Any) -> LLMError:
        """What the answer to one request means, from status 400 on."""
        return self._server.status_error(httpx2.Response(status, json=body))


def _object(reply: httpx2.Response) -> Mapping[str, Any]:
    try:
        body = json.loads(reply.content)
    except ValueError as error:
        raise _unreadable(error) from error
    if not isinstance(body, Mapping):
        raise _unreadable("it is no object")
    return body


def _read_batch(raw: Any) -> RemoteBatch:
    try:
        counts = raw.get("request_counts") or {}
        errors = (raw.get("errors") or {}).get("data") or [{}]
        files = (raw.get("output_file_id"), raw.get("error_file_id"))
        return RemoteBatch(
            id=_text(raw, "id"),
            status=_text(raw, "status"),
            n_requests=int(counts.get("total") or 0),
            n_done=int(counts.get("completed") or 0),
            n_failed=int(counts.get("failed") or 0),
            file_ids=tuple(file_id for file_id in files if file_id),
            intent=(raw.get("metadata") or {}).get(INTENT),
            error_code=errors[0].get("code"),
            error=_describe(errors[0]),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _unreadable(error) from error


def _describe(error: Mapping[str, Any]) -> str | None:
    """`line 3: …`, as validation says it."""
    message = error.get("message") or error.get("code")
    if not message:
        return None
    line = error.get("line")
    return one_line(f"line {line}: {message}" if line is not None else str(message))


def _text(raw: Mapping[str, Any], name: str) -> str:
    text = raw.get(name)
    if not isinstance(text, str) or not text:
        raise _unreadable(f"no {name}")
    return text


def _unreadable(error: object) -> ServerFailed:
    return ServerFailed(one_line(f"the batch interface's answer cannot be read: {error}"))
