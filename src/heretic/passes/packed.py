"""Linear layers' weights in the layout that a CPU's matrix products want, made once instead of in every product.

oneDNN and MKL reorder a weight whenever they multiply by it, which for few rows takes longer than the product itself
(measured in benchmarks/README.md). The ordered weights stand in the place of the plain ones, which come back from them
bit for bit. Where torch cannot multiply by weights that were ordered once, or memory is short, the ordinary products
are used, and `obstacle` says why.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from heretic.models.access import put_back, same_bits, stow, unstow
from heretic.models.footprint import ORDERED_SHARE
from heretic.models.host_memory import free_host_memory, give_back_freed
from heretic.models.private_api import ordered_product, ordered_weight, ordered_weights_obstacle, override_forward
from heretic.models.storage import direct_parameters

ROWS = 128
"""Rows that the layout is chosen for; others work, too."""
FREED_AT_ONCE = 64_000_000
"""Bytes of weights that were replaced before they are given back to the system, which takes milliseconds."""


class PackedLinears:
    """Orders one model's linear weights while it multiplies by them, and until somebody needs the plain ones.

    A linear layer that is called outside of `active` puts all plain weights back first, and so does whoever asks
    `models.access` for a weight to write to. Weights that other layers read as well (tied embeddings), and such that
    would not come back bit for bit, are kept in both forms.

    Attributes:
        obstacle: Why a CPU has to do without; empty where it does not, and elsewhere.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [module for module in model.modules() if type(module) is nn.Linear and _can_be_ordered(module)]
        linear = {id(module) for module in self._modules}
        others = (module for module in model.modules() if id(module) not in linear)
        self._read_plainly = {id(weight) for module in others for weight in direct_parameters(module).values()}
        self._stowed: dict[int, nn.Parameter] = {}
        # By weight, how the layers that read it become what they were.
        self._undo: dict[int, list[Callable[[], None]]] = {}
        self._active = False
        self.obstacle = self._obstacle()
        if self.obstacle:
            self._modules = []

    def _weights(self) -> dict[int, nn.Parameter]:
        """Those of the modules, each once."""
        weights = (direct_parameters(module)["weight"] for module in self._modules)
        return {id(weight): weight for weight in weights}

    def _obstacle(self) -> str:
        weights = self._weights()
        if not weights:
            return ""
        twice = sum(weight.nbytes for key, weight in weights.items() if key in self._read_plainly)
        size = twice + max(weight.nbytes for weight in weights.values())
        if size > ORDERED_SHARE * free_host_memory():
            return f"ordering weights takes {size / 1e9:.1f} GB, more than {ORDERED_SHARE:.0%} of the free memory"
        return ordered_weights_obstacle({weight.dtype for weight in weights.values()}) or ""

    @property
    def holds(self) -> int:
        """How many weights have their values here."""
        return len(self._stowed)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Multiply by ordered weights for the duration of a with-block; they stay ordered behind it."""
        if not self._undo:
            self._order()
        self._active = True
        try:
            yield
        finally:
            self._active = False

    # Otherwise the weights could not be written to behind it.
    @torch.inference_mode(False)
    def _order(self) -> None:
        weights = self._weights()
        put_back(weights.values())
        ordered: dict[int, Tensor] = {}
        try:
            for key, weight in _giving_back(weights):
                ordered[key] = ordered_weight(weight.data, ROWS)
                if key not in self._read_plainly and _comes_back(ordered[key], weight):
                    stow(weight, _Ordered(self, ordered[key]))
                    self._stowed[key] = weight
            for module in self._modules:
                key = id(module.weight)
                forward = partial(self._multiply, module, ordered[key])
                self._undo.setdefault(key, []).append(override_forward(module, forward))
        except BaseException:
            self.give_back()
            raise

    def _multiply(self, module: nn.Linear, ordered: Tensor, inputs: Tensor) -> Tensor:
        if self._active:
            return ordered_product(ordered, None if module.bias is None else module.bias.data, inputs)
        self.give_back()
        product: Tensor = module.forward(inputs)
        return product

    @torch.inference_mode(False)
    def give_back(self) -> None:
        """Put the plain weights back; the next `active` orders them again."""
        if not self._undo and not self._stowed:
            return
        # One by one, so that no two copies of all are held; should memory run out, the others stay ordered.
        for key, weight in _giving_back(self._weights()):
            if key in self._stowed:
                unstow(weight)
                del self._stowed[key]
            for undo in self._undo.pop(key, ()):
                undo()

    def drop(self) -> None:
        """Do without from now on, where memory ran out."""
        self.give_back()
        if self._modules:
            self._modules = []
            self.obstacle = "weights are no longer ordered, because memory ran out"


@dataclass(frozen=True, slots=True, eq=False)
class _Ordered:
    """See Elsewhere."""

    owner: PackedLinears
    weight: Tensor

    def values(self) -> Tensor:
        return self.weight.to_dense()

    def put_back(self) -> None:
        self.owner.give_back()


def _giving_back(weights: Mapping[int, nn.Parameter]) -> Iterator[tuple[int, nn.Parameter]]:
    """Weights that are replaced one by one, with the memory of those before given back to the system on the way."""
    freed = 0
    for key, weight in weights.items():
        yield key, weight
        freed += weight.nbytes
        if freed > FREED_AT_ONCE:
            give_back_freed()
            freed = 0
    give_back_freed()


def _can_be_ordered(module: nn.Linear) -> bool:
    return module.weight.device.type == "cpu" and module.weight.dtype in (torch.bfloat16, torch.float32)


_COMES_BACK: dict[tuple[torch.dtype, torch.Size], bool] = {}


def _comes_back(ordered: Tensor, weight: Tensor) -> bool:
    """Whether a weight comes back bit for bit, looked at once for its shape: ordering only moves numbers."""
    kind = weight.dtype, weight.shape
    if kind not in _COMES_BACK:
        _COMES_BACK[kind] = same_bits(ordered.to_dense(), weight)
    return _COMES_BACK[kind]
