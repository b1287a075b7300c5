"""Forward passes that gradients flow through: what all prompts begin with is read, and gone back through, once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from heretic.models.loaded import LoadedModel
from heretic.passes.choose import choose
from heretic.passes.ragged import KeyValues, RaggedForward, split_shared_prefix
from heretic.passes.runner import ModelRunner

STEP_BY_STEP_TOKENS = 192
"""Of rows whose attention in half precision is gone back through faster step by step than in one piece on a CPU
(benchmarks/README.md); what it keeps for that grows with the square of the tokens."""

Rows = Sequence[Sequence[int]]
Predict = Callable[[Rows], Tensor]
"""From token ids of B prompts to logits [B, V] of the first response token."""


class GradientPasses(Protocol):
    """How predictions are made."""

    @property
    def shared_tokens(self) -> int:
        """Tokens that are read once for all rows of a step."""

    def step(self) -> AbstractContextManager[Predict]:
        """Passes with one set of edits; a gradient is complete when the with-block has been left."""


class WholePasses:
    """Rows of equal length together, each read from its beginning: for every model.

    Never padded: what some models compute for padding is not finite, which is harmless until gradients flow back.
    """

    shared_tokens = 0

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner

    @contextmanager
    def step(self) -> Iterator[Predict]:
        """See GradientPasses."""
        yield self._predict

    def _predict(self, rows: Rows) -> Tensor:
        lengths = sorted({len(row) for row in rows})
        groups = [[place for place, row in enumerate(rows) if len(row) == length] for length in lengths]
        with _attention(self._runner.loaded, lengths[-1]):
            logits = torch.cat([self._runner.first_token_logits([rows[place] for place in group]) for group in groups])
        order = torch.tensor([place for group in groups for place in group], device=logits.device)
        return logits[order.argsort()]


class SharedPasses:
    """Rows behind a shared beginning.

    Its keys and values stand between two graphs: the rows' backward passes collect their gradients, and one pass
    through the beginning takes these to the strengths when all rows are done.
    """

    def __init__(self, runner: ModelRunner, tokens: Sequence[int]) -> None:
        self._forward = RaggedForward(runner.loaded, runner.layout, gradients=True)
        self._tokens = tuple(tokens)

    @property
    def shared_tokens(self) -> int:
        """See GradientPasses."""
        return len(self._tokens)

    @contextmanager
    def step(self) -> Iterator[Predict]:
        """See GradientPasses."""
        with _attention(self._forward.loaded, len(self._tokens)):
            prefix = self._forward.prefix(self._tokens, 1)
        cut: KeyValues = tuple((_cut(keys), _cut(values)) for keys, values in prefix)

        def predict(rows: Rows) -> Tensor:
            rests = [row[len(self._tokens) :] for row in rows]
            state = self._forward.start(cut, [0] * len(rows))
            with _attention(self._forward.loaded, max(map(len, rows))):
                return state.feed(rests, [(len(rest) - 1,) for rest in rests])

        yield predict
        pairs = [
            (tensor, leaf.grad)
            for whole, leaves in zip(prefix, cut, strict=True)
            for tensor, leaf in zip(whole, leaves, strict=True)
            if leaf.grad is not None
        ]
        if pairs:
            tensors, gradients = zip(*pairs, strict=True)
            torch.autograd.backward(tensors, gradients)


@contextmanager
def _attention(loaded: LoadedModel, tokens: int) -> Iterator[None]:
    """Let attention over so many tokens be computed in the way that is gone back through fastest."""
    half = loaded.model.dtype in (torch.bfloat16, torch.float16)
    if loaded.device.type == "cpu" and half and tokens <= STEP_BY_STEP_TOKENS:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    else:
        yield


def _cut(tensor: Tensor) -> Tensor:
    """The same values as a leaf, which collects a gradient where the tensor passes one on."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def make_passes(runner: ModelRunner, rows: Rows) -> GradientPasses:
    """Shared passes where a model can be read that way, else ordinary ones."""
    if choose(runner, rows, doing="refining directions", packed=False).forward is None:
        return WholePasses(runner)
    return SharedPasses(runner, split_shared_prefix(rows, rows[0]).tokens)
