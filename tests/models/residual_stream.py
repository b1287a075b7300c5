"""Numerical proofs that a layout names every residual writer, with the right axes and post-norm gains."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tests.models.pico import pico_token_ids
from torch import Tensor, nn
from transformers import PreTrainedModel

from heretic.edits.writer import ModelLayout, Orientation, ResidualWriter
from heretic.models.access import post_norm_gain, writer_bias, writer_weight


@contextmanager
def streams(model: PreTrainedModel, paths: tuple[str, ...]) -> Iterator[dict[str, dict[str, Tensor]]]:
    """Inputs and outputs of the named modules during the next forward pass."""
    seen: dict[str, dict[str, Tensor]] = {path: {} for path in paths}

    def record(path: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            entering = arguments[0] if arguments else keywords["hidden_states"]
            leaving = output[0] if isinstance(output, tuple) else output
            seen[path] = {"input": entering.clone(), "output": leaving.clone()}

        return hook

    handles = [model.get_submodule(path).register_forward_hook(record(path), with_kwargs=True) for path in paths]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def run(model: PreTrainedModel, paths: tuple[str, ...], batch: int = 4) -> dict[str, dict[str, Tensor]]:
    with streams(model, paths) as seen, torch.no_grad():
        model(pico_token_ids(batch, 11), use_cache=False)
    return seen


def tensors_of(model: PreTrainedModel, writer: ResidualWriter) -> list[Tensor]:
    bias = writer_bias(model, writer)
    return [writer_weight(model, writer)] + ([] if bias is None else [bias])


def silence(model: PreTrainedModel, writers: tuple[ResidualWriter, ...]) -> None:
    for writer in writers:
        for tensor in tensors_of(model, writer):
            tensor.zero_()


def one_writer_a_layer(layout: ModelLayout) -> Iterator[list[ResidualWriter]]:
    """Every writer once, one of each layer at a time."""
    by_layer = [[writer for writer in layout.writers if writer.layer == layer] for layer in range(layout.layer_count)]
    for turn in range(max(map(len, by_layer))):
        yield [writers[turn] for writers in by_layer if turn < len(writers)]


def with_only(model: PreTrainedModel, layout: ModelLayout, alive: list[ResidualWriter]) -> PreTrainedModel:
    """A copy in which these writers alone write."""
    edited = copy.deepcopy(model)
    silence(edited, tuple(writer for writer in layout.writers if writer not in alive))
    return edited


def assert_silent_layers_are_identities(model: PreTrainedModel, layout: ModelLayout) -> None:
    """With all writers at zero, nothing may be left that changes the residual stream."""
    silent = with_only(model, layout, [])
    for path, stream in run(silent, layout.layer_paths).items():
        assert torch.equal(stream["output"], stream["input"]), path


def assert_each_writer_moves_the_stream_along_its_output(model: PreTrainedModel, layout: ModelLayout) -> None:
    """What a layer adds is, token by token, a multiple of gain * (the writer's output), so post-norms are right too."""
    for writers in one_writer_a_layer(layout):
        alone = with_only(model, layout, writers)
        seen = run(alone, layout.layer_paths + tuple(writer.path for writer in writers))
        for writer in writers:
            stream = seen[layout.layer_paths[writer.layer]]
            added = (stream["output"] - stream["input"]).double()
            written = seen[writer.path]["output"].double()
            gain = post_norm_gain(alone, writer)
            if gain is not None:
                written = written * gain.double()
            added = added.reshape(-1, layout.hidden_size)
            # Llama 4 runs every expert over every token and adds up afterwards.
            written = written.reshape(-1, *added.shape).sum(0)
            moved = added.norm(dim=-1) > 1e-5
            assert moved.any(), writer.path
            cosine = nn.functional.cosine_similarity(added[moved], written[moved], dim=-1)
            assert cosine.abs().min() > 1 - 1e-3, (writer.path, cosine)


def remove_direction(model: PreTrainedModel, writer: ResidualWriter, direction: Tensor) -> None:
    """Project a direction out of a writer, by its described axes only."""
    weight, bias = writer_weight(model, writer), writer_bias(model, writer)
    if writer.orientation is Orientation.OUT_IN:
        weight -= direction[:, None] * torch.einsum("d,...dm->...m", direction, weight)[..., None, :]
    else:
        weight -= torch.einsum("...md,d->...m", weight, direction)[..., None] * direction
    if bias is not None:
        bias -= (bias @ direction)[..., None] * direction


def assert_axes_and_gain_let_a_direction_be_removed(model: PreTrainedModel, layout: ModelLayout) -> None:
    """A square tensor read along the wrong axis would leave the direction in."""
    direction = nn.functional.normalize(
        torch.randn(layout.hidden_size, generator=torch.Generator().manual_seed(1)), dim=0
    )
    for writers in one_writer_a_layer(layout):
        alone = with_only(model, layout, writers)
        before = run(alone, layout.layer_paths)
        for writer in writers:
            gain = post_norm_gain(alone, writer)
            reading = direction if gain is None else nn.functional.normalize(direction * gain, dim=0)
            remove_direction(alone, writer, reading)
        after = run(alone, layout.layer_paths)
        for writer in writers:
            path = layout.layer_paths[writer.layer]
            share = [
                ((stream["output"] - stream["input"]) @ direction).abs().max() for stream in (before[path], after[path])
            ]
            assert share[0] > 1e-4, writer.path
            assert share[1] < 1e-3 * share[0] + 1e-6, (writer.path, share)
