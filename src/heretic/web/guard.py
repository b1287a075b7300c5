"""What stands before the page's server: requests of other pages and other hosts are refused, files are not served.

Plain ASGI, so that this needs no web framework.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_NEEDED = frozenset({"config", "info", "queue", "heartbeat", "theme.css", "startup-events", "user", "login_check"})
_NEEDED |= {"app_id", "reset", "cancel", "run", "token"}
"""What of the server's own interface the page uses; uploads, files, proxies and everything else are refused."""
_INTERFACE = "/gradio_api/"
_REFUSED = ("/file", "/upload", "/proxy", "/stream", "/monitoring", "/deep_link")

POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "frame-src 'none'",
        "object-src 'none'",
        "form-action 'self'",
        "base-uri 'self'",
        "frame-ancestors 'none'",
    ]
)
"""Whatever stands on the page, a browser asks nobody but this server for anything."""


def refusal(method: str, path: str, headers: Mapping[str, str], hosts: frozenset[str] | None) -> str:
    """Why a request is refused, in words; empty where it is not.

    Args:
        method: Of HTTP.
        path: Of the address.
        headers: Names in lower case.
        hosts: Names and ports by which the page is asked for (what another name leads here is a trick); None for any.
    """
    host = headers.get("host", "").lower()
    if hosts is not None and host not in hosts:
        return "This page is not served under that name."
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host:
        return "Requests of other pages are refused."
    navigates = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and not navigates:
        return "Requests of other pages are refused."
    if path.startswith(_INTERFACE):
        first = path.removeprefix(_INTERFACE).partition("/")[0]
        return "" if first in _NEEDED else "This is switched off."
    return "This is switched off." if path.startswith(_REFUSED) else ""


class Guard:
    """An ASGI application before another one."""

    def __init__(self, application: Application, hosts: frozenset[str] | None = None) -> None:
        self._application = application
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        reason = refusal(scope.get("method", "GET"), scope["path"], headers, self._hosts)
        if scope["type"] != "http":
            reason = reason or "This is switched off."
        if reason:
            await _refuse(send, reason, is_http=scope["type"] == "http")
            return

        async def with_policy(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                added = [(b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff")]
                added.append((b"referrer-policy", b"no-referrer"))
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        await self._application(scope, receive, with_policy)


async def _refuse(send: Send, reason: str, is_http: bool) -> None:
    if not is_http:
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})
