"""An upload that was interrupted goes on when it is asked for again: only what the hub does not hold is sent."""

import base64
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from heretic.common.integrity import (
    CHECKSUMS_ONLY,
    FORMAT_VERSION,
    MANIFEST_NAME,
    checksums,
    files_of,
    write_manifest_file,
)

pytestmark = pytest.mark.integration

TOKEN = "hf_MadeUpTokenOfTheUpload00"  # noqa: S105 - no real one
REPOSITORY = "someone/edited"
SECONDS = 600
"""Longer than anything takes on a busy machine."""

UPLOAD = """
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.utils._http

from heretic.common.errors import HereticError
from heretic.export.hub import upload_folder

# The client's waits before it gives up add up to 23 seconds.
huggingface_hub.utils._http.time = SimpleNamespace(sleep=lambda seconds: None)
try:
    print(upload_folder(Path(sys.argv[1]), sys.argv[2], private=True))
except HereticError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Hub(ThreadingHTTPServer):
    """As much of a model hub with git LFS as an upload needs; of every object it knows what came over the line."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.changed = Condition()
        self.exists = False
        self.cut_put: int | None = None
        """Objects from this one on (1: the first that is sent) break off half-way, however often they are tried."""
        self.stalled_put: int | None = None
        """Objects from this one on are no longer read half-way."""
        self.forget()
        self.stored: dict[str, int] = {}
        """Sizes of objects that came whole."""
        self.held: set[str] = set()
        """Those that the client confirmed too; only these need no second upload."""
        self.commits: list[list[dict[str, Any]]] = []

    def forget(self) -> None:
        """Count what comes from now on."""
        self.started: list[str] = []
        self.puts: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self.stalled: set[str] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def start_of(self, oid: str) -> int:
        """How many objects were begun up to this one."""
        with self.changed:
            self.puts[oid] += 1
            if oid not in self.started:
                self.started.append(oid)
            return self.started.index(oid) + 1

    def wait_for(self, held: int, stalled: int) -> None:
        with self.changed:
            done = self.changed.wait_for(lambda: (len(self.held), len(self.stalled)) == (held, stalled), SECONDS)
        assert done, (self.held, self.stalled)


class Request(BaseHTTPRequestHandler):
    """One connection to the hub."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.dispatch(b"")

    def do_POST(self) -> None:
        self.dispatch(self.rfile.read(int(self.headers["Content-Length"])))

    def dispatch(self, body: bytes) -> None:
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer({"error": "unknown token"}, 401)
        path = self.path.partition("?")[0]
        for pattern, method in ROUTES.items():
            if re.fullmatch(pattern.replace("NAME", REPOSITORY), f"{self.command} {path}"):
                return method(self, body)
        return self.answer({"error": f"{self.command} {path} is not known here"}, 404)

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        assert (f"{asked['organization']}/{asked['name']}", asked["visibility"]) == (REPOSITORY, "private")
        existed, self.server.exists = self.server.exists, True
        self.answer({"url": f"{self.server.address}/{REPOSITORY}"}, 409 if existed else 200)

    def describe(self, _: bytes) -> None:
        self.answer({"id": REPOSITORY, "private": True})

    def tree(self, _: bytes) -> None:
        assert not self.server.commits, "nothing looks into the repository after the commit"
        self.answer([])

    def validate_card(self, _: bytes) -> None:
        self.answer({"warnings": [], "errors": []})

    def modes(self, body: bytes) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self.answer({"files": files})

    def batch(self, body: bytes) -> None:
        objects = json.loads(body)["objects"]
        for item in objects:
            if item["oid"] not in self.server.held:
                upload = {"href": f"{self.server.address}/storage/{item['oid']}"}
                verify = {"href": f"{self.server.address}/{REPOSITORY}.git/info/lfs/verify"}
                item["actions"] = {"upload": upload, "verify": verify}
        self.answer({"transfer": "basic", "objects": objects})

    def do_PUT(self) -> None:
        hub, oid, size = self.server, self.path.rpartition("/")[2], int(self.headers["Content-Length"])
        # Elsewhere on the real hub, and nobody's business there.
        assert self.headers["Authorization"] is None
        number = hub.start_of(oid)
        digest = sha256(self.receive(oid, size // 2))
        if hub.cut_put is not None and number >= hub.cut_put:
            self.close_connection = True
            return
        if hub.stalled_put is not None and number >= hub.stalled_put:
            with hub.changed:
                hub.stalled.add(oid)
                hub.changed.notify_all()
                hub.changed.wait_for(lambda: oid not in hub.stalled, SECONDS)
            self.close_connection = True
            return
        digest.update(self.receive(oid, size - size // 2))
        assert digest.hexdigest() == oid
        hub.stored[oid] = size
        self.answer({})

    def receive(self, oid: str, count: int) -> bytes:
        data = self.rfile.read(count)
        with self.server.changed:
            self.server.received[oid] += len(data)
        return data

    def verify(self, body: bytes) -> None:
        hub, asked = self.server, json.loads(body)
        if hub.stored.get(asked["oid"]) != asked["size"]:
            return self.answer({"error": "no such object"}, 404)
        with hub.changed:
            hub.held.add(asked["oid"])
            hub.changed.notify_all()
        return self.answer({})

    def commit(self, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        missing = [line for line in lines if line["key"] == "lfsFile" and line["value"]["oid"] not in self.server.held]
        if missing:
            return self.answer({"error": f"{missing} were not uploaded"}, 400)
        self.server.commits.append(lines)
        return self.answer({"commitUrl": f"{self.server.address}/{REPOSITORY}/commit/1", "commitOid": "1"})


ROUTES = {
    "POST /api/repos/create": Request.create,
    "GET /api/models/NAME": Request.describe,
    "GET /api/models/NAME/tree/main": Request.tree,
    "POST /api/validate-yaml": Request.validate_card,
    "POST /api/models/NAME/preupload/main": Request.modes,
    r"POST /NAME\.git/info/lfs/objects/batch": Request.batch,
    r"POST /NAME\.git/info/lfs/verify": Request.verify,
    "POST /api/models/NAME/commit/main": Request.commit,
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        # The default of half a second is how long every test would wait at its end.
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights in three files, and some small ones."""
    path = tmp_path / "model"
    path.mkdir()
    for number in (1, 2, 3):
        weights = torch.randn(80_000 + number, generator=torch.Generator().manual_seed(number))
        save_file({f"weight{number}": weights}, path / f"model-{number:05}-of-00003.safetensors")
    (path / "README.md").write_text("---\nlicense: mit\n---\nAn edited model.\n", encoding="utf-8")
    (path / "config.json").write_text("{}\n", encoding="utf-8")
    files = {name: asdict(entry) for name, entry in checksums(files_of(path)).items()}
    manifest = {"manifest_version": FORMAT_VERSION, "format": CHECKSUMS_ONLY, "files": files}
    write_manifest_file(path / MANIFEST_NAME, manifest)
    return path


@contextmanager
def uploading(hub: Hub, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that uploads the folder as `heretic` does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(folder.parent / "home"),
        # As the command does when it loads a model.
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", UPLOAD, str(folder), REPOSITORY]
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def upload(hub: Hub, folder: Path) -> tuple[int, str, str]:
    """Exit code and what was written to the two outputs; never the token."""
    with uploading(hub, folder) as process:
        output, errors = process.communicate(timeout=SECONDS)
    assert TOKEN not in output + errors
    assert "Traceback" not in output + errors
    return process.returncode, output, errors


def objects_of(folder: Path) -> dict[str, bytes]:
    return {sha256(data := path.read_bytes()).hexdigest(): data for path in folder.glob("*.safetensors")}


def assert_continues(hub: Hub, folder: Path) -> None:
    """That the same call sends what the hub does not hold, nothing else, and publishes every file."""
    objects = objects_of(folder)
    missing = {oid: len(data) for oid, data in objects.items() if oid not in hub.held}
    hub.forget()
    code, output, errors = upload(hub, folder)
    assert (code, output) == (0, f"{hub.address}/{REPOSITORY}\n"), errors
    assert hub.puts == dict.fromkeys(missing, 1)
    assert hub.received == missing
    (commit,) = hub.commits
    published = {}
    for line in commit[1:]:
        value = line["value"]
        published[value["path"]] = (
            objects[value["oid"]] if line["key"] == "lfsFile" else base64.b64decode(value["content"])
        )
    assert published == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_after_the_connection_broke(hub: Hub, folder: Path) -> None:
    hub.cut_put = 3
    code, output, errors = upload(hub, folder)
    assert (code, output) == (1, ""), errors
    sentence = errors.splitlines()[-1]
    assert sentence.startswith(f"ExportError: The upload to {REPOSITORY} failed (")
    assert sentence.endswith("; check the network and try again.")
    sizes = {oid: len(data) for oid, data in objects_of(folder).items()}
    *whole, broken = hub.started
    assert hub.held == set(whole)
    assert len(whole) == 2
    assert {oid: hub.received[oid] for oid in whole} == {oid: sizes[oid] for oid in whole}
    # The client tried it again by itself, from the object's beginning.
    assert hub.puts[broken] > 1
    assert hub.received[broken] == hub.puts[broken] * (sizes[broken] // 2)
    assert hub.commits == []

    hub.cut_put = None
    assert_continues(hub, folder)


def test_after_nothing_got_through(hub: Hub, folder: Path) -> None:
    hub.cut_put = 1
    code, _, errors = upload(hub, folder)
    assert (code, errors.splitlines()[-1][:12]) == (1, "ExportError:")
    assert (hub.held, hub.commits) == (set(), [])

    hub.cut_put = None
    assert_continues(hub, folder)


def test_after_the_process_was_killed(hub: Hub, folder: Path) -> None:
    hub.stalled_put = 3
    with uploading(hub, folder) as process:
        hub.wait_for(held=2, stalled=1)
        process.kill()
    assert hub.commits == []
    with hub.changed:
        hub.stalled.clear()
        hub.changed.notify_all()

    hub.stalled_put = None
    assert_continues(hub, folder)
