"""LoadedModel: a model that has been seen to generate, with what is needed to talk to it."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heretic.models.access import values_of
from heretic.models.remote_code import RemoteCode


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What the loader returns.

    Attributes:
        name: What the user asked for (hub id, folder, GGUF file, or ``demo``).
        source: What transformers loads: a hub id or a folder.
        commit: Commit hash of the hub snapshot, or None for a folder.
        model: The model in evaluation mode, gradients off.
        tokenizer: Its tokenizer, padding on the left, with a padding token.
        processor: The processor of a vision-language model, else None.
        dtype: The entry of the dtype chain that was accepted, e.g. ``bfloat16``.
        quantization: ``none``, ``bnb_4bit`` or ``bnb_8bit``.
        weights: Format of the weight files: ``safetensors``, ``gguf`` or ``pickle``.
        code: The model's own Python code that it runs, or None.
        remark: What was done to the weights once they had been read, in words; empty where they are those of the files.
    """

    name: str
    source: str
    commit: str | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    processor: Any | None
    dtype: str
    quantization: str
    weights: str = "safetensors"
    code: RemoteCode | None = None
    remark: str = ""

    @property
    def adapter_obstacle(self) -> str | None:
        """Why no adapter can be saved of an edit, or None where one can."""
        if self.weights == "gguf":
            return "PEFT cannot load a GGUF file as the base model"
        return f"PEFT would add it to other weights, since {self.remark}" if self.remark else None

    @property
    def device(self) -> torch.device:
        """Where the input embeddings live, i.e. where token ids have to be."""
        embeddings: Any = self.model.get_input_embeddings()
        device: torch.device = embeddings.weight.device
        return device


def parameter_fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, shapes and the first values of every parameter: cheap, and another for other weights."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        first = values_of(parameter).flatten()[:16] if parameter.device.type != "meta" else torch.empty(0)
        values = first.float().cpu().tolist()
        digest.update(f"{name} {tuple(parameter.shape)} {values}".encode())
    return digest.hexdigest()
