"""What every request passes: its host, its token, where it is from; and the headers of answers.

A page on the internet can have a browser ask this machine. It cannot read the answer as long as the
name that it asks for is not taken (DNS rebinding), and it cannot change anything as long as a POST
has to come from a page of the viewer's own.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
EVERY_ADDRESS = frozenset({"0.0.0.0", "::", ""})
"""Hosts to listen at that are no name to ask for."""
COOKIE = "neuron_explainer_token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{style}; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_NO_HOST = re.compile(r"[^\w.:%\[\]-]")
"""What no browser writes into the header of that name."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none, a form has no origin that could be checked
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY.format(style=""),
}
"""Of answers that do not say another one themselves."""


def policy(style_hash: str | None) -> str:
    """The content security policy of a page with one style element; None: with none."""
    return POLICY.format(style="" if style_hash is None else f" '{style_hash}'")


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None, token: str | None) -> None:
        """hosts: names that a request may ask for; None: any, as a token is asked for.

        token: None: none is asked for.
        """
        self._app = app
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refuse(scope, Headers(scope=scope))
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        """None: it may pass."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_known(hosts[0]):
            return _line("this server does not answer to that name; use its own address", 421)
        if scope["method"] not in ("GET", "HEAD") and not _is_own(headers, hosts[0]):
            return _line("this was sent from another site; use the viewer's own page", 403)
        return None if self._token is None else self._ask_token(scope, headers)

    def _is_known(self, host: str) -> bool:
        return self._hosts is None or _name_of(host) in self._hosts

    def _ask_token(self, scope: Scope, headers: Headers) -> Response | None:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in pairs if name == "token"), None)
        if given is not None and self._is_token(given):
            query = urlencode([pair for pair in pairs if pair[0] != "token"])
            target = "/" + scope["path"].lstrip("/") + (f"?{query}" if query else "")
            answer = RedirectResponse(target, 303)
            answer.set_cookie(COOKIE, given, httponly=True, samesite="strict", path="/")
            return answer
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if self._is_token(bearer) or self._is_token(_cookie(headers)):
            return None
        return _line("open the address with ?token=… that the viewer printed", 401)

    def _is_token(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode(), self._token.encode())


def _is_own(headers: Headers, host: str) -> bool:
    """A browser says where it comes from; a program may say so with an Origin, or say nothing."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()


def _name_of(host: str) -> str:
    """Without the port; empty for what is no name."""
    if _NO_HOST.search(host):
        return ""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _cookie(headers: Headers) -> str:
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value


def _line(text: str, status: int) -> Response:
    return PlainTextResponse(text + "\n", status)
