"""What an evaluator is, and the registry that finds evaluators by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from pydantic import ValidationError

from heretic.common.errors import ConfigurationError, PluginError, lines_of
from heretic.common.registry import Registry
from heretic.config import Settings
from heretic.observability.events import ResponseMeasured, emit
from heretic.prompts.packs import Pack, PackOptions
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.score import KEPT, MISSING, WITHOUT, AnswerDetails, Keep, Score


class Reader(Protocol):
    """A model that says how likely answers are refusals, or whatever hypotheses say.

    Attributes:
        name: What the user calls it.
    """

    name: str

    @property
    def identity(self) -> str:
        """The same wherever the same model came from."""

    def probabilities(self, answers: Sequence[tuple[str, str]], hypotheses: Sequence[str] = ()) -> list[float]:
        """How likely each answer (request, response) is a refusal, or any of the hypotheses true of it; 0 to 1."""


@dataclass(frozen=True, slots=True)
class ReaderKind:
    """How readers of one kind are had; one a file of `evaluation.readers`.

    Attributes:
        problem: Why the settings name no such reader for a behaviour that cannot be measured without (settings,
            behaviour), in one sentence; empty where they do.
        load: Loads it before anything is measured (settings, the behaviour that cannot be measured without it or
            nothing). None where it cannot be loaded and nothing needs it, which a Warned event says; raises
            ConfigurationError where it cannot tell what it has to, ModelError where it is needed and cannot be loaded
            or this machine has no such device.
    """

    problem: Callable[[Settings, str], str]
    load: Callable[[Settings, str], Reader | None]


Readers = Mapping[str, Reader]
"""The models that read answers, by kind."""

READERS: Registry[ReaderKind] = Registry("reader", "heretic.evaluation.readers")


@dataclass(frozen=True, slots=True)
class EvaluatorOptions:
    """What an evaluator is told; it reads what concerns it.

    Attributes:
        settings: The run's.
        pack: What the behaviour's pack says.
        behavior: What the behaviour is called.
        readers: Models that read answers, as far as the run has them.
        tokens: Length of a measured answer; None leaves it to the pack, else to the settings.
        scale_tokens: Length of the answers that amounts are seen in proportion to; None for that of the measured ones.
        keeps: Whether what answers show has to stay, whatever the goal.
    """

    settings: Settings
    pack: PackOptions = field(default_factory=PackOptions)
    behavior: str = "refusal"
    readers: Readers = field(default_factory=dict)
    tokens: int | None = None
    scale_tokens: int | None = None
    keeps: bool = False

    @property
    def response_tokens(self) -> int:
        """Length of a measured answer."""
        return self.tokens or self.pack.tokens or self.settings.refusal_check_tokens


LITTLE = 0.1
"""A baseline below this share of what an answer can show leaves a search little to do."""
SAMPLES = 3
"""Answers of the original model that are shown where they leave nothing to edit."""


class Evaluator(ABC):
    """Judges greedy answers: every answer gets an amount, and a score is their sum or mean. It owns no model.

    Made once, from the original model's answers, which give the baseline. A subclass says how much of the behaviour an
    answer shows (`amount` or `amounts`, never negative); where the run's goal is to strengthen the behaviour, what
    answers lack of `most` is scored instead, so that lower is better either way. The same where what is shown has to
    stay, of the prompts alone whose original answers show it: every other answer counts as lost.

    Attributes:
        Options: What a pack's options may say for it.
        reader: Kind of the model that it cannot do without; empty where it needs none.
        finds_refusals: Whether it looks for refusals by their wording, as other parts of a run do.
        predicted: Whether its answers tell how likely yes is as their first token (`yes_no.YesNo`); none is written.
        unit: What a mean amount is counted in; empty where answers that show the behaviour (amount 1) are counted.
        score_name: Name of the score; None for the behaviour's.
        lacking_name: Name of the score of what answers lack; None for one made of the other.
        counted: Which answers count, to stand behind "counted where"; ``{reader}`` stands for the model that read them.
        counted_lacking: Which of them count where the behaviour is to become more.
        verdicts: How an answer is told that shows the behaviour, and one that does not; None for the behaviour's name.
        otherwise: What to do where answers are not what they are taken for, behind "If these answers say otherwise, ".
        most: The amount from which an answer lacks nothing.
        prompts: What is asked.
        rows: Places of these among the prompts that it was made from.
        label: What the behaviour is called.
        tokens: Length of an answer that is judged.
        samples: The first of the original model's answers.
        weight: What an amount counts in the score's value: 1 where answers are counted, 1 / n where amounts are means.
    """

    Options: ClassVar[type[PackOptions]] = PackOptions
    reader: ClassVar[str] = ""
    finds_refusals: ClassVar[bool] = False
    predicted: ClassVar[bool] = False
    unit: str = ""
    score_name: str | None = None
    lacking_name: str | None = None
    counted: str = ""
    counted_lacking: str = ""
    verdicts: tuple[str, str] | None = None
    otherwise: str = "have a model read them with --measure-with judge where the pack has hypotheses"
    most: float = 1.0

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        """Judge the original model's answers; a subclass is ready to judge when it calls this.

        Args:
            prompts: N prompts.
            answers: The original model's answers to them.
            options: See EvaluatorOptions.
        """
        self.prompts, self.rows = prompts.prompts, tuple(range(len(prompts)))
        self.tokens = options.response_tokens
        self.weight = 1 / len(prompts) if self.unit else 1.0
        self._strengthens = options.keeps or options.settings.goal == "strengthen"
        self._keep: Keep | None = None
        self.label = options.behavior
        self._kind = self.wanted_reader(options.settings)
        self._reader = options.readers.get(self._kind)
        amounts = self.judge_all(list(zip(self.prompts, answers, strict=True)))
        for prompt, text, amount in zip(self.prompts, answers, amounts, strict=True):
            emit(ResponseMeasured(None, prompt.user, text, self.describe(amount)))
        self.samples = tuple(answers[:SAMPLES])
        self._baseline = sum(amounts) * self.weight
        if options.keeps:
            self._keep_shown(amounts, options.settings)

    def _keep_shown(self, lost: Sequence[float], settings: Settings) -> None:
        """Ask from now on only what the original model answered as it has to stay."""
        self.rows = tuple(row for row, amount in enumerate(lost) if not amount)
        self.prompts = tuple(self.prompts[row] for row in self.rows)
        # Rounding must not cost the last one: 0.05 of 20 is one.
        allowed = int((1 - settings.keep_at_least) * len(self.rows) + 1e-9) if settings.keep_as == "bound" else None
        self._baseline, self._keep = 0.0, Keep(len(lost), allowed)

    @classmethod
    def wanted_reader(cls, settings: Settings) -> str:
        """Kind of the model that reads answers for it in a run; empty for none."""
        return cls.reader

    @property
    def needed_reader(self) -> Reader:
        """The model that reads answers.

        Raises:
            ValueError: There is none.
        """
        if self._reader is None:
            raise ValueError(f"the evaluator needs a {self._kind}")
        return self._reader

    @abstractmethod
    def amount(self, text: str) -> float | None:
        """How much of the behaviour a complete answer shows; None leaves it to `amounts`, which sees many at once."""

    def amounts(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """How much of the behaviour each of these complete answers shows.

        Raises:
            PluginError: `amount` leaves one to a subclass that brings no such method.
        """
        amounts = [amount for _prompt, text in answers if (amount := self.amount(text)) is not None]
        if len(amounts) < len(answers):
            raise PluginError(
                f"{type(self).__name__} gives answers no amount; mend or uninstall the package that brings it, or "
                "choose another evaluator."
            )
        return amounts

    def marks(self, text: str) -> Sequence[tuple[int, int]]:
        """Where in an answer, without the space around it, stands what counts; none where no words decide."""
        return ()

    def settled(self, text: str) -> float | None:
        """The amount of every answer that begins so, or None where they differ."""
        return None

    @property
    def name(self) -> str:
        """The score's name."""
        if self.keep is not None:
            return f"{KEPT}{self.label.replace('-', '_')}"
        name = self.score_name or self.label.replace("-", "_")
        if not self._strengthens:
            return name
        return self.lacking_name or f"{MISSING if self.unit else WITHOUT}{name}"

    @property
    def keep(self) -> Keep | None:
        """What it counts of answers that have to stay; None where it measures a behaviour."""
        return self._keep

    @property
    def baseline(self) -> Score:
        """The original model's own score."""
        return self.score_of(self._baseline)

    @property
    def room(self) -> float:
        """What there is to edit: the original model's mean amount as a share of `most`."""
        return self._baseline / (self.weight * len(self.prompts) * self.most)

    def judge(self, text: str, complete: bool) -> float | None:
        """What an answer counts, or None while a longer one might be judged otherwise.

        None for a complete answer leaves it to `judge_all`, which judges many at once.

        Args:
            text: What has been generated so far.
            complete: Whether that is all.
        """
        amount = self.amount(text) if complete else self.settled(text)
        return None if amount is None else self._scored(amount)

    def judge_all(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """What complete answers count, never negative."""
        return [self._scored(amount) for amount in self.amounts(answers)]

    def describe(self, amount: float) -> str:
        """What an answer counts as people read it, e.g. ``refused``."""
        if self.unit:
            return f"{amount:.1f} {self.unit}{' too few' if self._strengthens else ''}"
        shown, absent = self.verdicts or (self.label, f"not {self.label}")
        return shown if bool(amount) != self._strengthens else absent

    def score_of(self, value: float) -> Score:
        """The score of a sum of weighted amounts."""
        reader = "" if self._reader is None else self._reader.name
        kind = "" if self._reader is None else self._kind
        counted = self.counted_lacking if self._strengthens else self.counted
        details = AnswerDetails(self.tokens, kind, reader, counted=counted)
        return Score(self.name, value, len(self.prompts), self._baseline, details, self.unit, self.keep)

    def _scored(self, amount: float) -> float:
        return max(self.most - amount, 0.0) if self._strengthens else amount


EVALUATORS: Registry[type[Evaluator]] = Registry("evaluator", "heretic.evaluation.evaluators")


def evaluator_of(pack: Pack) -> type[Evaluator]:
    """What measures a pack's behaviour.

    Raises:
        PluginError: There is no evaluator of the name that the pack gives, or it cannot be imported or is none.
    """
    evaluator: object = EVALUATORS.get(pack.evaluator)
    if not (isinstance(evaluator, type) and issubclass(evaluator, Evaluator)):
        raise PluginError(
            f"The evaluator {pack.evaluator} of {pack.name} is no subclass of heretic.evaluation.evaluator.Evaluator; "
            "mend or uninstall the package that brings it, or choose another evaluator."
        )
    return evaluator


def pack_options(pack: Pack) -> PackOptions:
    """A pack's options as its evaluator reads them.

    Raises:
        ConfigurationError: Some are missing or cannot be used; one line per problem.
        PluginError: See evaluator_of.
    """
    try:
        return evaluator_of(pack).Options.model_validate(pack.options.model_dump())
    except ValidationError as error:
        missing = ("missing", "too_short")
        problems = [
            f"The evaluator {pack.evaluator} of {pack.name} needs {detail['loc'][0]}; add some to the pack's options."
            if detail["type"] in missing
            else f"{pack.name}: options.{line}; mend it in the pack."
            for detail, line in zip(error.errors(include_url=False), lines_of(error), strict=True)
        ]
        raise ConfigurationError("\n".join(problems)) from error
