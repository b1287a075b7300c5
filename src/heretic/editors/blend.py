"""Rows of one batch between a model's own weights and those of its edited copy: one model in memory, both answers.

Only weights that differ are kept twice. Strength 0 is the model itself and 1 the edited copy, both bit for bit; between
and beyond them lies the straight line through both, which for edits that keep no norms is the plan at that strength.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heretic.common.errors import ModelError
from heretic.editors.editor import Editor, applied
from heretic.edits.algebra import Edit
from heretic.models.access import is_listed_expert
from heretic.models.biases import match_biases
from heretic.models.private_api import is_routed, override_forward

ORIGINAL, EDITED, STRONGEST = 0.0, 1.0, 1.5
_NAMED = 3
"""Weights that a message names."""


class WeightBlend:
    """The weights of an edited copy beside a model's own.

    Attributes:
        changed: How many weights differ.
        mixes: Whether the rows of one batch may have different strengths; else all rows have to have the same one.
    """

    def __init__(self, model: PreTrainedModel, edited: Mapping[str, Tensor]) -> None:
        """Keep what differs.

        Args:
            model: Unquantised.
            edited: Name of a parameter -> its value in the edited copy, of the same shape.
        """
        self.changed = len(edited)
        self._modules: list[_Module] = []
        by_module: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, value in edited.items():
            path, _, parameter = name.rpartition(".")
            by_module[path][parameter] = value
        for path, values in by_module.items():
            self._modules.append(_Module(model.get_submodule(path), values))
        self.mixes = not any(_sees_other_rows(model, path) for path in by_module)

    def use(self, strengths: Sequence[float]) -> None:
        """Give the contiguous, equal blocks of every later batch these strengths.

        Raises:
            ValueError: They differ, and rows cannot be told apart in this model.
        """
        if len(set(strengths)) > 1 and not self.mixes:
            raise ValueError("rows of different strengths cannot be told apart in this model")
        for module in self._modules:
            module.use(strengths)

    def restore(self) -> None:
        """Let all rows be those of the model itself."""
        self.use([ORIGINAL])


def edited_weights(model: PreTrainedModel, editor: Editor, edits: Sequence[Edit]) -> dict[str, Tensor]:
    """The weights that edits change, as they are with them: what a saved copy would hold.

    Args:
        model: Unedited, before and afterwards.
        editor: Of this model; it writes weights.
        edits: Of its writers.

    Returns:
        Name of a parameter -> its edited value, of those that differ.
    """
    modules = dict.fromkeys(edit.writer.path for edit in edits)
    with applied(editor, edits):
        values = {
            f"{path}.{name}": parameter.detach().clone()
            for path in modules
            for name, parameter in model.get_submodule(path).named_parameters(recurse=False)
        }
    return {name: value for name, value in values.items() if not torch.equal(value, model.get_parameter(name))}


def differing_weights(model: PreTrainedModel, edited: PreTrainedModel) -> dict[str, Tensor]:
    """The weights of an edited copy that are not the model's, on the model's devices.

    Args:
        model: Given (zero) biases where only the copy has some.
        edited: Of the same class and sizes; it is not needed afterwards.

    Raises:
        ModelError: It is no edited copy of this model.
    """
    own, others = dict(model.named_parameters()), dict(edited.named_parameters())
    added = {name for name in others.keys() - own.keys() if f"{name.removesuffix('.bias')}.weight" in own}
    shared = own.keys() & others.keys()
    odd = sorted((own.keys() ^ others.keys()) - added)
    odd += sorted(name for name in shared if own[name].shape != others[name].shape)
    if odd:
        raise ModelError(
            f"The edited model and the one that it is compared with do not have the same weights ({len(odd)} differ in "
            f"name or shape, such as {', '.join(odd[:_NAMED])}); name the model that it was made from."
        )
    match_biases(model, edited)
    own = dict(model.named_parameters())
    differing = {}
    for name, value in others.items():
        moved = value.data.to(own[name].data)
        if not torch.equal(moved, own[name].data):
            differing[name] = moved
    return differing


def _sees_other_rows(model: nn.Module, path: str) -> bool:
    """Whether a module is an expert that is handed only some tokens, or all tokens once an expert (Llama 4)."""
    return is_listed_expert(model, path) or (path.endswith("experts") and not is_routed(model.get_submodule(path)))


class _Module:
    """One module whose weights differ; its forward is another one while a strength other than 0 is used."""

    def __init__(self, module: nn.Module, edited: Mapping[str, Tensor]) -> None:
        self._module = module
        self._edited = edited
        self._own = {name: getattr(module, name) for name in edited}
        self._weights: dict[float, dict[str, nn.Parameter]] = {}
        self._undo: Callable[[], None] | None = None

    def use(self, strengths: Sequence[float]) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None
        self._weights = {
            strength: self._weights.get(strength) or self._between(strength)
            for strength in set(strengths)
            if strength != ORIGINAL
        }
        if self._weights:
            forward = partial(self._forward, self._module.forward, tuple(strengths))
            self._undo = override_forward(self._module, forward)

    def _between(self, strength: float) -> dict[str, nn.Parameter]:
        weights = {}
        for name, edited in self._edited.items():
            own = self._own[name].data
            value = edited
            if strength != EDITED:
                value = (own.float() + strength * (edited.float() - own.float())).to(own.dtype)
            weights[name] = nn.Parameter(value, requires_grad=False)
        return weights

    def _forward(
        self, forward: Callable[..., Tensor], strengths: tuple[float, ...], *arguments: Any, **keywords: Any
    ) -> Tensor:
        outputs = {strength: self._with(strength, forward, arguments, keywords) for strength in set(strengths)}
        if len(outputs) == 1:
            return outputs[strengths[0]]
        count = len(strengths)
        return torch.cat([outputs[strength].chunk(count)[row] for row, strength in enumerate(strengths)])

    def _with(
        self, strength: float, forward: Callable[..., Tensor], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Tensor:
        if strength == ORIGINAL:
            return forward(*arguments, **keywords)
        try:
            for name, weight in self._weights[strength].items():
                setattr(self._module, name, weight)
            return forward(*arguments, **keywords)
        finally:
            for name, weight in self._own.items():
                setattr(self._module, name, weight)
