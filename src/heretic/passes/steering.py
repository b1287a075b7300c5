"""A vector added to the residual stream behind one layer: for measuring, never saved."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from heretic.passes.runner import ModelRunner


@contextmanager
def steered(runner: ModelRunner, layer: int, vector: Tensor) -> Iterator[None]:
    """Add `vector` [D] to every token's output of decoder layer `layer` within a with-block."""

    def add(_module: object, _arguments: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        if isinstance(output, tuple):
            return (output[0] + vector.to(output[0]), *output[1:])
        return output + vector.to(output)

    module = runner.loaded.model.get_submodule(runner.layout.layer_paths[layer])
    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
