"""Yes or no: the log-odds of both as the first token of an answer, and the answer that tells them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from heretic.common.errors import ModelError
from heretic.evaluation.evaluators.agreement import told
from heretic.passes.runner import ModelRunner, Response
from heretic.prompts.types import Prompt

YES = ("Yes", "yes", "YES", " Yes", " yes")
NO = ("No", "no", "NO", " No", " no")
_PROBE = Prompt("Is water wet?")


class YesNo:
    """How one model begins yes and no."""

    def __init__(self, runner: ModelRunner) -> None:
        """Learn it.

        Raises:
            ModelError: Its tokenizer does not tell them apart by their first token.
        """
        prefix = runner.calibration.response_prefix

        def encode(behind: str) -> list[int]:
            return runner.calibrated(response_prefix=prefix + behind).encode(_PROBE)

        self._yes, self._no = answer_tokens("The model cannot be asked for yes or no", encode, "other behaviours")

    def told(self, logits: Tensor) -> list[Response]:
        """The answers that tell the predictions [rows, V] of a first token, without tokens of their own."""
        return [Response(told(share), ()) for share in share_of_yes(logits, self._yes, self._no).tolist()]


def answer_tokens(
    cannot: str, encode: Callable[[str], Sequence[int]], other: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The token ids that an answer yes, and an answer no, may begin with.

    Args:
        cannot: What cannot be done otherwise, for the message.
        encode: From what is added behind the prompt to the token ids of all.
        other: What to name instead, for the message.

    Raises:
        ModelError: There is none that belongs to one of them alone.
    """
    start = list(encode(""))
    yes, no = ({token for word in words for token in _behind(start, list(encode(word)))} for words in (YES, NO))
    if not yes - no or not no - yes:
        raise ModelError(f"{cannot} because its tokenizer begins yes and no alike; name {other}.")
    return tuple(sorted(yes - no)), tuple(sorted(no - yes))


def _behind(start: list[int], ids: list[int]) -> list[int]:
    """The token that follows `start`; none where what was added changed the tokens before it."""
    return ids[len(start) : len(start) + 1] if ids[: len(start)] == start else []


def share_of_yes(logits: Tensor, yes: Sequence[int], no: Sequence[int]) -> Tensor:
    """[rows, V] logits to [rows]: the probability of yes among yes and no."""
    both = torch.stack([logits[:, list(ids)].float().logsumexp(-1) for ids in (yes, no)], -1)
    return both.softmax(-1)[:, 0]
