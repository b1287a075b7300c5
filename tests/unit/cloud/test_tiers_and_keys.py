from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heretic.cloud.keys import checked_folder, checked_model, checked_name, is_host, is_id, read_key, setting
from heretic.cloud.machines import Endpoint, Machine, Offer, State
from heretic.cloud.provider import PROVIDERS, ours
from heretic.cloud.tiers import (
    GB,
    SMALLEST_DISK,
    TIERS,
    USUAL,
    affordable,
    checked_disk,
    disk_needed,
    gpu_count,
    gpus_needed,
    tier_named,
    usual_footprint,
)
from heretic.common.errors import ConfigurationError
from heretic.common.redaction import mask_secrets
from heretic.interface.cloud_lines import tier_table

INJECTIONS = [
    "a;b",
    "$(id)",
    "`id`",
    "a b",
    "a\nb",
    "a'b",
    'a"b',
    "../a",
    "a/b",
    "-a",
    "",
    "a&b",
    "a|b",
    "\x00",
    "é",
    "a" * 80,
]
PAGE = "https://example.org/keys"
MACHINE = Machine("9000", "heretic:one", State.RUNNING, "running", "RTX 4090", 1, 0.7)


@pytest.mark.parametrize("text", [text for text in INJECTIONS if text and text != "a" * 80 and text != "-a"])
def test_a_key_is_refused_before_it_is_sent_and_never_shown(text: str, tmp_path: Path) -> None:
    key = f"Very-Secret-{text}-Tail"
    with pytest.raises(ConfigurationError, match="characters that no key has") as error:
        read_key("VAST_API_KEY", PAGE, {"VAST_API_KEY": key}, tmp_path)
    assert "Very-Secret" not in str(error.value)


def test_a_key_comes_from_the_environment_or_a_file_and_is_masked(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('RUNPOD_API_KEY="rpa_FromTheFile-4711"\nLOCAL_MODELS_DIR=$HOME/x\n')
    assert read_key("RUNPOD_API_KEY", PAGE, {}, tmp_path) == "rpa_FromTheFile-4711"
    assert mask_secrets("said rpa_FromTheFile-4711!") == "said ***!"
    assert read_key("RUNPOD_API_KEY", PAGE, {"RUNPOD_API_KEY": " rpa_Other_1 "}, tmp_path) == "rpa_Other_1"
    assert setting("LOCAL_MODELS_DIR", {}, tmp_path) == "$HOME/x"
    with pytest.raises(ConfigurationError, match="VAST_API_KEY is not set; make a key at"):
        read_key("VAST_API_KEY", PAGE, {}, tmp_path)


@pytest.mark.parametrize("text", [*INJECTIONS, "../../etc"])
def test_names_and_ids_hold_nothing_that_a_shell_minds(text: str) -> None:
    assert is_id(text) == (text == "-a")
    assert is_host(text) == (text == "a" * 80)
    with pytest.raises(ConfigurationError, match="cannot be called"):
        checked_name(text)


@pytest.mark.parametrize(
    "text", ["/w a", "/w;x", "/w/../x", "w", "", "/w'x", '/w"x', "/$(id)", "/w\nx", "/é", "/w" * 200]
)
def test_a_folder_holds_nothing_that_a_shell_minds(text: str) -> None:
    with pytest.raises(ConfigurationError, match="CLOUD_WORKSPACE is"):
        checked_folder(text)
    assert checked_folder("/workspace/heretic/") == "/workspace/heretic"


@pytest.mark.parametrize("name", ["--x", "", " ", "a\nb", "a\x1b[2J", "x" * 301])
def test_what_is_no_model_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="names no model"):
        checked_model(name)
    assert checked_model("Qwen/Qwen2.5-32B-Instruct") == "Qwen/Qwen2.5-32B-Instruct"


@pytest.mark.parametrize(
    ("size", "disk"),
    [
        (0, SMALLEST_DISK),
        (16 * GB, 60),
        (30 * GB, 80),
        (65 * GB, 200),
        (100 * GB, 220),
        (141 * GB, 400),
        (300 * GB, 620),
    ],
)
def test_the_disk_holds_the_model_twice(size: int, disk: int) -> None:
    assert disk_needed(size) == disk
    assert checked_disk(None, disk) == disk
    assert checked_disk(disk + 5, disk) == disk + 5
    with pytest.raises(ConfigurationError, match=f"need {disk} GB of disk, and --disk asks for {disk - 1}"):
        checked_disk(disk - 1, disk)


@given(st.integers(0, 10**13), st.integers(0, 10**12))
def test_a_larger_model_never_needs_less_disk(size: int, more: int) -> None:
    assert disk_needed(size) <= disk_needed(size + more)
    assert disk_needed(size) * GB >= 2 * size + 20 * GB


def test_tiers_say_what_fits() -> None:
    assert tier_named("a100_80gb") is TIERS["A100_80GB"]
    with pytest.raises(ConfigurationError, match="There is no tier 'B200'; choose one of RTX_4090, A6000"):
        tier_named("B200")
    table = {row.cells[0]: row.cells for row in tier_table().rows}
    assert set(table) == set(TIERS)
    small, large = usual_footprint(USUAL["7-8 B"]), usual_footprint(USUAL["70 B"])
    assert gpus_needed(TIERS["A100_80GB"], small) == 1
    # Their weights alone are 141 GB.
    assert gpus_needed(TIERS["H200"], large) == 2
    assert table["H200"][-1] == "2"


@pytest.mark.parametrize("text", ["0", "17", "x", "1;2", "-1", "1.5", ""])
def test_gpus_are_counted(text: str) -> None:
    with pytest.raises(ValueError, match="from 1 to 16"):
        gpu_count(text)
    assert gpu_count("16") == 16


def test_the_cheapest_affordable_offer_comes_first() -> None:
    offers = [Offer(str(price), "H100", 1, price) for price in (2.0, 1.0, 3.0)]
    assert [offer.price for offer in affordable(offers, 2.0)] == [1.0, 2.0]
    assert len(affordable(offers, None)) == 3


def test_which_machine_is_meant() -> None:
    other = replace(MACHINE, id="9001", label="heretic:two", endpoint=Endpoint("h", 1))
    assert ours([MACHINE], None, "p") is MACHINE
    assert ours([MACHINE, other], "two", "p") is other
    assert ours([MACHINE, other], "9000", "p") is MACHINE
    for machines, name, words in (
        ([], None, "There is no machine; 'p create TIER' rents one"),
        ([MACHINE, other], None, "several machines: 9000 (one), 9001 (two); say which one"),
        ([MACHINE], "theirs", "There is no machine 'theirs'; those labelled heretic: are 9000 (one)"),
    ):
        with pytest.raises(ConfigurationError) as error:
            ours(machines, name, "p")
        assert words in str(error.value)


@pytest.mark.parametrize("address", ["http://example.org", "ftp://x", "https://user:pass@x", "file:///etc"])
def test_the_key_is_sent_nowhere_in_the_clear(address: str, tmp_path: Path) -> None:
    for name in PROVIDERS.names():
        kind = PROVIDERS.get(name)
        environment = {kind.key_variable: "abc-DEF_123", kind.address_variable: address}
        with pytest.raises(ConfigurationError, match="must begin with https://"):
            kind.open(environment, tmp_path)
