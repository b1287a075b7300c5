"""Wrong: in scripts without spaces every answer is one word, the search minimises noise, and nothing is said.

Right: words by dictionaries; where even they tell none apart, a warning. The kind:
tests/unit/evaluation/test_words_of_texts.py.
"""

import json
import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest
from tests.cases.conftest import Run

JOINED = {"type": "Replace", "pattern": {"String": " "}, "content": ""}
CHINESE = {"type": "Replace", "pattern": {"Regex": "[A-Za-z ]"}, "content": "好"}


@pytest.mark.parametrize("decoder", [JOINED, CHINESE], ids=["no spaces", "Chinese"])
def test_answers_without_spaces(run: Run, tmp_path: Path, decoder: dict[str, Any]) -> None:
    with as_file(files("heretic.models.demo") / "model") as demo:
        shutil.copytree(demo, tmp_path / "joined")
    path = tmp_path / "joined" / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["decoder"] = {"type": "Sequence", "decoders": [tokenizer["decoder"], decoder]}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    outcome = run("--behavior", "verbosity", model="joined")
    outcome.assert_done()
    warned = "characters a word" in " ".join(outcome.output.split())
    assert warned is (decoder is JOINED)
    baseline = re.search(r"Baseline +([\d.]+) words", outcome.output)
    assert baseline is not None
    assert (float(baseline[1]) > 10) is (decoder is CHINESE)
