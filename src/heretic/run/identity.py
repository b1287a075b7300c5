"""What a run depends on, compared with what a stored study depended on.

Settings say themselves which aspect they are part of (`config.sections.section`); the rest are facts that are only
known once model, prompts and readers are there.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from heretic.config import Settings
from heretic.config.sections import (
    ActivationOptions,
    CircuitOptions,
    ComplianceOptions,
    Options,
    RefinementOptions,
)
from heretic.config.sections.section import FINDING, MEASURING, OBJECTIVE
from heretic.directions.files import content_hash
from heretic.directions.types import DirectionSet
from heretic.evaluation.evaluator import Readers, evaluator_of, pack_options
from heretic.evaluation.refusal_patterns import RefusalDetector
from heretic.extraction.extract import COMPARED_TEXTS
from heretic.extraction.find import StoredRefinement, refines
from heretic.models.loaded import parameter_fingerprint
from heretic.models.private_api import GENERATION_RULES
from heretic.observability.events import Warned, emit
from heretic.passes.runner import ModelRunner
from heretic.prompts.packs import Pack
from heretic.prompts.sets import PromptSets
from heretic.prompts.types import PromptSet
from heretic.run.identity_0_1 import STORED_SETTINGS, finding_text, joined, study_texts
from heretic.run.measuring import search_objective
from heretic.search.space import SearchSpace
from heretic.search.storage import IDENTITY_ATTRIBUTE, Aspects, Identity
from heretic.search.stored_directions import StoredDirections

REFINING = ("refusal_check_tokens", "goal")
"""Settings of measuring and of the edit that a refinement by gradient reads as well."""
READ = ("chat template", "set of special tokens", "set of generation rules", "rendering of training prompts")
"""Aspects of how a model reads prompts and ends answers, and for the directions' prompts what that comes to."""
RENDERED_EVALUATION = "rendering of evaluation prompts"
KEPT = "set of answers that have to stay"
ADDED = frozenset((*READ, RENDERED_EVALUATION))
"""Aspects that studies of version 0.1.0 do not have."""


def unusual(settings: Settings, idle: frozenset[str] = frozenset()) -> dict[str, dict[str, Any]]:
    """By aspect the settings that differ from their defaults, as plain JSON.

    Args:
        settings: The run's.
        idle: Settings that nothing reads in this run.
    """
    fields = type(settings).model_fields
    differing: dict[str, dict[str, Any]] = {}
    for name, aspect in settings.aspects().items():
        if name not in idle and getattr(settings, name) != fields[name].default:
            differing.setdefault(aspect, {}).update(settings.model_dump(mode="json", include={name}))
    return differing


def idle_settings(
    settings: Settings, packs: tuple[Pack, ...] = (), readers: Readers = MappingProxyType({})
) -> frozenset[str]:
    """Settings of things that are switched off."""
    off: list[tuple[bool, type[Options]]] = [
        (refines(settings), RefinementOptions),
        (settings.use_activation_calibration, ActivationOptions),
        (settings.use_circuit_ablation, CircuitOptions),
        (settings.use_caa, ComplianceOptions),
    ]
    idle = {name for used, options in off if not used for name in options.model_fields}
    if not readers:
        idle.add("neural_detection_threshold")
    if settings.optimization_mode == "multi":
        idle.add("kl_weight")
    if all(pack.options.tokens for pack in packs):
        idle.add("refusal_check_tokens")
    return frozenset(idle)


def direction_identity(
    settings: Settings, runner: ModelRunner, prompts: PromptSets, directions: DirectionSet
) -> Identity:
    """What directions depend on.

    Args:
        settings: The run's.
        runner: The model.
        prompts: The run's.
        directions: For what their provenance says of further texts, and for themselves where they were loaded.
    """
    compared = directions.provenance.get(COMPARED_TEXTS) or {}
    settled = unusual(settings, idle_settings(settings)).get(FINDING, {})
    finding: dict[str, Any] = {"extractor": settings.direction_method, **compared, **settled}
    if refines(settings):
        read = {name: getattr(settings, name) for name in REFINING}
        finding |= {name: value for name, value in read.items() if value != Settings.model_fields[name].default}
    finding_before = finding_text(settings, compared, refines(settings))
    if settings.load_directions:
        content = content_hash(directions)
        finding, finding_before = {"loaded": content}, f"loaded {content}"
    loaded = runner.loaded
    facts = {
        "model": {"parameters": parameter_fingerprint(loaded.model)},
        "number format": {"dtype": runner.calibration.dtype, "quantization": loaded.quantization},
        "set of training prompts": _prompts(prompts)["set of training prompts"],
        "response prefix": {"text": runner.calibration.response_prefix},
    }
    aspects = {**facts, **_read(runner, prompts), FINDING: finding}
    return Identity(aspects, {**joined(facts), FINDING: finding_before}, _newer({FINDING: settled}), ADDED)


def study_identity(
    settings: Settings,
    runner: ModelRunner,
    prompts: PromptSets,
    directions: DirectionSet,
    space: SearchSpace,
    readers: Readers = MappingProxyType({}),
) -> Identity:
    """What a stored study has to have in common with this run to be continued."""
    directions_identity = direction_identity(settings, runner, prompts, directions)
    packs = tuple(behavior.pack for behavior in prompts.behaviors)
    settled = dict(_settled(settings, prompts, readers))
    settled.pop(FINDING, None)
    evaluated = "set of evaluation prompts"
    facts = {evaluated: _prompts(prompts)[evaluated], "search space": {"space": space.identity()}}
    aspects = {
        **directions_identity.aspects,
        **facts,
        RENDERED_EVALUATION: _rendered(runner, prompts.baseline_evaluation, prompts.answered),
        **settled,
        KEPT: _kept(prompts),
        OBJECTIVE: _objective(settings, prompts, settled),
        MEASURING: {**_measuring(settings, packs, readers), **settled.get(MEASURING, {})},
    }
    texts = {**directions_identity.texts, **joined(facts), **study_texts(settings, packs, readers)}
    stored = {name: part for name, part in aspects.items() if part}
    newer = (*directions_identity.newer, *_newer(settled), *((KEPT,) if prompts.kept else ()))
    return Identity(stored, texts, newer, ADDED)


def early_aspects(settings: Settings, prompts: PromptSets) -> Aspects:
    """Of what `study_identity` says the part that is known before a model is loaded; empty parts included."""
    packs = tuple(behavior.pack for behavior in prompts.behaviors)
    aspects: dict[str, Mapping[str, Any]] = {**_prompts(prompts)}
    if not any(evaluator_of(pack).wanted_reader(settings) for pack in prompts.judged):
        settled = _settled(settings, prompts, {})
        aspects[KEPT] = _kept(prompts)
        aspects[OBJECTIVE] = _objective(settings, prompts, settled)
        aspects[MEASURING] = {**_measuring(settings, packs, {}), **settled.get(MEASURING, {})}
    return aspects


def _prompts(prompts: PromptSets) -> dict[str, dict[str, Any]]:
    return {
        "set of training prompts": {"good": prompts.baseline.fingerprint, "bad": prompts.target.fingerprint},
        "set of evaluation prompts": {
            "good": prompts.baseline_evaluation.fingerprint,
            "bad": prompts.target_evaluation.fingerprint,
        },
    }


def _settled(settings: Settings, prompts: PromptSets, readers: Readers) -> Aspects:
    """What is unusual of what this run reads."""
    idle = idle_settings(settings, tuple(behavior.pack for behavior in prompts.behaviors), readers)
    return unusual(settings, idle if prompts.kept else idle | {"keep_at_least", "keep_as"})


def _kept(prompts: PromptSets) -> dict[str, Any]:
    """What has to stay, and how that is told."""
    return {kept.pack.name: {"prompts": kept.evaluation.fingerprint, **_measured(kept.pack)} for kept in prompts.kept}


def _objective(settings: Settings, prompts: PromptSets, settled: Aspects) -> dict[str, Any]:
    minimised = search_objective(settings, [kept.pack.name for kept in prompts.kept]).count
    return {**({"numbers": minimised} if minimised > 2 else {}), **settled.get(OBJECTIVE, {})}


def _read(runner: ModelRunner, prompts: PromptSets) -> Aspects:
    """How the model reads and what ends its answers: its owner may change that without changing a weight."""
    tokenizer, configuration = runner.loaded.tokenizer, runner.loaded.model.generation_config.to_dict()
    tokens = [tokenizer.special_tokens_map, list(tokenizer.all_special_ids)]
    rules: list[Any] = [sorted(runner.end_tokens), runner.suppressed_tokens]
    rules += [configuration.get(name) for name in GENERATION_RULES]
    facts = [
        *({"sha256": _hashed(value)} for value in (tokenizer.chat_template, tokens, rules)),
        _rendered(runner, prompts.baseline, prompts.target),
    ]
    return dict(zip(READ, facts, strict=True))


def _rendered(runner: ModelRunner, *sets: PromptSet) -> dict[str, str]:
    """Token ids of prompts, but for the date that some templates write."""
    texts = [runner.formatter.render(prompt, undated=True) for prompts in sets for prompt in prompts.prompts]
    special = runner.formatter.add_special_tokens
    return {
        "sha256": _hashed([runner.loaded.tokenizer(text, add_special_tokens=special)["input_ids"] for text in texts])
    }


def _hashed(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def with_stored_patterns(settings: Settings, attributes: Mapping[str, object]) -> Settings:
    """Settings that count refusals as the run's study does: one of version 0.1 goes on with that version's patterns.

    Args:
        settings: The run's.
        attributes: What the stored study of its name says of itself; nothing where there is none.
    """
    stored = attributes.get(IDENTITY_ATTRIBUTE)
    if stored is None:
        return settings
    older = settings.model_copy(update={"refusal_patterns": "0.1"})
    before, now = (RefusalDetector(options).fingerprint for options in (older, settings))
    if before == now or before not in json.dumps(stored):
        return settings
    emit(
        Warned(
            f"The study {settings.study} goes on with the refusal patterns of version 0.1, which it was measured "
            "by; name another --study-name to use those of today."
        )
    )
    return older


def with_stored_keep(
    settings: Settings, prompts: PromptSets, attributes: Mapping[str, object]
) -> tuple[Settings, PromptSets]:
    """A run keeps what its study keeps: one made without answers that have to stay goes on so, with a warning.

    Not where the person names such prompts, which makes it another study.

    Args:
        settings: The run's.
        prompts: The run's.
        attributes: What the stored study of its name says of itself; nothing where there is none.
    """
    stored = attributes.get(IDENTITY_ATTRIBUTE)
    if not isinstance(stored, Mapping) or not prompts.kept or settings.keep_prompts is not None or stored.get(KEPT):
        return settings, prompts
    names = ", ".join(kept.pack.name for kept in prompts.kept)
    emit(
        Warned(
            f"The study {settings.study} was made without looking at answers that have to stay ({names}), and goes on "
            "so; name another --study-name to have them kept."
        )
    )
    return settings.model_copy(update={"keep_as": "off"}), replace(prompts, kept=())


def _measuring(settings: Settings, packs: tuple[Pack, ...], readers: Readers) -> dict[str, Any]:
    """Facts of how behaviours are measured."""
    facts: dict[str, Any] = {"behaviors": [_measured(pack) for pack in packs]}
    if any(evaluator_of(pack).finds_refusals for pack in packs):
        detector = RefusalDetector(settings)
        facts["patterns"] = detector.fingerprint
    return facts | {kind: reader.identity for kind, reader in readers.items()}


def _measured(pack: Pack) -> dict[str, Any]:
    """How one behaviour is measured: its evaluator, and what the pack tells it."""
    return {"evaluator": pack.evaluator, **pack_options(pack).identity()}


def _newer(settled: Aspects) -> tuple[str, ...]:
    return tuple(aspect for aspect, options in settled.items() if not options.keys() <= STORED_SETTINGS)


def stored_refinement(
    stored_directions: StoredDirections | None, settings: Settings, runner: ModelRunner, prompts: PromptSets
) -> StoredRefinement:
    """Looks up whether a study keeps the refinement of these directions, found in just this way."""

    def find(directions: DirectionSet) -> DirectionSet | None:
        if stored_directions is None:
            return None
        identity = direction_identity(settings, runner, prompts, directions)
        stored: Mapping[str, Any] = {
            name: part for name, part in stored_directions.identity.items() if name in identity.aspects
        }
        if identity.differences(stored):
            return None
        return replace(stored_directions.directions, provenance=directions.provenance).to(directions.vectors.device)

    return find
