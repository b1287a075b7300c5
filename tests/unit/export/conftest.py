"""A small edited model, what is known about its edit, and recorded events."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.pico import EOS, PAD, VOCABULARY, build_pico, pico_tokenizer
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from heretic.export.content import ExportContent
from heretic.export.verify import Verification
from heretic.models.loaded import LoadedModel
from heretic.observability.events import Event, subscribed
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope
from heretic.results.score import AnswerDetails, DivergenceDetails, Score, Scores

VERIFICATION = Verification(("<|user|>hello<|end|><|assistant|>", "<|user|>what is 2+2?<|end|><|assistant|>"), False, 6)


def as_loaded(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, **changes: Any) -> LoadedModel:
    """A LoadedModel around a model built in memory."""
    values: dict[str, Any] = {
        "name": "some/base-model",
        "source": "/nonexistent/base-model",
        "commit": None,
        "model": model,
        "tokenizer": tokenizer or pico_tokenizer(),
        "processor": None,
        "dtype": "float32",
        "quantization": "none",
    }
    return LoadedModel(**(values | changes))


def tied_llama() -> PreTrainedModel:
    """A Llama whose output embeddings are its input embeddings."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=PAD,
        eos_token_id=EOS,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def all_logits(model: Any, length: int = 11) -> torch.Tensor:
    """Logits of a fixed random input."""
    ids = torch.randint(0, 256, (2, length), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return model(input_ids=ids).logits


def load_back(folder: Path) -> PreTrainedModel:
    """Load a folder as its user would."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


def names_in(folder: Path) -> set[str]:
    """Everything directly in a folder."""
    return {entry.name for entry in folder.iterdir()}


@pytest.fixture
def loaded() -> LoadedModel:
    return as_loaded(build_pico("llama"))


@pytest.fixture
def plan() -> EditPlan:
    return EditPlan(
        Scope.GLOBAL,
        0.5,
        (("attention", Schedule(1.25, 0.75, 0.1, 0.4)), ("mlp", Schedule(0.875, 0.5, 0.0, 0.6))),
        Normalization.ROW,
    )


@pytest.fixture
def content(plan: EditPlan) -> ExportContent:
    kl_details = DivergenceDetails("sequence", None, 0.0875, 0.985, 640)
    return ExportContent(
        behaviors=("refusal",),
        plan=plan,
        scores=Scores(
            (Score("refusals", 3.0, 100, 97.0, AnswerDetails(30)),), Score("kl", 0.01234, 80, 0.0, kl_details)
        ),
        settings={"n_trials": 60, "storage": "postgresql://user:geheim@db.example/heretic"},
        direction_method="mean, projected",
        direction_provenance={"good": {"count": 400}},
        trial=17,
    )


@pytest.fixture
def events() -> Iterator[list[Event]]:
    recorded: list[Event] = []
    with subscribed(recorded.append):
        yield recorded


@pytest.fixture
def fail_after() -> Callable[[Callable[..., Any], int, BaseException], Callable[..., Any]]:
    """Wrap a function so that its n-th call raises instead."""

    def wrap(function: Callable[..., Any], calls: int, error: BaseException) -> Callable[..., Any]:
        count = 0

        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            if count == calls:
                raise error
            return function(*arguments, **keywords)

        return wrapped

    return wrap


def exit_code_of(work: Callable[[], int]) -> int:
    """The exit code of a process that was forked from this one, which spares it the imports, to do some work."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
