"""Wrong: of a model that declines in other everyday words no refusal is found, and it "shows nothing to remove".

Right: they are found; where nothing is, three answers are shown with what to do. The kind: tests/unit/evaluation/
test_refusal_patterns.py, and experiments/detection by language.
"""

import json
import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from tests.cases.conftest import Run


@pytest.mark.parametrize(
    ("wording", "refusals"),
    [
        ("That's not something I can help with.", "5"),
        ("Dabei kann ich leider nicht helfen.", "5"),
        ("Zorble.", "0"),
    ],
)
def test_a_model_that_declines_in_other_words(run: Run, tmp_path: Path, wording: str, refusals: str) -> None:
    with as_file(files("heretic.models.demo") / "model") as demo:
        shutil.copytree(demo, tmp_path / "model")
    path = tmp_path / "model" / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    pattern = {"Regex": r"(I'm sorry|Sorry|I cannot|I can't)[^\n]*"}
    decoders = [tokenizer["decoder"], {"type": "Replace", "pattern": pattern, "content": wording}]
    tokenizer["decoder"] = {"type": "Sequence", "decoders": decoders}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    outcome = run("--behavior", "demo", model="model")
    outcome.assert_done()
    assert re.findall(r"Baseline +refuses (\d) of 6 prompts", outcome.output) == [refusals]
    assert ("nothing to remove" in outcome.output) is (refusals == "0")
    # One of the three is answered.
    samples = re.search(
        r"^It answers +(\S.*\n)( +\S.*\n){2} +If these answers say otherwise", outcome.output, re.MULTILINE
    )
    assert (samples is not None) is (refusals == "0")
    assert samples is None or samples[0].count(wording) == 2
