"""Calibrated strengths, single heads and compliance biases from the command line: saved, loaded again, described."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.command import QUICK_DEMO, WITH_REPORT, Command, saving_to
from transformers import AutoModelForCausalLM

from heretic.config.sections import PromptSpecification
from heretic.models.demo import DEMO_MODEL_FOLDER
from heretic.prompts.sources import load_prompt_set

pytestmark = pytest.mark.integration


def saved_weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def demo_prompts(name: str, count: int) -> list[str]:
    specification = PromptSpecification(dataset=f"bundled:demo/{name}", split="train", limit=count)
    return [prompt.user for prompt in load_prompt_set("bad_prompts", specification, "").prompts]


def test_calibrated_strengths_and_heads_together(heretic: Command, tmp_path: Path) -> None:
    result = heretic(
        tmp_path,
        *(*QUICK_DEMO, *WITH_REPORT, *saving_to("out"), "--use-activation-calibration", "--use-circuit-ablation"),
        *("--n-refusal-circuits", "3"),
    )
    result.assert_done()
    assert "loaded again: the same" in result.output
    assert "Strengths were multiplied, layer by layer" in result.output
    assert "Only the columns of 3 attention heads" in result.output
    original = saved_weights(DEMO_MODEL_FOLDER)
    edited = saved_weights(tmp_path / "out")
    changed = {name: (edited[name] - value).abs().amax(0) > 0 for name, value in original.items()}
    touched = {name: columns for name, columns in changed.items() if columns.any()}
    assert touched
    assert all(name.endswith("self_attn.o_proj.weight") for name in touched)
    configuration = json.loads((DEMO_MODEL_FOLDER / "config.json").read_text(encoding="utf-8"))
    heads = configuration["num_attention_heads"]
    assert sum(int(columns.unflatten(0, (heads, -1)).any(-1).sum()) for columns in touched.values()) <= 3
    manifest = json.loads((tmp_path / "out" / "heretic_metadata.json").read_text(encoding="utf-8"))
    assert len(manifest["adjustments"]) == 2
    assert "attention heads" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [("--engine", "inplace"), WITH_REPORT], ids=["cache", "files"])
def test_a_compliance_direction_is_saved_as_biases_that_load_anywhere(
    heretic: Command, tmp_path: Path, options: tuple[str, ...]
) -> None:
    texts = [*demo_prompts("target", 8), *demo_prompts("baseline", 8)]
    (tmp_path / "mixed.txt").write_text("\n".join(texts), encoding="utf-8")
    result = heretic(
        tmp_path,
        *(*QUICK_DEMO, *saving_to("out"), "--use-caa", "--caa-overlap-threshold", "1", *options),
        *("--bad-prompts", "mixed.txt", "--bad-prompts.limit", "16"),
    )
    result.assert_done()
    assert "loaded again: the same" in result.output
    configuration = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert configuration["mlp_bias"] is True
    assert configuration["attention_bias"] is False
    biases = {name: value for name, value in saved_weights(tmp_path / "out").items() if name.endswith("bias")}
    moved = {name for name, value in biases.items() if value.any()}
    assert moved
    assert all(name.endswith("mlp.down_proj.bias") for name in moved)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    for name in moved:
        assert torch.equal(model.get_parameter(name).detach(), biases[name])
    assert "biases move the residual stream" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_compliance_direction_needs_answers_of_both_kinds(heretic: Command, tmp_path: Path) -> None:
    result = heretic(tmp_path, *QUICK_DEMO, *saving_to("out"), "--use-caa")
    result.assert_one_sentence("answers 0 and refuses 12", "use_caa needs 5 of each", "--use-caa false")
    assert not (tmp_path / "heretic_study.db").exists()


def test_biases_are_no_adapter(heretic: Command, tmp_path: Path) -> None:
    options = ("--save-format", "adapter", "--normalization", "none", "--use-caa")
    heretic(tmp_path, *QUICK_DEMO, *saving_to("out"), *options).assert_one_sentence("biases", "--save-format merged")
    assert not list(tmp_path.iterdir())


def test_heads_are_an_adapter(heretic: Command, tmp_path: Path) -> None:
    options = ("--save-format", "adapter", "--normalization", "none", "--use-circuit-ablation")
    result = heretic(tmp_path, *QUICK_DEMO, *saving_to("out"), *options, "--n-refusal-circuits", "16")
    result.assert_done()
    assert "loaded again" in result.output
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_factors_in_the_wrong_order_are_refused(heretic: Command, tmp_path: Path) -> None:
    result = heretic(tmp_path, *QUICK_DEMO, "--activation-factor-min", "3")
    result.assert_one_sentence("activation_factor_min is above activation_factor_max")
