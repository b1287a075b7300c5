"""How much everything else changed: KL(original || edited) of next-token distributions on baseline prompts, in nats."""

from collections.abc import Mapping, Sequence
from copy import copy

import torch
from torch import Tensor

from heretic.common.errors import ModelError, TrialFailed
from heretic.config.sections import KlOptions
from heretic.models.devices import free_memory
from heretic.passes.divergence import kl_divergence, most_likely
from heretic.prompts.types import PromptSet
from heretic.results.score import DivergenceDetails, Score

DEVICE_SHARE = 0.25
"""The original model's distributions stay on the device where they take at most this share of its free memory."""

Compared = tuple[Tensor, Tensor]
"""KL divergence and top-1 agreement of a row's positions, [T] each."""


class KlEvaluator:
    """KL(base || edited) of next-token distributions, in nats, with the original model's logits where there is room.

    ``first`` looks at the first response token; ``sequence`` averages over the original model's own greedy
    continuation, which the edited model reads (teacher forcing), so that contexts never diverge.
    """

    def __init__(self, prompts: PromptSet, continuations: Sequence[Sequence[int]], options: KlOptions) -> None:
        """Look at some prompts.

        Args:
            prompts: N prompts.
            continuations: The original model's answers as tokens; not looked at where only the first token is.
            options: Mode and tokens.
        """
        self.prompts = prompts.prompts
        self._mode = options.kl_mode
        self._tokens = 1 if options.kl_mode == "first" else options.kl_tokens
        # Which token is forced does not matter where only its prediction is looked at.
        first = [(0,)] * len(prompts)
        self.continuations: Sequence[Sequence[int]] = first if options.kl_mode == "first" else continuations
        self.forget()

    def forget(self) -> None:
        """Give back what is kept of the original model."""
        self._base: dict[int, Tensor] = {}
        self._likeliest: dict[int, Tensor] = {}
        self._on_device: bool | None = None

    def anew(self) -> "KlEvaluator":
        """The same without the original model's logits: by other passes these differ by rounding."""
        other = copy(self)
        other.forget()
        return other

    @property
    def remembers(self) -> bool:
        """Whether the original model's logits of all rows are there."""
        return len(self._base) == len(self.prompts)

    @property
    def baseline(self) -> Score:
        """The original model diverges by nothing from itself."""
        return Score("kl", 0.0, len(self.prompts), 0.0)

    def keep(self, row: int, logits: Tensor) -> None:
        """Keep one row's logits [T, V] of the original model, minus infinity where a token is suppressed.

        Raises:
            ModelError: They are not finite.
        """
        if bool(logits.isnan().any() | logits.isposinf().any()):
            raise ModelError("The original model's logits are not finite; try --dtypes float32.")
        if self._on_device is None:
            total = logits.nbytes * sum(map(len, self.continuations)) / len(logits)
            self._on_device = total <= DEVICE_SHARE * free_memory(logits.device)
        self._likeliest[row] = most_likely(logits)
        # A copy: a view would keep the logits of its whole batch.
        self._base[row] = logits.clone() if self._on_device else logits.to("cpu", copy=True)

    def move_to_host(self) -> bool:
        """Keep logits in host memory from now on; False where they are there already."""
        moved = any(logits.device.type != "cpu" for logits in self._base.values())
        self._on_device = False
        self._base = {row: logits.to("cpu") for row, logits in self._base.items()}
        return moved

    def compare(self, row: int, edited: Tensor) -> Compared:
        """What an edited model's logits [T, V] of one row are beside the original one's."""
        base = self._base[row].to(edited.device)
        return kl_divergence(base, edited), most_likely(edited) == self._likeliest[row].to(edited.device)

    def score_of(self, compared: Mapping[int, Compared]) -> Score:
        """The score of rows that were compared, by row.

        Raises:
            TrialFailed: A divergence is not finite.
        """
        divergences, agreements = zip(*compared.values(), strict=True)
        divergence, agreement = torch.cat(divergences).cpu(), torch.cat(agreements)
        if not bool(torch.isfinite(divergence).all()):
            raise TrialFailed("the edited model's logits are not finite")
        details = DivergenceDetails(
            self._mode,
            self._tokens,
            torch.quantile(divergence, 0.95).item(),
            agreement.float().mean().item(),
            len(divergence),
            self._by_prompt(compared, len(divergence)),
        )
        return Score("kl", divergence.double().mean().item(), len(self.prompts), 0.0, details)

    def _by_prompt(self, compared: Mapping[int, Compared], positions: int) -> tuple[float, ...]:
        """See DivergenceDetails; nothing where not all rows were compared."""
        if len(compared) < len(self.prompts):
            return ()
        sums = torch.stack([compared[row][0].double().sum() for row in range(len(self.prompts))])
        # Four digits are a hundredth of what a sample of prompts leaves open, and studies stay small.
        return tuple(float(f"{value:.4g}") for value in (sums * (len(sums) / positions)).tolist())
