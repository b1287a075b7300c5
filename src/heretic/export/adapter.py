"""The edit as a PEFT LoRA adapter folder, from factors that the edit gives."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from heretic.common.errors import ExportError
from heretic.models.loaded import LoadedModel
from heretic.models.location import shown_model
from heretic.models.private_api import Conv1D

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""Module path -> (A [r, m], B [D, r]), so that W' = W + B A."""

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIGURATION_NAME = "adapter_config.json"


def factor_bytes(factors: Factors) -> int:
    """Size of the adapter's tensors as they are written."""
    return sum(
        tensor.numel() * (8 if tensor.dtype == torch.float64 else 4) for pair in factors.values() for tensor in pair
    )


def check_factors(model: nn.Module, factors: Factors) -> None:
    """Check that the factors fit the model and that PEFT will find exactly these modules.

    Raises:
        ExportError: There are none, a module is missing or has another shape, or a name is ambiguous.
    """
    if not factors:
        raise ExportError("The edit changes no weight, so there is nothing to save as an adapter.")
    modules = dict(model.named_modules())
    for path, (factor_a, factor_b) in factors.items():
        module = modules.get(path)
        if module is None:
            raise ExportError(f"The model has no module {path}, which the adapter should change.")
        sizes = (factor_b.shape[0], factor_a.shape[1])
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor):
            raise ExportError(f"The module {path} has no weight that an adapter could change.")
        shape = tuple(weight.shape[::-1] if isinstance(module, Conv1D) else weight.shape)
        quantized = not weight.is_floating_point()
        if factor_a.shape[0] != factor_b.shape[1] or (sizes != shape and not quantized):
            raise ExportError(f"The adapter's factors for {path} give {sizes}, but the weight is {shape}.")
        # PEFT matches names by their end, so a target could catch a module of a deeper path as well.
        ambiguous = [name for name in modules if name.endswith(f".{path}") and name not in factors]
        if ambiguous:
            raise ExportError(f"An adapter for {path} would change {ambiguous[0]} too; save the merged model instead.")


def _ranks(factors: Factors) -> tuple[int, dict[str, int]]:
    """The most frequent rank, and the other ranks by regular expression of the module's path."""
    ranks = {path: int(factor_a.shape[0]) for path, (factor_a, _) in factors.items()}
    common = Counter(ranks.values()).most_common(1)[0][0]
    return common, {re.escape(path): rank for path, rank in sorted(ranks.items()) if rank != common}


def write_adapter(loaded: LoadedModel, factors: Factors, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``.

    Factors are kept in fp32 (fp64 where they are fp64) whatever the model's dtype: the sum W + B A would else lose more
    than the merged weight does.

    Args:
        loaded: The base model (whether edited or not does not matter).
        factors: See `Factors`.
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
        target_modules=sorted(factors),
        fan_in_fan_out=all(isinstance(modules[path], Conv1D) for path in factors),
    )
    configuration.save_pretrained(folder)
    _sort_sets(folder / CONFIGURATION_NAME)
    tensors: dict[str, Tensor] = {}
    for path, (factor_a, factor_b) in factors.items():
        dtype = torch.float64 if factor_a.dtype == torch.float64 else torch.float32
        for name, factor in (("lora_A", factor_a), ("lora_B", factor_b)):
            tensors[f"base_model.model.{path}.{name}.weight"] = factor.detach().to("cpu", dtype).contiguous().clone()
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})


def _sort_sets(path: Path) -> None:
    """PEFT writes its set of modules in the order of their hashes, which changes from run to run."""
    data = json.loads(path.read_text(encoding="utf-8"))
    data["target_modules"] = sorted(data["target_modules"])
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
