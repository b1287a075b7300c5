"""Finds what writes the residual stream of a loaded model, and notices what it would miss.

Declared names decide what a weight is; shapes cannot, since a query projection is often as square as an output
projection. Shapes check the declaration: any weight that could write the residual stream and that nothing declares is
reported, so that a new architecture shows what is missing instead of being edited in part.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from heretic.common.errors import LayoutError
from heretic.edits.writer import ModelLayout, ResidualWriter, UneditableWriter
from heretic.models.declarations import component_of_constant, component_of_weight, declared_family
from heretic.models.decoder import Decoder, find_decoder
from heretic.models.families import Family
from heretic.models.storage import direct_parameters, loose_constants, stored_weights
from heretic.models.writers import DecoderLayer, SharedWeights, describe

MODULES_NAMED = 12
"""How many modules an error message lists."""


def find_layout(model: PreTrainedModel) -> ModelLayout:
    """Find every residual writer of a model's text decoder; no weight is copied or changed.

    Returns:
        The layout. What writes the residual stream, or may write it, and cannot be edited stands in its `uneditable`.

    Raises:
        LayoutError: The decoder layers cannot be located, or a layer has no writer that can be edited.
    """
    decoder = find_decoder(model)
    family = declared_family(decoder.model_types)
    shared = _shared_weights(model, decoder)
    writers: list[ResidualWriter] = []
    uneditable: list[UneditableWriter] = []
    for index, (path, module) in enumerate(decoder.named_layers()):
        layer = DecoderLayer(index, path, module, decoder.hidden_size)
        entries = list(_layer_writers(layer, family, shared))
        editable = [entry for entry in entries if isinstance(entry, ResidualWriter)]
        rejected = [entry for entry in entries if isinstance(entry, UneditableWriter)]
        if not editable:
            raise LayoutError(_nothing_editable(layer, rejected))
        writers += editable
        uneditable += rejected
    return ModelLayout(family.name, decoder.hidden_size, decoder.paths, tuple(writers), tuple(uneditable))


def layout_summary(layout: ModelLayout) -> dict[str, int]:
    """Count the editable writers per component; an expert counts as one, whether listed or fused with others."""
    counts: Counter[str] = Counter()
    for writer in layout.writers:
        counts[writer.component] += writer.expert_count
    return {component: counts[component] for component in layout.components}


def _layer_writers(
    layer: DecoderLayer, family: Family, shared: SharedWeights
) -> Iterator[ResidualWriter | UneditableWriter]:
    described: set[int] = set()
    for weight in stored_weights(layer.module):
        if layer.hidden_size not in weight.output_sizes:
            continue
        verdict = component_of_weight(family, layer.module, weight.name)
        # One weight under two names of the same layer is one writer: it must not be edited twice.
        if verdict.inner or id(weight.tensor) in described:
            continue
        if weight.tensor is not None:
            described.add(id(weight.tensor))
        yield describe(layer, weight, verdict, shared)
    for path in loose_constants(layer.module, layer.hidden_size):
        component = component_of_constant(family, path)
        reason = "it is a constant that a module adds to the residual stream, with no matrix in front"
        yield UneditableWriter(layer.index, component, f"{layer.path}.{path}", reason)


def _shared_weights(model: PreTrainedModel, decoder: Decoder) -> SharedWeights:
    """Collect the weights that several layers use, or a layer and the rest of the model."""
    layer_of = {id(module): path for path, layer in decoder.named_layers() for module in layer.modules()}
    users: defaultdict[int, set[str]] = defaultdict(set)
    for path, layer in decoder.named_layers():
        for parameter in layer.parameters():
            users[id(parameter)].add(path)
    for path, module in model.named_modules():
        if id(module) not in layer_of:
            for name, tensor in direct_parameters(module).items():
                if id(tensor) in users:
                    users[id(tensor)].add(f"{path}.{name}")
    return {key: frozenset(paths) for key, paths in users.items() if len(paths) > 1}


def _nothing_editable(layer: DecoderLayer, rejected: list[UneditableWriter]) -> str:
    leaves = [
        f"{name} ({type(module).__name__})"
        for name, module in layer.module.named_modules()
        if name and not _has_children(module)
    ]
    listed = ", ".join(leaves[:MODULES_NAMED]) + (", ..." if len(leaves) > MODULES_NAMED else "")
    reasons = "; ".join(f"{entry.path}: {entry.reason}" for entry in rejected)
    return (
        f"Layer {layer.index} ({layer.path}, {type(layer.module).__name__}) has nothing that can be edited: "
        f"{reasons or 'none of its modules is declared as a residual writer'}. Modules seen: {listed or 'none'}. "
        "Load an unquantised copy of the model, or declare the layer's writers in heretic/models/families.py."
    )


def _has_children(module: nn.Module) -> bool:
    return next(module.children(), None) is not None
