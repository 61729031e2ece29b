"""Whether the model hub and the package index answer; each is asked in a thread of its own.

What is found names hosts alone: an address may hold a password.
"""

from __future__ import annotations

import configparser
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from http.client import HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from neuron_explainer.pipeline.check import Check, note, ok

TIMEOUT_S = 3.0
HUB = "https://huggingface.co"
HUB_FILE = "/openai-community/gpt2/resolve/main/config.json"
INDEX = "https://pypi.org/simple"
INDEX_PAGE = "/torch/"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

Fetch = Callable[[str, float], int]
"""(url, timeout_s) -> HTTP status; OSError, HTTPException or ValueError when nobody answers."""
Ask = Callable[[], Check]
"""What a question returns at once; calling it waits for the answer."""


def ask_hub(environ: Mapping[str, str], fetch: Fetch | None = None) -> Ask:
    """The hub that transformers would load a model from."""
    name = "model hub"
    offline = [flag for flag in OFFLINE if environ.get(flag, "").upper() in _TRUE]
    if offline:
        off = note(name, f"not asked: {offline[0]} is set", f"unset {offline[0]} to fetch models")
        return lambda: off
    todo = "check network, HTTPS_PROXY, HF_ENDPOINT; local models need no hub"
    return _ask(name, environ.get("HF_ENDPOINT") or HUB, HUB_FILE, todo, fetch)


def ask_index(
    environ: Mapping[str, str], pip_configs: Iterable[str], fetch: Fetch | None = None
) -> Ask:
    """The index that pip would install from; `pip_configs` as `read_pip_configs` gives them."""
    name, todo = "package index", "check network and HTTPS_PROXY; only installing needs it"
    address = environ.get("PIP_INDEX_URL") or configured_index(pip_configs) or INDEX
    if not address.startswith("file:"):
        return _ask(name, address, INDEX_PAGE, todo, fetch)
    folder = Path(unquote(address.removeprefix("file:").removeprefix("//")))
    if folder.is_dir():
        return lambda: ok(name, f"the folder {folder}")
    return lambda: note(
        name, f"no folder at {folder}", "set index-url of pip; only installing needs it"
    )


def read_pip_configs(environ: Mapping[str, str]) -> list[str]:
    """Texts of pip's configuration files, the strongest first."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path(environ.get("HOME", "/"))
    system = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    paths = [
        *([Path(named)] if named else []),
        Path(sys.prefix) / "pip.conf",
        Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf",
        home / "Library/Application Support/pip/pip.conf",
        home / ".pip/pip.conf",
        *(Path(folder) / "pip/pip.conf" for folder in system.split(":")),
        Path("/etc/pip.conf"),
    ]
    return [text for path in paths if (text := _read(path))]


def configured_index(texts: Iterable[str]) -> str | None:
    """The index of the first text that names one."""
    for text in texts:
        config = configparser.RawConfigParser(strict=False)
        try:
            config.read_string(text)
        except configparser.Error:
            continue
        for section in ("install", "global"):
            address = config.get(section, "index-url", fallback="").strip()
            if address:
                return address
    return None


def fetch_status(url: str, timeout_s: float) -> int:
    """Asks for the head of a page, through the proxy that the environment names."""
    request = Request(url, method="HEAD", headers={"User-Agent": "neuron-explainer"})
    try:
        with urlopen(request, timeout=timeout_s) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


class Question:
    """One address that is being asked; what takes longer than `timeout_s` is no answer."""

    def __init__(self, url: str, fetch: Fetch, timeout_s: float = TIMEOUT_S) -> None:
        self._answers: SimpleQueue[int | Exception] = SimpleQueue()
        self._deadline = time.monotonic() + timeout_s
        # A daemon: looking up a name has no timeout, and must not keep the program from ending.
        Thread(target=self._ask, args=(url, fetch, timeout_s), daemon=True).start()

    def failure(self) -> str | None:
        """Why the address is of no use; None when it is."""
        try:
            answer = self._answers.get(timeout=max(0.0, self._deadline - time.monotonic()))
        except Empty:
            return _NO_ANSWER
        if isinstance(answer, Exception):
            return _reason(answer)
        return None if answer < 400 or answer == 401 else f"answers {answer}"

    def _ask(self, url: str, fetch: Fetch, timeout_s: float) -> None:
        try:
            self._answers.put(fetch(url, timeout_s))
        except (OSError, HTTPException, ValueError) as error:
            self._answers.put(error)


_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads them
_NO_ANSWER = f"no answer within {TIMEOUT_S:.0f} s"


def _ask(name: str, address: str, page: str, todo: str, fetch: Fetch | None) -> Ask:
    try:
        parts = urlsplit(address.rstrip("/"))
        host = parts.netloc.rpartition("@")[2]  # without user and password
        url = urlunsplit((parts.scheme, host, parts.path + page, "", ""))
    except ValueError:
        host = ""
    if not host:
        return lambda: note(name, "its address is not one", f"write it as https://HOST; {todo}")
    question = Question(url, fetch or fetch_status)

    def answer() -> Check:
        failure = question.failure()
        if failure is None:
            return ok(name, f"{host} answers")
        return note(name, f"{host} cannot be used ({failure})", todo)

    return answer


def _reason(error: Exception) -> str:
    """In words that hold nothing of the address."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return _NO_ANSWER
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if str(cause).startswith("Tunnel connection failed"):
        return "the proxy refuses"
    return type(cause).__name__


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
