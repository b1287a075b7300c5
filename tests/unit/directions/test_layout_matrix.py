"""Every extractor and transform on every pico family, from prompts to edits in the weights and on outputs."""

from collections.abc import Sequence

import pytest
import torch
from tests.models.pico import kinds_first, pico_token_ids
from tests.unit.passes.pico_runner import make_runner
from torch import Tensor

from heretic.directions.extractor import EXTRACTORS, ExtractorOptions
from heretic.directions.extractors import probe
from heretic.directions.transform import TRANSFORMS, TransformContext, TransformOptions
from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.editors.cache import WeightCache
from heretic.editors.inplace import InplaceEditor
from heretic.editors.output_space import OutputSpaceEditor
from heretic.extraction.extract import collect_statistics
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope
from heretic.run.workbench import edit_builder

GOOD = tuple(Prompt(f"Name {number} rivers.") for number in range(10))
BAD = tuple(Prompt(f"Zorb {number}, now!") for number in range(10))
TEXTS = {
    "helpful_prompts": ("What is rain?", "How do I bake bread?", "Who wrote it?"),
    "unhelpful_prompts": ("Click here.", "Sale ends soon!", "Page 3 of 9."),
    "sacred_prompts": ("What is 2 + 2?", "Is 7 prime?", "What boils at 100 degrees?"),
    "sacred_baseline_prompts": ("It rained.", "The cat slept.", "A bell rang."),
}
# No probe of a random model is accurate, and its residuals form no clusters; that is not what is tested here.
OPTIONS = ExtractorOptions(n_directions=2, min_probe_accuracy=0.0, n_concept_cones=2, min_cone_size=3)


def statistics_of(runner: ModelRunner, prompts: tuple[Prompt, ...]) -> ResidualStatistics:
    return collect_statistics(
        OrdinaryPasses(runner), PromptSet("pico", prompts), with_second_moment=True, with_residuals=True
    )


def directions_of(runner: ModelRunner, extractors: Sequence[str]) -> dict[str, DirectionSet]:
    """What these extractors find, and all transforms leave; residuals are collected once for all."""
    target, baseline = statistics_of(runner, BAD), statistics_of(runner, GOOD)
    others = {role: statistics_of(runner, tuple(map(Prompt, texts))) for role, texts in TEXTS.items()}
    context = TransformContext(target, baseline, others.__getitem__)
    result = {}
    for extractor in extractors:
        found = EXTRACTORS.get(extractor).extract(target, baseline, OPTIONS)
        for transform in TRANSFORMS.names():
            found = TRANSFORMS.get(transform)(found, context, TransformOptions(n_sacred_directions=2))
        result[extractor] = found
    return result


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
    # Nor has a short convolution in the first layer (LFM2) seen more than what all prompts end with.
    there = (found.vectors[1:].norm(dim=-1) > 0.5).float()
    assert bool(there[1:].all())
    torch.testing.assert_close(gram, torch.diag_embed(there), rtol=0, atol=1e-4)
    if found.reads is not None:
        seen = (found.reads * found.vectors).sum(-1)[1:]
        torch.testing.assert_close(seen, there, rtol=0, atol=1e-3)


THIRDS = [EXTRACTORS.names()[start::3] for start in range(3)]


@pytest.mark.parametrize(("family", "extractors"), kinds_first([(own,) for own in THIRDS]))
def test_every_extractor_under_all_transforms_gives_edits_that_agree_in_weights_and_on_outputs(
    family: str, extractors: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Folds give nothing but the accuracy, and take most of the time.
    monkeypatch.setattr(probe, "FOLDS", 2)
    runner = make_runner(family, batch_size=10)
    model, layout = runner.loaded.model, runner.layout
    directions = directions_of(runner, extractors)
    # In float64 both realisations agree closely; the grouped matrix product of fused experts knows no float64.
    model.double()
    model.set_experts_implementation("eager")
    ids = pico_token_ids()
    before = stream_after_the_last_layer(runner, ids)
    inplace = InplaceEditor(model, layout, WeightCache.capture(model, layout))
    on_outputs = OutputSpaceEditor(model, layout)
    schedule = Schedule(peak_weight=0.9, peak_position=0.4, floor=0.5, width=1.0)
    plan = EditPlan(Scope.LAYER, None, tuple((name, schedule) for name in layout.components), Normalization.ROW)
    for extractor, found in directions.items():
        assert found.method.startswith(extractor)
        assert_well_formed(found)
        edits = edit_builder(runner, found, inplace)(plan)
        inplace.apply(edits)
        in_weights = stream_after_the_last_layer(runner, ids)
        inplace.restore()
        on_outputs.apply(edits)
        in_outputs = stream_after_the_last_layer(runner, ids)
        on_outputs.restore()
        assert bool(torch.isfinite(in_weights).all()), extractor
        assert float((in_weights - before).abs().max()) > 1e-4, extractor
        torch.testing.assert_close(in_outputs, in_weights, rtol=2e-4, atol=2e-5)
    assert torch.equal(stream_after_the_last_layer(runner, ids), before)
