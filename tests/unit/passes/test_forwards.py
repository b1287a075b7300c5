"""Overriding a module's forward and putting back whatever was there."""

import torch
from torch import nn

from heretic.passes.forwards import override_forward


def test_the_class_forward_comes_back() -> None:
    module = nn.Linear(2, 2)
    ones = torch.ones(1, 2)
    expected = module(ones)
    undo = override_forward(module, lambda inputs: inputs * 5)
    assert torch.equal(module(ones), ones * 5)
    undo()
    assert torch.equal(module(ones), expected)
    assert "forward" not in module.__dict__


def test_a_forward_of_the_instance_comes_back() -> None:
    """accelerate moves inputs between devices by such an attribute."""
    module = nn.Linear(2, 2)
    module.forward = lambda inputs: inputs * 3
    undo = override_forward(module, lambda inputs: inputs * 5)
    assert torch.equal(module(torch.ones(1, 2)), torch.full((1, 2), 5.0))
    undo()
    assert torch.equal(module(torch.ones(1, 2)), torch.full((1, 2), 3.0))
