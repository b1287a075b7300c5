"""Model folders for the tests that load one, and the settings they are loaded with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tests.models.pico import build_pico, pico_tokenizer
from transformers import PreTrainedModel

# Handing a pico model's tiny operations to several threads takes many times longer than computing them.
torch.set_num_threads(1)


@dataclass(frozen=True)
class LoadSettings:
    """The defaults of the settings that the loader reads; device and quantization as a machine without GPU has them."""

    model_revision: str | None = None
    dtypes: tuple[str, ...] = ("auto", "float16", "float32")
    quantization: str = "none"
    device: str = "cpu"
    device_map: Any = "auto"
    max_memory: dict[str, str] | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    verify: bool = True


def save_pico(
    folder: Path, family: str = "llama", dtype: torch.dtype = torch.float32, seed: int = 0
) -> PreTrainedModel:
    """Write a pico model with its tokenizer; the model may be changed and saved again."""
    model = build_pico(family, seed, dtype)
    model.save_pretrained(folder)
    pico_tokenizer().save_pretrained(folder)
    return model
