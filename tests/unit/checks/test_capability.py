"""The whole check on a model whose answers are known before and after the edit."""

import sys

import pytest
import torch
from tests.unit.checks.small_questions import answering, write_questions
from tests.unit.passes.pico_runner import make_runner, only_ordinary

from heretic.checks import capability as validate
from heretic.checks import harness
from heretic.checks.capability import CapabilityCheck, check_capability, wants_validation
from heretic.checks.harness import Measure
from heretic.checks.multiple_choice import prepare_questions
from heretic.checks.questions import load_questions
from heretic.common.errors import ConfigurationError, ModelError, OutOfMemoryError, PromptError, TrialFailed
from heretic.config import Settings
from heretic.export.card import capability_section
from heretic.interface import score_lines as score_lines
from heretic.interface.lines import rows
from heretic.models.memory import USAGE
from heretic.observability.events import CapabilityMeasured, CapabilityStarted, SlowerPasses, Warned, subscribed
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.passes import ORDINARY
from heretic.passes.ragged_passes import RaggedPasses
from heretic.results.intervals import paired_interval


@pytest.fixture
def settings(tmp_path):
    file = write_questions(tmp_path / "questions.jsonl", {"sea": 13, "sky": 7})
    return Settings(enable_validation=True, mmlu_dataset=str(file), mmlu_few_shot=2, system_prompt="")


@pytest.fixture
def ordinary(monkeypatch):
    only_ordinary(monkeypatch)


@pytest.fixture
def events():
    recorded = []
    with subscribed(recorded.append):
        yield recorded


def number(asked):
    return int(asked.split()[1].rstrip("?"))


def right(asked):
    """The right choice, see small_questions.rows."""
    return number(asked) % 4


def spoilt(asked):
    """Wrong for the last two questions of each category, right for all others."""
    last = {"sea": (11, 12), "sky": (5, 6)}[asked.split()[0]]
    return (right(asked) + (number(asked) in last)) % 4


@pytest.mark.usefixtures("ordinary")
def test_an_edit_that_spoils_known_answers(settings, events):
    runner = make_runner("llama", 3)
    with answering(runner, right):
        check = CapabilityCheck(settings, runner)
    with answering(runner, spoilt):
        result = check.compare()
    found = result.questions
    assert (found.overall.count, found.overall.base, found.overall.edited) == (14, 1.0, pytest.approx(10 / 14))
    assert [(own.name, own.became_wrong, own.count) for own in found.categories] == [("sea", 2, 10), ("sky", 2, 4)]
    as_json = result.to_json()
    assert as_json["benchmarks"] == []
    assert as_json["questions"]["few_shot"] == {"sea": 2, "sky": 2}
    assert as_json["questions"]["overall"]["interval"] == list(paired_interval(10, 0, 4, 0))
    assert events[:3] == [
        SlowerPasses("answering multiple-choice questions", "somebody looks", ORDINARY),
        CapabilityStarted("original", settings.mmlu_dataset, 14, ()),
        CapabilityStarted("edited", settings.mmlu_dataset, 14, ()),
    ]
    assert isinstance(events[3], CapabilityMeasured)
    assert events[3].result == result


@pytest.mark.usefixtures("ordinary")
def test_the_original_model_is_measured_once_and_the_same_edit_changes_nothing(settings):
    runner = make_runner("llama", 3)
    with answering(runner, spoilt) as read:
        check = CapabilityCheck(settings, runner)
        # One prompt alone and beside the longest, to see whether padding matters, and all.
        assert len(read) == 3 + 14
        first = check.compare()
        assert len(read) == 3 + 2 * 14
    assert (first.questions.overall.changed, first.questions.overall.base) == (0, pytest.approx(10 / 14))
    with answering(runner, right):
        second = check.compare()
    assert (second.questions.overall.became_right, second.questions.overall.base) == (4, pytest.approx(10 / 14))


def test_questions_that_were_read_before_are_not_read_again(settings, monkeypatch):
    questions = load_questions(settings)
    monkeypatch.setattr(validate, "load_questions", None)
    assert CapabilityCheck(settings, make_runner("llama"), questions).compare().questions.overall.count == 14


@pytest.mark.usefixtures("ordinary")
def test_what_the_terminal_and_the_card_show(settings):
    runner = make_runner("llama", 3)
    with answering(runner, right):
        check = CapabilityCheck(settings, runner)
    with answering(runner, spoilt):
        result = check.compare()
    shown, changed, _seconds = rows(CapabilityMeasured(result, 2.0))
    assert shown.table is not None
    low, high = (100 * end for end in paired_interval(10, 0, 4, 0))
    interval = f"{low:+.1f} to {high:+.1f}"
    assert shown.table.rows[-1].cells == ("overall", "100.0 %", "71.4 %", f"-28.6 ({interval})")
    assert changed.text.startswith("4 of 14 answers became wrong, 0 became right; a difference of ")
    card = capability_section(result)
    assert f"| **overall** | 14 | 100.0 % | 71.4 % | -28.6 ({interval}) |" in card
    assert "after 2 worked examples" in card
    assert "Answers that became wrong: 4, right: 0" in card


def test_what_does_not_fit_into_the_context_is_said(settings, events, tmp_path):
    file = write_questions(tmp_path / "long.jsonl", {"s" * 60: 9})
    CapabilityCheck(settings.model_copy(update={"mmlu_dataset": str(file)}), make_runner("llama"))
    assert not [event for event in events if isinstance(event, Warned)]
    file = write_questions(tmp_path / "longer.jsonl", {"s" * 180: 9})
    CapabilityCheck(settings.model_copy(update={"mmlu_dataset": str(file)}), make_runner("llama"))
    (warning,) = [event.message for event in events if isinstance(event, Warned)]
    assert warning.startswith("Not all 2 worked examples fit into the model's context")


def fill_with_nan(runner):
    runner.loaded.model.get_output_embeddings().weight.data.fill_(torch.nan)


def test_logits_that_are_not_finite(settings):
    runner = make_runner("llama")
    check = CapabilityCheck(settings, runner)
    fill_with_nan(runner)
    with pytest.raises(TrialFailed, match="not finite"):
        check.compare()
    with pytest.raises(ModelError, match="original model's logits are not finite; try --dtypes float32"):
        CapabilityCheck(settings, runner)


@pytest.mark.usefixtures("ordinary")
def test_a_model_that_reads_its_padding_is_asked_one_question_at_a_time(settings):
    runner = make_runner("llama", 8)
    sizes = []

    def read_padding(_model, _arguments, keywords, output):
        sizes.append(len(keywords["input_ids"]))
        output.logits[:, :, :128] += (keywords["attention_mask"] == 0).sum(-1)[:, None, None]

    runner.loaded.model.register_forward_hook(read_padding, with_kwargs=True)
    CapabilityCheck(settings, runner).compare()
    assert sizes == [1, 2] + [1] * 28


@pytest.mark.parametrize("largest", [2, 0])
@pytest.mark.usefixtures("ordinary")
def test_memory_that_runs_out_halves_the_batches(settings, largest):
    runner = make_runner("llama", 8)
    sizes = []

    def small_only(_model, _arguments, keywords):
        sizes.append(len(keywords["input_ids"]))
        if sizes[-1] > largest:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with answering(runner, right):
        runner.loaded.model.register_forward_pre_hook(small_only, with_kwargs=True)
        if not largest:
            with pytest.raises(OutOfMemoryError, match="answering multiple-choice questions"):
                CapabilityCheck(settings, runner)
            return
        check = CapabilityCheck(settings, runner)
        assert sizes == [1, 2, 8, 4] + [2] * 7
        # The edited model is measured in the batches that fitted.
        assert check.compare().questions.overall.base == 1.0
        assert sizes[11:] == [2] * 7


def test_benchmarks_alone_and_beside_questions(settings, monkeypatch):
    runs = []

    def run(runner, names, limit):
        runs.append((names, limit))
        value = 0.75 if len(runs) == 1 else 0.5
        return {("task", "acc", "none"): Measure(value, 0.1, 4, True, {})}

    monkeypatch.setattr(validate, "run_benchmarks", run)
    alone = settings.model_copy(update={"enable_validation": False, "benchmarks": ["task"], "benchmark_limit": 4})
    result = CapabilityCheck(alone, make_runner("llama")).compare()
    assert runs == [(["task"], 4)] * 2
    assert result.questions is None
    assert [(own.base, own.edited, own.difference) for own in result.benchmarks] == [(0.75, 0.5, -0.25)]
    assert result.to_json()["benchmark_limit"] == 4
    both = CapabilityCheck(settings.model_copy(update={"benchmarks": ["task"]}), make_runner("llama")).compare()
    assert both.questions.overall.count == 14
    assert len(both.benchmarks) == 1
    none = settings.model_copy(update={"enable_validation": False})
    assert CapabilityCheck(none, make_runner("llama")).compare().questions.overall.count == 14


def test_what_is_wanted_is_checked_before_the_search(settings, monkeypatch):
    assert not wants_validation(Settings())
    assert wants_validation(settings)
    assert wants_validation(Settings(benchmarks=["x"]))
    check_capability(settings)
    # Nothing is read that is not asked for.
    check_capability(settings.model_copy(update={"enable_validation": False, "mmlu_dataset": "missing.jsonl"}))
    with pytest.raises(PromptError, match=r"missing\.jsonl cannot be read"):
        check_capability(settings.model_copy(update={"mmlu_dataset": "missing.jsonl"}))
    with pytest.raises(ConfigurationError, match="mmlu_categories names lake"):
        check_capability(settings.model_copy(update={"mmlu_categories": ["lake"]}))
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigurationError, match=r"needs the package lm_eval.*pip install"):
        check_capability(Settings(benchmarks=["hellaswag"]))
    assert harness.INSTALL_HINT.endswith("--benchmarks")


def test_worked_examples_are_read_once_a_category(settings):
    runner = make_runner("llama", 3)
    prepared = prepare_questions(runner, load_questions(settings), "")
    whole, whole_tokens = read(OrdinaryPasses(runner), prepared.encoded)
    shared, shared_tokens = read(RaggedPasses(runner), prepared.encoded)
    torch.testing.assert_close(shared, whole, rtol=1e-4, atol=1e-4)
    assert shared_tokens < 0.7 * whole_tokens


def read(passes, encoded):
    """Logits of every row, and how many tokens went through the model for them."""
    start = USAGE.tokens
    return torch.stack(passes.next_tokens(encoded, list, "testing")), USAGE.tokens - start
