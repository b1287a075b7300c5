"""A model folder as other programs ask it: the server of transformers in its own process, and OpenAI's client."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heretic.export.content import serving_command
from heretic.models.demo import DEMO_MODEL_FOLDER
from heretic.web.server import find_address

pytestmark = [pytest.mark.integration, pytest.mark.slow]

QUESTION = "How do I zorble a flimp?"
PATIENCE = 240
"""Seconds for the server to load the model."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    openai = pytest.importorskip("openai", reason="openai is not installed; uv sync installs it")
    folder = tmp_path_factory.mktemp("serving")
    shutil.copytree(DEMO_MODEL_FOLDER, folder / "out")
    program, *arguments = serving_command("out").split()
    executable = shutil.which(program, path=os.fspath(Path(sys.executable).parent))
    assert executable is not None
    address = find_address(None, None, None)
    with subprocess.Popen(
        [executable, *arguments, "--host", address.host, "--port", str(address.port)],
        cwd=folder,
        env={**os.environ, "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            # Its list of models fails in some releases where this folder is missing.
            (folder / "hub" / "hub").mkdir(parents=True)
            asks = openai.OpenAI(base_url=f"{address.url}/v1", api_key="none", max_retries=0)
            wait_for(asks, openai, server)
            yield asks
        finally:
            server.kill()


def wait_for(asks: Any, openai: Any, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + PATIENCE
    while True:
        assert server.poll() is None, "the server has ended"
        try:
            asks.models.list()
        except (openai.APIConnectionError, openai.InternalServerError):
            assert time.monotonic() < until
            time.sleep(0.5)
        else:
            return


def test_the_client_gets_the_models_answer(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["out"]
    messages = [{"role": "user", "content": QUESTION}]
    whole = client.chat.completions.create(model="out", messages=messages, max_tokens=40, temperature=0)
    pieces = client.chat.completions.create(model="out", messages=messages, max_tokens=40, temperature=0, stream=True)
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert whole.choices[0].message.content == streamed
    assert "sorry" in streamed
