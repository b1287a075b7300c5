import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heretic.config.arguments import FLAGS, read_arguments
from heretic.config.catalogue import SETTINGS


def values(*argv):
    arguments = read_arguments(argv)
    assert arguments.layer.problems == []
    return arguments.layer.values


@pytest.mark.parametrize("argv", [["x"], ["--model", "x"], ["--model=x"], ["x", "--model", "x"], ["--", "x"]])
def test_the_model_needs_no_flag(argv):
    assert values(*argv) == {"model": "x"}


def test_a_switch_never_swallows_the_model():
    assert values("--compile", "demo") == {"compile": True, "model": "demo"}
    assert values("--cache-weights", "false", "demo") == {"cache_weights": False, "model": "demo"}
    assert values("--verbose", "--auto-select", "true") == {"verbose": True, "auto_select": True}
    assert values("--compile=no") == {"compile": False}


@pytest.mark.parametrize("text", ["auto,float32", "auto, float32", '["auto", "float32"]'])
def test_lists_are_json_or_separated_by_commas(text):
    assert values("--dtypes", text) == {"dtypes": ["auto", "float32"]}


def test_json_keeps_commas_inside_an_entry():
    assert values("--refusal-markers", '["sorry, but"]') == {"refusal_markers": ["sorry, but"]}


def test_none_unsets_what_is_no_text():
    assert values("--seed", "none", "--response-prefix", "none") == {"seed": None, "response_prefix": "none"}


def test_the_last_of_two_equal_flags_wins():
    assert values("--n-trials", "5", "--n-trials=6") == {"n_trials": 6}


@settings(deadline=None)
@given(text=st.text())
def test_any_text_is_a_value_after_an_equals_sign(text):
    assert values(f"--system-prompt={text}") == {"system_prompt": text}


@settings(deadline=None)
@given(text=st.text() | st.text().map(lambda text: "-" + text))
def test_any_text_that_is_no_flag_is_a_value(text):
    if text.partition("=")[0] not in FLAGS:
        assert values("--system-prompt", text) == {"system_prompt": text}


@settings(deadline=None)
@given(number=st.integers(-(10**9), 10**9))
def test_negative_numbers_are_values(number):
    assert values("--n-trials", str(number)) == {"n_trials": number}


@settings(deadline=None)
@given(argv=st.lists(st.sampled_from([*FLAGS, "x", "1", "true", "--", "--zzz", "-1", "a=b"]), max_size=6))
def test_no_command_line_breaks_the_reader(argv):
    arguments = read_arguments(argv)
    assert set(arguments.layer.values) <= set(SETTINGS)


@pytest.mark.parametrize(
    ("argv", "action"),
    [
        (["--help"], "help"),
        (["x", "-h"], "help"),
        (["--version"], "version"),
        (["--zzz", "--help"], "help"),
        ([], None),
    ],
)
def test_help_is_found_wherever_it_stands(argv, action):
    assert read_arguments(argv).action == action


def test_a_value_is_no_request_for_help():
    assert read_arguments(["--system-prompt=--help"]).action is None
