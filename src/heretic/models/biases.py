"""Which writers hold a bias, or could if the model's configuration said so, and switching these biases on.

A saved folder has to load anywhere transformers does, so a bias may stand only where the model's own class puts one:
where it always has one, or where an option of the configuration (`attention_bias`, `mlp_bias`, ...) asks for it. Which
option gives which biases is found by building the class without weights, so that no family has to be listed here.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from heretic.common.errors import ModelError
from heretic.edits.writer import ATTENTION, MLP, ModelLayout, ResidualWriter, WriterKind
from heretic.models.access import is_listed_expert
from heretic.models.layout import find_layout


@dataclass(frozen=True, slots=True)
class BiasHolder:
    """A writer that can take a constant up.

    Attributes:
        writer: The writer, as it is now.
        options: Options of the configuration that have to be switched on; none where it has a bias.
    """

    writer: ResidualWriter
    options: tuple[str, ...] = ()


def bias_holders(model: PreTrainedModel, layout: ModelLayout) -> dict[int, tuple[BiasHolder, ...]]:
    """The writers of each layer whose bias a saved model can hold, MLPs first; layers without one are left out.

    Experts that are routed to are no such writers, nor is what stands before a norm: neither puts a constant into the
    residual stream.
    """
    plain = [writer for writer in layout.writers if _is_plain(model, writer)]
    optional = _optional_biases(model) if any(writer.bias is None for writer in plain) else {}
    holders: dict[int, tuple[BiasHolder, ...]] = {}
    # The last writer of a layer first, so that nothing in it reacts to the constant.
    for writer in sorted(
        reversed(plain), key=lambda residual_writer: (MLP, ATTENTION).index(residual_writer.component)
    ):
        if writer.bias is not None:
            holder = BiasHolder(writer)
        else:
            options = [name for name, biases in optional.items() if f"{writer.path}.bias" in biases]
            if not options:
                continue
            holder = BiasHolder(writer, (options[0],))
        holders[writer.layer] = (*holders.get(writer.layer, ()), holder)
    return holders


def hold_biases(model: PreTrainedModel, layout: ModelLayout, paths: Sequence[str]) -> ModelLayout:
    """Let the writers of these paths hold biases: zeros, and the configuration says that they are there.

    An option brings further biases (of queries or gates), which stay zero.

    Args:
        model: Unquantised; it is changed.
        layout: Its layout.
        paths: Writers among `bias_holders`.

    Returns:
        The layout with these biases.

    Raises:
        ModelError: A writer cannot hold one.
    """
    if not paths:
        return layout
    holders = {
        holder.writer.path: holder for layer_holders in bias_holders(model, layout).values() for holder in layer_holders
    }
    missing = [path for path in paths if path not in holders]
    if missing:
        raise ModelError(f"{missing[0]} cannot hold a bias in {type(model).__name__}; use --use-caa false.")
    options = sorted({option for path in paths for option in holders[path].options})
    if not options:
        return layout
    biases = _biases_with(model, options)
    if biases is None:
        raise ModelError(f"{type(model).__name__} cannot be built with {' and '.join(options)}; use --use-caa false.")
    _attach(model, biases)
    for option in options:
        setattr(model.config.get_text_config(), option, True)
    return find_layout(model)


def match_biases(model: PreTrainedModel, other: PreTrainedModel) -> None:
    """Give a model that was loaded again the (zero) biases that were switched on in the first one."""
    present = dict(model.named_parameters(remove_duplicate=False))
    new = {name: value.shape for name, value in other.named_parameters(remove_duplicate=False) if name not in present}
    _attach(model, {name: shape for name, shape in new.items() if name.endswith(".bias")})


def _is_plain(model: PreTrainedModel, writer: ResidualWriter) -> bool:
    return (
        writer.kind in (WriterKind.LINEAR, WriterKind.CONV1D)
        and writer.post_norm is None
        and not is_listed_expert(model, writer.path)
    )


def _attach(model: PreTrainedModel, biases: Mapping[str, torch.Size]) -> None:
    for name, shape in biases.items():
        path, _, parameter = name.rpartition(".")
        module: Any = model.get_submodule(path)
        weight = module.weight
        zeros = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        setattr(module, parameter, nn.Parameter(zeros, requires_grad=False))


def _optional_biases(model: PreTrainedModel) -> dict[str, Mapping[str, torch.Size]]:
    """Option of the configuration -> names and shapes of the biases that it would add."""
    config = model.config.get_text_config()
    options = [name for name, value in vars(config).items() if value is False and "bias" in name]
    added = {}
    for option in options:
        biases = _biases_with(model, [option])
        if biases:
            added[option] = biases
    return added


def _biases_with(model: PreTrainedModel, options: Sequence[str]) -> Mapping[str, torch.Size] | None:
    """The biases that the model's class adds with these options; None where it changes anything else, or cannot be."""
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    for option in options:
        setattr(config.get_text_config(), option, True)
    model_class: Any = type(model)
    try:
        with torch.device("meta"):
            twin: PreTrainedModel = model_class(config)
    except (RuntimeError, TypeError, ValueError):
        # A model's own code may compute with its weights while it is built, which has no meaning without them.
        return None
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    others = {name: value.shape for name, value in twin.named_parameters(remove_duplicate=False)}
    new = {name: shape for name, shape in others.items() if name not in names}
    linear = all(isinstance(twin.get_submodule(name.rpartition(".")[0]), nn.Linear) for name in new)
    if not names <= others.keys() or not linear or any(not name.endswith(".bias") for name in new):
        return None
    return new
