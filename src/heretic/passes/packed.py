"""Linear layers' weights in the layout that a CPU's matrix products want, made once instead of in every product.

oneDNN and MKL reorder a weight whenever they multiply by it, which for few rows takes longer than the product itself
(measured in benchmarks/README.md). Where torch cannot multiply by weights that were ordered once, or memory is short,
the ordinary products are used, and `obstacle` says why.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from heretic.models.footprint import ORDERED_SHARE
from heretic.models.host_memory import free_host_memory
from heretic.models.private_api import ordered_product, ordered_weight, ordered_weights_obstacle, override_forward

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
        self.obstacle = _obstacle(weights.values())
        if self.obstacle:
            return
        packed = {key: ordered_weight(weight.data, ROWS) for key, weight in weights.items()}
        for module in modules:
            bias = None if module.bias is None else module.bias.data
            self._forwards.append((module, partial(ordered_product, packed[id(module.weight)], bias)))

    def drop(self) -> None:
        """Give the copies back, where memory ran out; from now on the ordinary products are used."""
        if self._forwards:
            self._forwards.clear()
            self.obstacle = "ordered copies of the weights were given back, because memory ran out"

    @contextmanager
    def active(self) -> Iterator[None]:
        """Multiply by the copies for the duration of a with-block."""
        with ExitStack() as stack:
            for module, forward in self._forwards:
                stack.callback(override_forward(module, forward))
            yield


def _can_be_packed(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype in (torch.bfloat16, torch.float32)


def _obstacle(weights: Collection[Tensor]) -> str:
    """Why weights on a CPU are not ordered, or nothing."""
    size = sum(weight.nbytes for weight in weights)
    if not size:
        return ""
    if size > ORDERED_SHARE * free_host_memory():
        return f"copies of {size / 1e9:.1f} GB would take more than {ORDERED_SHARE:.0%} of the free memory"
    return ordered_weights_obstacle({weight.dtype for weight in weights}) or ""
