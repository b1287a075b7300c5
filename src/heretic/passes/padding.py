"""Whether a model may read rows of different length together: some read their padding."""

from collections.abc import Sequence

import torch

from heretic.passes.calibration import backing_off
from heretic.passes.divergence import agree
from heretic.passes.runner import ModelRunner


def fit_for_padding(runner: ModelRunner, encoded: Sequence[Sequence[int]], doing: str) -> ModelRunner:
    """The runner, with batches of one row where these rows of token ids must not be read together.

    Args:
        runner: The model.
        encoded: Rows of different length, none empty.
        doing: What they are read for, for messages.

    Raises:
        OutOfMemoryError: Not even one row at a time can be read.
    """
    matters, fitting = backing_off(
        runner, lambda own: own.calibration.batch_size > 1 and padding_matters(own, encoded), doing
    )
    return fitting.calibrated(batch_size=1) if matters else fitting


@torch.inference_mode()
def padding_matters(runner: ModelRunner, encoded: Sequence[Sequence[int]]) -> bool:
    """Whether what follows the shortest row of token ids is predicted otherwise beside the longest."""
    shortest, longest = min(encoded, key=len), max(encoded, key=len)
    if len(shortest) == len(longest):
        return False
    alone = runner.first_token_logits([shortest])
    return not agree(alone, runner.first_token_logits([shortest, longest])[:1])
