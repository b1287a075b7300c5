import json
from pathlib import Path

import pytest

from heretic.common.errors import ConfigurationError
from heretic.config import PromptSpecification, Settings, load_settings
from heretic.config.catalogue import ALIASES, SETTINGS
from heretic.config.checks import seconds_of
from heretic.config.command_line import RETIRED
from heretic.config.load import _PROFILES
from heretic.config.sections.search import OPEN_TRIALS
from heretic.config.sources import profile_layer
from heretic.prompts.sets import packs_of, specification

# Highest priority first.
SOURCES = ("command line", "environment", "config.toml", "profile demo", "default")
VALUES = {"command line": 11, "environment": 12, "config.toml": 13, "default": 200}


@pytest.fixture
def load(tmp_path):
    def load(*argv, environment=None, file=None, name="config.toml"):
        if file is not None:
            (tmp_path / name).write_text(file, encoding="utf-8")
        return load_settings(argv, environment or {}, tmp_path)

    return load


@pytest.fixture
def problems(load):
    def problems(*argv, **sources):
        with pytest.raises(ConfigurationError) as raised:
            load(*argv, **sources)
        return str(raised.value).splitlines()

    return problems


def test_bytes_that_are_no_text_are_refused(problems):
    found = problems("x", "--study-name", "a\udcff", environment={"HERETIC_SYSTEM_PROMPT": "\udc80"})
    assert found == [
        "Argument 3 of the command line holds bytes that are not UTF-8 text; write it in UTF-8.",
        "HERETIC_SYSTEM_PROMPT holds bytes that are not UTF-8 text; write it in UTF-8.",
    ]


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_other_names_of_settings_work_in_every_source(load, problems, alias, name):
    flag, variable = "--" + alias.replace("_", "-"), f"HERETIC_{alias.upper()}"
    for sources in (
        {"argv": (flag, "verbosity")},
        {"environment": {variable: "verbosity"}},
        {"file": f'{alias} = ["verbosity"]'},
    ):
        loaded = load("x", *sources.pop("argv", ()), **{"file": "", **sources})
        assert getattr(loaded.settings, name) == ["verbosity"]
        assert list(loaded.changed) == ["model", name]
    # A higher source wins whatever it calls the setting.
    assert getattr(load("x", flag, "a", file=f'{name} = ["b"]').settings, name) == ["a"]
    assert getattr(load("x", f"--{name}", "a", environment={variable: "b"}).settings, name) == ["a"]
    assert problems("x", file=f"{alias} = 3") == [
        f"{name} must be a list with at least one entry, but config.toml says 3."
    ]


def test_two_names_of_one_setting_must_not_differ_within_a_source(load, problems):
    assert load("x", "--behavior", "a", "--direction=a").settings.behavior == ["a"]
    assert load("x", "--behavior", "a", "--behavior", "b").settings.behavior == ["b"]
    assert problems("x", "--behavior", "a", "--direction=b") == [
        "--behavior and --direction (command line) are one setting, but their values differ; leave one out."
    ]
    assert problems("x", environment={"HERETIC_BEHAVIOR": "a", "heretic_direction": "b"}) == [
        "HERETIC_BEHAVIOR and HERETIC_DIRECTION (environment) are one setting, but their values differ; leave one out."
    ]
    assert problems("x", file='direction = ["a"]\nbehavior = ["b"]') == [
        "direction and behavior (config.toml) are one setting, but their values differ; leave one out."
    ]


@pytest.mark.parametrize("name", RETIRED)
def test_retired_settings_say_why_they_went_in_every_source(problems, name):
    flag, variable = "--" + name.replace("_", "-"), f"HERETIC_{name.upper()}"
    reason = f"{RETIRED[name]}."
    assert problems("x", flag, "2") == [f"There is no option {flag} any more: {reason}"]
    assert problems("x", environment={variable: "2"}) == [
        f"There is no setting {variable} in the environment any more: {reason}"
    ]
    assert problems("x", file=f"{name} = 2") == [f"There is no setting {name} in config.toml any more: {reason}"]


@pytest.mark.parametrize(
    ("higher", "lower"), [(higher, lower) for i, higher in enumerate(SOURCES) for lower in SOURCES[i + 1 :]]
)
def test_each_source_wins_over_each_lower_one(load, higher, lower):
    pair = {higher, lower}
    argv = ["--model", "demo" if "profile demo" in pair else "x"]
    argv += ["--n-trials", "11"] if "command line" in pair else []
    environment = {"HERETIC_N_TRIALS": "12"} if "environment" in pair else {}
    loaded = load(*argv, environment=environment, file="n_trials = 13" if "config.toml" in pair else None)
    profile_value = profile_layer("demo").values["n_trials"]
    assert profile_value not in VALUES.values()
    assert loaded.settings.n_trials == {**VALUES, "profile demo": profile_value}[higher]
    assert loaded.changed["n_trials"] == f"{loaded.settings.n_trials} ({higher})"


def test_parts_of_a_prompt_set_merge_over_all_sources(load):
    loaded = load(
        "--bad-prompts.split",
        "train[:50]",
        environment={"HERETIC_BAD_PROMPTS__COLUMN": "question", "HERETIC_BAD_PROMPTS__SPLIT": "test"},
        file='[bad_prompts]\ndataset = "mine"\ncolumn = "text"\nprefix = "Q: "',
    )
    assert loaded.settings.bad_prompts == PromptSpecification(
        dataset="mine", split="train[:50]", column="question", prefix="Q: "
    )
    assert loaded.changed["bad_prompts.column"] == "question (environment)"
    assert loaded.changed["bad_prompts.prefix"] == "Q:  (config.toml)"


@pytest.mark.parametrize(
    "sources",
    [
        {"argv": ["--good-prompts", "mine.txt", "--good-prompts.limit", "5"]},
        {"argv": ["--good-prompts.limit=5", "--good-prompts=mine.txt"]},
        {"argv": ["--good-prompts", '{"dataset": "mine.txt", "limit": 5}']},
        {"environment": {"HERETIC_GOOD_PROMPTS": "mine.txt", "HERETIC_GOOD_PROMPTS__LIMIT": "5"}},
        {"environment": {"HERETIC_GOOD_PROMPTS": '{"dataset": "mine.txt", "limit": 5}'}},
        {"file": 'good_prompts = "mine.txt"', "argv": ["--good-prompts.limit", "5"]},
        {"file": '[good_prompts]\ndataset = "mine.txt"\nlimit = 5'},
        {"file": '[heretic.good_prompts]\ndataset = "mine.txt"\nlimit = 5'},
        {"file": 'good_prompts.dataset = "mine.txt"\ngood_prompts.limit = 5'},
    ],
    ids=str,
)
def test_a_prompt_set_can_be_written_in_every_way(load, sources):
    loaded = load(*sources.pop("argv", ()), **sources)
    assert loaded.settings.good_prompts == PromptSpecification(dataset="mine.txt", limit=5)


def _sample(setting):
    """A value other than the default, as Python and as text."""
    if setting.is_prompt_set:
        return {"dataset": "mine"}, "mine"
    if setting.choices:
        value = next(choice for choice in setting.choices if choice != setting.field.default)
        return value, value
    if setting.is_switch:
        owner = getattr(Settings(), setting.path[0]) if setting.path[1:] else Settings()
        value = not (setting.field.default if owner is None else getattr(owner, setting.path[-1]))
        return value, str(value).lower()
    special = {
        "behavior": (["verbosity", "my-pack.toml"], "verbosity,my-pack.toml"),
        "dtypes": (["float32", "bfloat16"], "float32,bfloat16"),
        "device": ("cuda:1", "cuda:1"),
        "neural_detection_device": ("cuda:1", "cuda:1"),
        "neural_detection_threshold": (0.7, "0.7"),
        "max_memory": ({"0": "2GB"}, '{"0": "2GB"}'),
        "max_shard_size": ("1GB", "1GB"),
        "time_limit": ("30m", "30m"),
        "storage": ("sqlite:///other.db", "sqlite:///other.db"),
        "refusal_markers": (["i cannot", "sorry"], '["i cannot", "sorry"]'),
        "direction_weights": ([1.0, 0.5], "1,0.5"),
        "ensemble_weights": ([0.5, 0.5], "0.5,0.5"),
        "load_directions": (["a.safetensors"], "a.safetensors"),
        "load_directions_weights": ([1.0, -2.0], "1,-2"),
        "layer_profile": ([[0.0, 0.5, 0.5]], "[[0.0, 0.5, 0.5]]"),
        "mmlu_categories": (["philosophy", "sociology"], "philosophy,sociology"),
        "benchmarks": (["hellaswag", "arc_easy"], "hellaswag,arc_easy"),
        "transforms": (["projected", "sacred"], '["projected", "sacred"]'),
    }
    if setting.name in special:
        return special[setting.name]
    if int in setting.kinds:
        return (2, "2") if setting.field.default == 3 else (3, "3")
    if float in setting.kinds:
        return (0.25, "0.25") if setting.field.default == 0.5 else (0.5, "0.5")
    return "other", "other"


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {json.dumps(content)}' for key, content in value.items()) + "}"
    return json.dumps(value)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_every_setting_can_be_given_in_every_source(load, setting):
    value, text = _sample(setting)
    extra = {
        "auto_select": ["--hf-upload", "x"],
        "load_directions_weights": ["--load-directions", "a,b"],
    }.get(setting.name, [])
    path = setting.path
    if path[1:] and path[1] != "dataset" and SETTINGS[path[0]].optional:
        # A part of what is not named by default.
        extra = [SETTINGS[path[0]].flag, "mine"]
    results = [
        load(setting.flag, text, *extra),
        load(f"{setting.flag}={text}", *extra),
        load(*extra, environment={setting.variable: text}),
        load(*extra, file=f"{setting.name} = {_toml(value)}"),
        load(*extra, file=f"[heretic]\n{setting.name} = {_toml(value)}"),
    ]
    for loaded in results:
        got = loaded.settings
        for part in path:
            got = getattr(got, part)
        assert (got.dataset if setting.is_prompt_set else got) == (value["dataset"] if setting.is_prompt_set else value)
    assert len({str(loaded.settings) for loaded in results}) == 1
    name = f"{setting.name}.dataset" if setting.is_prompt_set else setting.name
    assert [loaded.changed[name].rpartition(" (")[2] for loaded in results] == [
        "command line)",
        "command line)",
        "environment)",
        "config.toml)",
        "config.toml)",
    ]


def test_changed_lists_nothing_for_a_value_that_equals_the_default(load):
    loaded = load("--n-trials", "200", file='dtypes = ["auto", "float16", "float32"]')
    assert loaded.changed == {}
    assert loaded.settings == Settings()


def test_which_file_was_read_is_known(load, tmp_path):
    assert load("x").configuration_file is None
    assert load("x", "--config", "other.toml", file="seed = 1", name="other.toml").configuration_file == (
        tmp_path / "other.toml"
    )
    assert load("x", file="seed = 2").configuration_file == tmp_path / "config.toml"


def test_a_named_file_is_read_instead_of_the_usual_one(load, tmp_path):
    (tmp_path / "config.toml").write_text("seed = 1\nn_trials = 5")
    loaded = load("--config=other.toml", file="seed = 2", name="other.toml")
    assert (loaded.settings.seed, loaded.settings.n_trials) == (2, 200)


def test_the_table_of_another_tool_beside_ours_is_left_alone(load):
    assert load(file="[other]\nseed = 1\n[heretic]\nseed = 2").settings.seed == 2


def test_a_file_with_a_byte_order_mark_and_windows_line_ends_is_read(load, tmp_path):
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbfseed = 4\r\nn_trials = 6\r\n")
    assert load().settings.seed == 4


@pytest.mark.parametrize("name", sorted(set(_PROFILES.values())))
def test_every_profile_is_valid(name):
    layer = profile_layer(name)
    assert not layer.problems
    assert Settings(**layer.values)


def test_where_only_the_time_is_limited_the_number_of_trials_is_open(load):
    assert load("demo", "--time-limit", "30m").settings.wanted_trials == OPEN_TRIALS
    assert load("x", "--time-limit", "30m").settings.wanted_trials == OPEN_TRIALS
    assert load("demo", "--time-limit", "30m", "--n-trials", "60").settings.wanted_trials == 60
    assert load("demo").settings.wanted_trials == 40


def test_a_time_limit_is_read_from_every_source(load):
    sources = (
        load("x", "--time-limit", "1h30m"),
        load("x", environment={"HERETIC_TIME_LIMIT": "1h30m"}),
        load("x", file='time_limit = "1h30m"'),
    )
    assert [loaded.settings.time_limit for loaded in sources] == ["1h30m"] * 3


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h 30m", 5400), ("1.5H", 5400), ("1d", 86_400)]
)
def test_times_are_written_with_their_units(load, text, seconds):
    assert seconds_of(load("x", "--time-limit", text).settings.time_limit) == seconds


@pytest.mark.parametrize("text", ["30", "m", "-5m", "0s", "30 minutes", "1h30", "", "inf s"])
def test_what_is_no_time_is_refused(load, text):
    with pytest.raises(ConfigurationError, match=r"time_limit must be a time with its unit, e\.g\. 90s, 30m"):
        load("x", f"--time-limit={text}")


def test_the_demo_gets_its_bundled_prompts(load):
    loaded = load("demo")
    assert loaded.profile == "demo"
    (pack,) = packs_of(loaded.settings)
    parts = [
        (f"{side}_{part}prompts", f"bundled:demo/{folder}", split)
        for side, folder in (("good", "baseline"), ("bad", "target"))
        for part, split in (("", "train"), ("evaluation_", "evaluation"), ("held_out_", "held_out"))
    ]
    for role, dataset, split in parts:
        assert specification(loaded.settings, pack, role) == PromptSpecification(dataset=dataset, split=split)
    assert loaded.settings.storage == Settings().storage
    assert load("demo-like").profile is None


@pytest.mark.parametrize(
    "sources", [{"environment": {"HERETIC_MODEL": "demo"}}, {"file": 'model = "demo"'}, {"argv": ["--model=demo"]}]
)
def test_the_profile_follows_the_model_wherever_it_is_named(load, sources):
    assert load(*sources.pop("argv", ()), **sources).profile == "demo"
    assert load("other", **sources).profile is None


def test_a_dataset_of_the_user_takes_nothing_from_the_profile(load):
    settings = load("demo", "--good-prompts", "mine.txt", "--bad-prompts.limit", "7").settings
    (pack,) = packs_of(settings)
    assert specification(settings, pack, "good_prompts") == PromptSpecification(dataset="mine.txt")
    assert specification(settings, pack, "bad_prompts") == PromptSpecification(
        dataset="bundled:demo/target", split="train", limit=7
    )


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("n_trails = 5", "Unknown setting n_trails in config.toml; did you mean n_trials?"),
        ("[heretic]\nn_trails = 5", "Unknown setting n_trails in config.toml; did you mean n_trials?"),
        ("[heretc]\nn_trials = 5", "Unknown setting heretc in config.toml; did you mean heretic?"),
        (
            '[good_prompts]\ndatset = "x"',
            "Unknown setting good_prompts.datset in config.toml; did you mean good_prompts.dataset?",
        ),
        ("zzz = 5", "Unknown setting zzz in config.toml; run 'heretic --help' to see them all."),
        ('config = "x"', "Unknown setting config in config.toml; name the configuration file with --config PATH."),
        ("n_trials = true", "n_trials must be a whole number from 1 to 1000000, but config.toml says true."),
        ('n_trials = "9"', 'n_trials must be a whole number from 1 to 1000000, but config.toml says "9".'),
        ("n_trials = 2026-01-01", "n_trials must be a whole number from 1 to 1000000, but config.toml says"),
        ("good_prompts = 5", "good_prompts must be a dataset or a table with its dataset, split and so on, but"),
        ("good_prompts.limit = 0", "good_prompts.limit must be a whole number of at least 1, but config.toml says 0."),
        ('kl_mode = "last"', 'kl_mode must be one of sequence, first, but config.toml says "last".'),
        ("dtypes = []", "dtypes must be a list with at least one entry, but config.toml says []."),
        ("pca_alpha = nan", "pca_alpha must be a number from 0 to 1000, but config.toml says NaN."),
        ("heretic = 5", "'heretic' in config.toml must be a table; write [heretic] above the settings."),
        ("seed = 1\n[heretic]\n", "config.toml has a [heretic] table, but also seed outside of it; keep all"),
        ("a = 1\nb = ", "config.toml is not valid TOML: Invalid value (at line 2"),
        ("a = 1\nb = [", "config.toml is not valid TOML: Invalid value (at line 2, at the end of the file)."),
    ],
)
def test_a_wrong_file_is_explained(problems, file, message):
    (problem,) = problems("x", file=file)
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--n-trails", "5"], "Unknown option --n-trails; did you mean --n-trials?"),
        (["--n_trials", "5"], "Unknown option --n_trials; did you mean --n-trials?"),
        (["-x"], "Unknown option -x; "),
        (["--n-trials"], "--n-trials needs a value; write --n-trials VALUE or --n-trials=VALUE."),
        (["--n-trials", "--verbose"], "--n-trials needs a value;"),
        (["--config"], "--config needs a value;"),
        (["--n-trials", "0"], "n_trials must be a whole number from 1 to 1000000, but the command line says 0."),
        (["--n-trials", "ten"], 'n_trials must be a whole number from 1 to 1000000, but the command line says "ten".'),
        (["--compile=maybe"], 'compile must be true or false, but the command line says "maybe".'),
        (["--dtypes", "int8"], "dtypes must be a list of number formats out of auto, bfloat16, float16, float32"),
        (["--max-memory", "20GB"], "max_memory must be a table, e.g. {"),
        (["--max-memory", "{oops}"], "max_memory must be a table, e.g. {"),
        (["--good-prompts", '{"spilt": "x"}'], "Unknown setting good_prompts.spilt in the command line; did you mean"),
        (["other"], "The command line names more than one model: 'x', 'other'; give one, and every"),
        (["--model", "other"], "The command line names more than one model: 'other', 'x'; give one"),
        (["--compile", "maybe"], "The command line names more than one model: 'x', 'maybe'; give one"),
        (["--config", "none.toml"], "There is no configuration file none.toml; check the path after --config."),
        (["--config", "."], "The configuration file . is a folder; name a TOML file."),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_explained(problems, argv, message):
    (problem,) = problems("x", *argv)
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"HERETIC_N_TRAILS": "5"},
            "Unknown setting HERETIC_N_TRAILS in the environment; did you mean HERETIC_N_TRIALS?",
        ),
        (
            {"HERETIC_CONFIG": "a"},
            "Unknown setting HERETIC_CONFIG in the environment; name the configuration file with",
        ),
        (
            {"HERETIC_N_TRIALS": "a"},
            'n_trials must be a whole number from 1 to 1000000, but HERETIC_N_TRIALS says "a".',
        ),
        (
            {"HERETIC_GOOD_PROMPTS__LIMIT": "0"},
            "good_prompts.limit must be a whole number of at least 1, but HERETIC_GOOD_PROMPTS__LIMIT says 0.",
        ),
        (
            {"HERETIC_GOOD_PROMPTS": '{"limit": 0}'},
            "good_prompts.limit must be a whole number of at least 1, but HERETIC_GOOD_PROMPTS says 0.",
        ),
    ],
)
def test_a_wrong_environment_is_explained(problems, environment, message):
    (problem,) = problems("x", environment=environment)
    assert problem.startswith(message)


def test_other_variables_are_left_alone(load):
    assert load("x", environment={"HOME": "/", "HERETICAL": "5", "N_TRIALS": "5"}).changed == {
        "model": "x (command line)"
    }


def test_all_problems_are_named_at_once(problems):
    found = problems(
        "--kl-tokens=0",
        "--auto-select",
        "--sed",
        environment={"HERETIC_N_TRIALS": "a", "HERETIC_SED": "1"},
        file='n_trails = 5\ndevice = "gpu"',
    )
    names = ("--sed", "HERETIC_SED", "n_trails", "device", "kl_tokens", "n_trials")
    assert len(found) == len(names)
    for name in names:
        assert (
            sum(problem.split(name)[0].strip() in ("", "Unknown option", "Unknown setting") for problem in found) == 1
        )


def test_a_value_that_fits_none_of_two_types_is_named_once(problems):
    assert problems("x", file="device_map = 5") == ["device_map must be text or a table, but config.toml says 5."]


def test_the_winning_source_is_the_one_that_is_quoted(problems):
    (problem,) = problems("x", environment={"HERETIC_SEED": "-2"}, file="seed = -1")
    assert problem.endswith("but HERETIC_SEED says -2.")


def test_a_wrong_value_that_is_overridden_does_no_harm(load):
    assert load("--seed", "1", file="seed = -1").settings.seed == 1


def test_a_file_in_another_encoding_names_the_line(problems, tmp_path):
    (tmp_path / "config.toml").write_bytes(b"seed = 1\nsystem_prompt = 'caf\xe9'\n")
    assert problems("x") == ["Line 2 of config.toml is not UTF-8 text; save the file with UTF-8 encoding."]


def test_an_unreadable_file_is_explained(problems, tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "config.toml").write_text("")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert problems("x") == ["The configuration file config.toml cannot be read: Permission denied."]


def test_a_dangling_link_is_not_taken_for_no_file(problems, tmp_path):
    (tmp_path / "config.toml").symlink_to(tmp_path / "gone.toml")
    (problem,) = problems("x")
    assert problem.startswith("There is no configuration file config.toml")


def test_a_password_is_never_shown(load, problems):
    shown = load("--storage", "postgresql://me:hidden@host/db").changed["storage"]
    assert shown == "postgresql://me:***@host/db (command line)"
    assert "hidden" not in problems("x", "--storage", "postgres:/me:hidden@host/db")[0]


def test_a_long_value_is_not_quoted_in_full(problems):
    (problem,) = problems("x", "--device", "y" * 1000)
    assert len(problem) < 250


SERVICES = {
    "HERETIC_SERVICE_HOST": "10.0.0.7",
    "HERETIC_SERVICE_PORT": "80",
    "HERETIC_SERVICE_PORT_HTTP": "80",
    "HERETIC_PORT": "tcp://10.0.0.7:80",
    "HERETIC_PORT_80_TCP": "tcp://10.0.0.7:80",
    "HERETIC_PORT_80_TCP_PROTO": "tcp",
    "HERETIC_PORT_80_TCP_PORT": "80",
    "HERETIC_PORT_80_TCP_ADDR": "10.0.0.7",
    # A service called heretic-metrics, whose variable is also a setting's.
    "HERETIC_METRICS_SERVICE_HOST": "10.0.0.8",
    "HERETIC_METRICS_PORT": "tcp://10.0.0.8:9090",
}


def test_variables_of_a_service_are_none_of_ours(load):
    loaded = load("x", environment=SERVICES)
    assert loaded.changed == {"model": "x (command line)"}
    assert load("x", environment={"HERETIC_METRICS_PORT": "9090"}).settings.metrics_port == 9090


def test_a_port_that_no_service_sets_is_a_typing_error(problems):
    assert len(problems("x", environment={"HERETIC_PORT": "80"})) == 1


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_variable_says_nothing_where_emptiness_is_no_value(load, empty):
    defaults = load("x").settings
    says = ("system_prompt", "response_prefix", "prefix", "suffix")
    variables = [setting.variable for setting in SETTINGS.values() if setting.path[-1] not in says]
    assert load("x", environment=dict.fromkeys(variables, empty)).settings == defaults
    meant = load("x", environment={SETTINGS[name].variable: "" for name in ("system_prompt", "response_prefix")})
    assert (meant.settings.system_prompt, meant.settings.response_prefix) == ("", "")


def test_a_prompt_set_that_is_not_named_by_default_is_named_in_parts(load, problems):
    assert load("x").settings.keep_prompts is None
    loaded = load("x", "--keep-prompts", "right.txt", environment={"HERETIC_KEEP_PROMPTS__LIMIT": "3"})
    assert loaded.settings.keep_prompts == PromptSpecification(dataset="right.txt", limit=3)
    assert [name for name in loaded.changed if name.startswith("keep")] == [
        "keep_prompts.dataset",
        "keep_prompts.limit",
    ]
    (sentence,) = problems("x", "--keep-prompts.limit", "3")
    assert sentence.startswith("keep_prompts must be a dataset or a table with its dataset")


def test_a_quick_run_has_smaller_defaults_below_whatever_is_given(tmp_path):
    loaded = load_settings(["x", "--quick", "--kl-tokens", "7"], {}, tmp_path)
    settings = loaded.settings
    assert loaded.profile == "quick"
    assert (settings.n_trials, settings.kl_tokens, settings.direction_method) == (12, 7, "mean")
    assert (settings.bad_prompts.limit, settings.bad_prompts.dataset) == (48, "mlabonne/harmful_behaviors")
    assert settings.study == "x-refusal-quick"
    own = load_settings(["x", "--quick", "--bad-prompts", "mine.txt", "--n-trials", "5"], {}, tmp_path).settings
    assert (own.bad_prompts.dataset, own.bad_prompts.limit, own.n_trials) == ("mine.txt", 48, 5)
    timed = load_settings(["demo", "--quick", "--time-limit", "5m"], {}, tmp_path)
    assert timed.settings.wanted_trials > 1000
    assert timed.profile == "quick, demo"
    (tmp_path / "config.toml").write_text("quick = true\n")
    assert load_settings(["x"], {}, tmp_path).settings.n_trials == 12
    assert load_settings(["x", "--quick", "false"], {}, tmp_path).settings.n_trials == 200
    assert load_settings(["x"], {"HERETIC_QUICK": "true"}, tmp_path / "elsewhere").settings.n_trials == 12
