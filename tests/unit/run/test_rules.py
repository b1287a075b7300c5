"""Options that do not go together are refused in one sentence that names the one to change; all others are accepted."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from tests.unit.behaviors import pack

from heretic.common import registry
from heretic.common.errors import ConfigurationError, PluginError, UserError
from heretic.config import PromptSpecification, Settings, load_settings
from heretic.evaluation.evaluator import EVALUATORS, Evaluator
from heretic.prompts.packs import ROLES, Pack, PackOptions
from heretic.run.preflight import check_request
from heretic.run.rules import Request, check_options

REFUSAL, LENGTH = pack(), pack("verbosity", "length", tokens=6)
DENSITY = pack("hedging", "density", tokens=5, patterns=("a", "e"))
HYPOTHESES = ("The answer declines.",)


def assert_one_sentence(error: UserError, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    for word in words:
        assert word in text
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"auto_select": True}, ("auto_select", "--auto-select-path FOLDER or --hf-upload")),
        ({"log_file": "a", "metrics_file": "a"}, ("log_file and metrics_file", "--metrics-file")),
        ({"load_directions_weights": [1.0]}, ("--load-directions-weights",)),
        ({"load_directions": ["a"], "load_directions_weights": [1.0, 2.0]}, ("2 numbers for 1 files",)),
        ({"load_directions": ["a"], "extractor": "pca"}, ("extractor would have no effect", "--extractor or --load-")),
        ({"load_directions": ["a"], "transforms": []}, ("transforms would", "--transforms or --load-directions")),
        ({"load_directions": ["a"], "rdo_steps": 5}, ("rdo_steps would", "--rdo-steps or --load-directions")),
        ({"activation_factor_min": 3.0}, ("activation_factor_min is above activation_factor_max",)),
        (
            {"auto_select": True, "hf_upload": "a/b", "save_format": "adapter", "normalization": "column"},
            ("norms of a weight's columns", "--normalization row or none", "--save-format merged"),
        ),
        (
            {
                "auto_select": True,
                "auto_select_path": "out",
                "save_format": "adapter",
                "use_circuit_ablation": True,
                "normalization": "row",
            },
            ("chosen heads", "--normalization none", "--save-format merged"),
        ),
        ({"use_caa": True, "save_format": "adapter"}, ("use_caa", "--save-format merged or use --use-caa false")),
        ({"ray_address": "auto"}, ("ray_address says where", "add --workers N, or leave out --ray-address")),
        ({"join": True}, ("join needs a study on a PostgreSQL server", "heretic migrate SOURCE TARGET", "--storage")),
        ({"join": True, "storage": "mysql://host/name"}, ("join needs a study on a PostgreSQL server",)),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], words: Sequence[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_options(Settings(model="x", **changes))
    assert_one_sentence(caught.value, *words)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"auto_select": True, "auto_select_path": "out"},
        {"auto_select": True, "hf_upload": "name/model"},
        {"auto_select": True, "evaluate_model": "edited"},
        {"load_directions": ["a", "b"], "load_directions_weights": [1.0, -0.5]},
        {"load_directions": ["a"], "save_directions": "b", "extractor": "mean"},
        {"log_file": "a", "metrics_file": "b"},
        {"activation_factor_min": 2.0},
        {"use_caa": True},
        {"save_format": "adapter"},
        {"auto_select": True, "auto_select_path": "out", "save_format": "adapter"},
        {"auto_select": True, "auto_select_path": "out", "save_format": "adapter", "normalization": "none"},
        {"use_caa": True, "save_format": "adapter", "evaluate_model": "edited"},
        {"join": True, "storage": "postgresql+psycopg://host/name"},
        {"join": True, "storage": "postgresql://host/name"},
    ],
    ids=str,
)
def test_settings_that_go_together_are_accepted(changes: dict[str, Any]) -> None:
    check_options(Settings(model="x", **changes))


@pytest.mark.parametrize("workers", [2, "auto"])
def test_workers_without_ray_are_refused_with_the_command_that_installs_it(
    workers: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heretic.run.rules.find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError) as refused:
        check_options(Settings(workers=workers))
    assert_one_sentence(refused.value, "pip install 'heretic[parallel]'", "--workers 1")
    check_options(Settings(workers=workers, evaluate_model="other"))
    monkeypatch.setattr("heretic.run.rules.find_spec", lambda _name: object())
    check_options(Settings(workers=workers))


def test_a_contradiction_is_not_blamed_on_a_mistyped_flag(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(["x", "--auto-select", "--auto-selct-path", "out"], {}, tmp_path)
    assert str(caught.value) == "Unknown option --auto-selct-path; did you mean --auto-select-path?"


# With behaviours and methods ------------------------------------------------------------------------------------------


def request(*packs: Pack, **changes: Any) -> Request:
    names = [own.name for own in packs]
    return Request(Settings(model="x", **{"behavior": names, "extractor": "mean", **changes}), packs)


@pytest.mark.parametrize(
    ("packs", "changes"),
    [
        ((REFUSAL,), {}),
        ((LENGTH,), {}),
        ((DENSITY,), {}),
        ((REFUSAL, LENGTH, DENSITY), {}),
        ((LENGTH,), {"iterative_rounds": 2}),
        ((LENGTH,), {"use_circuit_ablation": True}),
        ((LENGTH,), {"use_activation_calibration": True}),
        ((REFUSAL,), {"use_caa": True}),
        ((REFUSAL,), {"use_neural_refusal_detection": True}),
        ((REFUSAL,), {"extractor": "rdo"}),
        ((REFUSAL,), {"extractor": "pca", "n_directions": 2, "direction_weights": [1.0, 0.5]}),
        ((REFUSAL,), {"bad_prompts": PromptSpecification(dataset="mine.txt")}),
        ((pack("x", "judge", hypotheses=HYPOTHESES),), {"measure_with": "judge", "judge_model": "a/b"}),
        ((LENGTH, pack("x", "judge", hypotheses=HYPOTHESES)), {"measure_with": "judge", "judge_model": "a/b"}),
        # What says how edits are found does not concern a model that is edited already.
        ((REFUSAL, LENGTH), {"evaluate_model": "y", "extractor": "rdo", "iterative_rounds": 2}),
    ],
    ids=str,
)
def test_what_can_be_done_passes(packs: tuple[Pack, ...], changes: dict[str, Any]) -> None:
    check_request(request(*packs, **changes))


@pytest.mark.parametrize(
    ("packs", "changes", "words"),
    [
        ((pack("x", "density"),), {}, "needs patterns"),
        ((pack("x", "density", patterns=("(",)),), {}, "'(' cannot be read"),
        ((REFUSAL, pack("x", "density")), {}, "needs patterns"),
        ((pack("x", "classifier"),), {}, "needs hypotheses"),
        ((LENGTH, REFUSAL, LENGTH), {}, "names verbosity twice; name each behaviour once"),
        ((REFUSAL, LENGTH, LENGTH), {}, "names verbosity twice"),
        ((LENGTH,), {"measure_with": "judge"}, "verbosity cannot be measured with judge"),
        ((LENGTH, DENSITY), {"measure_with": "judge"}, "verbosity and hedging cannot be measured with judge"),
        ((pack("x", "judge", hypotheses=HYPOTHESES),), {}, "x is measured by a judge; name a chat model with --judge-"),
        ((LENGTH,), {"use_caa": True}, "--use-caa false"),
        ((DENSITY,), {"use_neural_refusal_detection": True}, "but hedging is not measured by them"),
        ((LENGTH,), {"extractor": "rdo"}, "rdo looks for first tokens of refusals that markers find, but verbosity"),
        ((REFUSAL, LENGTH), {"extractor": "rdo"}, "but verbosity is not measured by them; choose another --extractor"),
        ((REFUSAL, LENGTH), {"load_directions": ["a"]}, "--load-directions or name one"),
        ((REFUSAL, LENGTH), {"direction_source": "cosmic"}, "direction_source works on one behaviour"),
        ((REFUSAL, LENGTH), {"iterative_rounds": 2}, "iterative_rounds works on one behaviour"),
        ((REFUSAL, LENGTH, DENSITY), {"use_activation_calibration": True}, "--behavior names 3"),
        ((REFUSAL, LENGTH), {"use_circuit_ablation": True}, "use_circuit_ablation works on one behaviour"),
        ((REFUSAL,), {"direction_weights": [1.0]}, "mean cannot be given weights; leave --direction-weights out"),
        ((REFUSAL,), {"extractor": "pca", "direction_weights": [1.0, 0.5]}, "2 entries, but there are 1 directions"),
        ((REFUSAL,), {"extractor": "rdo", "quantization": "bnb_4bit"}, "--quantization none or choose another"),
        ((REFUSAL,), {"extractor": "rdo", "iterative_rounds": 2}, "--iterative-rounds 1 or choose another"),
    ],
    ids=lambda value: "+".join(own.name for own in value) if isinstance(value, tuple) else str(value),
)
def test_what_cannot_be_done_is_refused(packs: tuple[Pack, ...], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_request(request(*packs, **changes))
    assert_one_sentence(caught.value, words)


@pytest.mark.parametrize("role", ROLES)
def test_prompts_cannot_be_set_for_several_behaviours_at_once(role: str) -> None:
    default: PromptSpecification = Settings.model_fields[role].default
    for changed in (PromptSpecification(dataset="mine.txt"), default.model_copy(update={"limit": 3})):
        with pytest.raises(ConfigurationError) as caught:
            check_request(request(REFUSAL, LENGTH, **{role: changed}))
        assert_one_sentence(caught.value, f"{role} cannot be set for several", f"--{role.replace('_', '-')}")
        check_request(request(REFUSAL, **{role: changed}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"extractor": "prob"}, "no extractor named prob"),
        ({"transforms": ["projected", "holy"]}, "no transform named holy"),
    ],
    ids=str,
)
def test_plug_ins_that_do_not_exist_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PluginError) as caught:
        check_request(request(REFUSAL, **changes))
    assert_one_sentence(caught.value, words)


@pytest.mark.parametrize("name", ["loudness", "kl"])
def test_an_evaluator_that_measures_no_behaviour_lists_those_that_do(name: str) -> None:
    with pytest.raises(PluginError, match=f"no evaluator named {name}; choose one of .*length") as caught:
        check_request(request(REFUSAL, pack("x", name)))
    assert "kl" not in str(caught.value).split("choose one of")[1]


class LoudnessOptions(PackOptions):
    volume: int


class Loudness(Evaluator):
    """Of another package."""

    Options = LoudnessOptions
    unit = "decibels"

    def amount(self, text: str) -> float:
        return float(sum(map(str.isupper, text)))


def test_a_pack_may_be_measured_by_an_evaluator_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = EntryPoint("loudness", f"{__name__}:{Loudness.__name__}", "heretic.evaluators")

    def entry_points(group: str, name: str = installed.name) -> list[EntryPoint]:
        return [installed] if (group, name) == (installed.group, installed.name) else []

    for name in EVALUATORS.names():
        EVALUATORS.get(name)
    monkeypatch.setattr(registry, "entry_points", entry_points)
    monkeypatch.setattr(EVALUATORS, "_entries", dict(EVALUATORS._entries))
    check_request(request(pack("x", "loudness", volume=3)))
    with pytest.raises(ConfigurationError, match="needs volume"):
        check_request(request(pack("x", "loudness")))
    with pytest.raises(ConfigurationError, match=r"options\.volume: .*integer"):
        check_request(request(pack("x", "loudness", volume="loud")))
    with pytest.raises(ConfigurationError, match=r"options\.volum: no evaluator reads it"):
        check_request(request(pack("x", "loudness", volume=3, volum=3)))
    with pytest.raises(PluginError, match="loudness, markers"):
        check_request(request(pack("x", "quietness")))
