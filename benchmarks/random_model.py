"""A randomly initialised model of any shape with everything that an engine needs: for speed, not for behaviour."""

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from heretic.config import Settings
from heretic.directions.types import DirectionSet
from heretic.editors.cache import WeightCache
from heretic.editors.inplace import InplaceEditor
from heretic.engine.engine import BuildEdits, Engine
from heretic.engine.factory import EngineOptions, make_engine
from heretic.evaluation.evaluator import EvaluatorOptions
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.evaluation.kl import KlEvaluator
from heretic.models.chat_template import ChatFormatter
from heretic.models.demo import DEMO_MODEL_FOLDER
from heretic.models.layout import find_layout
from heretic.models.loaded import LoadedModel
from heretic.passes.runner import Calibration, ModelRunner
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope
from heretic.run.workbench import edit_builder


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama, and of the work that it is given."""

    hidden: int = 512
    inner: int = 1536
    layers: int = 8
    heads: int = 8
    key_value_heads: int = 4
    vocabulary: int = 32_000
    prompts: int = 50
    tokens: int = 30


EIGHT_BILLION = Shape(4096, 14336, 32, 32, 8, 128_256, 100, 100)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What engines are made of."""

    runner: ModelRunner
    editor: InplaceEditor
    build: BuildEdits
    refusals: MarkerEvaluator
    kl: KlEvaluator

    def engine(self, options: EngineOptions, unless: str = "") -> Engine:
        """The engine that a run would have, or, with a reason, the one in place."""
        return make_engine(self.runner, self.build, self.editor, (self.refusals,), self.kl, options, unless)


def prepare(shape: Shape, device: str, dtype: torch.dtype, batch_size: int = 64) -> Prepared:
    """Build the model on the device; prompts are of different lengths behind one template."""
    configuration = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        eos_token_id=None,
        dtype=dtype,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(configuration, dtype=dtype).eval()  # type: ignore[no-untyped-call]  # transformers has no type for it
    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODEL_FOLDER)
    loaded = LoadedModel("random", "random", None, model, tokenizer, None, str(dtype), "none")
    runner = ModelRunner(loaded, find_layout(model), ChatFormatter(tokenizer), Calibration(batch_size, "", str(dtype)))
    words = ("tell", "me", "how", "the", "small", "river", "runs", "past", "an", "old", "mill", "in", "the", "valley")
    texts = [Prompt(" ".join(words[: 4 + index % 11]) + f" {index}?") for index in range(shape.prompts)]
    settings = Settings(kl_mode="first", refusal_check_tokens=shape.tokens)
    answers = [response.text for response in runner.generate(texts, shape.tokens)]
    refusals = MarkerEvaluator(PromptSet("target", tuple(texts)), answers, EvaluatorOptions(settings))
    kl = KlEvaluator(PromptSet("baseline", tuple(texts)), (), settings)
    vectors = torch.randn(shape.layers + 1, 1, shape.hidden, device=device)
    vectors /= vectors.norm(dim=-1, keepdim=True)
    ones = torch.ones(shape.layers + 1, 1, device=device)
    directions = DirectionSet(vectors, ones, ones[:, 0], "random")
    editor = InplaceEditor(model, runner.layout, WeightCache.capture(model, runner.layout))
    return Prepared(runner, editor, edit_builder(runner, directions, editor), refusals, kl)


def plans(count: int) -> list[EditPlan]:
    """Different plans that edit every layer."""
    return [
        EditPlan(
            Scope.LAYER,
            None,
            tuple((name, Schedule(0.5 + index / count, 0.5, 0.5, 1.0)) for name in ("attention", "mlp")),
            Normalization.ROW,
        )
        for index in range(count)
    ]
