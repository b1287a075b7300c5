"""Proof that a saved folder is the edited model: loaded again, compared tensor by tensor and answer by answer.

Cost: every weight is read from the disk twice (once as a file, once as a model), a second copy of the model is held
while answers are compared (on the same device where it fits, else in host memory; where it fits nowhere only the files
are compared, which needs no extra memory), and all prompts are answered twice, in one batch.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import get_max_memory
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import CONFIG_NAME

from heretic.common.errors import ExportError
from heretic.export.adapter import ByModule
from heretic.export.compare import compare_files, compare_models
from heretic.export.tokenizer import load_tokenizer
from heretic.models.devices import empty_cache
from heretic.models.loaded import LoadedModel
from heretic.models.private_api import (
    Conv1D,
    adapter_change,
    adapter_row_norms,
    attention_implementation,
    unadapted_weight,
)
from heretic.observability.events import Warned, emit
from heretic.observability.steps import counted
from heretic.passes.runner import left_padded

MEMORY_FACTOR = 1.2
"""Memory that is asked for the second copy, for activations and fragments."""
LOGITS_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest relative difference of last-token logits (root mean square) where bits cannot agree: another device computes
them, or an adapter adds in another order than the merged weight was rounded in."""
CHANGE_TOLERANCE = 1e-3
"""Largest difference of what an adapter adds to a weight, as a share of its largest entry."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What is asked of a saved folder.

    Attributes:
        texts: Rendered prompts (chat template applied).
        add_special_tokens: Whether the tokenizer adds its own special tokens to them.
        max_new_tokens: Length of the greedy answers that are compared.
    """

    texts: tuple[str, ...]
    add_special_tokens: bool = False
    max_new_tokens: int = 20


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a second copy of the model goes: a device map of transformers, and whether answers must agree exactly."""

    device_map: dict[str, Any]
    exact: bool


DEFAULT_TOLERANCE = 1e-1
"""The same for quantised weights and rarer dtypes."""

BaseLoader = Callable[[], PreTrainedModel]
"""Loads the original model again, in the same dtype; adapters are verified on it."""


def find_placement(model: PreTrainedModel) -> Placement | None:
    """Where a second copy fits: beside the first, else in host memory, else nowhere (None)."""
    needed: dict[torch.device, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        needed[tensor.device] = needed.get(tensor.device, 0) + tensor.nbytes
    # Collecting garbage takes a second, and only accelerators keep freed memory for themselves.
    for accelerator in {device.type: device for device in needed if device.type not in {"cpu", "meta"}}.values():
        empty_cache(accelerator)
    available: dict[Any, int] = get_max_memory()

    def fits(device: torch.device, size: int) -> bool:
        key: Any = device.type if device.type in {"cpu", "mps"} else device.index or 0
        return size * MEMORY_FACTOR < available.get(key, 0)

    if all(device.type != "meta" and fits(device, size) for device, size in needed.items()):
        if len(needed) == 1:
            return Placement({"": next(iter(needed))}, exact=True)
        device_map = getattr(model, "hf_device_map", None)
        if device_map is not None:
            return Placement(dict(device_map), exact=True)
    if fits(torch.device("cpu"), sum(needed.values())):
        return Placement({"": "cpu"}, exact=False)
    return None


def greedy_answers(
    model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int, pad_token_id: int | None
) -> list[list[int]]:
    """The most likely continuations of prompts, as token ids; in one batch, so the shorter ones end in padding."""
    device = model.get_input_embeddings().weight.device
    input_ids, attention_mask = left_padded(prompts, pad_token_id or 0, device)
    configuration = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves its constructor untyped
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=pad_token_id,
    )
    with torch.inference_mode():
        output: Tensor = model.generate(
            input_ids=input_ids, attention_mask=attention_mask, generation_config=configuration
        )
    answers: list[list[int]] = output[:, input_ids.shape[1] :].tolist()
    return answers


def last_logits(model: Any, token_ids: Sequence[int]) -> Tensor:
    """Logits [V] after one prompt, in fp32 or fp64, on the CPU."""
    input_ids = torch.tensor([list(token_ids)], device=model.get_input_embeddings().weight.device)
    with torch.inference_mode():
        logits: Tensor = model(input_ids=input_ids, use_cache=False).logits[0, -1].cpu()
    return logits if logits.dtype == torch.float64 else logits.float()


def relative_difference(first: Tensor, second: Tensor) -> float:
    """Root mean square of the difference, as a share of the second's."""
    return float((first - second).norm() / second.norm().clamp_min(torch.finfo(second.dtype).tiny))


@contextmanager
def _loading(what: str) -> Iterator[None]:
    """Turn everything that loading raises for a bad folder into one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ExportError(f"{what} cannot be loaded again ({error}); nothing was saved.") from error


def _skipped(unknown: Sequence[str]) -> int:
    compared = f"all tensors but {len(unknown)}" if unknown else "every tensor"
    emit(
        Warned(
            "There is no memory for a second copy of the model, so answers of the saved folder were not compared; "
            f"{compared} in its files was."
        )
    )
    return 0


def _reload(loaded: LoadedModel, folder: Path, placement: Placement) -> PreTrainedModel:
    if not (folder / CONFIG_NAME).is_file():
        # A model class takes its defaults then, which may be a huge model.
        raise ExportError(f"The saved model lacks its {CONFIG_NAME}; nothing was saved.")
    model_class: Any = type(loaded.model)
    with _loading("The saved model"):
        reloaded: PreTrainedModel = model_class.from_pretrained(
            folder,
            dtype=loaded.model.dtype,
            device_map=placement.device_map,
            attn_implementation=attention_implementation(loaded.model),
            local_files_only=True,
        ).eval()
    return reloaded


def verify_merged(folder: Path, loaded: LoadedModel, verification: Verification) -> int:
    """Load a saved model again; it must have the same bits and give the same answers as the edited model in memory.

    Args:
        folder: The saved folder, complete with its tokenizer.
        loaded: The edited model.
        verification: Prompts to answer; there may be none.

    Returns:
        Number of answers compared; 0 where memory does not allow a second copy (a Warned event says so).

    Raises:
        ExportError: Something differs, or the folder cannot be loaded.
    """
    unknown = compare_files(folder, loaded.model)
    placement = find_placement(loaded.model)
    if placement is None:
        return _skipped(unknown)
    reloaded = _reload(loaded, folder, placement)
    compare_models(reloaded, loaded.model)
    prompts = _encoded(folder, loaded, verification)
    shared = _shared_beginnings(reloaded, loaded, prompts, verification.max_new_tokens) if placement.exact else prompts
    for number, token_ids in enumerate(counted(shared, len(shared), "answers")):
        if token_ids is not None and not _same_logits(reloaded, loaded, token_ids):
            raise ExportError(
                f"The saved model answers verification prompt {number + 1} differently from the edited model; "
                "nothing was saved."
            )
    return len(prompts)


def _shared_beginnings(
    reloaded: PreTrainedModel, loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[list[int] | None]:
    """Of each prompt that both models answer differently, the prompt with what both answers begin with; else None.

    Even equal weights on the same device may give logits that differ in their last bits, because kernels depend on how
    the weights are aligned in memory. So where answers part, a tie between tokens is accepted: there the logits must
    agree to rounding.
    """
    pad = loaded.tokenizer.pad_token_id
    both = [
        greedy_answers(model, prompts, max_new_tokens, pad) if prompts else [] for model in (reloaded, loaded.model)
    ]
    beginnings: list[list[int] | None] = []
    for token_ids, first, second in zip(prompts, *both, strict=True):
        common = [
            token for token, other in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
        ]
        beginnings.append(None if first == second else [*token_ids, *common])
    return beginnings


def _same_logits(reloaded: PreTrainedModel, loaded: LoadedModel, token_ids: Sequence[int]) -> bool:
    """Whether both models' logits behind these tokens agree to rounding."""
    difference = relative_difference(last_logits(reloaded, token_ids), last_logits(loaded.model, token_ids))
    return difference <= LOGITS_TOLERANCE.get(loaded.model.dtype, DEFAULT_TOLERANCE)


def _encoded(folder: Path, loaded: LoadedModel, verification: Verification) -> list[list[int]]:
    """Token ids of the prompts, by the saved tokenizer, which must agree with the original.

    Raises:
        ExportError: It does not.
    """
    saved = load_tokenizer(loaded.tokenizer, folder)
    result = []
    for text in verification.texts:
        token_ids, expected = (
            tokenizer(text, add_special_tokens=verification.add_special_tokens)["input_ids"]
            for tokenizer in (saved, loaded.tokenizer)
        )
        if token_ids != expected:
            raise ExportError("The saved tokenizer splits a verification prompt differently; nothing was saved.")
        result.append(token_ids)
    return result


def default_base_loader(loaded: LoadedModel) -> BaseLoader:
    """Loads the original model from where it came from, beside the edited one or in host memory."""

    def load() -> PreTrainedModel:
        placement = find_placement(loaded.model) or Placement({"": "cpu"}, exact=False)
        base: PreTrainedModel = type(loaded.model).from_pretrained(
            loaded.source,
            revision=loaded.commit or "main",
            dtype=loaded.model.dtype,
            device_map=placement.device_map,
            attn_implementation=attention_implementation(loaded.model),
            quantization_config=getattr(loaded.model.config, "quantization_config", None),
        )
        return base

    return load


def verify_adapter(
    folder: Path,
    loaded: LoadedModel,
    factors: ByModule,
    verification: Verification,
    load_base: BaseLoader | None = None,
) -> int:
    """Load original model and saved adapter with PEFT; together they must be the edited model in memory.

    What PEFT adds to every adapted weight must be B A, and its rows' norms those that were saved; together that must be
    the edited weight up to rounding of the weight's dtype (not checked where the weights are quantised). The logits
    after each prompt must agree better than those of the original model do.

    Args:
        folder: The saved folder, complete with its tokenizer.
        loaded: The edited model.
        factors: What was saved.
        verification: Prompts to compare; there may be none.
        load_base: Loads the original model; by default from `loaded.source`.

    Returns:
        Number of prompts compared; 0 where memory does not allow a second copy (a Warned event says so).

    Raises:
        ExportError: Something differs, or the adapter cannot be loaded.
    """
    # PEFT takes seconds to import, and only this path needs it.
    from peft import PeftModel

    if find_placement(loaded.model) is None:
        return _skipped(())
    with _loading("The saved adapter"):
        base = (load_base or default_base_loader(loaded))()
        with warnings.catch_warnings():
            # PEFT asks transformers for an attribute that has a new name; nobody who saves an adapter can mend that.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            adapted = PeftModel.from_pretrained(base, str(folder)).eval()
    _compare_changes(base, loaded.model, factors)
    quantized = loaded.quantization != "none"
    if not quantized:
        _compare_adapted_weights(base, loaded.model, factors)
    tolerance = DEFAULT_TOLERANCE if quantized else LOGITS_TOLERANCE.get(loaded.model.dtype, DEFAULT_TOLERANCE)
    prompts = _encoded(folder, loaded, verification)
    for number, token_ids in enumerate(counted(prompts, len(prompts), "answers")):
        expected = last_logits(loaded.model, token_ids)
        error = relative_difference(last_logits(adapted, token_ids), expected)
        with adapted.disable_adapter():
            effect = relative_difference(last_logits(adapted, token_ids), expected)
        # Close to the edited model is not enough where the edit itself is small: without the adapter it would pass too.
        if error > tolerance or (effect > tolerance and error > effect / 2):
            raise ExportError(
                f"The original model with the saved adapter answers verification prompt {number + 1} differently from "
                "the edited model; nothing was saved."
            )
    return len(prompts)


def _compare_changes(base: PreTrainedModel, edited: PreTrainedModel, factors: ByModule) -> None:
    """Check what PEFT adds to the weights: an edit may be smaller than what rounding and answers can show.

    Raises:
        ExportError: It is not B A, or rows get other norms; names the first module.
    """
    for path, own in factors.items():
        module = base.get_submodule(path)
        product = own.b.detach().cpu().double() @ own.a.detach().cpu().double()
        expected = [product.T if isinstance(edited.get_submodule(path), Conv1D) else product]
        found = [adapter_change(module)]
        if own.row_norms is not None:
            expected, found = [*expected, own.row_norms.detach().cpu().double()], [*found, adapter_row_norms(module)]
        for made, wanted in zip(found, expected, strict=True):
            # PEFT adds in fp32.
            difference = (made.detach().cpu().double() - wanted).abs().amax()
            if float(difference) > CHANGE_TOLERANCE * float(wanted.abs().amax()):
                raise ExportError(f"The saved adapter adds something else to {path} than the edit; nothing was saved.")


def _compare_adapted_weights(base: PreTrainedModel, edited: PreTrainedModel, factors: ByModule) -> None:
    """Check the original weights with what was saved against the edited weights.

    Raises:
        ExportError: They differ by more than rounding; names the first module.
    """
    for path, own in factors.items():
        module: Any = base.get_submodule(path)
        expected: Any = edited.get_submodule(path).weight
        if expected.device.type == "meta":
            continue
        delta = adapter_change(module).cpu()
        merged = unadapted_weight(module).detach().cpu().to(delta.dtype) + delta
        if own.row_norms is not None:
            inputs = 0 if isinstance(edited.get_submodule(path), Conv1D) else 1
            scale = adapter_row_norms(module).detach().cpu().to(merged) / merged.norm(dim=inputs)
            merged = merged * scale.unsqueeze(inputs)
        # Both sides are rounded once to the weight's dtype, or summed in another order.
        bound = 4 * torch.finfo(expected.dtype).eps * merged.abs().amax()
        if float((merged - expected.detach().cpu().to(merged.dtype)).abs().amax()) > float(bound):
            raise ExportError(f"The saved adapter does not give the edited weight of {path}; nothing was saved.")
