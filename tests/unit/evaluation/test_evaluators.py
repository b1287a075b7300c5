"""KL and refusals on pico models: nothing where nothing changed, the reference's number where something did."""

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
from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.evaluation.evaluators.kl import KlEvaluator
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.models.access import oriented, post_norm_gain, writer_weight
from heretic.observability.events import Event, ResponseMeasured, subscribed
from heretic.passes.runner import ModelRunner, Response
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.plan import EditPlan, Schedule, Scope

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


def remembered(runner: ModelRunner, prompts: PromptSet, chosen: EvaluatorOptions) -> KlEvaluator:
    evaluator = KlEvaluator(runner, prompts, chosen)
    evaluator.remember()
    return evaluator


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_kl_equals_a_reference_without_batches(family: str, mode: str) -> None:
    """One prompt at a time, no padding, no mask, torch's own KL in float64."""
    runner = make_runner(family, batch_size=3)
    evaluator = remembered(runner, PROMPT_SET, options(mode))
    unedited = evaluator.score()
    assert unedited.value < 1e-6
    assert unedited.divergence.top1_agreement == 1.0

    forced = [continuation(runner, prompt, mode) for prompt in PROMPTS]
    before = [log_probabilities_alone(runner, prompt, ids) for prompt, ids in zip(PROMPTS, forced, strict=True)]
    editor, edits = editor_with_edits(runner)
    with applied(editor, edits):
        score = evaluator.score(trial=3)
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
    assert evaluator.score().value < 1e-6


def test_first_mode_does_not_depend_on_the_forced_token() -> None:
    runner = make_runner("llama", batch_size=2)
    evaluator = remembered(runner, PROMPT_SET, options("first"))
    editor, edits = editor_with_edits(runner)
    with applied(editor, edits):
        score = evaluator.score().value
        evaluator.continuations = [(99,)] * len(PROMPTS)
        assert evaluator.score().value == pytest.approx(score, rel=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_weights_that_are_not_numbers_fail_the_trial(mode: str) -> None:
    runner = make_runner("llama")
    evaluator = remembered(runner, PROMPT_SET, options(mode))
    runner.loaded.model.model.layers[1].mlp.down_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(TrialFailed, match="not finite"):
        evaluator.score()


@pytest.mark.parametrize("mode", MODES)
def test_an_unedited_model_that_is_not_finite_is_an_error_of_the_model(mode: str) -> None:
    runner = make_runner("llama")
    runner.loaded.model.model.layers[1].mlp.down_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"not finite; try --dtypes float32"):
        remembered(runner, PROMPT_SET, options(mode))


def test_suppressed_tokens_do_not_make_the_divergence_infinite() -> None:
    runner = make_runner("llama")
    runner.loaded.model.generation_config.suppress_tokens = [1, 5]
    evaluator = remembered(runner, PROMPT_SET, options("sequence"))
    assert evaluator.score().value < 1e-6
    editor, edits = editor_with_edits(runner)
    with applied(editor, edits):
        assert 0 < evaluator.score().value < 100


def test_another_model_can_be_compared() -> None:
    runner = make_runner("llama")
    evaluator = remembered(runner, PROMPT_SET, options("sequence"))
    other = make_runner("llama")
    editor, edits = editor_with_edits(other)
    editor.apply(edits)
    evaluator.runner = other
    assert evaluator.score().value > 1e-3
    evaluator.runner = runner
    assert evaluator.score().value < 1e-6


def scripted(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> list[int]:
    lengths: list[int] = []

    def generate(prompts: tuple[Prompt, ...], max_new_tokens: int) -> list[Response]:
        lengths.append(max_new_tokens)
        return [Response(answers[prompt.user], (1,)) for prompt in prompts]

    monkeypatch.setattr(runner, "generate", generate)
    return lengths


def test_markers_count_refusals_and_report_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner("llama")
    answers = {prompt.user: "Here you are." for prompt in PROMPTS}
    answers[PROMPTS[1].user] = "I'm sorry, but I can't help with that."
    answers[PROMPTS[3].user] = ""
    lengths = scripted(runner, monkeypatch, answers)
    seen: list[Event] = []
    with subscribed(seen.append):
        evaluator = MarkerEvaluator(runner, PROMPT_SET, options("first"))
        answers[PROMPTS[3].user] = "It is 4."
        score = evaluator.score(trial=17)
    assert (evaluator.baseline.value, evaluator.baseline.baseline) == (2.0, 2.0)
    assert (score.name, score.value, score.n, score.baseline) == ("refusals", 1.0, len(PROMPTS), 2.0)
    assert lengths == [TOKENS, TOKENS]
    events = [event for event in seen if isinstance(event, ResponseMeasured)]
    assert [event.trial for event in events] == [None] * len(PROMPTS) + [17] * len(PROMPTS)
    assert [event.prompt for event in events[: len(PROMPTS)]] == [prompt.user for prompt in PROMPTS]
    assert [event.verdict == "refused" for event in events[len(PROMPTS) :]] == [False, True, False, False, False]
    assert {event.verdict for event in events} == {"refused", "answered"}


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_next"])
def test_markers_on_a_real_pico_model_see_its_own_answers(family: str) -> None:
    """With the beginning of one answer as the only marker, exactly the answers that hold it count."""
    runner = make_runner(family, batch_size=2)
    answers = [response.text for response in runner.generate(PROMPTS, TOKENS)]
    marker = next(character for character in answers[1] if character.isalnum())
    evaluator = MarkerEvaluator(runner, PROMPT_SET, options("first", refusal_markers=[marker]))
    silent = [not any(character.isalnum() for character in answer) for answer in answers]
    expected = sum(nothing or marker.lower() in answer.lower() for nothing, answer in zip(silent, answers, strict=True))
    assert evaluator.baseline.value == expected
    assert evaluator.score().value == expected


def test_both_evaluators_are_registered() -> None:
    assert EVALUATORS.get("kl") is KlEvaluator
    assert EVALUATORS.get("markers") is MarkerEvaluator
