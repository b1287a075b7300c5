import json
import pickle

import pytest
from pydantic import ValidationError

from heretic.config import PromptSpecification, Settings
from heretic.config.catalogue import SETTINGS

PROMISED = {
    "model": None,
    "evaluate_model": None,
    "model_revision": None,
    "dtypes": ["auto", "float16", "float32"],
    "quantization": "none",
    "device": "auto",
    "device_map": "auto",
    "max_memory": None,
    "trust_remote_code": False,
    "allow_pickle": False,
    "verify": True,
    "compile": False,
    "system_prompt": "You are a helpful assistant.",
    "batch_size": 0,
    "max_batch_size": 128,
    "response_prefix": None,
    "extractor": None,
    "transforms": ["projected"],
    "n_directions": 1,
    "direction_weights": [],
    "min_probe_accuracy": 0.65,
    "ensemble_weights": [0.7, 0.3],
    "n_concept_cones": 5,
    "min_cone_size": 10,
    "directions_per_cone": 2,
    "leace_regularization": None,
    "n_sacred_directions": 5,
    "sacred_overlap_threshold": 0.3,
    "normalization": "row",
    "cache_weights": True,
    "refusal_markers": [],
    "refusal_detection_mode": "lenient",
    "refusal_check_tokens": 30,
    "kl_mode": "sequence",
    "kl_tokens": 30,
    "n_trials": 200,
    "n_startup_trials": 20,
    "seed": None,
    "storage": "sqlite:///heretic_study.db",
    "study_name": None,
    "auto_select": False,
    "auto_select_path": None,
    "save_format": "merged",
    "max_shard_size": "5GB",
    "hf_upload": None,
    "hf_private": False,
}


def test_directions_are_refined_unless_another_option_speaks_against_it() -> None:
    assert Settings(model="x").direction_method == "rdo"
    for changes in (
        {"quantization": "bnb_4bit"},
        {"iterative_rounds": 2},
        {"use_circuit_ablation": True},
        {"use_caa": True},
        {"direction_source": "cosmic"},
    ):
        assert Settings(model="x", **changes).direction_method == "mean"
        assert Settings(model="x", extractor="rdo", **changes).direction_method == "rdo"
    assert Settings(model="x", compile=True).direction_method == "rdo"


@pytest.mark.parametrize(("name", "value"), PROMISED.items())
def test_promised_defaults_hold(name, value):
    assert getattr(Settings(), name) == value


@pytest.mark.parametrize(
    ("name", "dataset", "split"),
    [
        ("good_prompts", "mlabonne/harmless_alpaca", "train[:400]"),
        ("bad_prompts", "mlabonne/harmful_behaviors", "train[:320]"),
        ("good_evaluation_prompts", "mlabonne/harmless_alpaca", "test[:100]"),
        ("bad_evaluation_prompts", "mlabonne/harmful_behaviors", "test[:100]"),
        ("good_held_out_prompts", "mlabonne/harmless_alpaca", "test[100:200]"),
        ("bad_held_out_prompts", "mlabonne/harmful_behaviors", "train[320:416]"),
    ],
)
def test_promised_prompt_sets_hold(name, dataset, split):
    assert getattr(Settings(), name) == PromptSpecification(dataset=dataset, split=split, column="text")


def test_python_reads_neither_environment_nor_file(monkeypatch, tmp_path):
    monkeypatch.setenv("HERETIC_N_TRIALS", "7")
    (tmp_path / "config.toml").write_text("n_trials = 8")
    monkeypatch.chdir(tmp_path)
    assert Settings(model="x").n_trials == 200


def test_settings_are_frozen_including_prompt_sets():
    settings = Settings(model="x")
    with pytest.raises(ValidationError, match="frozen"):
        settings.n_trials = 5
    with pytest.raises(ValidationError, match="frozen"):
        settings.good_prompts.split = "test"


def test_settings_survive_pickle_and_json():
    settings = Settings(model="x", max_memory={0: "20GB"}, good_prompts="mine.txt", seed=3)
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - made two lines above
    assert Settings(**json.loads(json.dumps(settings.model_dump(mode="json")))) == settings


def test_a_prompt_set_may_be_named_by_its_dataset_alone():
    assert Settings(good_prompts="mine.txt").good_prompts == PromptSpecification(dataset="mine.txt")


def test_a_part_keeps_the_rest_of_the_default_but_another_dataset_does_not():
    assert Settings(good_prompts={"split": "train[:5]"}).good_prompts == PromptSpecification(
        dataset="mlabonne/harmless_alpaca", split="train[:5]", column="text"
    )
    same = Settings(good_prompts={"dataset": "mlabonne/harmless_alpaca", "limit": 5}).good_prompts
    assert (same.split, same.limit) == ("train[:400]", 5)
    other = Settings(good_prompts={"dataset": "other", "prefix": "Q: "}).good_prompts
    assert other == PromptSpecification(dataset="other", prefix="Q: ")


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_trails": 5},
        {"good_prompts": {"datset": "x"}},
        {"n_trials": 0},
        {"n_trials": True},
        {"n_trials": "5"},
        {"n_trials": 5.5},
        {"n_startup_trials": -1},
        {"batch_size": -1},
        {"max_batch_size": 0},
        {"pca_alpha": -0.1},
        {"pca_alpha": float("nan")},
        {"eigenvalue_weight_temperature": 0},
        {"compile": 1},
        {"model": " "},
        {"dtypes": []},
        {"dtypes": ["int8"]},
        {"dtypes": "auto"},
        {"device": "gpu"},
        {"device": "auto:1"},
        {"device": "cuda:"},
        {"device_map": 5},
        {"max_memory": {"cpu": "20"}},
        {"max_shard_size": "huge"},
        {"quantization": "int4"},
        {"storage": "heretic_study.db"},
        {"hf_upload": "a/b/c"},
        {"hf_upload": "a b"},
        {"seed": -1},
        {"seed": 2**32},
        {"good_prompts": {"limit": 0}},
        {"good_prompts": 5},
        {"refusal_markers": [""]},
        {"load_directions": "a.safetensors"},
        {"load_directions": [" "]},
        {"load_directions": ["a"], "load_directions_weights": [0.0]},
        {"load_directions": ["a"], "load_directions_weights": [True]},
        {"load_directions": ["a"], "load_directions_weights": ["x"]},
        {"load_directions": ["a"], "load_directions_weights": 1.0},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(wrong):
    with pytest.raises(ValidationError) as raised:
        Settings(**wrong)
    location = raised.value.errors()[0]["loc"]
    assert location[0] in wrong


@pytest.mark.parametrize(
    "right",
    [
        {"n_trials": 1},
        {"dtypes": ["bfloat16"]},
        {"device": "cuda:1"},
        {"device": "npu"},
        {"device_map": {"": 0}},
        {"max_memory": {"0": "20GiB", "cpu": "1.5 GB"}},
        {"storage": "postgresql+psycopg2://user:secret@host:5432/name"},
        {"storage": "sqlite://"},
        {"hf_upload": "name/edited-model_1.0"},
        {"response_prefix": ""},
        {"pca_alpha": 2},
        {"auto_select": True, "auto_select_path": "out"},
        {"load_directions": ["a", "b"], "load_directions_weights": [1.0, -0.5]},
        {"load_directions": ["a"], "save_directions": "b", "extractor": "mean"},
        {"auto_select": True, "hf_upload": "name/model"},
        {"auto_select": True, "evaluate_model": "edited"},
    ],
    ids=str,
)
def test_what_can_work_is_accepted(right):
    assert Settings(**right).model_dump(include=set(right)) == right


def test_every_setting_has_a_sentence_of_help_and_an_example_where_it_has_no_default():
    for setting in SETTINGS.values():
        assert setting.field.description.endswith("."), setting.name
        assert setting.field.description.isascii(), setting.name
        if setting.field.default is None:
            assert setting.field.examples, setting.name


def test_no_secret_is_a_setting():
    assert not [name for name in SETTINGS if "hf_token" in name or name.endswith(("password", "secret", "api_key"))]
