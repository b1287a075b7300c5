"""What a way of reading a model is; `passes.choose` says which one is used, and why."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from heretic.passes.ragged import KeyValues
from heretic.passes.runner import ModelRunner, Response

T = TypeVar("T")

Rows = Sequence[Sequence[int]]
"""Token ids."""
AssignRows = Callable[[Sequence[int]], None]
"""Tells an editor which candidate every row of the next passes carries."""
ORDINARY = "about twice as long"
"""What ordinary passes take: 1.8 times as long for answers, 1.9 for trials, 3 for questions that begin alike, on the
0.5 B model of benchmarks/README.md."""
ALONE = "several times as long"
"""What reading row by row takes."""


@dataclass(frozen=True, slots=True)
class Slower:
    """That something is done in a slower way than the best one: why, and about how long it takes instead."""

    reason: str
    cost: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.cost})"


class Passes(Protocol):
    """One model read in one way, by its weights as they are when it is asked.

    Everything goes in batches that fit: where memory runs out, it is done again from its beginning in smaller ones, and
    these are kept. `doing` says what for, in words. All raise OutOfMemoryError where not even single rows fit.

    Attributes:
        runner: The model, its tokens and its batch size.
    """

    runner: ModelRunner

    def answers(self, rows: Rows, most: int, doing: str) -> list[Response]:
        """Greedy answers of at most `most` tokens."""

    def predictions(
        self, rows: Rows, continuations: Rows, look: Callable[[int, Tensor], T], doing: str, at_once: int = 0
    ) -> list[T]:
        """What is seen in the teacher-forced predictions over given continuations.

        Args:
            rows: N prompts.
            continuations: N token lists, none empty; position t predicts token t of the list.
            look: From a row's index and its logits [T, V] to what is kept of them. Tokens that the model's generation
                configuration suppresses have logit minus infinity.
            doing: See Passes.
            at_once: Rows of a batch at most; 0 for as many as fit.
        """

    def residuals(self, rows: Rows, look: Callable[[Iterator[Tensor]], T], doing: str) -> T:
        """What is made of the residuals of each row's last token.

        Args:
            rows: Token ids.
            look: From batches [B, L+1, D] in no particular order, see `ModelRunner.residuals_of`; it begins anew where
                memory ran out.
            doing: See Passes.
        """

    def next_tokens(self, rows: Rows, look: Callable[[Tensor], Sequence[T]], doing: str) -> list[T]:
        """What is seen in the logits [B, V] of the token that follows each row; `look` gives one value a row."""


class Carrier(Protocol):
    """A candidate, as far as reading has to know: its place among those of a batch, and the first layer it edits."""

    @property
    def index(self) -> int:
        """Place."""

    @property
    def first_layer(self) -> int:
        """Layer."""


C = TypeVar("C", bound=Carrier)


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """K candidates that are applied to the model: how rows are given to them, and what each read of a shared prefix."""

    assign: AssignRows
    prefix: KeyValues = ()


class Written(Protocol):
    """Answers of several candidates that are written side by side.

    Attributes:
        order: For every row the place of its pair among those that were asked for.
        length: Tokens that every row has, those included that nobody has looked at.
    """

    order: Sequence[int]
    length: int

    def step(self) -> None:
        """One token more for every row."""

    def look(self) -> list[list[int]]:
        """What was added to every row since the last look."""

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these rows only, in this order; `look` comes first."""


class SideBySide(Protocol):
    """Fixed prompts that many candidates read side by side in every trial, to predict what follows or to answer.

    Attributes:
        runner: The model.
        shared_tokens: How many tokens all prompts begin with and are read once a candidate.
        prompts: For every behaviour those to answer, as far as they are not shared.
        at_once: For every behaviour how many rows are answered at once at most.
        whole: Whether answers come whole, so that none can be ended early.
        interval: Steps between two looks at what is written.
    """

    runner: ModelRunner
    shared_tokens: int
    prompts: Sequence[Rows]
    at_once: list[int]
    whole: bool
    interval: int

    @property
    def kept_bytes(self) -> int:
        """Bytes of lower layers that are kept across trials."""

    def candidates(self) -> int:
        """How many candidates are best measured at once."""

    def prepare(self, candidates: int) -> None:
        """So many candidates will be measured at once; comes after the original model is read."""

    def applied(self, count: int, assign: AssignRows) -> Applied:
        """So many candidates have been applied."""

    def original(self, rows: Sequence[int]) -> list[Tensor]:
        """Logits [T, V] of rows of the original model, which is read once."""

    def groups(self, candidates: Sequence[C]) -> Iterator[list[C]]:
        """Candidates that best predict together."""

    def batches(self, running: Sequence[object], weights: Sequence[float]) -> Iterator[list[int]]:
        """Rows that are predicted together by the candidates that are running when each batch is asked for.

        Args:
            running: Whoever asks takes out those that are done.
            weights: For every row how much it told in earlier trials.
        """

    def predict(self, candidates: Sequence[Carrier], rows: Sequence[int], applied: Applied) -> list[Tensor]:
        """Logits [T, V] of all rows of each candidate in turn."""

    def write(self, place: int, pairs: Sequence[tuple[C, int]], most: int, applied: Applied) -> Written:
        """Begin answers of at most `most` tokens to a behaviour's prompts, one for each pair."""

    def following(
        self, place: int, pairs: Sequence[tuple[C, int]], look: Callable[[Tensor], Sequence[T]], applied: Applied
    ) -> list[T]:
        """What is seen in the logits [B, V] of the token that follows each pair's prompt, as `Passes.next_tokens`."""

    def relieve(self) -> bool:
        """Need less memory from now on; False where nothing is left to give."""

    def rest(self) -> None:
        """Give back what is kept for further candidates."""

    def resume(self) -> None:
        """Make it again, as far as memory never ran out; the original model is read behind it."""
