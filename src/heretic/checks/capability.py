"""CapabilityCheck: what the original model is able to do, remembered, and what an edited one is."""

import time

from heretic.checks.harness import (
    Measure,
    MeasureKey,
    check_benchmarks,
    compare_measures,
    run_benchmarks,
)
from heretic.checks.multiple_choice import (
    ANSWERING,
    PreparedQuestions,
    answer_questions,
    prepare_questions,
    sized,
)
from heretic.checks.questions import QuestionSet, load_questions
from heretic.common.errors import ModelError, TrialFailed
from heretic.config import Settings
from heretic.observability.events import CapabilityMeasured, CapabilityStarted, Warned, emit
from heretic.passes.calibration import backing_off
from heretic.passes.choose import choose, ordinary_wanted
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.passes import Passes
from heretic.passes.runner import ModelRunner
from heretic.results.capability import Capability, Questions, compare_answers

ORIGINAL = "original"
EDITED = "edited"


def wants_validation(settings: Settings) -> bool:
    """Whether the settings ask for any of this."""
    return settings.enable_validation or bool(settings.benchmarks)


def check_capability(settings: Settings) -> None:
    """Refuse what could not be measured before hours are spent, not after. Fetches questions and benchmarks' data.

    Raises:
        UserError: Questions or a category cannot be had, there are fewer worked examples than asked for, the package
            lm_eval is not installed, or a benchmark is unknown or cannot be loaded.
    """
    if settings.benchmarks:
        check_benchmarks(settings.benchmarks)
    if settings.enable_validation:
        load_questions(settings)


class CapabilityCheck:
    """Measures the original model when it is made, and compares whatever the model is later with that.

    Multiple-choice questions are asked unless the settings name benchmarks alone. Emits Warned, CapabilityStarted and
    CapabilityMeasured.

    Args:
        settings: The run's.
        runner: The model, unedited.
        questions: What is asked, where it was read before.

    Raises:
        UserError: As `check_capability`.
        ModelError: The model cannot be asked, or its logits are not finite.
        OutOfMemoryError: Not even single questions fit into memory.
        HereticError: A benchmark fails.
    """

    def __init__(self, settings: Settings, runner: ModelRunner, questions: QuestionSet | None = None) -> None:
        self._settings = settings
        self._runner = runner
        self._passes: Passes = OrdinaryPasses(runner)
        if settings.enable_validation or not settings.benchmarks:
            questions = questions or load_questions(settings)
        else:
            questions = None
        self._source = "" if questions is None else questions.source
        self._prepared = None if questions is None else self._prepare(questions)
        self._start(ORIGINAL)
        try:
            self._answers = () if self._prepared is None else answer_questions(self._passes, self._prepared)
        except TrialFailed as error:
            raise ModelError("The original model's logits are not finite; try --dtypes float32.") from error
        self._measures = self._benchmark()

    def _prepare(self, questions: QuestionSet) -> PreparedQuestions:
        settings = self._settings
        if questions.warning:
            emit(Warned(questions.warning))
        prepared = prepare_questions(self._runner, questions, settings.system_prompt)
        fewer = [f"{name} {count}" for name, count in prepared.examples if count < settings.mmlu_few_shot]
        if fewer:
            emit(
                Warned(
                    f"Not all {settings.mmlu_few_shot} worked examples fit into the model's context, so there are "
                    f"fewer: {', '.join(fewer)}."
                )
            )
        if prepared.left_out:
            emit(Warned(f"{prepared.left_out} questions do not fit into the model's context and are left out."))
        # Nothing changes the weights while questions are answered.
        fitting, unless = sized(self._runner, prepared), ordinary_wanted(settings)
        self._passes = choose(fitting, prepared.encoded, unless=unless, doing=ANSWERING).passes
        return prepared

    def compare(self) -> Capability:
        """Measure the model as it is now, and compare.

        Raises:
            TrialFailed: Its logits are not finite; the message is part of a sentence.
            OutOfMemoryError: Not even single questions fit into memory any more.
            HereticError: A benchmark fails.
        """
        started = time.perf_counter()
        self._start(EDITED)
        questions, prepared = None, self._prepared
        if prepared is not None:
            overall, *categories = compare_answers(
                [question.category for question in prepared.questions],
                [question.answer for question in prepared.questions],
                self._answers,
                answer_questions(self._passes, prepared),
            )
            questions = Questions(self._source, prepared.examples, overall, tuple(categories))
        benchmarks = compare_measures(self._measures, self._benchmark())
        result = Capability(questions, benchmarks, self._settings.benchmark_limit)
        emit(CapabilityMeasured(result, time.perf_counter() - started))
        return result

    def _start(self, which: str) -> None:
        count = 0 if self._prepared is None else len(self._prepared.questions)
        emit(CapabilityStarted(which, self._source, count, tuple(self._settings.benchmarks)))

    def _benchmark(self) -> dict[MeasureKey, Measure]:
        settings = self._settings
        if not settings.benchmarks:
            return {}
        measures, self._runner = backing_off(
            self._runner,
            lambda runner: run_benchmarks(runner, settings.benchmarks, settings.benchmark_limit),
            "running benchmarks",
        )
        return measures
