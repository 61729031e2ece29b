"""The viewer as people start it, `neuron-explainer view`, in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

HOST = "127.0.0.1"
START_WITHIN_S, INDEX_WITHIN_S, END_WITHIN_S = 60.0, 1800.0, 30.0
LOOK_EVERY_S = 0.02
START = "from neuron_explainer.cli import main; main()"


@dataclass
class ViewerProcess:
    """A viewer that answers."""

    port: int
    process: subprocess.Popen[bytes]
    start_s: float = 0.0
    """From the command to the first answer."""
    peak_mb: float | None = None
    """Largest resident sizes of the viewer and the processes beside it, pages of mapped files
    included; None: this system does not say."""
    own_mb: float | None = None
    """Memory of its own at the end: what is no page of a file, which the system may take back."""

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def connect(self, timeout_s: float = 60.0) -> HTTPConnection:
        return HTTPConnection(HOST, self.port, timeout=timeout_s)

    def read_json(self, path: str) -> Any:
        """HTTPException for a status that is not 200."""
        with closing(self.connect()) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        if response.status != 200:
            raise HTTPException(f"{path}: {response.status} {body[:200]!r}")
        return json.loads(body)

    def wait_for_index(self, key: str | None = None) -> float:
        """Seconds until the lists have all that is explained. key: of a source; None: the first."""
        started_s = time.perf_counter()
        path = "/home.json" if key is None else f"/s/{key}/home.json"
        self._wait_until(lambda: self.read_json(path)["n_units"] is not None, INDEX_WITHIN_S)
        return time.perf_counter() - started_s

    def wait_for_answer(self) -> None:
        self._wait_until(self._answers, START_WITHIN_S)

    def end(self) -> None:
        """Ctrl-C; `peak_mb` and `own_mb` are known after it."""
        if self.process.poll() is None:
            self.peak_mb = _all_mb(self.process.pid, "VmHWM")
            self.own_mb = _all_mb(self.process.pid, "RssAnon")
            self.process.send_signal(signal.SIGINT)
            self.process.wait(END_WITHIN_S)

    def _answers(self) -> bool:
        try:
            self.read_json("/home.json")
        except OSError:
            return False
        return True

    def _wait_until(self, is_so: Callable[[], bool], within_s: float) -> None:
        give_up_s = time.perf_counter() + within_s
        while not is_so():
            if self.process.poll() is not None:
                raise ViewerEnded(f"the viewer ended with {self.process.returncode}")
            if time.perf_counter() > give_up_s:
                raise ViewerEnded(f"nothing came of the viewer within {within_s:.0f} s")
            time.sleep(LOOK_EVERY_S)


class ViewerEnded(Exception):
    """It does not answer; the message has what it printed."""


@contextmanager
def viewing(*arguments: str, port: int | None = None) -> Iterator[ViewerProcess]:
    """`neuron-explainer view` with these arguments, at a free port when none is named."""
    command = [sys.executable, "-c", START, "view", *arguments]
    with TemporaryFile() as printed:
        started_s = time.perf_counter()
        free = port or _free_port()
        process = subprocess.Popen([*command, "--port", str(free)], stdout=printed, stderr=printed)
        viewer = ViewerProcess(free, process)
        try:
            viewer.wait_for_answer()
            viewer.start_s = time.perf_counter() - started_s
            yield viewer
        except ViewerEnded as error:
            printed.seek(0)
            text = printed.read().decode(errors="replace")[-2000:]
            raise ViewerEnded(f"{error}: {text}") from error
        finally:
            viewer.end()


def _all_mb(process_id: int, field: str) -> float | None:
    """Of a process and those that it started, which may end meanwhile."""
    children = Path(f"/proc/{process_id}/task").glob("*/children")
    started = [int(child) for listed in children for child in listed.read_text().split()]
    sizes = [_status_mb(one, field) for one in (process_id, *started)]
    return None if sizes[0] is None else round(sum(size or 0.0 for size in sizes), 1)


def _status_mb(process_id: int, field: str) -> float | None:
    """As Linux keeps it. Not getrusage: of a child that counts its parent's memory, too."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except FileNotFoundError:
        return None
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    return None if found is None else round(int(found[1]) * 1024 / 1e6, 1)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
    return port
