"""Cached forward passes over rows of different length: shared prefix, no left padding, logits only where asked for.

What `ModelRunner` does in the ordinary way, for the models whose attention caches can be read and masked freely. A row
holds its tokens in columns of the cache; columns that are padding are masked out, so rows never have to be realigned.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heretic.common.errors import ModelError
from heretic.edits.writer import ModelLayout
from heretic.models.loaded import LoadedModel
from heretic.models.memory import USAGE
from heretic.models.private_api import (
    GENERATION_RULES,
    GrowingCache,
    attention_implementation,
    cache_argument,
    cache_obstacle,
    column_limit,
    forward_parameters,
    is_stateful,
    key_values,
    select_rows,
)
from heretic.passes.kept_layers import KeptLayers, skipping
from heretic.passes.packed import PackedLinears

KeyValues = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values of every layer, each [B, heads, C, d]."""


def ragged_obstacle(loaded: LoadedModel) -> str | None:
    """Why a model's passes have to be the ordinary ones, or None where rows of different length can share a cache."""
    model = loaded.model
    if loaded.processor is not None:
        return "it computes token positions of its own, as vision-language models do"
    if cache_argument(model) is None or not {"position_ids", "attention_mask"} <= forward_parameters(model):
        return "its forward takes no token positions or no cache"
    if output_embeddings(model) is None:
        return "its output embeddings are no module of their own"
    if is_stateful(model):
        return "it carries a recurrent state"
    attention = attention_implementation(model)
    if attention not in ("sdpa", "eager"):
        return f"its attention implementation {attention} reads no freely masked cache"
    rules = {name: getattr(model.generation_config, name, None) for name in GENERATION_RULES}
    # A guidance of 1 is none.
    set_rules = [name for name, value in rules.items() if value is not None and (name, value) != ("guidance_scale", 1)]
    if set_rules:
        return f"its generation configuration sets {set_rules[0]}"
    return cache_obstacle(model)


def output_embeddings(model: Any) -> nn.Module | None:
    """The module that turns the last residual into logits."""
    head: nn.Module | None = model.get_output_embeddings()
    return head


def window_obstacle(model: PreTrainedModel, needed: int) -> str | None:
    """Why rows of so many tokens cannot be read in several steps, or None: gaps would count in an attention window."""
    limit = column_limit(model)
    if limit is None or needed <= limit:
        return None
    return f"its attention window of {limit} tokens is narrower than the {needed} that are read"


class RaggedForward:
    """Cached passes of one model.

    On a CPU they may order the weights for it, see `passes.packed`.
    """

    def __init__(
        self, loaded: LoadedModel, layout: ModelLayout, packed: PackedLinears | None = None, gradients: bool = False
    ) -> None:
        """Look at a model.

        Args:
            loaded: The model.
            layout: Where its layers are.
            packed: Orders its weights, or None to do without.
            gradients: Whether gradients may flow through its passes.
        """
        self.packed = packed
        self.gradients = gradients
        self.loaded = loaded
        self.layers = [loaded.model.get_submodule(path) for path in layout.layer_paths]
        head, cache = output_embeddings(loaded.model), cache_argument(loaded.model)
        if head is None or cache is None:
            obstacle = "output embeddings are no module of their own" if head is None else "forward takes no cache"
            raise ModelError(f"This model's {obstacle}; use --engine inplace.")
        self._head = head
        self.cache_argument = cache
        self._pad = loaded.tokenizer.pad_token_id or 0

    def prefix(self, tokens: Sequence[int], rows: int) -> KeyValues:
        """Keys and values of the same tokens for every candidate.

        Args:
            tokens: P token ids; may be none.
            rows: K.

        Returns:
            One pair [K, heads, P, d] a layer; none for no tokens.
        """
        if not tokens:
            return ()
        with torch.inference_mode(not self.gradients):
            state = RaggedState(self, (), [0] * rows)
            state.feed([list(tokens)] * rows, [()] * rows)
            return state.key_values()

    def start(self, prefix: KeyValues, groups: Sequence[int]) -> "RaggedState":
        """Rows behind a prefix.

        Args:
            prefix: From `prefix`.
            groups: [B] index into the prefix's rows for each row.
        """
        return RaggedState(self, prefix, groups)

    def run(
        self,
        arguments: dict[str, Any],
        wanted: Sequence[Sequence[int]] | None,
        lower: tuple[KeptLayers, Sequence[int], int] | None,
    ) -> Tensor:
        """One pass; logits [N, V] of the wanted positions of each row, or of all."""
        with ExitStack() as stack:
            if self.packed is not None:
                stack.enter_context(self.packed.active())
            if wanted is not None:
                ids = arguments["input_ids"]
                length = ids.shape[1]
                # Something has to go through the output embeddings; one position costs least.
                flat = [row * length + position for row, positions in enumerate(wanted) for position in positions] or [
                    0
                ]
                stack.enter_context(_gathering(self._head, torch.tensor(flat, device=ids.device)))
            stack.enter_context(skipping(self.layers, lower))
            logits: Tensor = self.loaded.model(**arguments, use_cache=True).logits
        return logits.reshape(-1, logits.shape[-1])

    def pad(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Right-padded ids and mask, [B, T] each."""
        length = max(map(len, tokens))
        ids = [[*row, *[self._pad] * (length - len(row))] for row in tokens]
        mask = [[1] * len(row) + [0] * (length - len(row)) for row in tokens]
        device = self.loaded.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


class RaggedState:
    """Rows in the middle of being read: their cache, which of its columns count, and their lengths."""

    def __init__(self, forward: RaggedForward, prefix: KeyValues, groups: Sequence[int]) -> None:
        self._forward = forward
        device = forward.loaded.device
        index = torch.tensor(list(groups), dtype=torch.long, device=device)
        self.cache = GrowingCache()
        for layer, (keys, values) in enumerate(prefix):
            rows = index.to(keys.device)
            self.cache.update(keys.index_select(0, rows), values.index_select(0, rows), layer)
        columns = prefix[0][0].shape[-2] if prefix else 0
        self._mask = torch.ones(len(index), columns, dtype=torch.long, device=device)
        self._lengths = torch.full((len(index),), columns, device=device)

    def feed(
        self,
        tokens: Sequence[Sequence[int]],
        wanted: Sequence[Sequence[int]],
        lower: tuple[KeptLayers, Sequence[int], int] | None = None,
    ) -> Tensor:
        """Read further tokens.

        Args:
            tokens: For each row at least one token.
            wanted: For each row the positions in its tokens whose next-token logits are asked for.
            lower: Inputs of lower layers that need not be computed again: the store, each row's index there, and the
                first layer that has to run.

        Returns:
            Logits [N, V] of all wanted positions, row by row; meaningless where none is wanted.
        """
        with torch.inference_mode(not self._forward.gradients):
            return self._feed(tokens, wanted, lower)

    def _feed(
        self,
        tokens: Sequence[Sequence[int]],
        wanted: Sequence[Sequence[int]],
        lower: tuple[KeptLayers, Sequence[int], int] | None,
    ) -> Tensor:
        USAGE.tokens += sum(map(len, tokens))
        ids, mask = self._forward.pad(tokens)
        length = ids.shape[1]
        steps = torch.arange(length, device=ids.device)
        fed = mask.sum(-1)
        # Padding takes its row's last position: it must not run past what learned position embeddings hold.
        positions = self._lengths[:, None] + torch.minimum(steps, fed[:, None] - 1)
        self._mask = torch.cat([self._mask, mask], dim=1)
        arguments = {
            "input_ids": ids,
            "attention_mask": self._mask,
            "position_ids": positions,
            self._forward.cache_argument: self.cache,
        }
        logits = self._forward.run(arguments, wanted, lower)
        if lower is not None:
            store, rows, first = lower
            store.fill_cache(self.cache, rows, first, length)
        self._lengths = self._lengths + fed
        return logits

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Read one further token a row without waiting for the device.

        Args:
            tokens: [B].

        Returns:
            Logits [B, V].
        """
        USAGE.tokens += len(tokens)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        arguments = {
            # Where the model is spread over devices, logits come from another one.
            "input_ids": tokens.to(self._mask.device)[:, None],
            "attention_mask": self._mask,
            "position_ids": self._lengths[:, None],
            self._forward.cache_argument: self.cache,
        }
        logits = self._forward.run(arguments, None, None)
        self._lengths = self._lengths + 1
        return logits

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        index = torch.tensor(list(rows), device=self._mask.device)
        select_rows(self.cache, index)
        self._mask, self._lengths = self._mask[index], self._lengths[index]

    def key_values(self) -> KeyValues:
        """What the cache holds."""
        return key_values(self.cache)

    @classmethod
    def joined(cls, states: Sequence["RaggedState"]) -> "RaggedState":
        """All rows of several states of one model, to be read further together."""
        if len(states) == 1:
            return states[0]
        columns = max(state._mask.shape[1] for state in states)
        missing = [columns - state._mask.shape[1] for state in states]
        result = cls(states[0]._forward, (), ())
        for layer, parts in enumerate(zip(*(state.key_values() for state in states), strict=True)):
            keys, values = (
                torch.cat([nn.functional.pad(part, (0, 0, 0, pad)) for part, pad in zip(side, missing, strict=True)])
                for side in zip(*parts, strict=True)
            )
            result.cache.update(keys, values, layer)
        masks = [nn.functional.pad(state._mask, (0, pad)) for state, pad in zip(states, missing, strict=True)]
        result._mask = torch.cat(masks)
        result._lengths = torch.cat([state._lengths for state in states])
        return result


@contextmanager
def _gathering(head: nn.Module, wanted: Tensor) -> Iterator[None]:
    """Let the output embeddings see only the wanted positions: [B, T, D] becomes [1, N, D]."""

    def gather(_module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_states = arguments[0]
        places = wanted.to(hidden_states.device)
        return (hidden_states.reshape(-1, hidden_states.shape[-1])[places][None], *arguments[1:])

    with head.register_forward_pre_hook(gather):
        yield


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """Token rows split into what all begin with and the rest of each."""

    tokens: tuple[int, ...]
    rests: tuple[tuple[int, ...], ...]


def split_shared_prefix(rows: Sequence[Sequence[int]], tokens: Sequence[int]) -> SharedPrefix:
    """Split rows behind what all of them begin with.

    Args:
        rows: Token ids of each row.
        tokens: A longest prefix to share, e.g. that of another job.

    Returns:
        The shared tokens, at least one token short of the shortest row, so that every row keeps something to read.
    """
    length = min([len(tokens), *(len(row) - 1 for row in rows)])
    while any(tuple(row[:length]) != tuple(tokens[:length]) for row in rows):
        length -= 1
    return SharedPrefix(tuple(tokens[:length]), tuple(tuple(row[length:]) for row in rows))
