"""HEAD, which asks for the headers of an answer alone: every address that GET reads answers it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """ASGI middleware: the answer to a GET, which ends where its body would begin."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        is_ended = False

        async def send_head(message: Message) -> None:
            nonlocal is_ended
            if is_ended:
                return  # A body in parts, or one that never ends.
            if message["type"] == "http.response.body":
                is_ended, message = True, {"type": "http.response.body"}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_head)
