"""What arrives in the residual stream of a constant that a writer puts out: measured, in one pass.

Nothing in a model's layout says that a layer's output is scaled (Granite) or gated (shared experts) on its way, so each
writer in question is made to put out a constant while all others are silent, and what the layers add is compared. Every
other token gets twice the constant, because a norm would make the same of both.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heretic.edits.writer import ModelLayout, ResidualWriter
from heretic.models.private_api import layer_input, layer_output

RELATIVE_LENGTH = 0.2
"""Length of the constant relative to the residuals': far above rounding, and many layers do not overflow."""
TOLERANCE = 0.1
"""What may arrive beside the constant, relative to what arrives of it; rounding in bfloat16 stays below."""
SPREAD = 0.03
"""By how much the shares of single tokens may differ, relative to their mean."""


@torch.inference_mode()
def constant_shares(
    model: PreTrainedModel, layout: ModelLayout, writers: Sequence[ResidualWriter], tokens: Sequence[int]
) -> dict[int, float]:
    """For each layer, how much of a constant that its writer puts out arrives in the residual stream.

    Args:
        model: Its weights are not used but for the embeddings.
        layout: Where layers and writers are.
        writers: At most one of each layer.
        tokens: A prompt.

    Returns:
        By layer the share: 1 for most models. Layers where something else than a multiple of the constant arrives are
        left out.
    """
    generator = torch.Generator().manual_seed(0)
    constant = nn.functional.normalize(torch.randn(layout.hidden_size, generator=generator), dim=0)
    multiples = 1.0 + torch.arange(len(tokens))[:, None] % 2
    chosen = {writer.layer: writer for writer in writers}
    entering: dict[int, Tensor] = {}
    leaving: dict[int, Tensor] = {}
    lengths: dict[int, float] = {}

    def output_of(writer: ResidualWriter) -> Callable[..., Tensor]:
        def replaced(_module: nn.Module, _arguments: object, output: Tensor) -> Tensor:
            if chosen.get(writer.layer) != writer:
                return torch.zeros_like(output)
            # A copy: some layers add to it in place.
            return (multiples * constant * lengths[writer.layer]).to(output).expand_as(output).clone()

        return replaced

    with ExitStack() as stack:
        stack.enter_context(_watched(model, layout, entering, leaving, lengths))
        for writer in layout.writers:
            stack.enter_context(model.get_submodule(writer.path).register_forward_hook(output_of(writer)))
        device: Any = model.get_input_embeddings()
        model(input_ids=torch.tensor([list(tokens)], device=device.weight.device), use_cache=False)
    shares = {
        layer: _share((leaving[layer] - entering[layer]).flatten(0, -2) / multiples, constant * lengths[layer])
        for layer in chosen
    }
    return {layer: share for layer, share in shares.items() if share is not None}


@contextmanager
def _watched(
    model: PreTrainedModel,
    layout: ModelLayout,
    entering: dict[int, Tensor],
    leaving: dict[int, Tensor],
    lengths: dict[int, float],
) -> Iterator[None]:
    def before(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            entering[layer] = layer_input(arguments, keywords).float().cpu()
            lengths[layer] = RELATIVE_LENGTH * float(entering[layer].norm(dim=-1).mean())

        return hook

    def after(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _arguments: object, output: Tensor | tuple[Tensor, ...]) -> None:
            leaving[layer] = layer_output(output).float().cpu()

        return hook

    with ExitStack() as stack:
        for index, path in enumerate(layout.layer_paths):
            module = model.get_submodule(path)
            stack.enter_context(module.register_forward_pre_hook(before(index), with_kwargs=True))
            stack.enter_context(module.register_forward_hook(after(index)))
        yield


def _share(added: Tensor, constant: Tensor) -> float | None:
    """The multiple of a constant [D] that [n, D] is, or None where it is none."""
    shares = added @ constant / constant.square().sum()
    mean = float(shares.mean())
    beside = (added - shares[:, None] * constant).norm(dim=-1)
    arrived = shares.abs() * constant.norm()
    if mean <= 0 or float((beside / arrived.clamp_min(1e-30)).max()) > TOLERANCE:
        return None
    return mean if float((shares - mean).abs().max()) <= SPREAD * mean else None
