"""Linear probes: what reads a behaviour, beside the mean difference that writes it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from heretic.common.errors import ConfigurationError
from heretic.directions.extractor import ExtractorOptions, extractor
from heretic.directions.extractors.mean import mean
from heretic.directions.orthogonal import scaled_reads
from heretic.directions.samples import (
    SEED,
    provenance,
    rows_by_position,
    span,
    without_convergence_warnings,
)
from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.observability.events import Warned, emit

MINIMUM_PROMPTS = 10
FOLDS = 5
INVERSE_REGULARIZATION = 10.0
"""scikit-learn's C for rows of mean squared length 1. On 100 prompts of each class of a 0.5 B model it gave the best
or nearly the best held-out accuracy and log-loss of 1e-2 to 1e4 at every depth."""
CHANCE = 0.5


@extractor("probe", needs_residuals=True, minimum_prompts=MINIMUM_PROMPTS)
def probe(target: ResidualStatistics, baseline: ResidualStatistics, options: ExtractorOptions) -> DirectionSet:
    """Read with a logistic regression's weights, write the difference of means; always one direction.

    The quality is the probe's balanced accuracy on held-out prompts. A layer whose probe stays below
    `min_probe_accuracy` is left alone (weight 0), and Warned names it: early layers often cannot tell the classes yet,
    which is no reason to edit none of the others. Position 0 is no layer's output and does not count.

    Raises:
        ConfigurationError: No layer's probe is accurate enough.
    """
    read, accuracy = fit_probes(target, baseline, options)
    differences = mean(target, baseline, options).to(torch.device("cpu"))
    directions = DirectionSet(
        vectors=differences.vectors,
        weights=accurate_layers(accuracy, options.min_probe_accuracy)[:, None],
        quality=accuracy,
        method="probe",
        provenance=provenance(target, baseline, min_probe_accuracy=options.min_probe_accuracy),
        reads=scaled_reads(read[:, None], differences.vectors),
    )
    return directions.to(target.mean.device)


def fit_probes(
    target: ResidualStatistics, baseline: ResidualStatistics, options: ExtractorOptions
) -> tuple[Tensor, Tensor]:
    """One probe for every residual position.

    Returns:
        Weight vectors [L+1, D] fp32 of any length, positive towards the target, and held-out accuracies [L+1] fp32.

    Raises:
        ConfigurationError: No layer's probe reaches `min_probe_accuracy`.
    """
    pairs = zip(rows_by_position(target), rows_by_position(baseline), strict=True)
    with without_convergence_warnings():
        probes = [fit_probe(target_rows, baseline_rows) for target_rows, baseline_rows in pairs]
    accuracy = torch.tensor([value for _weights, value in probes])
    best = int(accuracy[1:].argmax()) + 1
    if accuracy[best] < options.min_probe_accuracy:
        raise ConfigurationError(
            f"No layer's probe tells the {target.count} bad_prompts from the {baseline.count} good_prompts: the best, "
            f"after layer {best} of {len(accuracy) - 1}, is right in {accuracy[best]:.1%} of held-out prompts; give "
            f"prompts that differ more, set --min-probe-accuracy below {options.min_probe_accuracy:g}, or choose "
            "another --extractor."
        )
    return torch.stack([weights for weights, _value in probes]).float(), accuracy


def fit_probe(target: Tensor, baseline: Tensor) -> tuple[Tensor, float]:
    """A logistic regression on standardised residuals at one position.

    With an L2 penalty the weight vector lies in the span of the samples, so the fit is made in its n coordinates
    instead of D, which changes nothing but the time. Standardisation looks at no label, and is made once, not for
    every fold. Classes of different size count alike.

    Args:
        target: [n, D] fp64.
        baseline: [m, D] fp64.

    Returns:
        Weights [D] fp64 for residuals as they are, and the mean balanced accuracy over stratified held-out folds.
        Where nothing varies (the embeddings of equal last tokens), zeros and chance.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    rows = torch.cat([target, baseline])
    deviation = rows.std(0, correction=0)
    # What differs by less than the rounding of fp32 does not vary.
    varies = deviation > rows.abs().amax(0) * torch.finfo(torch.float32).eps
    scale = torch.where(varies, deviation, 1.0) * varies.sum().clamp_min(1).sqrt()
    standardized = torch.where(varies, (rows - rows.mean(0)) / scale, 0.0)
    if not bool(varies.any()):
        return torch.zeros_like(deviation), CHANCE
    _squared, axes = span(standardized)
    coordinates = (standardized @ axes.mT).numpy()
    labels = [1] * len(target) + [0] * len(baseline)
    model = LogisticRegression(C=INVERSE_REGULARIZATION, class_weight="balanced", max_iter=200)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    accuracy = cross_val_score(model, coordinates, labels, cv=folds, scoring="balanced_accuracy").mean()
    weights = torch.from_numpy(model.fit(coordinates, labels).coef_[0]) @ axes
    return torch.where(varies, weights / scale, 0.0), float(accuracy)


def accurate_layers(accuracy: Tensor, minimum: float) -> Tensor:
    """Weights [L+1]: 1, or 0 for layers whose probe is not accurate enough; Warned names these."""
    weak: Sequence[int] = [position for position in range(1, len(accuracy)) if float(accuracy[position]) < minimum]
    if weak:
        named = f"Layer {weak[0]} is" if len(weak) == 1 else f"Layers {', '.join(map(str, weak))} are"
        emit(
            Warned(
                f"{named} left alone: a probe there is right in fewer than {minimum:.0%} of held-out prompts (lowest "
                f"{float(accuracy[list(weak)].min()):.0%}); a lower --min-probe-accuracy edits more layers."
            )
        )
    weights = torch.ones_like(accuracy)
    weights[list(weak)] = 0.0
    return weights
