"""A stored study is continued by what would measure the same, and by nothing else, whichever version stored it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import Field, ValidationError
from tests.unit.behaviors import one_behavior, pack
from tests.unit.evaluation.pico_classifiers import FunctionClassifier
from tests.unit.passes.pico_runner import PROMPTS, make_runner
from transformers import GenerationConfig

from heretic.config import Settings
from heretic.config.catalogue import ALIASES
from heretic.config.sections.section import FINDING, MEASURING, counts_as
from heretic.directions.types import DirectionSet
from heretic.evaluation.evaluator import Readers
from heretic.models.chat_template import ChatFormatter
from heretic.passes.runner import ModelRunner
from heretic.prompts.packs import Pack
from heretic.prompts.sets import Kept, PromptSets
from heretic.prompts.types import Prompt, PromptSet
from heretic.run.identity import ADDED, KEPT, study_identity
from heretic.run.identity_0_1 import STORED_SETTINGS
from heretic.run.workbench import search_space
from heretic.search.storage import Identity

# Written by version 0.1.0 (commit 5caf9f6), of which the aspects that do not depend on the machine are kept.
STORED = json.loads(Path(__file__).with_name("identities_0_1_0.json").read_text(encoding="utf-8"))
RUNNER = make_runner("llama", batch_size=5)
BAD = PromptSet("bad", tuple(Prompt(f"Never {number}") for number in range(6)))


@dataclass(eq=False)
class Case:
    """One of the stored studies."""

    name: str
    settings: dict[str, Any]
    packs: tuple[Pack, ...]
    readers: Readers
    directions: DirectionSet
    texts: dict[str, str]

    def identity(
        self,
        kind: type[Settings] = Settings,
        runner: ModelRunner = RUNNER,
        kept: tuple[Kept, ...] = (),
        **changes: Any,
    ) -> Identity:
        """What a run with the study's settings has, so that one may ask for a class with further settings."""
        settings = kind(model="x", **{"refusal_patterns": "0.1", **self.settings, **changes})
        prompts = PromptSets(
            tuple(one_behavior(PromptSet("good", PROMPTS), BAD, own=own).behaviors[0] for own in self.packs), kept
        )
        space = search_space(settings, runner, 0.5 if settings.direction_source == "cosmic" else None)
        return study_identity(settings, runner, prompts, self.directions, space, self.readers)

    def stored(self) -> dict[str, Any]:
        """As version 0.1.0 stored it for the model at hand."""
        return {**self.usual.texts, **self.texts}

    @cached_property
    def usual(self) -> Identity:
        """What a run with just the study's settings has."""
        return self.identity()


def directions(**provenance: Any) -> DirectionSet:
    ones = torch.ones(RUNNER.layout.layer_count + 1, 1)
    vectors = torch.zeros(len(ones), 1, RUNNER.layout.hidden_size)
    return DirectionSet(vectors, ones, ones[:, 0], "none", provenance)


def case(stored: dict[str, Any]) -> Case:
    readers = {
        kind: FunctionClassifier(lambda *_: 0.0, identity=name) for kind, name in stored.get("readers", {}).items()
    }
    packs = (
        pack(name, evaluator, **options)
        for name, evaluator, options in stored.get("packs", [["refusal", "markers", {}]])
    )
    return Case(
        stored["name"],
        {ALIASES.get(name, name): value for name, value in stored.get("settings", {}).items()},
        tuple(packs),
        {kind: reader for kind, reader in readers.items() if reader is not None},
        directions(compared_texts=stored.get("compared", {})),
        stored["identity"],
    )


CASES = [case(stored) for stored in STORED]
each_case = pytest.mark.parametrize("study", CASES, ids=lambda study: study.name)


@each_case
def test_a_study_of_version_0_1_is_continued(study: Case) -> None:
    assert study.usual.differences(study.stored()) == []


@each_case
def test_a_study_of_today_is_continued(study: Case) -> None:
    assert study.usual.differences(json.loads(json.dumps(study.identity().aspects))) == []


@each_case
def test_other_studies_are_refused_with_the_aspects_in_which_they_differ(study: Case) -> None:
    for other in CASES:
        before = study.texts.items() ^ other.texts.items()
        different = {aspect for aspect, _text in before}
        assert set(study.usual.differences(other.stored())) == different, other.name
        assert set(study.usual.differences(other.usual.aspects)) == different, other.name


def runner(template: str | None = None, **changed: Any) -> ModelRunner:
    """The same model with another template, or with another value in tokenizer or generation configuration."""
    changing = make_runner("llama", batch_size=5)
    tokenizer: Any = changing.loaded.tokenizer
    tokenizer.chat_template = template or tokenizer.chat_template
    for name, value in changed.items():
        owner = changing.loaded.model.generation_config if hasattr(GenerationConfig(), name) else tokenizer
        setattr(owner, name, value)
    return ModelRunner(changing.loaded, changing.layout, ChatFormatter(tokenizer), changing.calibration)


RENDERINGS = ["rendering of training prompts", "rendering of evaluation prompts"]
TEMPLATE = str(RUNNER.loaded.tokenizer.chat_template)


@pytest.mark.parametrize(
    ("changes", "aspects"),
    [
        ({"template": TEMPLATE.replace("<|end|>", "<|over|>")}, ["chat template", *RENDERINGS]),
        ({"template": TEMPLATE + "{# the same text #}"}, ["chat template"]),
        ({"pad_token": "<bos>"}, ["set of special tokens"]),
        ({"suppress_tokens": [3]}, ["set of generation rules"]),
        ({"bad_words_ids": [[5, 6]]}, ["set of generation rules"]),
        ({}, []),
    ],
    ids=["template", "comment", "token", "suppressed", "bad words", "nothing"],
)
def test_a_study_is_not_continued_with_what_the_model_reads_or_ends_by_changed(
    changes: dict[str, Any], aspects: list[str]
) -> None:
    study, changed = CASES[1], runner(**changes)
    stored = study.identity().aspects
    assert study.identity(runner=changed).differences(stored) == aspects
    # Studies stored before do not say how their prompts were rendered.
    before = {name: part for name, part in stored.items() if name not in ADDED}
    assert study.identity(runner=changed).differences(before) == []


def test_a_template_that_writes_the_date_gives_the_same_study_on_another_day() -> None:
    dated = "{{ strftime_now('%H:%M:%S.%f') }}" + TEMPLATE
    study = CASES[1]
    formatter = runner(dated).formatter
    assert formatter.render(PROMPTS[0]) != formatter.render(PROMPTS[0])
    assert study.identity(runner=runner(dated)).differences(study.identity(runner=runner(dated)).aspects) == []


class Longer(Settings):
    """Settings of a version with options that this one does not have."""

    doubt: int = Field(default=3, json_schema_extra=counts_as(MEASURING))
    depth: int = Field(default=3, json_schema_extra=counts_as(FINDING))
    hue: int = 3


@each_case
def test_an_option_that_nobody_uses_orphans_no_study(study: Case) -> None:
    for changes, different in (
        ({}, []),
        ({"hue": 4}, []),
        ({"doubt": 4}, ["way of measuring"]),
        ({"depth": 4}, ["way of finding directions"]),
        ({"depth": 4, "doubt": 4}, ["way of finding directions", "way of measuring"]),
    ):
        longer = study.identity(Longer, **changes)
        for stored in (study.stored(), dict(study.usual.aspects)):
            assert longer.differences(stored) == different


def test_a_study_that_uses_an_option_which_is_gone_is_not_continued() -> None:
    study = CASES[0]
    stored = study.identity(Longer, doubt=4).aspects
    assert study.identity().differences(stored) == ["way of measuring"]


def test_only_what_is_unusual_is_stored() -> None:
    identity = CASES[1].identity()
    assert identity.aspects["way of finding directions"] == {"extractor": "mean"}
    assert identity.aspects["way of measuring"].keys() == {"behaviors", "patterns"}
    assert not {"set of adjustments", "objective"} & identity.aspects.keys()
    changed = CASES[1].identity(kl_tokens=5, n_directions=2, caa_strength=0.7)
    assert changed.aspects["way of finding directions"] == {"extractor": "mean", "n_directions": 2}
    assert changed.aspects["way of measuring"]["kl_tokens"] == 5
    assert "set of adjustments" not in changed.aspects


# Another value for every setting that is part of an identity, each with what switches it on.
CHANGED: dict[str, tuple[Any, dict[str, Any]]] = {
    "n_directions": (2, {}),
    "pca_alpha": (0.5, {}),
    "use_eigenvalue_weights": (False, {}),
    "eigenvalue_weight_method": ("log", {}),
    "eigenvalue_weight_temperature": (2.0, {}),
    "direction_weights": ([1.0], {}),
    "min_probe_accuracy": (0.7, {}),
    "ensemble_weights": ([0.5, 0.5], {}),
    "n_concept_cones": (2, {}),
    "min_cone_size": (2, {}),
    "directions_per_cone": (1, {}),
    "leace_regularization": (1.0, {}),
    "rdo_steps": (6, {"extractor": "rdo"}),
    "rdo_prompts": (6, {"extractor": "rdo"}),
    "rdo_max_kl": (0.1, {"extractor": "rdo"}),
    "transforms": (["sacred"], {}),
    "n_sacred_directions": (2, {}),
    "sacred_regularization": (0.5, {}),
    "sacred_overlap_threshold": (0.5, {}),
    "direction_source": ("cosmic", {}),
    "iterative_rounds": (2, {}),
    "min_direction_magnitude": (0.3, {}),
    "max_kl_per_round": (0.3, {}),
    "goal": ("strengthen", {}),
    "layer_profile": ([[0.0, 0.5, 0.5]], {}),
    "use_activation_calibration": (True, {}),
    "activation_percentile": (0.5, {"use_activation_calibration": True}),
    "activation_factor_min": (0.4, {"use_activation_calibration": True}),
    "activation_factor_max": (3.0, {"use_activation_calibration": True}),
    "use_circuit_ablation": (True, {}),
    "n_refusal_circuits": (3, {"use_circuit_ablation": True}),
    "use_caa": (True, {}),
    "caa_strength": (0.5, {"use_caa": True}),
    "caa_overlap_threshold": (0.6, {"use_caa": True}),
    "refusal_markers": (["no"], {}),
    "refusal_detection_mode": ("strict", {}),
    "refusal_check_tokens": (9, {}),
    "kl_mode": ("first", {}),
    "kl_tokens": (9, {}),
    "optimization_mode": ("single", {}),
    "kl_weight": (0.5, {"optimization_mode": "single"}),
}


def another_value(name: str) -> Any:
    """The first of values of all kinds that a setting takes and that is not its default."""
    field = Settings.model_fields[name]
    for value in (True, False, 2, 0.5, "another", ["another"], [0.5], *get_args(field.annotation)):
        try:
            Settings(**{name: value})
        except ValidationError:
            continue
        if value != field.default:
            return value
    raise AssertionError(f"write down another value of {name} above")


KEEPING: dict[str, Any] = {"keep_at_least": 0.5, "keep_as": "objective"}
"""Settings that count where anything has to stay."""


def test_what_has_to_stay_tells_studies_apart_and_only_there() -> None:
    case = CASES[1]
    usual = case.identity()
    for name, value in KEEPING.items():
        assert case.identity(**{name: value}).aspects == usual.aspects
    doubt = pack("doubt", "patterns", patterns=["perhaps"])
    kept = case.identity(kept=(Kept(doubt, BAD),))
    for stored in (usual.texts, usual.aspects):
        assert KEPT in kept.differences(stored)
    assert KEPT in usual.differences(kept.aspects)
    assert case.identity(kept=(Kept(doubt, BAD),)).differences(kept.aspects) == []
    others = (
        Kept(pack("doubt", "patterns", patterns=["maybe"]), BAD),
        Kept(doubt, PromptSet("other", BAD.prompts[:2])),
    )
    for other in others:
        assert KEPT in case.identity(kept=(other,)).differences(kept.aspects)
    for name, value in KEEPING.items():
        assert case.identity(kept=(Kept(doubt, BAD),), **{name: value}).differences(kept.aspects) == ["objective"]


def test_every_setting_of_an_identity_tells_studies_apart() -> None:
    mean = CASES[1]
    # The threshold counts where a reader is there, as in one of the stored studies.
    later = Settings.aspects().keys() - CHANGED.keys() - {"neural_detection_threshold", *KEEPING}
    for name, (value, switch) in {**CHANGED, **{name: (another_value(name), {}) for name in later}}.items():
        usual, changed = mean.identity(**switch) if switch else mean.usual, mean.identity(**switch, **{name: value})
        aspect = Settings.aspects()[name]
        assert aspect in changed.differences(usual.aspects), name
        assert aspect in changed.differences(usual.texts), name
        # Of what is switched off nothing is read.
        unread = mean.identity(**{name: value}) if switch else mean.usual
        assert unread.differences(mean.usual.aspects) == unread.differences(mean.stored()) == []


def test_texts_of_version_0_1_say_all_that_there_was() -> None:
    """What is added to the settings is never added there."""
    assert {*CHANGED, "neural_detection_threshold"} == STORED_SETTINGS
