"""One attempt to get a document: it is there, it is not, or something went wrong."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from neuron_explainer.errors import UsageError
from neuron_explainer.published.locations import Kind
from neuron_explainer.published.sources import Failure, Fetched, open_source
from tests.published.mirror import FAILURES, Reply, document, mirror_server, which, write_mirror

ONE = which(Kind.EXPLANATIONS)
DOCUMENTS = {ONE.path: document(ONE)}


async def fetch(address: str, timeout_s: float = 10) -> Fetched:
    async with open_source(address, timeout_s=timeout_s) as source:
        return await source.fetch(ONE.path)


def fetch_of(reply: Reply | None) -> Fetched:
    with mirror_server(DOCUMENTS, lambda *_: reply) as mirror:
        return asyncio.run(fetch(f"{mirror.address}/"))


def failure_of(reply: Reply) -> Failure:
    fetched = fetch_of(reply)
    assert fetched.document is None
    assert fetched.failure is not None
    return fetched.failure


def test_a_server_gives_the_bytes_of_a_document() -> None:
    assert fetch_of(None) == Fetched(document(ONE))


def test_a_folder_gives_the_bytes_of_a_document(tmp_path: Path) -> None:
    write_mirror(tmp_path, DOCUMENTS)
    assert asyncio.run(fetch(str(tmp_path))) == Fetched(document(ONE))


@pytest.mark.parametrize("code", [None, "BlobNotFound"])
def test_a_404_says_that_there_is_none(code: str | None) -> None:
    headers = {} if code is None else {"x-ms-error-code": code}
    assert fetch_of(Reply(404, headers=headers)) == Fetched(None)


def test_a_folder_without_the_file_has_none(tmp_path: Path) -> None:
    assert asyncio.run(fetch(str(tmp_path))) == Fetched(None)
    (tmp_path / "data").write_text("no folder")
    assert asyncio.run(fetch(str(tmp_path))) == Fetched(None)


@pytest.mark.parametrize(
    ("reply", "reason", "may_pass"),
    [
        (Reply(500), "HTTP 500", True),
        (Reply(429), "HTTP 429", True),
        (Reply(403), "HTTP 403", False),
        (Reply(302, headers={"Location": "/login"}), "HTTP 302", False),
        (
            Reply(404, headers={"x-ms-error-code": "ContainerNotFound"}),
            "HTTP 404 ContainerNotFound",
            False,
        ),
    ],
)
def test_another_status_is_a_failure(reply: Reply, reason: str, may_pass: bool) -> None:
    assert failure_of(reply) == Failure(reason, may_pass)


def test_how_long_the_server_wants_to_be_left_alone_is_heard() -> None:
    assert failure_of(FAILURES[1]) == Failure("HTTP 503 ServerBusy", True, retry_after_s=1)
    assert failure_of(Reply(503, headers={"Retry-After": "soon"})).retry_after_s is None


@pytest.mark.parametrize("reply", [Reply(0), Reply(body=b"{", is_cut=True)])
def test_a_connection_that_breaks_is_a_failure_that_may_pass(reply: Reply) -> None:
    failure = failure_of(reply)
    assert failure.reason.startswith("connection broke")
    assert failure.may_pass


def test_no_server_is_a_failure_that_may_pass() -> None:
    with mirror_server({}) as mirror:
        address = mirror.address
    fetched = asyncio.run(fetch(address))
    assert fetched.failure is not None
    assert fetched.failure.reason.startswith("no connection")
    assert fetched.failure.may_pass


def test_a_server_that_does_not_answer_is_a_failure_that_may_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        fetched = asyncio.run(fetch(address, timeout_s=0.05))
    assert fetched == Fetched(None, Failure("no answer in time", may_pass=True))


@pytest.mark.parametrize("address", ["nowhere", "", "http://[", "http://", "ftp://a.b"])
def test_what_is_neither_a_url_nor_a_folder_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        asyncio.run(fetch(address))
