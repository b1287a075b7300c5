"""How much everything else changed: KL divergence on baseline prompts (DESIGN section 4)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from heretic.common.errors import ModelError, TrialFailed
from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.models.devices import free_memory
from heretic.passes.calibration import backing_off
from heretic.passes.divergence import kl_divergence, top1_agreement
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import PromptSet
from heretic.results.score import DivergenceDetails, Score

DEVICE_SHARE = 0.25
"""The base model's distributions stay on the device where they take at most this share of its free memory."""


class BaseLogits:
    """The unedited model's logits [T, V] of every row, where there is room for them."""

    def __init__(self, continuations: Sequence[Sequence[int]]) -> None:
        self._positions = sum(map(len, continuations))
        self._rows: dict[int, Tensor] = {}
        self._on_device: bool | None = None

    def keep(self, row: int, logits: Tensor) -> None:
        """Keep one row's logits, minus infinity where a token is suppressed.

        Raises:
            ModelError: They are not finite.
        """
        if bool(logits.isnan().any() | logits.isposinf().any()):
            raise ModelError("The unedited model's logits are not finite; try --dtypes float32.")
        if self._on_device is None:
            total = logits.nbytes * self._positions / len(logits)
            self._on_device = total <= DEVICE_SHARE * free_memory(logits.device)
        # A copy: a view would keep the logits of its whole batch.
        self._rows[row] = logits.clone() if self._on_device else logits.to("cpu", copy=True)

    def move_to_host(self) -> bool:
        """Keep logits in host memory from now on; False where they are there already."""
        moved = any(logits.device.type != "cpu" for logits in self._rows.values())
        self._on_device = False
        self._rows = {row: logits.to("cpu") for row, logits in self._rows.items()}
        return moved

    def compare(self, row: int, edited: Tensor) -> tuple[Tensor, Tensor]:
        """KL divergence and top-1 agreement [T] of one row."""
        base = self._rows[row].to(edited.device)
        return kl_divergence(base, edited), top1_agreement(base, edited)


@EVALUATORS.decorator("kl")
class KlEvaluator:
    """KL(base || edited) of next-token distributions, in nats.

    ``first`` looks at the first response token; ``sequence`` averages over the base model's own greedy continuation,
    which the edited model reads (teacher forcing), so that contexts never diverge.
    """

    def __init__(self, runner: ModelRunner, prompts: PromptSet, options: EvaluatorOptions) -> None:
        self.runner = runner
        self.prompts = prompts.prompts
        self._mode = options.settings.kl_mode
        self._tokens = 1 if options.settings.kl_mode == "first" else options.settings.kl_tokens
        if options.settings.kl_mode == "first":
            # Which token is forced does not matter: only its prediction is looked at.
            self.continuations: list[tuple[int, ...]] = [(0,)] * len(prompts)
        else:
            responses = runner.generate(prompts.prompts, options.settings.kl_tokens)
            self.continuations = [response.tokens for response in responses]
        self._base: BaseLogits | None = None

    @property
    def baseline(self) -> Score:
        """See Evaluator: the unedited model diverges by nothing from itself."""
        return Score("kl", 0.0, len(self.prompts), 0.0)

    def remember(self) -> None:
        """See Evaluator: the unedited model's predictions."""
        if self._base is not None:
            return
        self._base, self.runner = backing_off(self.runner, self._predictions, "comparing predictions")

    def _predictions(self, runner: ModelRunner) -> BaseLogits:
        base = BaseLogits(self.continuations)
        for rows, logits in runner.teacher_forced(self.prompts, self.continuations):
            for row, own in zip(rows, logits, strict=True):
                base.keep(row, own)
        return base

    def score(self, trial: int | None = None) -> Score:
        """See Evaluator."""
        if self._base is None:
            raise RuntimeError("the unedited model's predictions have to be remembered first")
        divergences, agreements = [], []
        for rows, logits in self.runner.teacher_forced(self.prompts, self.continuations):
            for row, own in zip(rows, logits, strict=True):
                divergence, agreement = self._base.compare(row, own)
                divergences.append(divergence)
                agreements.append(agreement)
        return self.score_of(torch.cat(divergences), torch.cat(agreements))

    def score_of(self, divergence: Tensor, agreement: Tensor) -> Score:
        """The score of all positions' divergences and top-1 agreements.

        Raises:
            TrialFailed: A divergence is not finite.
        """
        divergence = divergence.cpu()
        if not bool(torch.isfinite(divergence).all()):
            raise TrialFailed("the edited model's logits are not finite")
        details = DivergenceDetails(
            self._mode,
            self._tokens,
            torch.quantile(divergence, 0.95).item(),
            agreement.float().mean().item(),
            len(divergence),
        )
        return Score("kl", divergence.double().mean().item(), len(self.prompts), 0.0, details)
