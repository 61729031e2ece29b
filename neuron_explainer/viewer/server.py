"""The viewer's server: uvicorn, which at its end lets go of those who listen to a run."""

from __future__ import annotations

import socket
from urllib.parse import urlencode

import uvicorn
from fastapi import FastAPI

from neuron_explainer.errors import UsageError
from neuron_explainer.viewer.guard import EVERY_ADDRESS


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a browser may be opened at once; port 0: any that is free.

    UsageError for an address that cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, as asyncio turns off Nagle's algorithm for no other: an answer of two
    # writes would wait for the client's delayed acknowledgement, 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot listen at {host}:{port}: {reason}; use another --port") from error
    return listening


def addresses_of(listening: socket.socket, token: str | None = None) -> list[str]:
    """`http://127.0.0.1:8000/`, for a browser on this machine; then one for others, by this
    machine's name, where it listens at all of its addresses. token: that they ask for."""
    host, port = listening.getsockname()[:2]
    names = [f"[{host}]" if ":" in host else host]
    if host in EVERY_ADDRESS:
        names = ["localhost", socket.gethostname()]
    query = "" if token is None else f"?{urlencode({'token': token})}"
    return [f"http://{name}:{port}/{query}" for name in names]


class ViewServer(uvicorn.Server):
    """Serves an app of `create_app` until it is interrupted, or `should_exit` is set."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False))
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.feeds.end()  # else it would wait for connections that are never done
        await super().shutdown(sockets)
