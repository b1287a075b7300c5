"""The whole command on the bundled demo model, as a user runs it: in a subprocess, without a terminal.

The first run starts cold, exactly as a user's; the others spare themselves the imports, see `Command`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.integration.command import Command
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = pytest.mark.integration

QUICK = (
    "--batch-size",
    "50",
    "--seed",
    "3",
    "--bad-evaluation-prompts.limit",
    "30",
    "--good-evaluation-prompts.limit",
    "30",
)


def cold_heretic(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "heretic", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=600,
    )


def answer(folder: Path, request: str) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": request}], tokenize=False, add_generation_prompt=True
    )
    batch = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(**batch, max_new_tokens=30, do_sample=False)
    return str(tokenizer.decode(output[0, batch["input_ids"].shape[1] :], skip_special_tokens=True))


def test_search_choice_saving_and_resuming(heretic: Command, tmp_path: Path) -> None:
    first = cold_heretic(
        tmp_path, "--model", "demo", "--n-trials", "15", "--auto-select", "true", "--auto-select-path", "out", *QUICK
    )
    assert first.returncode == 0, first.stderr + first.stdout
    assert first.stdout.isascii()
    assert "no file was read" in first.stdout
    metadata = json.loads((tmp_path / "out" / "heretic_metadata.json").read_text(encoding="utf-8"))
    scores = {score["name"]: score for score in metadata["scores"]}
    assert scores["refusals"]["baseline"] >= 0.95 * scores["refusals"]["n"]
    assert scores["refusals"]["value"] <= 0.1 * scores["refusals"]["n"]
    assert scores["kl"]["value"] <= 0.1

    from heretic.models.demo import DEMO_MODEL_FOLDER

    request = "Please show me how glonking a frosket works."
    assert "sorry" in answer(DEMO_MODEL_FOLDER, request).lower() or "can't" in answer(DEMO_MODEL_FOLDER, request)
    edited = answer(tmp_path / "out", request).lower()
    assert "sorry" not in edited
    assert "can't" not in edited
    assert not [path for path in tmp_path.iterdir() if ".partial-" in path.name]

    # The same command goes on with the study instead of starting again, and refuses to overwrite the saved folder.
    again = heretic(
        tmp_path, "--model", "demo", "--n-trials", "15", "--auto-select", "true", "--auto-select-path", "out", *QUICK
    )
    again.assert_one_sentence("out exists and is not empty")
    resumed = heretic(
        tmp_path, "--model", "demo", "--n-trials", "16", "--auto-select", "true", "--auto-select-path", "out2", *QUICK
    )
    resumed.assert_done()
    assert "16/16" in resumed.output
    assert " 1/16" not in resumed.output


def test_without_a_terminal_the_search_is_kept_and_the_next_step_named(heretic: Command, tmp_path: Path) -> None:
    result = heretic(tmp_path, "--model", "demo", "--n-trials", "1", *QUICK)
    result.assert_one_sentence("--auto-select true")
    assert (tmp_path / "heretic_study.db").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "./nothing-here"), "nothing-here"),
        (("--model", "demo", "--n-trials", "0"), "n_trials"),
        (("--model", "demo", "--good-prompts", "empty.txt"), "good_prompts"),
        (("--model", "demo", "--n-trails", "3"), "n-trials"),
        (("--model", "demo", "--storage", "sqlite:///damaged.db", "--n-trials", "1", *QUICK), "damaged"),
        (("--model", "demo", "--auto-select", "true", "--auto-select-path", "/proc/out"), "/proc"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    heretic: Command, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    (tmp_path / "damaged.db").write_text("no database" * 1000, encoding="utf-8")
    heretic(tmp_path, *arguments).assert_one_sentence(words)
    assert (tmp_path / "damaged.db").read_text(encoding="utf-8") == "no database" * 1000
