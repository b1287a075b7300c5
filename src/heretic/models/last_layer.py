"""In the last layer only keys and values are needed of every position; all else only where predictions are asked for.

The position-wise parts of that layer (its channel mixer, and the projection behind its attention) are run on the
positions that are read. What they put out elsewhere is zero, and nothing behind them looks at another position.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from heretic.edits.writer import ATTENTION, ModelLayout, WriterKind
from heretic.models.private_api import layer_output, with_layer_output


def position_wise_parts(model: nn.Module, layout: ModelLayout) -> list[nn.Module]:
    """Modules of the last layer that look at one position at a time and write the residual stream.

    Args:
        model: Any.
        layout: Where its layers and writers are.
    """
    path = layout.layer_paths[-1]
    writers = [writer for writer in layout.writers if writer.layer == layout.layer_count - 1]
    mixers = [writer.path for writer in writers if writer.component == ATTENTION]
    found = {own.path for own in writers if own.component == ATTENTION and own.kind is not WriterKind.FUSED_EXPERTS}
    for writer in writers:
        child = f"{path}.{writer.path.removeprefix(f'{path}.').partition('.')[0]}"
        # A child that mixes tokens too has to see all of them.
        if writer.component != ATTENTION and not any(f"{own}.".startswith(f"{child}.") for own in mixers):
            found.add(child)
    return [model.get_submodule(own) for own in sorted(found)]


def read_index(wanted: Sequence[Sequence[int]], length: int) -> Tensor | None:
    """The positions [B, W] that are read, rows with fewer filled up; None where leaving out the others saves nothing.

    Args:
        wanted: For each row the positions whose predictions are asked for.
        length: T.
    """
    width = max([1, *map(len, wanted)])
    if width >= length:
        return None
    rows = [list(own) or [0] for own in wanted]
    return torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in rows])


@contextmanager
def reading_only(parts: Sequence[nn.Module], index: Tensor | None, length: int) -> Iterator[None]:
    """Let modules see only some positions of every row: [B, T, D] becomes [B, W, D], and zeros stand elsewhere after.

    Inputs of another shape are left as they are.

    Args:
        parts: From `position_wise_parts`.
        index: From `read_index`, on the device of the last layer; None changes nothing.
        length: T.
    """
    if index is None:
        yield
        return
    shape = (len(index), length)
    gathered: set[nn.Module] = set()

    def gather(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, Any]:
        def own(value: Any) -> Any:
            if not (isinstance(value, Tensor) and value.dim() == 3 and value.shape[:2] == shape):
                return value
            gathered.add(module)
            places = index.to(value.device)
            return value.gather(1, places[..., None].expand(-1, -1, value.shape[-1]))

        gathered.discard(module)
        return tuple(map(own, arguments)), {name: own(value) for name, value in keywords.items()}

    def scatter(module: nn.Module, _arguments: Any, output: Any) -> Any:
        if module not in gathered:
            return output
        return with_layer_output(output, _scattered(layer_output(output), index, length))

    with ExitStack() as stack:
        for module in parts:
            stack.callback(module.register_forward_pre_hook(gather, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(scatter).remove)
        yield


def _scattered(output: Tensor, index: Tensor, length: int) -> Tensor:
    """Positions [B, W, D] or [B * W, D] put back among T, of as many axes as before."""
    width = output.shape[-1]
    places = index.to(output.device)[..., None].expand(-1, -1, width)
    whole = output.new_zeros(len(index), length, width).scatter(1, places, output.reshape(*index.shape, width))
    return whole if output.dim() == 3 else whole.flatten(0, 1)
