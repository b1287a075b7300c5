"""KL and refusals on pico models: nothing where nothing changed, the reference's number where something did."""

from itertools import cycle
from typing import Any

import pytest
import torch
from tests.models.pico import EOS
from tests.unit.passes.pico_runner import PROMPT_SET, PROMPTS, greedy_alone, log_probabilities_alone, make_runner

from heretic.common.errors import ModelError, TrialFailed
from heretic.config import Settings
from heretic.directions.types import DirectionSet
from heretic.editors.cache import WeightCache
from heretic.editors.editor import applied
from heretic.editors.inplace import InplaceEditor
from heretic.edits.build import build_edits
from heretic.engine.engine import Jobs
from heretic.engine.factory import reference_jobs
from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.evaluation.kl import KlEvaluator
from heretic.models.access import oriented, post_norm_gain, writer_weight
from heretic.observability.events import Event, ResponseMeasured, subscribed
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt
from heretic.results.plan import EditPlan, Schedule, Scope
from heretic.results.score import Score

FAMILIES = ("llama", "gpt2", "gemma3_text", "qwen3_next", "lfm2", "falcon_h1", "qwen2_5_vl", "gpt_oss", "bloom")
MODES = ("first", "sequence")
TOKENS = 6


def options(mode: str, **changes: Any) -> EvaluatorOptions:
    return EvaluatorOptions(Settings(kl_mode=mode, kl_tokens=TOKENS, refusal_check_tokens=TOKENS, **changes))


def editor_with_edits(runner: ModelRunner) -> tuple[InplaceEditor, tuple[object, ...]]:
    model, layout = runner.loaded.model, runner.layout
    random = torch.randn(layout.layer_count + 1, 1, layout.hidden_size, generator=torch.Generator().manual_seed(0))
    vectors = random / random.norm(dim=-1, keepdim=True)
    ones = torch.ones(layout.layer_count + 1)
    directions = DirectionSet(vectors, ones[:, None], ones, "random")
    schedule = Schedule(peak_weight=1.0, peak_position=0.5, floor=1.0, width=1.0)
    plan = EditPlan(Scope.LAYER, None, tuple((component, schedule) for component in layout.components))
    editor = InplaceEditor(model, layout, WeightCache.capture(model, layout))
    edits = build_edits(
        plan,
        directions,
        layout,
        lambda writer: oriented(writer, writer_weight(model, writer).data),
        lambda writer: post_norm_gain(model, writer),
    )
    return editor, edits


def continuation(runner: ModelRunner, prompt: Prompt, mode: str) -> list[int]:
    if mode == "first":
        return [0]
    tokens = greedy_alone(runner, prompt, TOKENS)
    return tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens


def remembered(runner: ModelRunner, chosen: EvaluatorOptions) -> Jobs:
    """Measures KL alone, beside the model as it is now."""
    answers = runner.generate(PROMPTS, chosen.settings.kl_tokens)
    jobs = reference_jobs(runner, (), KlEvaluator(PROMPT_SET, [own.tokens for own in answers], chosen.settings))
    jobs.remember()
    return jobs


def kl_of(jobs: Jobs) -> Score:
    return jobs.present_scores(3, "testing").kl


@pytest.mark.parametrize(("family", "mode"), [(FAMILIES[0], MODES[1]), *zip(FAMILIES, cycle(MODES), strict=False)])
def test_kl_equals_a_reference_without_batches(family: str, mode: str) -> None:
    """One prompt at a time, no padding, no mask, torch's own KL in float64."""
    runner = make_runner(family, batch_size=3)
    jobs = remembered(runner, options(mode))
    original = kl_of(jobs)
    assert original.value < 1e-6
    assert original.divergence.top1_agreement == 1.0

    forced = [continuation(runner, prompt, mode) for prompt in PROMPTS]
    before = [log_probabilities_alone(runner, prompt, ids) for prompt, ids in zip(PROMPTS, forced, strict=True)]
    editor, edits = editor_with_edits(runner)
    with applied(editor, edits):
        score = kl_of(jobs)
        after = [log_probabilities_alone(runner, prompt, ids) for prompt, ids in zip(PROMPTS, forced, strict=True)]

    base, edited = torch.cat(before).double(), torch.cat(after).double()
    expected = torch.nn.functional.kl_div(edited, base, reduction="none", log_target=True).sum(-1)
    assert score.value > 1e-3
    assert score.value == pytest.approx(float(expected.mean()), rel=2e-3)
    assert score.divergence.p95 == pytest.approx(float(torch.quantile(expected, 0.95)), rel=5e-3)
    assert score.divergence.top1_agreement == pytest.approx(
        float((base.argmax(-1) == edited.argmax(-1)).double().mean())
    )
    assert (score.name, score.n, score.baseline) == ("kl", len(PROMPTS), 0.0)
    assert score.divergence.positions == len(base)
    assert score.divergence.mode == mode
    ends = torch.tensor([len(own) for own in before]).cumsum(0)[:-1].tolist()
    sums = [float(part.sum()) for part in torch.tensor_split(expected, ends)]
    assert score.divergence.by_prompt == pytest.approx([own * len(sums) / len(base) for own in sums], rel=5e-3)
    assert kl_of(jobs).value < 1e-6


def test_first_mode_does_not_depend_on_what_was_answered() -> None:
    runner = make_runner("llama", batch_size=2)
    kinds = [KlEvaluator(PROMPT_SET, forced, options("first").settings) for forced in ((), [(99, 5)] * len(PROMPTS))]
    every = [reference_jobs(runner, (), kl) for kl in kinds]
    for jobs in every:
        jobs.remember()
    editor, edits = editor_with_edits(runner)
    with applied(editor, edits):
        first, other = map(kl_of, every)
    assert first == other
    assert first.divergence.positions == len(PROMPTS)


@pytest.mark.parametrize("mode", MODES)
def test_weights_that_are_not_numbers_fail_the_trial(mode: str) -> None:
    runner = make_runner("llama")
    jobs = remembered(runner, options(mode))
    runner.loaded.model.model.layers[1].mlp.down_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(TrialFailed, match="not finite"):
        kl_of(jobs)


@pytest.mark.parametrize("mode", MODES)
def test_an_original_model_that_is_not_finite_is_an_error_of_the_model(mode: str) -> None:
    runner = make_runner("llama")
    runner.loaded.model.model.layers[1].mlp.down_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"not finite; try --dtypes float32"):
        remembered(runner, options(mode))


def test_suppressed_tokens_do_not_make_the_divergence_infinite() -> None:
    runner = make_runner("llama")
    runner.loaded.model.generation_config.suppress_tokens = [1, 5]
    jobs = remembered(runner, options("sequence"))
    assert kl_of(jobs).value < 1e-6
    editor, edits = editor_with_edits(runner)
    with applied(editor, edits):
        assert 0 < kl_of(jobs).value < 100


def test_another_model_can_be_compared_and_other_passes_start_anew() -> None:
    runner, other = make_runner("llama"), make_runner("llama")
    kl = KlEvaluator(PROMPT_SET, [own.tokens for own in runner.generate(PROMPTS, TOKENS)], options("sequence").settings)
    jobs = reference_jobs(runner, (), kl)
    assert not kl.remembers
    jobs.remember()
    assert kl.remembers
    editor, edits = editor_with_edits(other)
    editor.apply(edits)
    assert kl_of(reference_jobs(other, (), kl)).value > 1e-3
    assert kl_of(jobs).value < 1e-6
    anew = kl.anew()
    assert (anew.remembers, anew.continuations) == (False, kl.continuations)
    reference_jobs(other, (), anew).remember()
    assert kl_of(reference_jobs(other, (), anew)).value < 1e-6


def test_markers_count_refusals_and_report_every_answer() -> None:
    answers = ["Here you are.", "I'm sorry, but I can't help with that.", "Here you are.", "", "Here you are."]
    seen: list[Event] = []
    with subscribed(seen.append):
        evaluator = MarkerEvaluator(PROMPT_SET, answers, options("first"))
    assert (evaluator.baseline.value, evaluator.baseline.baseline) == (2.0, 2.0)
    events = [event for event in seen if isinstance(event, ResponseMeasured)]
    assert [(event.trial, event.prompt, event.response) for event in events] == [
        (None, prompt.user, answer) for prompt, answer in zip(PROMPTS, answers, strict=True)
    ]
    assert [event.verdict for event in events] == ["answered", "refused", "answered", "refused", "answered"]
    score = evaluator.score_of(sum(evaluator.judge_all([(PROMPTS[3], "It is 4."), (PROMPTS[1], answers[1])])))
    assert (score.name, score.value, score.n, score.baseline) == ("refusals", 1.0, len(PROMPTS), 2.0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_next"])
def test_markers_on_a_real_pico_model_see_its_own_answers(family: str) -> None:
    """With the beginning of one answer as the only marker, exactly the answers that hold it count."""
    runner = make_runner(family, batch_size=2)
    answers = [response.text for response in runner.generate(PROMPTS, TOKENS)]
    marker = next(character for character in answers[1] if character.isalnum())
    evaluator = MarkerEvaluator(PROMPT_SET, answers, options("first", refusal_markers=[marker]))
    silent = [not any(character.isalnum() for character in answer) for answer in answers]
    expected = sum(nothing or marker.lower() in answer.lower() for nothing, answer in zip(silent, answers, strict=True))
    assert evaluator.baseline.value == expected
    jobs = reference_jobs(runner, (evaluator,), KlEvaluator(PROMPT_SET, (), options("first").settings))
    jobs.remember()
    assert jobs.present_scores(17, "testing").behaviors == (evaluator.baseline,)


@pytest.mark.parametrize(
    ("goal", "option"), [("remove", "--refusal-markers"), ("strengthen", "--refusal-detection-mode")]
)
def test_where_nothing_is_left_to_edit_the_first_answers_are_at_hand(goal: str, option: str) -> None:
    answers = ["One.", "Two.", "", "Four.", "Five."]
    settings = options("first").settings.model_copy(update={"goal": goal})
    evaluator = MarkerEvaluator(PROMPT_SET, answers, EvaluatorOptions(settings))
    assert evaluator.samples == ("One.", "Two.", "")
    assert option in evaluator.otherwise
    assert "--measure-with judge" in evaluator.otherwise


def test_markers_are_registered_and_kl_is_no_evaluator_of_answers() -> None:
    assert EVALUATORS.get("markers") is MarkerEvaluator
    assert "kl" not in EVALUATORS.names()
