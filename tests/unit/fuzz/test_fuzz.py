"""Whatever stands in a file that others may have written: it is read, or refused in a sentence, in good time."""

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.fuzz import targets

from heretic.config.catalogue import SETTINGS

# As long as only a loop without an end takes on a busy machine.
FAST = settings(max_examples=60, deadline=20_000, suppress_health_check=[HealthCheck.too_slow])

SLOW = settings(FAST, max_examples=12, deadline=None)

TOML_PIECES = st.sampled_from(
    [
        *("[heretic]", "[good_prompts]", "[[profile]]", "= ", "{", "}", "[", "]", '"', "'", "\n", ",", "1e999", "nan"),
        *("-0", "2026-01-01", "true", "\\u0000", "\ufeff", "\x00", "\u202e", "../../x", "a" * 300, "[" * 500),
        *list(SETTINGS)[:40],
    ]
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(TOML_PIECES, max_size=12).map("".join))


@pytest.mark.parametrize("name", targets.TARGETS)
def test_any_bytes(name):
    target = targets.TARGETS[name]
    # What it imports must not count as the time of an input.
    target(b"")

    @(SLOW if name in targets.SLOW_TARGETS else FAST)
    @given(st.one_of(st.binary(max_size=300), TEXTS.map(lambda text: text.encode(errors="surrogatepass"))))
    def run(data):
        target(data)

    run()


VALUES = st.recursive(
    st.one_of(
        st.none().map(lambda _none: '""'),
        st.booleans().map(lambda value: str(value).lower()),
        st.integers().map(str),
        st.floats().map(repr),
        st.text(alphabet=string.printable + "\u00e9\u202e", max_size=20).map(
            lambda text: repr(text).replace("\\'", "")
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(st.text("abcdefgh", min_size=1, max_size=8), inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}"
        ),
    ),
    max_leaves=8,
)


@FAST
@given(st.sampled_from([name for name in SETTINGS if "." not in name]), VALUES)
def test_any_value_of_any_setting(name, value):
    targets.configuration(f"{name} = {value}".encode())


@pytest.mark.parametrize("depth", [100, 5000, 200_000])
def test_deep_nesting_is_no_crash(depth):
    for opening in ("[", "{a=", "{"):
        targets.configuration(b"n_trials = " + opening.encode() * depth)
    targets.manifest(b"[" * depth)
    targets.manifest(b'{"manifest_version": 1, "files": ' + b'{"a":' * depth)
    targets.profiles(b"profile = " + b"[" * depth)
    targets.arguments(b"--device-map\n" + b'{"a":' * depth)


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000, "1." + "1" * 5000, "1e" + "9" * 400], ids=len)
def test_huge_numbers(number):
    for name in ("n_trials", "kl_weight", "storage", "dtypes", "model"):
        targets.configuration(f"{name} = {number}".encode())
    targets.profiles(f"profile = [{number}]".encode())
    targets.manifest(f'{{"manifest_version": 1, "files": {{"a": {{"sha256": "", "size": {number}}}}}}}'.encode())
    targets.arguments(f'--n-trials\n{number}\n--device-map\n{{"a": {number}}}'.encode())
