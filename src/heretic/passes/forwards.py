"""Other forwards for modules, and back: whatever stood on the instance before is put back.

accelerate keeps what moves inputs between devices as an attribute of the instance, so removing ours is not enough.
"""

from collections.abc import Callable
from typing import Any

from torch import nn


def override_forward(module: nn.Module, forward: Callable[..., Any]) -> Callable[[], None]:
    """Let a module run another forward; returns what undoes it."""
    attributes = module.__dict__
    had_own = "forward" in attributes
    own = attributes.get("forward")
    attributes["forward"] = forward

    def undo() -> None:
        if had_own:
            attributes["forward"] = own
        else:
            attributes.pop("forward", None)

    return undo
