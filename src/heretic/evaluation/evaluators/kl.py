"""How much everything else changed: KL divergence on baseline prompts (DESIGN section 4)."""

import torch
from torch import Tensor

from heretic.errors import ModelError, TrialFailed
from heretic.evaluation.divergence import kl_divergence, top1_agreement
from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.evaluation.score import Score
from heretic.models.devices import free_memory
from heretic.models.runner import ModelRunner
from heretic.prompts.types import PromptSet

DEVICE_SHARE = 0.25
"""The base model's distributions stay on the device where they take at most this share of its free memory."""


@EVALUATORS.decorator("kl")
class KlEvaluator:
    """KL(base || edited) of next-token distributions, in nats.

    ``first`` looks at the first response token; ``sequence`` averages over the base model's own greedy continuation,
    which the edited model reads (teacher forcing), so that contexts never diverge.
    """

    def __init__(self, runner: ModelRunner, prompts: PromptSet, options: EvaluatorOptions) -> None:
        self.runner = runner
        self._prompts = prompts.prompts
        self._mode = options.kl_mode
        if options.kl_mode == "first":
            # Which token is forced does not matter: only its prediction is looked at.
            self._continuations: list[tuple[int, ...]] = [(0,)] * len(prompts)
        else:
            responses = runner.generate(prompts.prompts, options.kl_tokens)
            self._continuations = [response.tokens for response in responses]
        self._base: list[Tensor | None] = [None] * len(prompts)
        keep_on_device: bool | None = None
        for rows, log_probabilities in runner.log_probabilities(self._prompts, self._continuations):
            for row, own in zip(rows, log_probabilities, strict=True):
                if bool(own.isnan().any()):
                    raise ModelError("The unedited model's logits are not finite; try --dtypes float32.")
                if keep_on_device is None:
                    total = own.nbytes * sum(map(len, self._continuations)) / len(own)
                    keep_on_device = total <= DEVICE_SHARE * free_memory(own.device)
                self._base[row] = own if keep_on_device else own.cpu()

    @property
    def baseline(self) -> Score:
        """See Evaluator: the unedited model diverges by nothing from itself."""
        return Score("kl", 0.0, len(self._prompts), 0.0)

    def score(self, trial: int | None = None) -> Score:
        """See Evaluator. Details: p95 over positions, top-1 agreement, number of positions, and the mode."""
        divergences, agreements = [], []
        for rows, log_probabilities in self.runner.log_probabilities(self._prompts, self._continuations):
            for row, edited in zip(rows, log_probabilities, strict=True):
                base = self._base[row]
                if base is None:  # Every row was filled above.
                    raise ModelError("The base model's distribution of a prompt is missing; please report it.")
                base = base.to(edited.device)
                divergences.append(kl_divergence(base, edited))
                agreements.append(top1_agreement(base, edited))
        divergence = torch.cat(divergences).cpu()
        if not bool(torch.isfinite(divergence).all()):
            raise TrialFailed("the edited model's logits are not finite")
        agreement = torch.cat(agreements).float().mean().item()
        details = {
            "mode": self._mode,
            "p95": torch.quantile(divergence, 0.95).item(),
            "top1_agreement": agreement,
            "positions": len(divergence),
        }
        return Score("kl", divergence.mean().item(), len(self._prompts), 0.0, details)
