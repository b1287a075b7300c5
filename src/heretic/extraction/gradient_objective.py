"""What is minimised by gradient, and its gradient in the parameters of an edit; nothing else of the model gets one.

Edits act on what the writers put out, so backward passes go through frozen products only. Predictions of the first
response token are all that is looked at.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heretic.common.errors import ModelError
from heretic.editors.output_space import OutputSpaceEditor
from heretic.edits.algebra import Edit
from heretic.extraction.onset import Onset
from heretic.models.footprint import ACTIVATIONS, ACTIVATIONS_SHARE, PASS_TOKENS, activation_bytes
from heretic.observability.steps import counted
from heretic.passes.divergence import kl_divergence
from heretic.passes.runner import ModelRunner
from heretic.passes.with_gradients import make_passes

FEWEST_TOKENS = 64
"""Of one backward pass, whose activations are what takes memory; the most are `PASS_TOKENS`."""
ENOUGH = 4.0
"""Log-odds beyond which a prompt counts no more (a probability of 2 %): else some would be paid for without end."""
HALF_SCALE = 1024.0
"""What the loss is multiplied by where gradients are in float16."""

EditsOf = Callable[[Tensor], Sequence[Edit]]
"""From parameters to the edits they stand for, which carry the parameters' gradient."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Mean KL divergence in nats, mean log-odds of the behaviour's onset, and the onset's mean probability."""

    kl: float
    log_odds: float
    share: float


def mean_loss(losses: Sequence[Loss]) -> Loss:
    """Each part's mean."""
    values = torch.tensor([[loss.kl, loss.log_odds, loss.share] for loss in losses], dtype=torch.float64)
    return Loss(*values.mean(0).tolist())


class Objective:
    """KL on baseline prompts plus a multiple of the log-odds of the behaviour's onset on target ones."""

    def __init__(
        self,
        runner: ModelRunner,
        edits_of: EditsOf,
        onset: Onset,
        sign: float = 1.0,
    ) -> None:
        """Keep the original model's predictions on the baseline prompts.

        Args:
            runner: The model, unedited.
            edits_of: What parameters stand for.
            onset: The prompts, and how the behaviour begins.
            sign: 1 to remove the behaviour, -1 to strengthen it.
        """
        self._runner = runner
        self._edits_of = edits_of
        self._sign = sign
        self._editor = OutputSpaceEditor(runner.loaded.model, runner.layout)
        self._rows = (*onset.baseline, *onset.target)
        self._passes = make_passes(runner, self._rows)
        self._tokens = torch.tensor(onset.tokens)
        self._baseline_count = len(onset.baseline)
        self._chunk_tokens = chunk_tokens(runner)
        self._base: dict[int, Tensor] = {}
        with torch.no_grad(), self._passes.step() as predict:
            for rows in counted(self._chunks(range(self._baseline_count)), self._baseline_count, "prompts", len):
                self._base.update(zip(rows, self._logits(predict([self._rows[row] for row in rows])), strict=True))

    @property
    def baseline_rows(self) -> range:
        """Rows of baseline prompts."""
        return range(self._baseline_count)

    @property
    def target_rows(self) -> range:
        """Rows of target prompts."""
        return range(self._baseline_count, len(self._rows))

    @property
    def shared_tokens(self) -> int:
        """Tokens at the beginning of all prompts that are read once a step."""
        return self._passes.shared_tokens

    def gradient(self, parameters: Tensor, weight: float, rows: Sequence[int]) -> tuple[Loss, Tensor]:
        """KL + weight x log-odds (or their opposite) down to `ENOUGH`, and its gradient.

        Args:
            parameters: Of the edits, in any shape.
            weight: Of the log-odds.
            rows: Of baseline and target prompts, some of each.

        Returns:
            The loss's parts, means over the prompts, and the gradient in the parameters' shape.

        Raises:
            ModelError: The gradient is not finite.
        """
        baseline = sum(row < self._baseline_count for row in rows)
        target = len(rows) - baseline
        leaf = parameters.detach().clone().requires_grad_()
        total = torch.zeros(3, dtype=torch.float64)
        try:
            self._editor.apply(self._edits_of(leaf))
            with self._passes.step() as predict:
                for chunk in self._chunks(rows):
                    # Every backward pass frees the graph from the parameters to the edits.
                    self._editor.apply(self._edits_of(leaf))
                    logits = predict([self._rows[row] for row in chunk])
                    # Small gradients vanish in float16.
                    scale = HALF_SCALE if logits.dtype == torch.float16 else 1.0
                    kl, log_odds = self._parts(self._logits(logits), chunk)
                    loss = kl.sum() / baseline + weight * (self._sign * log_odds).clamp_min(-ENOUGH).sum() / target
                    (loss * scale).backward()  # type: ignore[no-untyped-call]  # torch has no types for it
                    sums = [kl.sum() / baseline, log_odds.sum() / target, log_odds.sigmoid().sum() / target]
                    total += torch.stack(sums).detach().cpu().double()
        finally:
            self._editor.restore()
        if leaf.grad is None:
            raise RuntimeError("no row depends on the parameters")
        if not bool(torch.isfinite(leaf.grad).all()):
            raise ModelError("The model's gradients are not finite in this number format; --dtypes names another.")
        return Loss(*total.tolist()), leaf.grad / scale

    def _logits(self, logits: Tensor) -> Tensor:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        suppressed = self._runner.suppressed_tokens
        if not suppressed:
            return logits
        return logits.index_fill(-1, torch.tensor(suppressed, device=logits.device), -torch.inf)

    def _parts(self, logits: Tensor, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """KL of the baseline rows and log-odds of the target ones."""
        baseline = [place for place, row in enumerate(rows) if row < self._baseline_count]
        target = [place for place, row in enumerate(rows) if row >= self._baseline_count]
        kl = log_odds = logits.new_zeros(0)
        if baseline:
            kl = kl_divergence(torch.stack([self._base[rows[place]] for place in baseline]), logits[baseline])
        if target:
            log_odds = onset_log_odds(logits[target], self._tokens.to(logits.device))
        return kl, log_odds

    def _chunks(self, rows: Sequence[int]) -> Iterator[list[int]]:
        """Rows by falling length, as few chunks as batch size and tokens allow, which share the rows evenly."""
        order = sorted(rows, key=lambda row: -len(self._rows[row]))
        while order:
            longest = len(self._rows[order[0]]) - self._passes.shared_tokens
            most = min(max(1, self._chunk_tokens // longest), self._runner.calibration.batch_size)
            size = -(-len(order) // -(-len(order) // most))
            yield order[:size]
            order = order[size:]


def chunk_tokens(runner: ModelRunner) -> int:
    """Tokens of one backward pass. Fewer take less memory, and about as long; the gradient is their sum either way."""
    if runner.loaded.device.type != "cpu":
        return PASS_TOKENS
    model = runner.loaded.model
    hidden, layers = runner.layout.hidden_size, runner.layout.layer_count
    inner = getattr(model.config.get_text_config(), "intermediate_size", None)
    each = activation_bytes(hidden, inner if isinstance(inner, int) else 4 * hidden, layers, model.dtype.itemsize)
    room = max(ACTIVATIONS_SHARE * sum(parameter.nbytes for parameter in model.parameters()), ACTIVATIONS)
    return min(max(int(room / each), FEWEST_TOKENS), PASS_TOKENS)


def onset_log_odds(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-odds that one of some tokens comes next.

    Args:
        logits: [B, V].
        tokens: [n] ids.

    Returns:
        [B].
    """
    others = logits.index_fill(-1, tokens, -torch.inf)
    return logits[:, tokens].logsumexp(-1) - others.logsumexp(-1)
