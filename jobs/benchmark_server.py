"""A server on this machine that answers every chat request the same, after a while, and cheaply.

It prints its port, then, for each line it reads, when each request so far arrived (a JSON line of
seconds), and ends with its input. Standard library alone, so that it starts at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "benchmark-1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "words about rivers and their banks"},
        }
    ],
    "usage": {
        "prompt_tokens": 1000,
        "completion_tokens": 8,
        "total_tokens": 1008,
        "prompt_tokens_details": {"cached_tokens": 768},
    },
}
BODY = json.dumps(ANSWER).encode()
REPLY = (
    f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode() + BODY


class Connection(asyncio.Protocol):
    """Reads requests that may arrive in pieces; answers each after `latency_s`."""

    def __init__(self, latency_s: float, arrivals: list[float]) -> None:
        self._latency_s = latency_s
        self._arrivals = arrivals
        self._loop = asyncio.get_running_loop()
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(HEAD_END)) >= 0:
            head = bytes(self._data[:end]).lower()
            length = int(head[head.index(LENGTH) + len(LENGTH) :].split(b"\r\n", 1)[0])
            if len(self._data) < end + len(HEAD_END) + length:
                return
            del self._data[: end + len(HEAD_END) + length]
            self._arrivals.append(self._loop.time())
            self._loop.call_later(self._latency_s, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(REPLY)


async def serve(latency_s: float) -> None:
    loop = asyncio.get_running_loop()
    arrivals: list[float] = []
    server = await loop.create_server(lambda: Connection(latency_s, arrivals), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(arrivals), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("latency_s", type=float, help="seconds until a request is answered")
    asyncio.run(serve(parser.parse_args().latency_s))
