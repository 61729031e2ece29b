"""Where documents come from: a web address, or a mirror folder of the same layout."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import httpx2

from neuron_explainer.errors import UsageError

TIMEOUT_S = 30.0
"""Between two pieces of an answer."""
CONNECT_TIMEOUT_S = 10.0
ERROR_CODE = "x-ms-error-code"
"""Azure says by it what a 404 is about: of a container that is gone nothing can be known."""
NO_SUCH_BLOB = "BlobNotFound"
OVERLOADED = {408, 425, 429}


class Failure(NamedTuple):
    """Why a source gave no answer."""

    reason: str
    """Counted under its part before the first colon."""
    may_pass: bool
    """Another attempt may do better."""
    retry_after_s: float | None = None
    """As the server asks; None: it does not say."""


class Fetched(NamedTuple):
    """A document; or neither it nor a failure: the source has none, which is worth knowing."""

    document: bytes | None
    failure: Failure | None = None


class Source(Protocol):
    @property
    def address(self) -> str:
        """What an archive remembers it by."""

    @property
    def is_remote(self) -> bool:
        """There is something between that may damage a document now, and not the next time."""

    async def fetch(self, path: str) -> Fetched:
        """One attempt."""


class HttpSource:
    """Asks once; absent is a 404 alone."""

    is_remote = True

    def __init__(self, client: httpx2.AsyncClient, address: str) -> None:
        self._client = client
        self.address = address_of(address)

    async def fetch(self, path: str) -> Fetched:
        try:
            response = await self._client.get(f"{self.address}/{path}")
        except httpx2.TimeoutException:
            return Fetched(None, Failure("no answer in time", may_pass=True))
        except httpx2.ConnectError as error:
            return Fetched(None, Failure(f"no connection: {error}", may_pass=True))
        except httpx2.RequestError as error:  # the body was cut off, among others
            return Fetched(None, Failure(f"connection broke: {error}", may_pass=True))
        if response.status_code == httpx2.codes.OK:
            return Fetched(response.content)
        code = response.headers.get(ERROR_CODE, NO_SUCH_BLOB)
        if response.status_code == httpx2.codes.NOT_FOUND and code == NO_SUCH_BLOB:
            return Fetched(None)
        return Fetched(None, _failure(response))


class FolderSource:
    """A mirror on disk; absent is a file that is not there."""

    is_remote = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = address_of(str(folder))

    async def fetch(self, path: str) -> Fetched:
        try:
            return Fetched((self._folder / path).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return Fetched(None)
        except OSError as error:
            return Fetched(None, Failure(f"{error.strerror}: {error.filename}", may_pass=False))


def address_of(source: str) -> str:
    """What an archive remembers a URL or a folder by, whether it can be reached or not."""
    return source.rstrip("/") if _is_url(source) else str(Path(source).resolve())


@asynccontextmanager
async def open_source(
    address: str, *, n_at_once: int = 1, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Source]:
    """A URL, or a mirror folder; UsageError for a folder that is not there.

    n_at_once: connections that are kept open.
    """
    if not _is_url(address):
        if not address or not Path(address).is_dir():
            raise UsageError(f"no folder {address!r}; give a mirror's folder, or an https:// URL")
        yield FolderSource(Path(address))
        return
    _check_url(address)
    limits = httpx2.Limits(max_connections=n_at_once, max_keepalive_connections=n_at_once)
    timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
    async with httpx2.AsyncClient(timeout=timeout, limits=limits) as client:
        yield HttpSource(client, address)


def _is_url(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def _check_url(address: str) -> None:
    try:
        host = urlsplit(address).hostname and httpx2.URL(address).host
    except (ValueError, httpx2.InvalidURL) as error:
        raise UsageError(f"{address!r} is no URL: {error}") from error
    if not host:
        raise UsageError(f"{address!r} is no URL: it names no host")


def _failure(response: httpx2.Response) -> Failure:
    status = response.status_code
    code = response.headers.get(ERROR_CODE)
    wait = response.headers.get("retry-after", "")
    return Failure(
        f"HTTP {status}" if code is None else f"HTTP {status} {code}",
        may_pass=status >= 500 or status in OVERLOADED,
        retry_after_s=float(wait) if wait.isdecimal() and wait.isascii() else None,
    )
