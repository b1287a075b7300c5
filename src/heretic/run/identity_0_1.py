"""A study's identity as version 0.1.0 wrote it: as text, with every option of that time; never written any more.

Nothing is added here: what came later is unusual where it is not at its default, see `search.storage.Identity`.
"""

from collections.abc import Mapping, Sequence

from heretic.config import Settings
from heretic.evaluation.evaluator import Readers
from heretic.evaluation.refusal_patterns import RefusalDetector
from heretic.prompts.packs import Pack

_EXTRACTION = (
    "n_directions",
    "pca_alpha",
    "use_eigenvalue_weights",
    "eigenvalue_weight_method",
    "eigenvalue_weight_temperature",
    "direction_weights",
    "min_probe_accuracy",
    "ensemble_weights",
    "n_concept_cones",
    "min_cone_size",
    "directions_per_cone",
    "leace_regularization",
)
_TRANSFORMS = ("n_sacred_directions", "sacred_regularization", "sacred_overlap_threshold")
_ROUNDS = ("direction_source", "iterative_rounds", "min_direction_magnitude", "max_kl_per_round")
_REFINEMENT = {
    "steps": "rdo_steps",
    "prompts": "rdo_prompts",
    "max_kl": "rdo_max_kl",
    "check_tokens": "refusal_check_tokens",
}
_ACTIVATION = ("activation_percentile", "activation_factor_min", "activation_factor_max")
_COMPLIANCE = ("caa_strength", "caa_overlap_threshold")
_OPTIONS = {"patterns": ("markers", "length", "density", "classifier", "judge"), "hypotheses": ("classifier", "judge")}
"""By option of a pack the evaluators of that version whose text says it."""
STORED_SETTINGS = frozenset(
    {
        *_EXTRACTION,
        *_TRANSFORMS,
        *_ROUNDS,
        *_REFINEMENT.values(),
        *_ACTIVATION,
        *_COMPLIANCE,
        "transforms",
        "goal",
        "kl_mode",
        "kl_tokens",
        "refusal_markers",
        "refusal_detection_mode",
        "neural_detection_threshold",
        "layer_profile",
        "use_activation_calibration",
        "use_circuit_ablation",
        "n_refusal_circuits",
        "use_caa",
        "optimization_mode",
        "kl_weight",
    }
)
"""Settings that these texts say."""


def joined(facts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Facts that are no options, by aspect."""
    return {aspect: " ".join(values.values()) for aspect, values in facts.items()}


def finding_text(settings: Settings, compared: Mapping[str, str], refined: bool) -> str:
    """The way of finding directions.

    Args:
        settings: The run's.
        compared: Fingerprints of the texts that transforms asked for, by setting.
        refined: Whether directions are refined by gradient.
    """
    parts = [
        settings.direction_method,
        _shown("ExtractorOptions", {name: getattr(settings, name) for name in _EXTRACTION}),
        ",".join(settings.transforms),
        _shown("TransformOptions", {name: getattr(settings, name) for name in _TRANSFORMS}),
        "all",
        *(str(getattr(settings, name)) for name in _ROUNDS),
        " ".join(f"{role} {texts}" for role, texts in sorted(compared.items())),
    ]
    if refined:
        values = {shown: getattr(settings, name) for shown, name in _REFINEMENT.items()}
        parts.append(_shown("RefinementOptions", {**values, "strengthens": settings.goal == "strengthen"}))
    return " ".join(parts)


def study_texts(settings: Settings, packs: Sequence[Pack], readers: Readers) -> dict[str, str]:
    """Way of measuring, objective, and adjustments where there are any."""
    plain = [pack.evaluator for pack in packs] == ["markers"] and packs[0].options.tokens is None
    measuring = [_measuring(settings, pack, readers) for pack in packs]
    named = [f"{pack.evaluator} {text}" for pack, text in zip(packs, measuring, strict=True)]
    objective = f"one number, a nat weighs {settings.kl_weight}"
    if settings.optimization_mode == "multi":
        objective = "two numbers" if len(packs) == 1 else f"{len(packs) + 1} numbers"
    texts = {"way of measuring": "; ".join(measuring if plain else named), "objective": objective}
    adjustments = _adjustments(settings)
    return {**texts, "set of adjustments": adjustments} if adjustments else texts


def _measuring(settings: Settings, pack: Pack, readers: Readers) -> str:
    options: dict[str, object] = {
        "kl_mode": settings.kl_mode,
        "kl_tokens": settings.kl_tokens,
        "response_tokens": pack.options.tokens or settings.refusal_check_tokens,
        "refusal_markers": settings.refusal_markers,
        "refusal_detection_mode": settings.refusal_detection_mode,
        "goal": settings.goal,
    }
    for name, evaluators in _OPTIONS.items():
        if pack.options.further.get(name) and pack.evaluator in evaluators:
            options[name] = [line.strip() for line in pack.options.further[name]]
    detector = RefusalDetector(settings)
    parts = [_shown("EvaluatorOptions", options), f"patterns {detector.fingerprint}"]
    for kind in sorted(readers):
        parts.append(f"{kind} {readers[kind].identity} from {settings.neural_detection_threshold}")
    return ", ".join(parts)


def _adjustments(settings: Settings) -> str:
    parts = [f"layer profile {settings.layer_profile}"] if settings.layer_profile else []
    if settings.use_activation_calibration:
        parts.append(f"activation calibration {tuple(getattr(settings, name) for name in _ACTIVATION)}")
    if settings.use_circuit_ablation:
        parts.append(f"circuits {settings.n_refusal_circuits}")
    if settings.use_caa:
        parts.append(f"compliance direction {settings.caa_strength} {settings.caa_overlap_threshold}")
    return "; ".join(parts)


def _shown(name: str, values: Mapping[str, object]) -> str:
    """As Python shows a dataclass whose lists are tuples."""
    shown = (f"{key}={tuple(value) if isinstance(value, list) else value!r}" for key, value in values.items())
    return f"{name}({', '.join(shown)})"
