"""The edit as a folder with an adapter for PEFT (LoRA, or DoRA where it keeps norms), from what the edit gives."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from heretic.common.errors import ExportError
from heretic.editors.adapter import Factors
from heretic.models.loaded import LoadedModel
from heretic.models.location import shown_model
from heretic.models.private_api import Conv1D

ByModule = Mapping[str, Factors]
"""By module path; all of them with row norms or none."""

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIGURATION_NAME = "adapter_config.json"
TENSOR_NAMES = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
"""As PEFT stores A, B and row norms of a module."""


def factor_bytes(factors: ByModule) -> int:
    """Size of the adapter's tensors as they are written."""
    tensors = [tensor for own in factors.values() for tensor in own.tensors]
    return sum(tensor.numel() * (8 if tensor.dtype == torch.float64 else 4) for tensor in tensors)


def check_factors(model: nn.Module, factors: ByModule) -> None:
    """Check that the factors fit the model and that PEFT will find exactly these modules.

    Raises:
        ExportError: There are none, a module is missing or has another shape, or a name is ambiguous.
    """
    if not factors:
        raise ExportError("The edit changes no weight, so there is nothing to save as an adapter.")
    modules = dict(model.named_modules())
    for path, own in factors.items():
        module = modules.get(path)
        if module is None:
            raise ExportError(f"The model has no module {path}, which the adapter should change.")
        sizes = (own.b.shape[0], own.a.shape[1])
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor):
            raise ExportError(f"The module {path} has no weight that an adapter could change.")
        shape = tuple(weight.shape[::-1] if isinstance(module, Conv1D) else weight.shape)
        quantized = not weight.is_floating_point()
        norms_fit = own.row_norms is None or own.row_norms.shape == own.b.shape[:1]
        if own.a.shape[0] != own.b.shape[1] or not norms_fit or (sizes != shape and not quantized):
            raise ExportError(f"The adapter's factors for {path} give {sizes}, but the weight is {shape}.")
        # PEFT matches names by their end, so a target could catch a module of a deeper path as well.
        ambiguous = [name for name in modules if name.endswith(f".{path}") and name not in factors]
        if ambiguous:
            raise ExportError(f"An adapter for {path} would change {ambiguous[0]} too; save the merged model instead.")


def _ranks(factors: ByModule) -> tuple[int, dict[str, int]]:
    """The most frequent rank, and the other ranks by regular expression of the module's path."""
    ranks = {path: own.rank for path, own in factors.items()}
    common = Counter(ranks.values()).most_common(1)[0][0]
    return common, {re.escape(path): rank for path, rank in sorted(ranks.items()) if rank != common}


def write_adapter(loaded: LoadedModel, factors: ByModule, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``.

    Factors are kept in fp32 (fp64 where they are fp64) whatever the model's dtype: the sum W + B A would else lose more
    than the merged weight does.

    Args:
        loaded: The base model (whether edited or not does not matter).
        factors: Of every module that changes.
        folder: An existing folder.

    Raises:
        ExportError: See `check_factors`.
        OSError: Writing failed; SafetensorError where safetensors reports it.
    """
    # PEFT takes seconds to import, and only this path needs it.
    from peft import LoraConfig, TaskType

    check_factors(loaded.model, factors)
    modules = dict(loaded.model.named_modules())
    rank, other_ranks = _ranks(factors)
    configuration = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        base_model_name_or_path=shown_model(loaded.name),
        revision=loaded.commit,
        inference_mode=True,
        r=rank,
        # PEFT scales by alpha / r.
        lora_alpha=rank,
        rank_pattern=other_ranks,
        alpha_pattern=dict(other_ranks),
        lora_dropout=0.0,
        bias="none",
        use_dora=any(own.row_norms is not None for own in factors.values()),
        target_modules=sorted(factors),
        fan_in_fan_out=all(isinstance(modules[path], Conv1D) for path in factors),
    )
    configuration.save_pretrained(folder)
    _sort_sets(folder / CONFIGURATION_NAME)
    tensors: dict[str, Tensor] = {}
    for path, own in factors.items():
        dtype = torch.float64 if own.a.dtype == torch.float64 else torch.float32
        for name, tensor in zip(TENSOR_NAMES, own.tensors, strict=False):
            tensors[f"base_model.model.{path}.{name}"] = tensor.detach().to("cpu", dtype).contiguous().clone()
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})


def _sort_sets(path: Path) -> None:
    """PEFT writes its set of modules in the order of their hashes, which changes from run to run."""
    data = json.loads(path.read_text(encoding="utf-8"))
    data["target_modules"] = sorted(data["target_modules"])
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
