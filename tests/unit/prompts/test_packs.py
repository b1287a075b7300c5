"""Packs: what a file may say, where its prompts are, and one sentence for everything that does not fit."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heretic.common.errors import ConfigurationError, PromptError
from heretic.config import PromptSpecification
from heretic.prompts.packs import (
    PACK_FILE,
    ROLES,
    Pack,
    bundled_behaviors,
    find_pack,
    read_pack,
)

PLAIN = 'name = "shouting"\ndescription = "It shouts."\ncard = "Shouting was edited."\nevaluator = "density"\n'


def written(folder: Path, text: str | bytes, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path: Path) -> str:
    """The sentences, a line each, that say what is wrong with a file."""
    with pytest.raises(ConfigurationError) as caught:
        read_pack(path)
    for sentence in str(caught.value).split("\n"):
        assert sentence.startswith(str(path))
        assert sentence.endswith(".")
    return str(caught.value)


def test_a_pack_says_what_it_is_and_how_it_is_measured(tmp_path: Path) -> None:
    pack = read_pack(written(tmp_path, PLAIN + '[options]\ntokens = 60\npatterns = ["!", "\\\\bHEY\\\\b"]\n'))
    assert (pack.name, pack.description, pack.card) == ("shouting", "It shouts.", "Shouting was edited.")
    assert pack.evaluator == "density"
    assert pack.options.tokens == 60
    assert pack.options.further == {"patterns": ["!", r"\bHEY\b"]}


def test_options_may_be_left_out(tmp_path: Path) -> None:
    options = read_pack(written(tmp_path, PLAIN)).options
    assert (options.tokens, options.further) == (None, {})


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    assert read_pack(written(tmp_path, b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode())).name == "shouting"


def test_prompts_stand_beside_the_file(tmp_path: Path) -> None:
    prompts = read_pack(written(tmp_path, PLAIN)).prompts
    assert {role: Path(own.dataset).relative_to(tmp_path).as_posix() for role, own in prompts.items()} == {
        "good_prompts": "baseline/train.txt",
        "bad_prompts": "target/train.txt",
        "good_evaluation_prompts": "baseline/evaluation.txt",
        "bad_evaluation_prompts": "target/evaluation.txt",
        "good_held_out_prompts": "baseline/held_out.txt",
        "bad_held_out_prompts": "target/held_out.txt",
    }
    assert {own.split for own in prompts.values()} == {None}


def test_named_prompts_are_where_the_pack_says_seen_from_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packs" / "texts").mkdir(parents=True)
    (tmp_path / "packs" / "texts" / "mine.txt").write_text("x\n")
    # Not the file of this name where the command is called.
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "mine.txt").write_text("y\n")
    monkeypatch.chdir(tmp_path)
    text = PLAIN + (
        "[prompts]\n"
        'good_prompts = "texts/mine.txt"\n'
        'bad_prompts = { dataset = "owner/set", split = "train[:9]", column = "question", prefix = "Q: " }\n'
        'bad_evaluation_prompts = { dataset = "texts/mine.txt", split = "train[:5]", limit = 3 }\n'
        'good_evaluation_prompts = "bundled:refusal/baseline"\n'
    )
    prompts = read_pack(written(tmp_path / "packs", text)).prompts
    own = str(tmp_path / "packs" / "texts" / "mine.txt")
    assert prompts["good_prompts"] == PromptSpecification(dataset=own)
    assert prompts["bad_prompts"] == PromptSpecification(
        dataset="owner/set", split="train[:9]", column="question", prefix="Q: "
    )
    assert prompts["bad_evaluation_prompts"] == PromptSpecification(dataset=own, split="train[:5]", limit=3)
    assert prompts["good_evaluation_prompts"] == PromptSpecification(dataset="bundled:refusal/baseline")
    # What is not named stands in its usual place.
    assert Path(prompts["bad_held_out_prompts"].dataset) == tmp_path / "packs" / "target" / "held_out.txt"
    assert set(prompts) == set(ROLES)


@pytest.mark.parametrize("how", ["file", "folder", "home"])
def test_a_pack_outside_the_package_is_named_by_its_file_or_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = written(tmp_path, PLAIN, PACK_FILE)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    name = {"file": str(path), "folder": str(tmp_path), "home": f"~/{PACK_FILE}"}[how]
    assert find_pack(name) == read_pack(path)


def test_a_bundled_name_comes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "refusal").mkdir()
    written(tmp_path / "refusal", PLAIN, PACK_FILE)
    monkeypatch.chdir(tmp_path)
    assert find_pack("refusal") == read_pack(bundled_behaviors()["refusal"])
    assert find_pack("./refusal").name == "shouting"


@pytest.mark.parametrize(
    "name",
    [
        "refusals",
        "nothing/here.toml",
        "folder",
        "notes.txt",
        "",
        "nul\0l.toml",
        "x" * 300 + ".toml",
        "~nobody-here/p.toml",
    ],
    ids=lambda name: repr(name[:20]),
)
def test_a_name_that_is_no_pack_lists_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text(PLAIN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"There is no behaviour .*choose one of ") as caught:
        find_pack(name)
    for bundled in bundled_behaviors():
        assert bundled in str(caught.value)


def test_all_mistakes_of_a_file_are_named(tmp_path: Path) -> None:
    text = PLAIN.replace("shouting", "no/slash").replace("card", "crad") + "[options]\ntokens = 0\n"
    lines = refused(written(tmp_path, text)).split("\n")
    assert [line.split(": ")[1] for line in lines] == ["name", "options.tokens", "crad"]
    assert "did you mean card?" in lines[2]


def test_an_option_may_name_a_text_file_that_lists_its_entries(tmp_path: Path) -> None:
    (tmp_path / "marks.txt").write_text("# Shouts.\n!\n\n  # and more\n\\bHEY\\b\n", encoding="utf-8")
    file = written(tmp_path, PLAIN + '[options]\npatterns = "marks.txt"\n')
    assert read_pack(file).options.further == {"patterns": ["!", r"\bHEY\b"]}
    (tmp_path / "marks.txt").unlink()
    with pytest.raises(PromptError, match=r"marks\.txt cannot be read"):
        read_pack(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "name: Field required"),
        (PLAIN.replace('name = "shouting"\n', ""), "name: Field required"),
        (PLAIN.replace('evaluator = "density"\n', ""), "evaluator: Field required"),
        (PLAIN.replace("shouting", "no/slash"), "name: String should match pattern"),
        (PLAIN.replace("shouting", ""), "name: String should match pattern"),
        (PLAIN.replace("It shouts.", "  "), "description: "),
        (PLAIN.replace('"density"', "5"), "evaluator: Input should be a valid string"),
        (
            PLAIN.replace("evaluator", "evaluater"),
            r"toml: evaluater: Extra inputs are not permitted \(did you mean evaluator\?\); mend it\.$",
        ),
        (PLAIN + "extra = 1\n", "extra: Extra inputs are not permitted"),
        (PLAIN + "[options]\ntokens = 0\n", "options.tokens: "),
        (PLAIN + '[options]\ntokens = "60"\n', "options.tokens: Input should be a valid integer"),
        (PLAIN + "[options]\ntokens = 6.5\n", "options.tokens: Input should be a valid integer"),
        (PLAIN + "[options]\ntokens = true\n", "options.tokens: Input should be a valid integer"),
        (PLAIN + "options = 5\n", "options: "),
        (
            PLAIN + '[prompts]\nbaseline = "x.txt"\n',
            "prompts: .*has no baseline; it may have good_prompts, bad_prompts",
        ),
        (PLAIN + "[prompts]\ngood_prompts = 5\n", "prompts.good_prompts: "),
        (PLAIN + '[prompts]\ngood_prompts = { split = "train" }\n', "prompts.good_prompts.dataset: Field required"),
        (PLAIN + '[prompts]\ngood_prompts = { dataset = "x", limit = 0 }\n', "prompts.good_prompts.limit: "),
        (PLAIN + '[prompts]\ngood_prompts = { dataset = "x", splt = "y" }\n', "prompts.good_prompts.splt: Extra"),
        (PLAIN + "prompts = 5\n", "prompts: "),
        (PLAIN + 'name = "again"\n', "is no TOML"),
        ("name = shouting\n", "is no TOML"),
        ("[options\n", "is no TOML"),
        ("[options]\npatterns = ['('\n", "is no TOML"),
        ("x = 2026-13-45\n", "is no TOML"),
        ("x = " + "[" * 5000, "is no TOML"),
        (PLAIN + "[options]\ntokens = " + "9" * 5000, "is no TOML"),
        (PLAIN + '"a\\nb" = 1\n', "Extra inputs are not permitted"),
        (b"name = '\xff\xfe'", "is no TOML"),
        (b"\0", "is no TOML"),
        ("Just a text.", "is no TOML"),
    ],
    ids=lambda value: str(value)[-40:] if isinstance(value, str) else None,
)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError, match=words):
        read_pack(path)
    refused(path)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "gone.toml")
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN)
    path.chmod(0)
    assert "cannot be read" in refused(path)


def test_a_dataset_too_long_for_a_path_is_no_path(tmp_path: Path) -> None:
    name = "y" * 5000
    assert read_pack(written(tmp_path, f'{PLAIN}[prompts]\ngood_prompts = "{name}"\n')).prompts[
        "good_prompts"
    ] == PromptSpecification(dataset=name)


LINES = """[options]
[prompts]
tokens = 5
tokens = nan
tokens = -0x1
patterns = ['a']
patterns = [[]]
hypotheses = "a"
x = {}
good_prompts = 'x'
good_prompts = { dataset = [] }
[prompts.good_prompts]
dataset = 1979-05-27
bad_prompts.dataset = 'a'
[[options]]
name.x = 1
\u2028"""
NEAR = st.lists(st.sampled_from([*PLAIN.splitlines(), *LINES.split("\n")]), max_size=12).map("\n".join)


@settings(max_examples=300, deadline=None)
@given(NEAR | st.text(max_size=40) | st.binary(max_size=40))
def test_any_file_is_a_pack_or_sentences(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    path = tmp_path_factory.mktemp("pack", numbered=True) / "any.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    found: Pack | str
    try:
        found = read_pack(path)
    except ConfigurationError as error:
        found = str(error)
    if isinstance(found, Pack):
        assert set(found.prompts) == set(ROLES)
    else:
        assert all(line.endswith("; mend it.") for line in found.split("\n"))


KEEP = """
[[keep]]
name = "doubt"
description = "What nobody knows."
evaluator = "patterns"
[keep.options]
tokens = 60
patterns = ["perhaps"]

[[keep]]
name = "shape"
description = "Lists."
evaluator = "patterns"
[keep.prompts]
evaluation = "lists.txt"
held_out = { dataset = "owner/name", split = "test[:9]" }
"""


def test_answers_that_have_to_stay_are_packs_of_their_own(tmp_path: Path) -> None:
    doubt, shape = read_pack(written(tmp_path, PLAIN + KEEP)).keep
    assert (doubt.name, doubt.description, doubt.evaluator, doubt.keep) == (
        "doubt",
        "What nobody knows.",
        "patterns",
        (),
    )
    assert (doubt.options.tokens, doubt.options.further) == (60, {"patterns": ["perhaps"]})
    assert {part: where.dataset for part, where in doubt.prompts.items()} == {
        part: str(tmp_path / "keep" / "doubt" / f"{part}.txt") for part in ("train", "evaluation", "held_out")
    }
    assert shape.prompts["evaluation"].dataset == str(tmp_path / "lists.txt")
    assert shape.prompts["held_out"] == PromptSpecification(dataset="owner/name", split="test[:9]")
    assert read_pack(written(tmp_path, PLAIN)).keep == ()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (KEEP.replace('"shape"', '"doubt"'), "two sets of one name"),
        (KEEP.replace("held_out =", "tested ="), "has no tested; it may have train, evaluation, held_out"),
        (KEEP.replace('evaluator = "patterns"\n[keep.options]', "[keep.options]"), "evaluator"),
        (KEEP.replace('"doubt"', '"../doubt"'), "name"),
        (KEEP + 'card = "x"\n', "card"),
    ],
)
def test_what_is_wrong_with_them_is_said(changed: str, said: str, tmp_path: Path) -> None:
    assert said in refused(written(tmp_path, PLAIN + changed))
