"""Linear layers' weights in the layout that a CPU's matrix products want, made once instead of in every product.

oneDNN and MKL reorder a weight whenever they multiply by it, which for few rows takes longer than the product itself
(measured in benchmarks/README.md). torch keeps the operators for weights that are ordered once, for its own compiler;
where it has none, or memory is short, the ordinary products are used.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from heretic.models.devices import free_host_memory
from heretic.passes.forwards import override_forward

MEMORY_SHARE = 0.4
"""The ordered copies take at most this share of the free host memory."""
ROWS = 128
"""Rows that the layout is chosen for; others work, too."""


class PackedLinears:
    """Ordered copies of one model's linear weights.

    They are copies: whoever changes a weight in place has to leave them inactive.

    Attributes:
        obstacle: Why a CPU has to do without them; empty where it has them, and elsewhere.
    """

    def __init__(self, model: nn.Module) -> None:
        self._forwards: list[tuple[nn.Module, Callable[..., Any]]] = []
        self.obstacle = ""
        modules = [module for module in model.modules() if type(module) is nn.Linear and _can_be_packed(module.weight)]
        # A weight that two modules share is ordered once.
        weights = {id(module.weight): module.weight for module in modules}
        if not weights:
            return
        if not _supported():
            self.obstacle = "this torch has no products with ordered weights"
        elif sum(weight.nbytes for weight in weights.values()) > MEMORY_SHARE * free_host_memory():
            self.obstacle = "ordered copies of the weights do not fit into memory"
        if self.obstacle:
            return
        packed = {key: torch.ops.mkldnn._reorder_linear_weight(weight.data, ROWS) for key, weight in weights.items()}
        self._forwards = [
            (module, partial(_linear, packed[id(module.weight)], None if module.bias is None else module.bias.data))
            for module in modules
        ]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Multiply by the copies for the duration of a with-block."""
        with ExitStack() as stack:
            for module, forward in self._forwards:
                stack.callback(override_forward(module, forward))
            yield


def _linear(weight: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return output


def _can_be_packed(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype in (torch.bfloat16, torch.float32)


def _supported() -> bool:
    operators = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not torch._C._has_mkldnn or not all(hasattr(torch.ops.mkldnn, name) for name in operators):
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
