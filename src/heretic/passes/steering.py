"""A vector added to the residual stream behind one layer: for measuring, never saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from heretic.models.private_api import layer_output, with_layer_output
from heretic.passes.runner import ModelRunner


@contextmanager
def steered(runner: ModelRunner, layer: int, vector: Tensor) -> Iterator[None]:
    """Add `vector` [D] to every token's output of decoder layer `layer` within a with-block."""

    def add(_module: object, _arguments: object, output: Any) -> Any:
        hidden_states = layer_output(output)
        return with_layer_output(output, hidden_states + vector.to(hidden_states))

    module = runner.loaded.model.get_submodule(runner.layout.layer_paths[layer])
    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
