import pytest

from heretic.common.errors import PromptError
from heretic.config.sections import PromptSpecification
from heretic.observability.events import PromptsLoaded, subscribed
from heretic.prompts import text_files
from heretic.prompts.sources import is_local, load_prompt_set, overlap
from heretic.prompts.types import Prompt, PromptSet


@pytest.fixture
def ten_lines(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"line {number}\n" for number in range(10)), encoding="utf-8")
    return path


@pytest.fixture
def pack(tmp_path, monkeypatch):
    folder = tmp_path / "behaviors"
    for split, lines in {"train": "a\nb\nc\n", "held_out": "d\n"}.items():
        file = folder / "colour" / "target" / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(lines, encoding="utf-8")
    (tmp_path / "outside.txt").write_text("secret\n", encoding="utf-8")
    monkeypatch.setattr(text_files, "BUNDLED_FOLDER", folder)
    return folder


def test_a_text_file_has_one_prompt_a_line(tmp_path, load):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufefffirst\r\n\n   \n  second \nthird\u2028still third\n".encode())
    assert load(path) == ["first", "second", "third\u2028still third"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"split": "[:3]"}, [0, 1, 2]),
        ({"split": "train[-2:]"}, [8, 9]),
        ({"split": "train[50%:]", "limit": 2}, [5, 6]),
        ({"limit": 4}, [0, 1, 2, 3]),
        ({"limit": 400}, list(range(10))),
    ],
)
def test_split_and_limit_of_a_text_file(ten_lines, load, options, expected):
    assert load(ten_lines, **options) == [f"line {number}" for number in expected]


def test_a_text_file_has_no_other_split(ten_lines, load):
    with pytest.raises(PromptError, match="has no split test; a text file has only train"):
        load(ten_lines, split="test[:5]")


def test_prefix_suffix_and_system_prompt(ten_lines):
    def prompts(**options):
        specification = PromptSpecification(dataset=str(ten_lines), limit=1, **options)
        return load_prompt_set("good_prompts", specification, "General.").prompts

    assert prompts(prefix="<", suffix=">") == (Prompt("<line 0>", "General."),)
    assert prompts(system_prompt="Own.") == (Prompt("line 0", "Own."),)
    assert prompts(system_prompt="") == (Prompt("line 0", None),)


def test_loading_is_announced_and_repeatable(ten_lines):
    events = []
    specification = PromptSpecification(dataset=str(ten_lines), split="[2:5]")
    with subscribed(events.append):
        first = load_prompt_set("good_prompts", specification, None)
    assert events == [PromptsLoaded("good_prompts", str(ten_lines), 3)]
    assert first.fingerprint == load_prompt_set("bad_prompts", specification, None).fingerprint
    other = load_prompt_set("good_prompts", specification.model_copy(update={"split": "[2:6]"}), None)
    assert first.fingerprint != other.fingerprint


@pytest.mark.parametrize("content", ["", "\n \n\t\n"])
def test_an_empty_file_is_refused(tmp_path, load, content):
    path = tmp_path / "empty.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PromptError, match=r"^bad_prompts: .*empty\.txt holds no prompts; name a file"):
        load(path)


def test_an_empty_slice_is_refused_and_named(ten_lines, load):
    with pytest.raises(PromptError, match=r"holds no prompts in the split \[50:60\]"):
        load(ten_lines, split="[50:60]")


def test_a_file_that_is_no_utf8_is_refused(tmp_path, load):
    path = tmp_path / "latin.txt"
    path.write_bytes("caf\xe9\n".encode("latin-1"))
    with pytest.raises(PromptError, match=r"no UTF-8 text \(byte 3\)"):
        load(path)


@pytest.mark.parametrize("name", ["./nothing", "no.txt", "no.jsonl", "~/no such", "a/b/c", r"C:\prompts", "/no/where"])
def test_a_path_that_does_not_exist_is_never_looked_up_on_the_hub(name, load, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_args, **_options: pytest.fail("asked the hub"))
    with pytest.raises(PromptError, match="there is no file or folder"):
        load(name)


def test_bundled_sets(pack, load):
    assert load("bundled:colour/target") == ["a", "b", "c"]
    assert load("bundled:colour/target", split="train[1:]") == ["b", "c"]
    assert load("bundled:colour/target", split="held_out") == ["d"]


def test_a_wrong_bundled_split_names_those_that_exist(pack, load):
    with pytest.raises(PromptError, match="has no split test; it has held_out, train"):
        load("bundled:colour/target", split="test[:100]")


@pytest.mark.parametrize(
    "name", ["../..", "colour", "colour/../../..", "colour/target/../target", "", "/etc", "colour/*"]
)
def test_nothing_outside_the_bundled_sets_can_be_named(pack, load, name):
    with pytest.raises(PromptError, match=r"there is no bundled set .*; use one of bundled:colour/target"):
        load(f"bundled:{name}")


def test_a_split_cannot_leave_the_bundled_folder(pack, load):
    with pytest.raises(PromptError):
        load("bundled:colour/target", split="../../../outside")


def test_the_real_packs_can_be_read(load):
    for name, splits in text_files.bundled_packs().items():
        for split in splits:
            assert len(load(f"bundled:{name}", split=split)) >= 5


def test_overlap_ignores_case_and_spacing():
    training = PromptSet("train", (Prompt("Write a poem."), Prompt("Sing")))
    evaluation = PromptSet("test", (Prompt("write  a\nPOEM. "), Prompt("Dance"), Prompt("Sing!")))
    assert overlap(training, evaluation) == ["write  a\nPOEM. "]
    assert overlap(evaluation, PromptSet("none", ())) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bundled:refusal/target", True),
        ("here", True),
        ("gone/target/train.txt", True),
        ("./gone", True),
        ("~/gone", True),
        ("gone/target/train", True),
        ("owner/set", False),
        ("owner/set.name", False),
        ("gone", False),
        ("y" * 5000, False),
    ],
    ids=lambda value: str(value)[:25],
)
def test_what_is_local_is_told_from_what_is_on_a_hub(tmp_path, monkeypatch, name, expected):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_local(name) is expected


@pytest.mark.parametrize("name", ["a" * 5000, "./" + "a" * 5000 + ".txt"])
def test_a_name_too_long_for_a_file_is_not_there(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PromptError):
        load_prompt_set("good_prompts", PromptSpecification(dataset=name), None)
