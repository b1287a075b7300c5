"""ModelRunner: what is asked of a model: residuals, next-token log-probabilities, and answers.

Everything is batched; prompts are sorted by length so that little is spent on padding, and results come back in the
order of the prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessorList

from heretic.common.errors import ModelError
from heretic.edits.writer import ModelLayout
from heretic.models.chat_template import ChatFormatter
from heretic.models.loaded import LoadedModel
from heretic.models.memory import USAGE
from heretic.models.private_api import forward_parameters, layer_input, layer_output
from heretic.observability.steps import counted
from heretic.prompts.types import Prompt


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was discovered about a model; never written back into the settings.

    Attributes:
        batch_size: Rows of one batch.
        response_prefix: Text that every answer starts with; it is given, not generated.
        dtype: Entry of the dtype chain that works.
    """

    batch_size: int
    response_prefix: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Response:
    """A greedy answer: its text without special tokens, and its token ids up to and including the end token."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """Left-padded rows: ids and mask [B, T], and each row's index in the list that was asked for."""

    input_ids: Tensor
    attention_mask: Tensor
    rows: tuple[int, ...]


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of token ids as one batch: ids and attention mask [B, T], shorter rows filled up in front."""
    length = max(map(len, rows))
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


class ModelRunner:
    """A loaded model, its layout and its calibration."""

    def __init__(self, loaded: LoadedModel, layout: ModelLayout, formatter: ChatFormatter, calibration: Calibration):
        self.loaded = loaded
        self.layout = layout
        self.formatter = formatter
        self.calibration = calibration
        self._parameters = forward_parameters(loaded.model)
        # Asked for with every token that is written, and a tokenizer looks long for it.
        self._end_token: int | None = loaded.tokenizer.eos_token_id

    def calibrated(self, batch_size: int | None = None, response_prefix: str | None = None) -> "ModelRunner":
        """The same model with another calibration."""
        calibration = self.calibration
        if batch_size is not None:
            calibration = replace(calibration, batch_size=batch_size)
        if response_prefix is not None:
            calibration = replace(calibration, response_prefix=response_prefix)
        return type(self)(self.loaded, self.layout, self.formatter, calibration)

    def render(self, prompt: Prompt) -> str:
        """A prompt as the model reads it, with the calibrated response prefix."""
        return self.formatter.render(replace(prompt, prefix=prompt.prefix + self.calibration.response_prefix))

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a rendered prompt."""
        return self.encode_rendered(self.render(prompt))

    def encode_rendered(self, text: str) -> list[int]:
        """Token ids of what the chat template made of a conversation."""
        ids: list[int] = self.loaded.tokenizer(
            text, add_special_tokens=self.formatter.add_special_tokens, return_attention_mask=False
        )["input_ids"]
        return ids

    def pad(self, encoded: Sequence[Sequence[int]], rows: tuple[int, ...]) -> TokenBatch:
        """Left-padded rows of one batch, which is about to go through the model."""
        USAGE.tokens += sum(map(len, encoded))
        return TokenBatch(*left_padded(encoded, self.loaded.tokenizer.pad_token_id, self.loaded.device), rows)

    def _forward(self, input_ids: Tensor, attention_mask: Tensor, keep_last: int) -> Tensor:
        """Logits [B, keep_last, V] of the last positions."""
        arguments: dict[str, object] = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
        if "position_ids" in self._parameters and self.loaded.processor is None:
            # Learned position embeddings need it; vision-language models compute their own.
            arguments["position_ids"] = (attention_mask.cumsum(-1) - 1).clamp_min(0)
        if "logits_to_keep" in self._parameters:
            # As indices, not as a number: a slice is not contiguous, and the product with the output embeddings then
            # copies these once a row.
            length = input_ids.shape[1]
            arguments["logits_to_keep"] = torch.arange(length - keep_last, length, device=input_ids.device)
        logits: Tensor = self.loaded.model(**arguments).logits
        return logits[:, -keep_last:]

    def first_token_logits(self, encoded: Sequence[Sequence[int]]) -> Tensor:
        """Logits [B, V] of the first response token of B prompts' token ids; gradients flow where they are enabled."""
        batch = self.pad(encoded, tuple(range(len(encoded))))
        return self._forward(batch.input_ids, batch.attention_mask, 1)[:, -1]

    @torch.inference_mode()
    def next_token_logits(self, encoded: Sequence[Sequence[int]]) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """What follows each of N rows of token ids.

        Yields:
            Row indices of a batch, and the logits [B, V] of the token that follows each.
        """
        for rows in longest_first(encoded, self.calibration.batch_size):
            yield rows, self.first_token_logits([encoded[row] for row in rows])

    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Response]:
        """Greedy answers of at most `max_new_tokens` tokens."""
        return self.answers([self.encode(prompt) for prompt in prompts], max_new_tokens)

    @torch.inference_mode()
    def answers(self, encoded: Sequence[Sequence[int]], max_new_tokens: int) -> list[Response]:
        """The same to prompts that are token ids."""
        responses: dict[int, Response] = {}
        for rows in longest_first(encoded, self.calibration.batch_size):
            output = self.generate_batch(self.pad([encoded[row] for row in rows], rows), max_new_tokens)
            responses.update((row, self.response(ids)) for row, ids in zip(rows, output.tolist(), strict=True))
        return [responses[row] for row in range(len(encoded))]

    def greedy_configuration(self, max_new_tokens: int) -> Any:
        """A GenerationConfig that takes the most likely token, whatever the model's own one says."""
        make_configuration: Any = GenerationConfig  # untyped in transformers
        return make_configuration(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=sorted(self.end_tokens) or None,
            pad_token_id=self.loaded.tokenizer.pad_token_id,
            suppress_tokens=self.suppressed_tokens or None,
            # What stays None here is taken from the model's own configuration, do_sample or not.
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            min_length=0,
            min_new_tokens=0,
        )

    def generate_batch(self, batch: TokenBatch, max_new_tokens: int) -> Tensor:
        """New token ids [B, <= max_new_tokens], padded on the right."""
        configuration = self.greedy_configuration(max_new_tokens)
        model: Any = self.loaded.model
        output: Tensor = model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            generation_config=configuration,
            logits_processor=LogitsProcessorList(),
        )
        written = output[:, batch.input_ids.shape[1] :]
        # Counted with what stands behind ends: to look at the tokens would be to wait for the device.
        USAGE.tokens += written.numel()
        return written

    @property
    def end_tokens(self) -> frozenset[int]:
        """Token ids that end an answer."""
        configured = self.loaded.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(token for token in [*ids, self._end_token] if token is not None)

    @property
    def suppressed_tokens(self) -> list[int]:
        """Token ids that the model's own generation configuration never produces."""
        return list(self.loaded.model.generation_config.suppress_tokens or [])

    def response(self, ids: list[int]) -> Response:
        """The answer that these tokens are, cut behind its end token."""
        end_tokens = self.end_tokens
        for position, token in enumerate(ids):
            if token in end_tokens:
                ids = ids[: position + 1]
                break
        text = self.loaded.tokenizer.decode(ids, skip_special_tokens=True)
        return Response(str(text), tuple(ids))

    def residuals(self, prompts: Sequence[Prompt]) -> Iterator[Tensor]:
        """Residuals of the last prompt token, see `residuals_of`."""
        return self.residuals_of([self.encode(prompt) for prompt in prompts])

    @torch.inference_mode()
    def residuals_of(self, encoded: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """Residuals of each row's last token, batch by batch, in no particular order.

        Yields:
            [B, L+1, D] in the model's dtype on its first device: position 0 is the embeddings' output, position l+1 the
            output of layer l.
        """
        layers = [self.loaded.model.get_submodule(path) for path in self.layout.layer_paths]
        for rows in longest_first(encoded, self.calibration.batch_size):
            batch = self.pad([encoded[row] for row in rows], rows)
            read = partial(self._forward, batch.input_ids, batch.attention_mask, 1)
            yield residuals_at([-1] * len(rows), layers, read).to(self.loaded.device)

    @torch.inference_mode()
    def teacher_forced(
        self, encoded: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> Iterator[tuple[tuple[int, ...], list[Tensor]]]:
        """Teacher-forced next-token logits over given continuations.

        Args:
            encoded: Token ids of N prompts.
            continuations: N token lists, none empty; position t predicts token t of the list.

        Yields:
            Row indices of a batch and for each row its logits, see `teacher_forced_batch`.
        """
        both = [[*prompt, *continuation] for prompt, continuation in zip(encoded, continuations, strict=True)]
        for rows in longest_first(both, self.calibration.batch_size):
            yield rows, self.teacher_forced_batch([encoded[row] for row in rows], [continuations[row] for row in rows])

    @torch.inference_mode()
    def teacher_forced_batch(
        self, encoded: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        """Teacher-forced logits of one batch.

        Args:
            encoded: Token ids of B prompts.
            continuations: B token lists, none empty.

        Returns:
            For each row [T, V] in the model's dtype, T its continuation's length. Tokens that the model's generation
            configuration suppresses have logit minus infinity.
        """
        batch = self.pad(encoded, tuple(range(len(encoded))))
        longest = max(map(len, continuations))
        USAGE.tokens += sum(map(len, continuations)) - len(continuations)
        # The last token of a continuation is only predicted, never read.
        tail = self._tail([continuation[:-1] for continuation in continuations], longest - 1)
        input_ids = torch.cat([batch.input_ids, tail.input_ids], dim=1)
        mask = torch.cat([batch.attention_mask, tail.attention_mask], dim=1)
        logits = self._forward(input_ids, mask, longest)
        if self.suppressed_tokens:
            logits[..., self.suppressed_tokens] = -torch.inf
        return [logits[index, : len(continuation)] for index, continuation in enumerate(continuations)]

    def _tail(self, continuations: Sequence[Sequence[int]], length: int) -> TokenBatch:
        """Right-padded continuation tokens [B, length]."""
        pad = self.loaded.tokenizer.pad_token_id
        device = self.loaded.device
        ids = [[*row, *([pad] * (length - len(row)))] for row in continuations]
        mask = [[1] * len(row) + [0] * (length - len(row)) for row in continuations]
        shape = (len(continuations), length)
        return TokenBatch(
            torch.tensor(ids, device=device, dtype=torch.long).reshape(shape),
            torch.tensor(mask, device=device, dtype=torch.long).reshape(shape),
            (),
        )


def longest_first(encoded: Sequence[Sequence[int]], size: int) -> Iterator[tuple[int, ...]]:
    """Indices of so many rows at a time, so that rows of like length are padded together; counted as they are read."""
    order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
    batches = (tuple(order[start : start + size]) for start in range(0, len(order), size))
    return counted(batches, len(order), "prompts", len)


def residuals_at(positions: Sequence[int], layers: Sequence[nn.Module], read: Callable[[], object]) -> Tensor:
    """One position of each row of the residual stream before the first and after every layer.

    Args:
        positions: [B], in the rows of the pass.
        layers: The L decoder layers.
        read: Makes the pass.

    Returns:
        [B, L+1, D] on the first layer's device.

    Raises:
        ModelError: The layers do not run once each.
    """
    collected: list[Tensor] = []

    def collect(hidden_states: Tensor) -> None:
        places = torch.tensor(list(positions), device=hidden_states.device)
        # Copies: a view would keep every layer's whole output in memory, and change with a layer that works in place.
        collected.append(hidden_states[torch.arange(len(places), device=hidden_states.device), places])

    def before(_module: nn.Module, arguments: tuple[Tensor, ...], keywords: dict[str, Tensor]) -> None:
        collect(layer_input(arguments, keywords))

    def after(_module: nn.Module, _arguments: object, output: Tensor | tuple[Tensor, ...]) -> None:
        collect(layer_output(output))

    with ExitStack() as stack:
        stack.enter_context(layers[0].register_forward_pre_hook(before, with_kwargs=True))
        for layer in layers:
            stack.enter_context(layer.register_forward_hook(after))
        read()
    if len(collected) != len(layers) + 1:
        raise ModelError(
            f"Residuals of {len(collected)} positions were collected from {len(layers)} layers; this model "
            "runs its layers in a way that Heretic does not know, please report it."
        )
    return torch.stack([residual.to(collected[0].device) for residual in collected], dim=1)
