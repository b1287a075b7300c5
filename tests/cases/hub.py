"""A hub on this machine, and how a command is made to ask it."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def asking(endpoint: str, **variables: str) -> str:
    """What has a command that was started without a network ask a hub there."""
    return f"""
import os, huggingface_hub, huggingface_hub.constants as constants, datasets
for name in list(os.environ):
    if name.upper().endswith("_PROXY"):
        del os.environ[name]
os.environ.update({ {"NO_PROXY": "127.0.0.1", **variables}!r})
constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = False
constants.ENDPOINT = datasets.config.HF_ENDPOINT = {endpoint!r}
constants.HUGGINGFACE_CO_URL_TEMPLATE = {endpoint!r} + "/{{repo_id}}/resolve/{{revision}}/{{filename}}"
import huggingface_hub.hf_api
huggingface_hub.hf_api.api.endpoint = {endpoint!r}
from types import SimpleNamespace
import huggingface_hub.utils._http as client
import heretic.observability.hub_client as hub_client

def sleep(seconds):
    raise AssertionError("the client waits by itself, without a word")

client.time = SimpleNamespace(sleep=sleep)
hub_client.sleep = lambda seconds: None
"""


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that answers every request with one status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_POST = answer  # noqa: N815 - names of the library

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def cached(cache: Path, model: Path, name: str = "someone/some-model") -> str:
    """Put a model into a hub's cache as a whole download leaves it; what makes a command use that cache."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / f"models--{name.replace('/', '--')}"
    for folder in ("refs", "snapshots", "blobs"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="ascii")
    (repository / "snapshots" / commit).symlink_to(model.resolve())
    return f"constants.HF_HUB_CACHE = {str(cache)!r}\n"
