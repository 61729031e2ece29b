"""A small mirror of the published dataset, and a server of it that fails now and then."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from neuron_explainer.published.locations import DATASETS, DocumentId, Kind, documents_of
from neuron_explainer.records.neuron import NeuronId
from tests.formats.openai_documents import encode, plain_document

XL = DATASETS["gpt2-xl"]
NEURON = NeuronId(1, 7)


def which(kind: Kind, neuron_id: NeuronId = NEURON) -> DocumentId:
    return DocumentId(XL.name, kind, neuron_id)


def document(one: DocumentId) -> bytes:
    return encode(plain_document(one.kind, one.neuron_id))


def mirror_documents(
    n_layers: int = 2, n_neurons: int = 60, absent: Collection[DocumentId] = ()
) -> dict[str, bytes]:
    """Path -> document, of all kinds."""
    everything = documents_of(XL, range(n_layers), tuple(Kind), n_neurons)
    return {one.path: document(one) for one in everything if one not in absent}


def write_mirror(folder: Path, documents: Mapping[str, bytes]) -> None:
    for path, content in documents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


@dataclass(frozen=True)
class Reply:
    """What the server sends; status 0: it hangs up without a word."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False
    """The connection ends in the middle of the body."""


Answer = Callable[[str, int], Reply | None]
"""(path, how often it was asked for before) -> what goes wrong; None: nothing."""
FAILURES = (
    Reply(500),
    Reply(503, headers={"Retry-After": "1", "x-ms-error-code": "ServerBusy"}),
    Reply(status=0),
    Reply(body=b'{"dataclass_name":', is_cut=True),
    Reply(body=b"<html>a login page</html>"),
    Reply(429),
)


def failing(share: float) -> Answer:
    """That share of requests goes wrong, each in one of the ways of FAILURES; always the same."""

    def answer(path: str, n_before: int) -> Reply | None:
        digest = hashlib.blake2b(f"{path} {n_before}".encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "big") / 2**64
        if number >= share:
            return None
        return FAILURES[int(number / share * len(FAILURES))]

    return answer


@dataclass
class Mirror:
    """A server's address, and what it was asked."""

    address: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    """Path -> requests."""
    sent: Counter[str] = field(default_factory=Counter)
    """Path -> documents, or 404s, that went out whole."""


@contextmanager
def mirror_server(documents: Mapping[str, bytes], answer: Answer | None = None) -> Iterator[Mirror]:
    """Serves the documents on this machine; a path that is not among them is a 404."""
    mirror = Mirror()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # an answer is one write

        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            with lock:
                n_before = mirror.asked[path]
                mirror.asked[path] += 1
            trouble = None if answer is None else answer(path, n_before)
            if trouble is None:
                body = documents.get(path)
                trouble = Reply(404) if body is None else Reply(body=body)
                with lock:
                    mirror.sent[path] += 1
            self._send(trouble)

        def _send(self, reply: Reply) -> None:
            self.close_connection = reply.status == 0 or reply.is_cut
            if reply.status == 0:
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body) + 100 * reply.is_cut))
            self.end_headers()
            self.wfile.write(reply.body)
            self.wfile.flush()

        def log_message(self, *_arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, *_arguments: Any) -> None:
            """A client that was killed has gone."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    mirror.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield mirror
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
