"""A ModelRunner on a pico model, and what a forward pass without any padding gives: the reference of these tests."""

from collections.abc import Sequence

import pytest
import torch
from tests.models.pico import CONVOLUTION, PICO_FAMILIES, VISION, build_pico, pico_tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from heretic.models.chat_template import ChatFormatter
from heretic.models.layout import find_layout
from heretic.models.loaded import LoadedModel
from heretic.passes import choose
from heretic.passes.runner import Calibration, ModelRunner
from heretic.prompts.types import Prompt, PromptSet

# Handing a pico model's tiny operations to several threads takes many times longer than computing them.
torch.set_num_threads(1)

PROMPTS = (
    Prompt("Hi"),
    Prompt("Describe the sea in the morning, please."),
    Prompt("", system="Be brief."),
    Prompt("What is 2 + 2?", prefix="It is"),
    Prompt("abc"),
)
"""Different lengths, one with a system message, one with a prefix."""
PROMPT_SET = PromptSet("pico", PROMPTS)


def make_runner(
    family: str,
    batch_size: int = 3,
    dtype: torch.dtype = torch.float32,
    response_prefix: str = "",
    chat_template: bool = True,
) -> ModelRunner:
    """A fresh model, so that a test may break it."""
    tokenizer = pico_tokenizer() if chat_template else pico_tokenizer(None)
    processor = object() if VISION in PICO_FAMILIES[family].traits else None
    model = build_pico(family, dtype=dtype)
    if CONVOLUTION in PICO_FAMILIES[family].traits:
        without_convolution_bias(model)
    loaded = LoadedModel(family, family, None, model, tokenizer, processor, str(dtype), "none")
    calibration = Calibration(batch_size, response_prefix, "float32")
    return ModelRunner(loaded, find_layout(model), ChatFormatter(tokenizer), calibration)


def without_convolution_bias(model: PreTrainedModel) -> None:
    """Make LFM2 as it is released: with a bias, transformers' own convolution reads what stands in the padding."""
    for name, parameter in model.named_parameters():
        if name.endswith("conv.in_proj.bias"):
            parameter.data.zero_()


@torch.no_grad()
def log_probabilities_alone(runner: ModelRunner, prompt: Prompt, continuation: Sequence[int]) -> Tensor:
    """[T, V] from one plain forward pass over one sequence: no padding, no mask, no position ids."""
    start = runner.encode(prompt)
    ids = torch.tensor([[*start, *continuation]])
    logits = runner.loaded.model(input_ids=ids, use_cache=False).logits[0].float()
    return logits[len(start) - 1 : -1].log_softmax(-1)


@torch.no_grad()
def greedy_alone(runner: ModelRunner, prompt: Prompt, count: int) -> list[int]:
    """Greedy tokens of one prompt by repeated full passes: no padding, no cache, no stopping."""
    ids = runner.encode(prompt)
    start = len(ids)
    for _ in range(count):
        logits = runner.loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        ids.append(int(logits.argmax()))
    return ids[start:]


def only_ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every pass read whole prompts, so that what it reads can be looked at and answered."""
    monkeypatch.setattr(choose, "ragged_obstacle", lambda _loaded: "somebody looks")
