"""How a model is read: by ragged passes wherever they agree with ordinary ones; else why not, and what that costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heretic.config import Settings
from heretic.models.devices import product_time
from heretic.models.loaded import LoadedModel
from heretic.models.memory import RanOut, attempt
from heretic.models.private_api import attention_implementation, column_limit
from heretic.observability.events import SlowerPasses, emit
from heretic.passes.divergence import agree
from heretic.passes.ordinary import OrdinaryPasses, OrdinarySideBySide
from heretic.passes.packed import PackedLinears
from heretic.passes.passes import ALONE, ORDINARY, Passes, Rows, SideBySide, Slower
from heretic.passes.ragged import RaggedForward, ragged_obstacle, window_obstacle
from heretic.passes.ragged_passes import RaggedPasses
from heretic.passes.runner import ModelRunner
from heretic.passes.side_by_side import RaggedSideBySide, Savings

EAGER = "up to a fifth longer on a CPU for rows of 400 tokens, nothing for short ones"
EMULATED = 1.5
"""So many times as long as a product in float32 takes one in a dtype that a CPU emulates; 1.1 to 3.8 were measured."""
COMPARED = 8
"""Predictions of each row by which both kinds of passes are compared: the last ones, which rest on all others."""
REACH = 2
"""Passes that agree on a row are taken to agree on rows up to so many times as long."""
_AGREEING: WeakKeyDictionary[PreTrainedModel, int] = WeakKeyDictionary()
"""By model up to how many tokens its passes were seen to agree: one comparison takes seconds, and a run asks often."""
_COMPARING = "comparing ragged with ordinary passes"


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """How one model is read.

    Attributes:
        passes: The way.
        slower: Why not the best, and what that costs; None for ragged passes.
        forward: What was seen to agree, good for as long as the weights stay as they are; None for ordinary passes.
        alone: Whether rows of different length must not be read together, because the model reads their padding.
    """

    passes: Passes
    slower: Slower | None = None
    forward: RaggedForward | None = None
    alone: bool = False

    @property
    def of_the_original(self) -> Passes:
        """The way, by `forward`: while the weights stay as they are."""
        return self.passes if self.forward is None else RaggedPasses(self.passes.runner, self.forward)

    def give_back_order(self) -> None:
        """Put weights that are ordered in their plain order again, until they are multiplied by in this way."""
        if self.forward is not None and self.forward.packed is not None:
            self.forward.packed.give_back()

    def drop_order(self) -> None:
        """Order no weights from now on; the way stays the same."""
        if self.forward is not None and self.forward.packed is not None:
            self.forward.packed.drop()


def choose(
    runner: ModelRunner, rows: Rows, longest: int = 0, unless: str = "", doing: str = "", packed: bool = True
) -> Choice:
    """Choose how rows like these are read. Asked of the original model, so that an edited one is read alike.

    Args:
        runner: The model.
        rows: Token ids of what will be read, none empty.
        longest: Tokens of the longest row that is read in several steps, with what is written behind it; that of the
            longest row where it is 0.
        unless: Why ragged passes are not wanted; empty where they are.
        doing: What is read for, in words, for SlowerPasses; empty where whoever asks says it.
        packed: Whether a CPU orders the weights.

    Returns:
        The choice. Emits SlowerPasses where it is not the best.
    """
    forward = unless or _agreeing(runner, rows, longest, packed)
    if isinstance(forward, RaggedForward):
        return Choice(RaggedPasses(runner), None, forward)
    alone = reads_padding(runner, rows)
    reason = f"{forward}, and its padded passes do not agree with those of single rows" if alone else forward
    slower = Slower(reason, ALONE if alone and runner.calibration.batch_size > 1 else ORDINARY)
    if doing:
        emit(SlowerPasses(doing, slower.reason, slower.cost))
    return Choice(OrdinaryPasses(runner.calibrated(batch_size=1) if alone else runner), slower, None, alone)


def side_by_side(
    choice: Choice,
    runner: ModelRunner,
    forced: Rows,
    continuations: Rows,
    prompts: Sequence[Rows],
    savings: Savings,
) -> SideBySide:
    """Prompts that candidates are going to read side by side in the chosen way.

    Args:
        choice: From `choose`, of all these prompts.
        runner: The model, unedited.
        forced: Prompts whose predictions are compared.
        continuations: What is predicted behind each.
        prompts: For each behaviour the prompts that are answered.
        savings: What ragged passes save.
    """
    if choice.forward is None:
        return OrdinarySideBySide(runner, forced, continuations, prompts)
    return RaggedSideBySide(runner, choice.forward, forced, continuations, prompts, savings)


def still_agrees(runner: ModelRunner, rows: Rows) -> bool:
    """Whether ragged passes read these rows as ordinary ones do by the weights as they are now, which may be edited."""
    return predicts_alike(runner, RaggedForward(runner.loaded, runner.layout, None), rows)


def ordinary_wanted(settings: Settings) -> str:
    """Why the settings keep to ordinary passes, and to edits in the weights; empty where they do not.

    Hooks, and ordered copies of the weights, would break a compiled model's graph apart.
    """
    if settings.compile:
        return "edits on outputs would break the compiled model apart (--compile)"
    return "--engine inplace asks for it" if settings.engine == "inplace" else ""


def slower_model(loaded: LoadedModel) -> list[Slower]:
    """What makes all passes of a model slower than they could be: its attention, and numbers that the CPU emulates."""
    result = []
    if attention_implementation(loaded.model) == "eager":
        result.append(Slower("its attention is computed step by step (eager), since it has no other", EAGER))
    dtype = loaded.model.dtype
    if loaded.device.type == "cpu" and dtype in (torch.bfloat16, torch.float16):
        ratio = product_time(dtype)
        if ratio > EMULATED:
            reason = f"""this CPU multiplies in float32 faster than in {loaded.dtype} (--dtypes '["float32"]')"""
            result.append(Slower(reason, f"products take about {ratio:.1f} times as long"))
    return result


def ragged_reason(runner: ModelRunner, rows: Rows, longest: int = 0) -> str:
    """Why rows like these cannot be read by ragged passes, as far as the model itself says; empty where they can."""
    obstacle = ragged_obstacle(runner.loaded)
    return obstacle or window_obstacle(runner.loaded.model, longest or max(map(len, rows))) or ""


def _agreeing(runner: ModelRunner, rows: Rows, longest: int, packed: bool) -> RaggedForward | str:
    """Ragged passes that predict what ordinary ones do, or why there are none."""
    reason = ragged_reason(runner, rows, longest)
    if reason:
        return reason
    model = runner.loaded.model
    forward = RaggedForward(runner.loaded, runner.layout, PackedLinears(model) if packed else None)
    compared = [min(rows, key=len), max(rows, key=len)]
    if len(compared[1]) <= _AGREEING.get(model, 0):
        return forward
    alike = attempt(partial(predicts_alike, runner, forward, compared), runner.loaded.device, _COMPARING)
    if alike is True:
        _AGREEING[model] = REACH * len(compared[1])
        return forward
    if forward.packed is not None:
        forward.packed.give_back()
    if isinstance(alike, RanOut):
        return "memory ran out when its passes were compared"
    return "its cached passes do not agree with its ordinary ones"


@torch.inference_mode()
def predicts_alike(runner: ModelRunner, forward: RaggedForward, rows: Rows) -> bool:
    """Whether rows that are read in two steps side by side predict what each does in one alone.

    Rows of a single token, and rows beyond an attention window, cannot be read in two steps and are left out.
    """
    limit = column_limit(runner.loaded.model)
    splittable = [row for row in rows if len(row) > 1 and (limit is None or len(row) <= limit)]
    if not splittable:
        return False
    split = [_split(row) for row in splittable]
    # Each alone: what stands behind the last token does not matter, and neither does what follows the first part.
    # First, because weights that are ordered for ragged passes would have to be put back for ordinary ones.
    ordinary: list[Tensor] = [runner.teacher_forced_batch([start], [(*rest, 0)])[0][1:] for start, rest in split]
    state = forward.start((), [0] * len(split))
    state.feed([start for start, _rest in split], [()] * len(split))
    ragged = state.feed([rest for _start, rest in split], [range(len(rest)) for _start, rest in split])
    if runner.suppressed_tokens:
        ragged[:, runner.suppressed_tokens] = -torch.inf
    return agree(torch.cat(ordinary), ragged)


def _split(row: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    start = max(1, len(row) - COMPARED)
    return row[:start], row[start:]


def reads_padding(runner: ModelRunner, rows: Rows) -> bool:
    """Whether what follows the shortest row is predicted otherwise beside the longest; also where both do not fit."""
    shortest, longest = min(rows, key=len), max(rows, key=len)
    if len(shortest) == len(longest):
        return False

    @torch.inference_mode()
    def differs() -> bool:
        alone = runner.first_token_logits([shortest])
        return not agree(alone, runner.first_token_logits([shortest, longest])[:1])

    differing = attempt(differs, runner.loaded.device, "reading two rows at once")
    return isinstance(differing, RanOut) or differing
