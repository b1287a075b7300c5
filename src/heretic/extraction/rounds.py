"""Extracting again from the edited model: directions that the first ones hid.

After each round the model is edited with all directions found so far, in output space, and the extraction is repeated.
What the rounds found is one set of directions, so the edit that is searched, measured and saved is the composed one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from heretic.config.sections import RoundOptions
from heretic.directions.orthogonal import orthonormal_rows, scaled_reads
from heretic.directions.types import DirectionSet
from heretic.editors.editor import Editor, applied
from heretic.extraction.cosmic import full_removal
from heretic.extraction.extract import Extraction
from heretic.observability.events import RoundFinished, emit
from heretic.passes.divergence import kl_divergence
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt

DIVERGENCE_PROMPTS = 32
"""Baseline training prompts that a round's divergence is measured on."""


def joined(first: DirectionSet, second: DirectionSet) -> DirectionSet:
    """Both sets' directions at every position, the second's without what the first already spans.

    Args:
        first: Vectors [L+1, j, D].
        second: Vectors [L+1, k, D].

    Returns:
        Vectors [L+1, j+k, D], orthonormal; zero where the second adds nothing.
    """
    device = first.vectors.device
    vectors = orthonormal_rows(torch.cat([first.vectors, second.vectors.to(device)], dim=1)).float().to(device)
    reads = None
    if first.reads is not None or second.reads is not None:
        sides = [side.vectors if side.reads is None else side.reads for side in (first, second)]
        reads = scaled_reads(torch.cat([side.to(device) for side in sides], dim=1), vectors)
    weights = torch.cat([first.weights, second.weights.to(device)], dim=1)
    return replace(first, vectors=vectors, weights=weights, reads=reads)


def further_rounds(
    runner: ModelRunner,
    first: Extraction,
    extract_again: Callable[[], Extraction],
    editor: Editor,
    baseline_prompts: Sequence[Prompt],
    options: RoundOptions,
) -> DirectionSet:
    """The directions of all rounds, the first one's included.

    Args:
        runner: The model.
        first: The first round, found in the original model.
        extract_again: Extracts from the model as it is edited now.
        editor: Applies the edits; they are taken back at the end.
        baseline_prompts: Training prompts without the behaviour, to measure each round's divergence.
        options: How many rounds there are at most; one that finds too little or changes too much is not kept.
    """
    prompts = baseline_prompts[:DIVERGENCE_PROMPTS]
    directions = first.directions
    for number in range(2, options.iterative_rounds + 1):
        with applied(editor, full_removal(runner, directions, editor)):
            before = first_token_logits(runner, prompts)
            again = extract_again()
        magnitude = relative_magnitude(first, again)
        if magnitude < options.min_direction_magnitude:
            emit(RoundFinished(number, magnitude, None, "little is left (--min-direction-magnitude)"))
            break
        longer = joined(directions, again.directions)
        with applied(editor, full_removal(runner, longer, editor)):
            divergence = float(kl_divergence(before, first_token_logits(runner, prompts)).mean())
        if divergence > options.max_kl_per_round:
            emit(RoundFinished(number, magnitude, divergence, "it changes too much (--max-kl-per-round)"))
            break
        directions = longer
        emit(RoundFinished(number, magnitude, divergence, ""))
    rounds = directions.count_per_layer // first.directions.count_per_layer
    return replace(directions, provenance={**directions.provenance, "rounds": rounds})


def relative_magnitude(first: Extraction, again: Extraction) -> float:
    """Length of the mean class difference against the first round's, mean over the layers' outputs."""
    lengths = [
        (extraction.target.mean[1:] - extraction.baseline.mean[1:]).norm(dim=-1) for extraction in (first, again)
    ]
    return float((lengths[1].to(lengths[0]) / lengths[0].clamp_min(1e-12)).mean())


def first_token_logits(runner: ModelRunner, prompts: Sequence[Prompt]) -> Tensor:
    """Logits [n, V] fp32 of the first response token, in host memory.

    Raises:
        OutOfMemoryError: Not even one prompt at a time fits.
    """
    rows = [runner.encode(prompt) for prompt in prompts]
    predictions = OrdinaryPasses(runner).predictions(
        rows, [[0]] * len(rows), lambda _row, logits: logits[0].float().cpu(), "measuring a round's divergence"
    )
    return torch.stack(predictions)
