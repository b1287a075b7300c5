import asyncio
from typing import Any

import pytest

from heretic.web.guard import Guard, refusal

HOSTS = frozenset({"127.0.0.1:7860", "localhost:7860"})
HOME = {"host": "127.0.0.1:7860"}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),
        ("/gradio_api/queue/join", {"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"}),
        ("/assets/index.js", {"host": "localhost:7860"}),
    ],
)
def test_the_page_itself_is_served(path: str, headers: dict[str, str]) -> None:
    assert refusal("GET", path, HOME | headers, HOSTS) == ""


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/gradio_api/queue/join", {"origin": "http://evil.example"}),
        ("/gradio_api/queue/join", {"origin": "null"}),
        ("/gradio_api/queue/join", {"origin": "http://127.0.0.1:9999"}),
        ("/config", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),
        ("/", {"host": "evil.example:7860"}),
        ("/", {"host": ""}),
        ("/gradio_api/upload", {}),
        ("/gradio_api/file=/etc/passwd", {}),
        ("/gradio_api/proxy=http://evil.example", {}),
        ("/gradio_api/call/something", {}),
        ("/file=/etc/passwd", {}),
    ],
)
def test_other_pages_other_names_and_files_are_refused(path: str, headers: dict[str, str]) -> None:
    assert refusal("POST", path, HOME | headers, HOSTS)


def test_where_other_machines_are_let_in_any_name_serves_but_no_other_origin() -> None:
    assert refusal("POST", "/", {"host": "box:1", "origin": "http://box:1"}, None) == ""
    assert refusal("POST", "/", {"host": "box:1", "origin": "http://evil.example"}, None)


def served(path: str) -> list[dict[str, Any]]:
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> None: ...

    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"localhost:7860")]}
    asyncio.run(Guard(application, HOSTS)(scope, receive, send))
    return sent


def test_answers_carry_a_policy_that_lets_a_browser_ask_nobody_else() -> None:
    headers = dict(served("/")[0]["headers"])
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_what_is_refused_does_not_reach_the_application() -> None:
    assert [message.get("status") for message in served("/gradio_api/upload")] == [403, None]
