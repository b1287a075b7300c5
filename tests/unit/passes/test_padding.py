"""Models that read their padding are noticed."""

import pytest
import torch
from tests.unit.passes.pico_runner import PROMPTS, make_runner

from heretic.passes.padding import fit_for_padding, padding_matters
from heretic.passes.runner import ModelRunner


def reading_padding(runner: ModelRunner) -> ModelRunner:
    """The runner, whose model's logits depend on how much padding a row has."""

    def read_padding(_model, _arguments, keywords, output):
        if "attention_mask" in keywords:
            output.logits += (keywords["attention_mask"] == 0).sum(-1)[:, None, None] * torch.arange(264) * 0.01

    runner.loaded.model.register_forward_hook(read_padding, with_kwargs=True)
    return runner


def rows(runner: ModelRunner) -> list[list[int]]:
    return [runner.encode(prompt) for prompt in PROMPTS]


def test_padding_that_changes_answers_is_noticed():
    runner = reading_padding(make_runner("llama", 4))
    assert padding_matters(runner, rows(runner))
    assert not padding_matters(runner, [rows(runner)[0]] * 3)
    assert fit_for_padding(runner, rows(runner), "reading").calibration.batch_size == 1


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_masked_padding_is_harmless(family):
    runner = make_runner(family, 4)
    assert not padding_matters(runner, rows(runner))
    assert fit_for_padding(runner, rows(runner), "reading") is runner
