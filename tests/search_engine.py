"""A server on this machine in the place of the search engine on the web."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

_RESULT = "<div class='body'><h2>{0}</h2><a href='{1}'>{2}</a></div>"


class _Answers(BaseHTTPRequestHandler):
    """Answers what its server's `replies` say, the last one for ever: a status and HTML."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        server.asked.append(parse_qs(body))
        status, html = server.replies[min(len(server.asked), len(server.replies)) - 1]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(html.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def search_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The server, with what it was `asked` and what it `replies`; searches go there in the with-block."""
    duckduckgo = pytest.importorskip("ddgs.engines.duckduckgo", reason="ddgs is not installed; uv sync installs it")
    server: Any = HTTPServer(("127.0.0.1", 0), _Answers)
    server.asked, server.replies = [], []
    monkeypatch.setattr(duckduckgo.Duckduckgo, "search_url", f"http://127.0.0.1:{server.server_port}/html/")
    monkeypatch.delenv("DDGS_REGION", raising=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def found(*results: tuple[str, str, str]) -> tuple[int, str]:
    """A reply: titles, addresses and texts."""
    return 200, f"<html><body>{''.join(_RESULT.format(*each) for each in results)}</body></html>"
