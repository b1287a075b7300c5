"""Lower layers that no edit reaches: their inputs, keys and values for fixed token rows are kept across trials.

Residuals below the first edited layer depend on the tokens alone, so a pass over the same tokens may begin there.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from heretic.models.private_api import key_values, layer_input, override_forward, with_layer_input


class KeptLayers:
    """What the layers of one model read for N fixed token rows, and the keys and values that they wrote.

    Layers share nothing else in a pass, which `passes.ragged` is tested for on every family. Only every `stride`-th
    layer's input is kept where all do not fit the budget.
    """

    def __init__(self, stride: int = 1, with_key_values: bool = False) -> None:
        self.stride = stride
        self.with_key_values = with_key_values
        self._inputs: dict[tuple[int, int], Tensor] = {}
        self._keys: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self.returns_tuple: list[bool] = []

    @property
    def size(self) -> int:
        """Bytes held."""
        pairs = [tensor for pair in self._keys.values() for tensor in pair]
        return sum(tensor.nbytes for tensor in [*self._inputs.values(), *pairs])

    def start_for(self, first_edited: int) -> int:
        """The last layer not above the first edited one whose input is kept; 0 where none is."""
        return first_edited // self.stride * self.stride if self._inputs else 0

    @contextmanager
    def recording(self, layers: Sequence[nn.Module], rows: Sequence[int], lengths: Sequence[int]) -> Iterator[None]:
        """Keep what the layers read in the one pass of a with-block.

        Args:
            layers: The decoder layers.
            rows: [B] index of each batch row among the N.
            lengths: [B] tokens of each row without padding.
        """
        self.returns_tuple = [False] * len(layers)

        def before(layer: int, _module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            hidden_states = layer_input(arguments, keywords)
            for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
                self._inputs[layer, row] = hidden_states[index, :length].clone()

        def after(layer: int, _module: nn.Module, _arguments: Any, output: Any) -> None:
            self.returns_tuple[layer] = isinstance(output, tuple)

        with ExitStack() as stack:
            for layer, module in enumerate(layers):
                if layer and layer % self.stride == 0:
                    stack.enter_context(module.register_forward_pre_hook(partial(before, layer), with_kwargs=True))
                stack.enter_context(module.register_forward_hook(partial(after, layer)))
            yield

    def keep_key_values(self, cache: DynamicCache, rows: Sequence[int], lengths: Sequence[int], columns: int) -> None:
        """Keep the keys and values of the last `columns` columns, where they are asked for.

        Args:
            cache: The cache after the recorded pass.
            rows: As in `recording`.
            lengths: As in `recording`.
            columns: T of the recorded pass.
        """
        if not self.with_key_values:
            return
        for layer, (keys, values) in enumerate(key_values(cache)):
            for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
                fed = slice(keys.shape[-2] - columns, keys.shape[-2] - columns + length)
                self._keys[layer, row] = keys[index, :, fed].clone(), values[index, :, fed].clone()

    def inputs(self, layer: int, rows: Sequence[int]) -> Tensor:
        """The input [B, T, D] of a layer for these rows, right-padded with zeros."""
        return nn.utils.rnn.pad_sequence([self._inputs[layer, row] for row in rows], batch_first=True)

    def fill_cache(self, cache: Cache, rows: Sequence[int], first: int, columns: int) -> None:
        """Write the kept keys and values of the layers below `first` behind what the cache holds of them.

        Args:
            cache: A cache whose layers below `first` were lower in the last pass.
            rows: [B] as in `recording`.
            first: The first layer that ran.
            columns: T of the last pass.
        """
        if not self.with_key_values:
            return
        for layer in range(first):
            pairs = [self._keys[layer, row] for row in rows]
            keys, values = (
                torch.stack([nn.functional.pad(part, (0, 0, 0, columns - part.shape[-2])) for part in side])
                for side in zip(*pairs, strict=True)
            )
            cache.update(keys, values, layer)


@contextmanager
def skipping(layers: Sequence[nn.Module], lower: tuple[KeptLayers, Sequence[int], int] | None) -> Iterator[None]:
    """Let a pass begin at a layer: those below hand their input on, and that layer reads what was kept."""
    if lower is None or lower[2] == 0:
        yield
        return
    store, rows, first = lower

    def replace(_module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, Any]:
        return with_layer_input(arguments, keywords, store.inputs(first, rows))

    with ExitStack() as stack:
        stack.callback(layers[first].register_forward_pre_hook(replace, with_kwargs=True).remove)
        for layer, module in enumerate(layers[:first]):
            stack.callback(override_forward(module, partial(_hand_on, store.returns_tuple[layer])))
        yield


def _hand_on(as_tuple: bool, hidden_states: Tensor, *_arguments: Any, **_keywords: Any) -> Tensor | tuple[Tensor]:
    return (hidden_states,) if as_tuple else hidden_states
