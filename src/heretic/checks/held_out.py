"""Confirming a chosen trial on prompts that neither directions nor search have seen, with longer answers.

Only here are held-out prompts read. Of the original model everything is measured once; of every trial that is applied
once as well.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from heretic.common.errors import ConfigurationError
from heretic.config import Settings
from heretic.editors.editor import applied
from heretic.edits.algebra import Edit
from heretic.engine.engine import Jobs
from heretic.engine.factory import reference_jobs
from heretic.evaluation.degenerate import is_empty, is_looping, is_other_script
from heretic.evaluation.evaluator import Evaluator, EvaluatorOptions
from heretic.evaluation.refusal_patterns import RefusalDetector
from heretic.evaluation.words_of_texts import count_words
from heretic.observability.events import Warned, emit
from heretic.passes.choose import choose, ordinary_wanted
from heretic.passes.passes import Passes, Rows
from heretic.passes.runner import ModelRunner, Response
from heretic.prompts.packs import Pack
from heretic.prompts.sets import Behavior, Kept, PromptSets, held_out_specification, load_kept
from heretic.prompts.sources import load_prompt_set, overlap
from heretic.prompts.types import PromptSet
from heretic.results.held_out import Answers, AtLength, Estimate, Example, HeldOut, HeldOutBehavior
from heretic.results.intervals import mean_interval, paired_interval, wilson_interval
from heretic.results.score import Score
from heretic.run.measuring import behavior_options, can_be_lost, make_behavior_evaluator, make_kl, predicted_answers
from heretic.run.workbench import Workbench

_REFUSALS = RefusalDetector()
KL_MODES = ("first", "sequence")
"""Ways of comparing predictions, both of which are confirmed."""
EXAMPLES = 6
"""Answers of each behaviour that are shown: the first ones, not chosen by result."""
POSITIONS_PER_PASS = 1024
"""Predictions over the whole vocabulary that are held at once; small batches of long answers also need less padding."""
_ANSWERING = "answering held-out prompts"
LENGTHS = (30, 100)
"""Tokens after which answers are judged, besides the search's and their whole length: truncation is no success."""


@dataclass(frozen=True, slots=True, eq=False)
class _Base:
    """One behaviour of the original model; `told` are its predicted answers where these are what is judged."""

    pack: Pack
    searched_tokens: int
    evaluator: Evaluator
    rows: Rows
    answers: Sequence[Response]
    told: Sequence[Response]
    perplexity: float


@dataclass(frozen=True, slots=True)
class HeldOutPrompts:
    """The held-out prompts of a run.

    Attributes:
        sets: They stand in the places of those of the search.
        used_before: How many of them were.
    """

    sets: PromptSets
    used_before: int

    @classmethod
    def load(cls, settings: Settings, prompts: PromptSets) -> "HeldOutPrompts":
        """Read them; warns of those that were used before.

        Args:
            settings: Say where they are.
            prompts: Those of the search.

        Raises:
            PromptError: They cannot be read.
            ConfigurationError: The settings name other prompts to measure with, but none to confirm with.
        """
        behaviors: list[Behavior] = []
        kept: list[Kept] = []
        used_before = 0
        for behavior in prompts.behaviors:
            baseline, target, used = _load_held_out(settings, behavior)
            behaviors.append(replace(behavior, baseline_evaluation=baseline, target_evaluation=target))
            used_before += used
        for part in prompts.kept:
            found, used = _load_kept_out(settings, part)
            kept += [replace(part, evaluation=found)] if found is not None else []
            used_before += used
        return cls(PromptSets(tuple(behaviors), tuple(kept)), used_before)


class Confirmation:
    """Held-out prompts with what the original model makes of them; made while it is unedited."""

    def __init__(self, bench: Workbench, held_out: HeldOutPrompts) -> None:
        """Measure the original model.

        Raises:
            OutOfMemoryError: Not even one prompt at a time can be measured.
        """
        settings = bench.settings
        self.tokens = settings.held_out_tokens
        self._editor = bench.editor
        behaviors, kept = held_out.sets.behaviors, held_out.sets.kept
        self._used_before = held_out.used_before
        asked = [*(behavior.target_evaluation for behavior in behaviors), *(part.evaluation for part in kept)]
        rows = [bench.runner.encode(prompt) for part in asked for prompt in part.prompts]
        longest = max(map(len, rows)) + self.tokens
        # Nothing changes the weights while it answers.
        self._passes = choose(bench.runner, rows, longest, ordinary_wanted(settings), _ANSWERING).passes
        self._bases = [
            _base(self._passes, each.pack, each.target_evaluation, behavior_options(settings, each.pack, bench.readers))
            for each in behaviors
        ]
        made = [
            _base(
                self._passes,
                part.pack,
                part.evaluation,
                behavior_options(settings, part.pack, bench.readers, keeps=True),
            )
            for part in kept
        ]
        self._kept = [base for base in made if can_be_lost(base.evaluator)]
        baseline = dict.fromkeys(prompt for each in behaviors for prompt in each.baseline_evaluation.prompts)
        joined = PromptSet("good_held_out_prompts", tuple(baseline))
        self._kl = [_kl(self._passes, joined, settings.model_copy(update={"kl_mode": mode})) for mode in KL_MODES]

    def confirm(self, edits: Sequence[Edit]) -> tuple[HeldOut, tuple[Example, ...]]:
        """Measure an edit; the model is unedited before and after. Also gives the first answers as examples.

        Raises:
            TrialFailed: The edited model's logits are not finite.
            OutOfMemoryError: Not even one prompt at a time can be measured.
        """
        bases = [*self._bases, *self._kept]
        with applied(self._editor, edits):
            kl = tuple(evaluator.present_scores(None, "comparing held-out predictions").kl for evaluator in self._kl)
            edited = [self._passes.answers(base.rows, self.tokens, _ANSWERING) for base in bases]
            told = [predicted_answers(self._passes, base.rows, _ANSWERING) if base.told else () for base in bases]
        found = tuple(
            self._behavior(base, answers, predicted, perplexity(self._passes, base.rows, answers))
            for base, answers, predicted in zip(bases, edited, told, strict=True)
        )
        examples = tuple(
            Example(base.pack.name, prompt.user, before.text, after.text)
            for base, answers in zip(bases, edited, strict=True)
            for prompt, before, after in islice(
                zip(base.evaluator.prompts, base.answers, answers, strict=True), EXAMPLES
            )
        )
        behaviors, kept = found[: len(self._bases)], found[len(self._bases) :]
        return HeldOut(self.tokens, behaviors, kl, self._used_before, kept), examples

    def _behavior(
        self, base: _Base, edited: Sequence[Response], told: Sequence[Response], perplexity_edited: float
    ) -> HeldOutBehavior:
        runner, evaluator = self._passes.runner, base.evaluator
        if evaluator.predicted:
            lengths = [evaluator.tokens]
            amounts = [[judged(evaluator, [answer.text for answer in side]) for side in (base.told, told)]]
        else:
            wanted = (*LENGTHS, base.searched_tokens, self.tokens)
            lengths = sorted({length for length in wanted if length <= self.tokens})
            amounts = [
                [amounts_at(runner, evaluator, responses, length) for responses in (base.answers, edited)]
                for length in lengths
            ]
        at = tuple(
            AtLength(length, *(estimate(evaluator, side) for side in both))
            for length, both in zip(lengths, amounts, strict=True)
        )
        score: Score = evaluator.baseline
        return HeldOutBehavior(
            base.pack.name,
            score.name,
            score.unit,
            len(evaluator.prompts),
            at,
            described(runner, base.answers, base.answers, self.tokens, base.perplexity),
            described(runner, edited, base.answers, self.tokens, perplexity_edited),
            paired_change(evaluator, *amounts[-1]),
        )


def _load_held_out(settings: Settings, behavior: Behavior) -> tuple[PromptSet, PromptSet, int]:
    """The held-out prompts of a behaviour (baseline, target), and how many of them were used before; warns of those.

    Raises:
        PromptError: They cannot be read.
        ConfigurationError: The settings name other prompts to measure with, but none to confirm with.
    """
    result = []
    used_before = 0
    for role, used in (
        ("good_held_out_prompts", (behavior.baseline, behavior.baseline_evaluation)),
        ("bad_held_out_prompts", (behavior.target, behavior.target_evaluation)),
    ):
        specification = held_out_specification(settings, behavior.pack, role)
        if specification is None:
            raise ConfigurationError(f"no {role} are named beside your own prompts")
        prompts = load_prompt_set(role, specification, settings.system_prompt)
        used_before += _used_before(prompts, *used)
        result.append(prompts)
    baseline, target = result
    return baseline, target, used_before


def _load_kept_out(settings: Settings, kept: Kept) -> tuple[PromptSet | None, int]:
    """The held-out prompts whose answers have to stay, and how many of them were used before; warns of those.

    None, with a warning, where there are none.

    Raises:
        PromptError: They cannot be read.
    """
    prompts = load_kept(settings, kept.pack, "held_out")
    if prompts is None:
        emit(Warned(f"What stays of {kept.pack.name} is not confirmed, as no --keep-held-out-prompts are named."))
        return None, 0
    return prompts, _used_before(prompts, kept.evaluation)


def _used_before(prompts: PromptSet, *used: PromptSet) -> int:
    """How many of these prompts stand in other sets too; warns of them."""
    seen = len({user for earlier in used for user in overlap(earlier, prompts)})
    if seen:
        emit(Warned(f"{seen} of {len(prompts)} {prompts.name} were used before, so they confirm nothing."))
    return seen


def _base(passes: Passes, pack: Pack, prompts: PromptSet, options: EvaluatorOptions) -> _Base:
    searched = options.response_tokens
    # What is missing of a most is measured as the search does, at every length.
    longer = replace(options, tokens=options.settings.held_out_tokens, scale_tokens=searched)
    evaluator, answers = make_behavior_evaluator(passes, pack.evaluator, prompts, longer)
    rows = [passes.runner.encode(prompt) for prompt in evaluator.prompts]
    told: Sequence[Response] = ()
    if evaluator.predicted and rows:
        told, answers = answers, passes.answers(rows, options.settings.held_out_tokens, _ANSWERING)
    read = perplexity(passes, rows, answers) if rows else math.nan
    return _Base(pack, searched, evaluator, rows, answers, told, read)


def _kl(passes: Passes, prompts: PromptSet, settings: Settings) -> Jobs:
    """Divergence alone, with the original model's predictions."""
    jobs = reference_jobs(passes.runner, (), make_kl(passes, prompts, settings))
    jobs.remember()
    return jobs


def perplexity(passes: Passes, rows: Rows, answers: Sequence[Response]) -> float:
    """Perplexity of the model as it is on answers to prompts: exp of the mean negative log-probability of a token.

    Raises:
        OutOfMemoryError: Not even one answer at a time can be read.
    """
    continuations = [answer.tokens for answer in answers]

    def surprise(row: int, logits: Tensor) -> float:
        tokens, logits = torch.tensor(continuations[row], device=logits.device), logits.float()
        return float((logits.logsumexp(-1) - logits.gather(-1, tokens[:, None])[:, 0]).double().sum())

    at_once = max(1, POSITIONS_PER_PASS // max(map(len, continuations)))
    total = sum(passes.predictions(rows, continuations, surprise, "reading held-out answers", at_once))
    return float(torch.tensor(total / sum(map(len, continuations)), dtype=torch.float64).exp())


def amounts_at(runner: ModelRunner, evaluator: Evaluator, answers: Sequence[Response], tokens: int) -> list[float]:
    """How much of the behaviour there is in each answer cut after so many tokens."""
    return judged(evaluator, [runner.response(list(answer.tokens[:tokens])).text for answer in answers])


def judged(evaluator: Evaluator, texts: Sequence[str]) -> list[float]:
    """How much of the behaviour there is in each answer to the evaluator's prompts, or of what has to stay."""
    amounts = evaluator.judge_all(list(zip(evaluator.prompts, texts, strict=True)))
    # Told is what stays, counted is what is lost.
    return amounts if evaluator.keep is None else [1.0 - lost for lost in amounts]


def estimate(evaluator: Evaluator, amounts: Sequence[float]) -> Estimate:
    """What the amounts of a model's answers add up to."""
    value = sum(amounts) * evaluator.weight
    if evaluator.score_of(value).counts_answers:
        low, high = (len(amounts) * bound for bound in wilson_interval(round(value), len(amounts)))
    else:
        low, high = mean_interval(amounts)
        low = max(low, 0.0)
    return Estimate(value, low, high)


def paired_change(evaluator: Evaluator, base: Sequence[float], edited: Sequence[float]) -> Estimate:
    """What the edit made of the amounts of two models' answers to the same prompts."""
    differences = [after - before for before, after in zip(base, edited, strict=True)]
    value = sum(differences) * evaluator.weight
    if evaluator.score_of(value).counts_answers:
        pairs = Counter((bool(before), bool(after)) for before, after in zip(base, edited, strict=True))
        table = [pairs[cell] for cell in ((True, True), (False, True), (True, False), (False, False))]
        low, high = (len(differences) * bound for bound in paired_interval(*table))
    else:
        low, high = mean_interval(differences)
    return Estimate(value, low, high)


def described(
    runner: ModelRunner, answers: Sequence[Response], originals: Sequence[Response], tokens: int, read: float
) -> Answers:
    """What else is true of answers; `originals` are the original model's to the same prompts, `read` the perplexity."""
    whole = [len(answer.tokens) < tokens or answer.tokens[-1] in runner.end_tokens for answer in answers]
    kinds = [_kind(runner, answer, other) for answer, other in zip(answers, originals, strict=True)]
    return Answers(
        words=sum(count_words(answer.text) for answer in answers) / len(answers),
        cut=whole.count(False),
        empty=kinds.count("empty"),
        looping=kinds.count("looping"),
        other_script=kinds.count("other script"),
        perplexity=read,
        refusing=sum(_REFUSALS.is_refusal(answer.text) for answer in answers),
    )


def _kind(runner: ModelRunner, answer: Response, original: Response) -> str:
    """What is wrong with an answer, one thing at most."""
    if is_empty(answer.text):
        return "empty"
    # A loop may come to an end all the same.
    if is_looping([token for token in answer.tokens if token not in runner.end_tokens]):
        return "looping"
    return "other script" if is_other_script(answer.text, original.text) else ""
