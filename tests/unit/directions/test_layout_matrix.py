"""Every extractor and transform on every pico family, from prompts to edits in the weights and on outputs."""

from pathlib import Path

import pytest
import torch
from tests.models.pico import pico_names, pico_token_ids
from tests.unit.models.pico_runner import make_runner
from torch import Tensor

from heretic.config import PromptSpecification, Settings
from heretic.directions.extractor import EXTRACTORS
from heretic.directions.transform import TRANSFORMS
from heretic.directions.types import DirectionSet
from heretic.edits.cache import WeightCache
from heretic.edits.inplace import InplaceEditor
from heretic.edits.output_space import OutputSpaceEditor
from heretic.edits.plan import EditPlan, Normalization, Schedule, Scope
from heretic.extraction.find import find_directions
from heretic.models.runner import ModelRunner
from heretic.prompts.types import Prompt, PromptSet
from heretic.workbench import PromptSets, edit_builder

COUNT = 12
GOOD = PromptSet("good", tuple(Prompt(f"Name {number} rivers.") for number in range(COUNT)))
BAD = PromptSet("bad", tuple(Prompt(f"Zorb {number}, now!") for number in range(COUNT)))
SETS = PromptSets(GOOD, BAD, GOOD, BAD)
TEXTS = {
    "helpful_prompts": "What is rain?\nHow do I bake bread?\nWho wrote it?\n",
    "unhelpful_prompts": "Click here.\nSale ends soon!\nPage 3 of 9.\n",
    "sacred_prompts": "What is 2 + 2?\nIs 7 prime?\nWhat boils at 100 degrees?\n",
    "sacred_baseline_prompts": "It rained.\nThe cat slept.\nA bell rang.\n",
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """No probe of a random model is accurate; that is not what is tested here."""
    folder: Path = tmp_path_factory.mktemp("texts")
    for role, text in TEXTS.items():
        (folder / f"{role}.txt").write_text(text)
    sets = {role: PromptSpecification(dataset=str(folder / f"{role}.txt")) for role in TEXTS}
    return Settings(
        model="pico",
        transforms=list(TRANSFORMS.names()),
        min_probe_accuracy=0.0,
        n_directions=2,
        n_concept_cones=2,
        min_cone_size=3,
        n_sacred_directions=2,
        **sets,
    )


@torch.no_grad()
def stream_after_the_last_layer(runner: ModelRunner, ids: Tensor) -> Tensor:
    """Before the final norm, which some families compute in fp32."""
    kept: list[Tensor] = []

    def keep(_module: object, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    model = runner.loaded.model
    handle = model.get_submodule(runner.layout.layer_paths[-1]).register_forward_hook(keep)
    model(input_ids=ids, use_cache=False)
    handle.remove()
    return kept[0]


def assert_well_formed(found: DirectionSet) -> None:
    for tensor in (found.vectors, found.weights, found.quality, *([] if found.reads is None else [found.reads])):
        assert bool(torch.isfinite(tensor).all())
    # Of the last token's embedding, position 0, there is no direction: it is the same in every prompt.
    gram = (found.vectors @ found.vectors.mT)[1:]
    torch.testing.assert_close(gram, torch.eye(found.count_per_layer).expand_as(gram), rtol=0, atol=1e-4)
    if found.reads is not None:
        seen = (found.reads * found.vectors).sum(-1)[1:]
        torch.testing.assert_close(seen, torch.ones_like(seen), rtol=0, atol=1e-3)


@pytest.mark.parametrize("family", pico_names())
def test_every_extractor_under_all_transforms_gives_edits_that_agree_in_weights_and_on_outputs(
    family: str, settings: Settings
) -> None:
    runner = make_runner(family, batch_size=COUNT, dtype=torch.float64)
    model, layout = runner.loaded.model, runner.layout
    # The grouped matrix product of fused experts knows no float64.
    model.set_experts_implementation("eager")
    ids = pico_token_ids()
    before = stream_after_the_last_layer(runner, ids)
    inplace = InplaceEditor(model, layout, WeightCache.capture(model, layout))
    schedule = Schedule(peak_weight=0.9, peak_position=0.4, floor=0.5, width=1.0)
    plan = EditPlan(Scope.LAYER, None, tuple((name, schedule) for name in layout.components), Normalization.ROW)
    for extractor in EXTRACTORS.names():
        chosen = settings.model_copy(update={"extractor": extractor})
        found = find_directions(chosen, runner, SETS.bad, SETS.good).directions
        assert found.method.startswith(extractor)
        assert_well_formed(found)
        edits = edit_builder(runner, found, inplace)(plan)
        inplace.apply(edits)
        in_weights = stream_after_the_last_layer(runner, ids)
        inplace.restore()
        on_outputs = OutputSpaceEditor(model, layout)
        on_outputs.apply(edits)
        in_outputs = stream_after_the_last_layer(runner, ids)
        on_outputs.restore()
        assert bool(torch.isfinite(in_weights).all()), extractor
        assert float((in_weights - before).abs().max()) > 1e-4, extractor
        torch.testing.assert_close(
            in_outputs, in_weights, rtol=2e-4, atol=2e-5, msg=lambda text, name=extractor: f"{name}: {text}"
        )
    assert torch.equal(stream_after_the_last_layer(runner, ids), before)
