"""The harness is given the model in memory; what it returns is read and compared. Its package need not be there."""

import logging
import shutil
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from tests.unit.passes.pico_runner import make_runner

from heretic.checks.harness import Measure, check_benchmarks, compare_measures, measures_of, run_benchmarks
from heretic.common.errors import ConfigurationError, HereticError
from heretic.results.intervals import paired_interval


def results(values, filter_name="none", stderr: object = 0.1):
    """As `simple_evaluate` returns them, for one task with accuracy 0 or 1 by item and a score that is no mean."""
    return {
        "results": {
            "toy": {
                "name": "toy",
                "alias": "toy",
                "sample_len": len(values),
                f"acc,{filter_name}": sum(values) / len(values),
                f"acc_stderr,{filter_name}": stderr,
                f"perplexity,{filter_name}": 12.5,
                f"perplexity_stderr,{filter_name}": "N/A",
            },
            "group": {"alias": "group", "acc,none": 0.25, "acc_stderr,none": 0.2, "sample_count": {"acc,none": 8}},
        },
        "higher_is_better": {"toy": {"acc": True, "perplexity": False}},
        "n-samples": {"toy": {"original": 100, "effective": len(values)}},
        "samples": {
            "toy": [
                {"doc_id": index, "filter": filter_name, "acc": value, "perplexity": (value, 2)}
                for index, value in reversed(list(enumerate(values)))
            ]
        },
    }


def test_numbers_standard_errors_and_items_are_read():
    found = measures_of(results([1, 0, 1, 1]))
    assert found["toy", "acc", "none"] == Measure(0.75, 0.1, 4, True, {0: 1.0, 1: 0.0, 2: 1.0, 3: 1.0})
    assert found["toy", "perplexity", "none"] == Measure(12.5, None, 4, False, {})
    assert found["group", "acc", "none"] == Measure(0.25, 0.2, 0, None, {})
    assert len(found) == 3


def test_items_of_another_filter_do_not_count():
    given = results([1, 0], "strict")
    given["samples"]["toy"].append({"doc_id": 0, "filter": "flexible", "acc": 0.5})
    assert measures_of(given)["toy", "acc", "strict"].items == {0: 1.0, 1: 0.0}


def test_means_of_the_same_items_are_compared_in_pairs():
    base, edited = measures_of(results([1, 1, 1, 0, 0])), measures_of(results([1, 0, 0, 0, 1], stderr=0.2))
    accuracy, perplexity, group = compare_measures(base, edited)
    assert (accuracy.task, accuracy.metric, accuracy.filter, accuracy.n) == ("toy", "acc", "none", 5)
    assert (accuracy.base, accuracy.base_error, accuracy.edited, accuracy.edited_error) == (0.6, 0.1, 0.4, 0.2)
    assert accuracy.difference == pytest.approx(-0.2)
    # Both right once; two lost, one won; one wrong twice.
    assert accuracy.interval == paired_interval(1, 1, 2, 1)
    assert perplexity.interval is None
    assert perplexity.higher_is_better is False
    assert group.interval is None
    assert accuracy.to_json()["interval"] == list(accuracy.interval)


def measure(value, items):
    return {("t", "m", "none"): Measure(value, None, len(items), None, items)}


def test_shares_between_0_and_1_get_students_interval():
    base, edited = {0: 0.2, 1: 0.4, 2: 0.9}, {0: 0.1, 1: 0.5, 2: 0.4}
    (found,) = compare_measures(measure(0.5, base), measure(1 / 3, edited))
    # Differences -0.1, 0.1, -0.5: mean -1/6, sample variance 28/300; t at 97.5 % and 2 degrees of freedom is 4.302653.
    half = 4.302653 * (28 / 300 / 3) ** 0.5
    assert found.interval == pytest.approx((-1 / 6 - half, -1 / 6 + half), rel=1e-5)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # Other items, a number that is not their mean, a single item, and no variance.
        (measure(0.5, {0: 0.0, 1: 1.0}), measure(0.5, {0: 0.0, 2: 1.0})),
        (measure(0.6, {0: 0.0, 1: 1.0}), measure(0.6, {0: 0.0, 1: 1.0})),
        (measure(0.5, {0: 0.5}), measure(0.4, {0: 0.4})),
        (measure(0.5, {0: 0.25, 1: 0.75}), measure(0.5, {0: 0.25, 1: 0.75})),
    ],
)
def test_what_is_no_mean_of_the_same_items_gets_no_interval(first, second):
    (found,) = compare_measures(first, second)
    assert found.interval is None


def test_numbers_that_only_one_run_has_are_left_out():
    assert compare_measures(measures_of(results([1, 0])), {}) == ()


class FakeHarness:
    """Stands for the package: knows some tasks, and remembers what it was given."""

    def __init__(self, monkeypatch, **tasks):
        self.tasks = tasks
        self.wrapped = []
        self.calls = []
        self.answer = results([1, 0])
        harness = self

        class TaskManager:
            all_tasks = tuple(tasks)

            def load(self, names):
                own = {name: harness.tasks.get(name, SimpleNamespace()) for name in names}
                for task in own.values():
                    if isinstance(task, Exception):
                        raise task
                return {"tasks": own}

        def simple_evaluate(model, **options):
            harness.calls.append((model, options))
            harness.commit = evaluator.get_git_commit_hash()
            if isinstance(harness.answer, Exception):
                raise harness.answer
            return harness.answer

        def wrap(**options):
            logging.getLogger("lm_eval.models.huggingface").warning("not by name")
            harness.wrapped.append(options)
            return "wrapped"

        evaluator = ModuleType("lm_eval.evaluator")
        evaluator.simple_evaluate = simple_evaluate
        evaluator.get_git_commit_hash = self.ask_git = lambda: "asked git"
        self.evaluator = evaluator
        modules = {
            "lm_eval": {"evaluator": evaluator},
            "lm_eval.tasks": {"TaskManager": TaskManager},
            "lm_eval.models": {},
            "lm_eval.models.huggingface": {"HFLM": wrap},
        }
        for name, content in modules.items():
            module = ModuleType(name)
            module.__dict__.update(content)
            monkeypatch.setitem(sys.modules, name, module)


def test_the_model_in_memory_is_run_and_its_tokenizer_is_left_alone(monkeypatch, caplog):
    harness = FakeHarness(monkeypatch, toy=SimpleNamespace())
    runner = make_runner("llama", 64)
    found = run_benchmarks(runner, ["toy"], 7)
    assert found == measures_of(results([1, 0]))
    assert harness.commit is None, "outside of a repository git prints an error"
    assert harness.evaluator.get_git_commit_hash is harness.ask_git
    (wrapped,) = harness.wrapped
    assert wrapped["pretrained"] is runner.loaded.model
    assert wrapped["tokenizer"] is not runner.loaded.tokenizer
    assert wrapped["tokenizer"].get_vocab() == runner.loaded.tokenizer.get_vocab()
    assert wrapped["batch_size"] == 4
    ((model, options),) = harness.calls
    assert model == "wrapped"
    assert (options["tasks"], options["limit"], options["log_samples"]) == (["toy"], 7, True)
    assert "not by name" not in caplog.text
    run_benchmarks(runner.calibrated(batch_size=2), ["toy"], None)
    assert harness.wrapped[1]["batch_size"] == 2
    assert harness.calls[1][1]["limit"] is None


def test_its_failures_are_put_into_words_and_memory_is_not(monkeypatch):
    harness = FakeHarness(monkeypatch, toy=SimpleNamespace())
    runner = make_runner("llama")
    harness.answer = ValueError("no such split\nand more")
    with pytest.raises(HereticError, match=r"Harness failed \(ValueError: no such split\); leave toy out of"):
        run_benchmarks(runner, ["toy"], None)
    harness.answer = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        run_benchmarks(runner, ["toy"], None)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["tooy"], r"names tooy, which is no task of lm_eval; did you mean toy\?"),
        (["zzzz"], r"'lm_eval ls tasks' lists all\."),
        (["toy", "code"], r"The task code runs code that the model writes.*--benchmarks"),
        (["picture"], r"The task picture needs images or sound.*--benchmarks"),
        (["far"], r"The tasks far cannot be loaded \(the hub is away\); check the network"),
    ],
)
def test_tasks_that_cannot_be_run_are_refused(monkeypatch, names, message):
    far = ConnectionError("outer")
    far.__cause__ = OSError("the hub is away")
    code, picture = SimpleNamespace(UNSAFE_CODE=True), SimpleNamespace(MULTIMODAL=True)
    FakeHarness(monkeypatch, toy=SimpleNamespace(), code=code, picture=picture, far=far)
    with pytest.raises(ConfigurationError, match=message):
        check_benchmarks(names)


def test_tasks_that_can_be_run_pass(monkeypatch, tmp_path):
    FakeHarness(monkeypatch, toy=SimpleNamespace(UNSAFE_CODE=False))
    own = tmp_path / "own.yaml"
    own.write_text("task: own\n")
    check_benchmarks(["toy", str(own)])


def test_without_the_package_the_next_step_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    for function in (lambda: check_benchmarks(["toy"]), lambda: run_benchmarks(make_runner("llama"), ["toy"], None)):
        with pytest.raises(ConfigurationError, match=r"benchmarks needs the package lm_eval.*pip install heretic"):
            function()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is needed to fetch lm_eval")
def test_the_newest_harness_marks_its_tasks_as_it_did(tmp_path):
    """Tasks that run code are refused by that mark; the commit is asked for by a name that can be replaced."""
    install = ["uv", "pip", "install", "--python", sys.executable, "--target", str(tmp_path), "--no-deps"]
    done = subprocess.run([*install, "lm_eval>=0.4.13,<1"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"lm_eval cannot be installed here: {done.stderr[-200:]}")
    evaluator, task = ((tmp_path / "lm_eval" / name).read_text() for name in ("evaluator.py", "api/task.py"))
    for mark in ("UNSAFE_CODE", "MULTIMODAL"):
        assert f'getattr(task, "{mark}", False)' in evaluator
        assert f"self.{mark} = True" in task
    assert "= get_git_commit_hash()" in evaluator
