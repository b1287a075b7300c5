"""A chat model as a judge of answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.passes.pico_runner import make_runner, only_ordinary
from tests.unit.passes.test_choose import reading_padding
from torch import Tensor

from heretic.common.errors import ModelError, OutOfMemoryError
from heretic.config import Settings
from heretic.evaluation.readers.judge import JudgeModel, load_judge
from heretic.observability.events import Event, Warned, subscribed
from heretic.passes.runner import ModelRunner

ANSWERS = [("Say hello.", "Hello!"), ("Say hello.", "No."), ("What is the sea?", "Water, salt and more of it.")]
STATEMENTS = ("The answer greets.", "The answer is long.")


def save_judge(folder: Path) -> str:
    """A folder that any model is loaded from; gives its name."""
    loaded = make_runner("llama").loaded
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_verdicts_do_not_depend_on_what_shares_their_batch(family: str) -> None:
    together = JudgeModel("j", make_runner(family, batch_size=6)).probabilities(ANSWERS, STATEMENTS[:1])
    alone = [JudgeModel("j", make_runner(family)).probabilities([own], STATEMENTS[:1])[0] for own in ANSWERS]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == len(ANSWERS)
    assert all(0 < probability < 1 for probability in together)


def test_a_judge_that_reads_its_padding_reads_one_answer_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    only_ordinary(monkeypatch)
    sizes: list[int] = []
    runner = reading_padding(make_runner("llama", batch_size=4))
    judge = JudgeModel("j", runner)
    runner.loaded.model.register_forward_hook(
        lambda _model, _arguments, keywords, _output: sizes.append(len(keywords["input_ids"])), with_kwargs=True
    )
    judge.probabilities(ANSWERS, STATEMENTS)
    assert sizes == [1] * len(ANSWERS) * len(STATEMENTS)


def test_the_likeliest_statement_counts() -> None:
    judge = JudgeModel("j", make_runner("llama"))
    apart = [judge.probabilities(ANSWERS, [statement]) for statement in STATEMENTS]
    assert judge.probabilities(ANSWERS, STATEMENTS) == [max(pair) for pair in zip(*apart, strict=True)]


def test_an_answer_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    only_ordinary(monkeypatch)
    judge = JudgeModel("j", make_runner("llama"))
    rows: list[int] = []
    original = ModelRunner.first_token_logits

    def counted(self: ModelRunner, encoded: Sequence[Sequence[int]]) -> Tensor:
        rows.append(len(encoded))
        return original(self, encoded)

    monkeypatch.setattr(ModelRunner, "first_token_logits", counted)
    first = judge.probabilities([*ANSWERS, ANSWERS[0]], STATEMENTS)
    assert sum(rows) == len(ANSWERS) * len(STATEMENTS)
    assert judge.probabilities(list(reversed(ANSWERS)), STATEMENTS) == list(reversed(first[:-1]))
    assert sum(rows) == len(ANSWERS) * len(STATEMENTS)


def test_memory_that_runs_out_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    only_ordinary(monkeypatch)
    expected = JudgeModel("j", make_runner("llama")).probabilities(ANSWERS, STATEMENTS)
    judge = JudgeModel("j", make_runner("llama", batch_size=4))
    original, limit = ModelRunner.first_token_logits, [1]

    def narrow(self: ModelRunner, encoded: Sequence[Sequence[int]]) -> Tensor:
        if len(encoded) > limit[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self, encoded)

    monkeypatch.setattr(ModelRunner, "first_token_logits", narrow)
    seen: list[Event] = []
    with subscribed(seen.append):
        assert judge.probabilities(ANSWERS, STATEMENTS) == pytest.approx(expected, abs=1e-5)
    assert [event.message.split(";")[1] for event in seen if isinstance(event, Warned)] == [
        " trying again with 2.",
        " trying again with 1.",
    ]
    limit[0] = 0
    with pytest.raises(OutOfMemoryError, match="letting j judge answers"):
        judge.probabilities([("Another", "one.")], STATEMENTS)


def test_a_judge_is_loaded_beside_the_model(tmp_path: Path) -> None:
    name = save_judge(tmp_path / "judge")
    settings = Settings(
        model="x",
        judge_model=name,
        dtypes=["float32"],
        device="cpu",
        quantization="bnb_4bit",
        device_map={"model": "cpu"},
        model_revision="main",
    )
    judge = load_judge(settings)
    assert judge.name == name
    assert judge.probabilities(ANSWERS, STATEMENTS) == load_judge(settings).probabilities(ANSWERS, STATEMENTS)
    assert judge.identity == load_judge(settings).identity


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"judge_model": "./missing"}, ModelError, "missing"),
        ({"judge_model": "x", "neural_detection_device": "cuda:7"}, ModelError, "--neural-detection-device auto"),
    ],
)
def test_a_judge_that_cannot_be_had_is_one_sentence(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_judge(Settings(model="x", device="cpu", **changes))


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_ordinary(monkeypatch)
    monkeypatch.setattr(
        ModelRunner, "first_token_logits", lambda self, encoded: torch.full((len(encoded), 300), float("nan"))
    )
    settings = Settings(model="x", judge_model=save_judge(tmp_path / "judge"), dtypes=["float32"], device="cpu")
    with pytest.raises(ModelError, match="probabilities are not finite; try --dtypes float32"):
        load_judge(settings)
