"""``heretic behaviors``: what it lists, what it finds wrong, what it copies."""

from pathlib import Path

import pytest

from heretic.commands.behaviors import COMMAND
from heretic.common.errors import ConfigurationError, UserError
from heretic.config import Settings
from heretic.evaluation.evaluator import EVALUATORS
from heretic.prompts.packs import ROLES, bundled_behaviors, find_pack
from heretic.prompts.sources import load_prompt_set
from heretic.run.preflight import preflight

NO_SUCH_EVALUATOR = f"There is no evaluator named {{}}; choose one of {', '.join(EVALUATORS.names())}."


def run(*argv: str) -> int:
    return COMMAND(argv)


def test_every_bundled_pack_can_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    shown = capsys.readouterr().out
    for name in bundled_behaviors():
        assert f"{name}\n" in shown
    assert "PROBLEM" not in shown


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, "80 + 40 + 40 pairs") for name in ("flattery", "hedging", "meta-commentary", "verbosity")),
        ("sycophancy", "100 + 50 + 50 prompts of each kind"),
        ("demo", "200 + 100 + 100 prompts of each kind"),
        ("over-refusal", "100 + 100 + 100 prompts of each kind"),
    ],
)
def test_pairs_are_what_ask_the_same_question(capsys: pytest.CaptureFixture[str], name: str, words: str) -> None:
    assert run(name) == 0
    assert f"    {words} (training, search, held out)\n" in capsys.readouterr().out


def test_prompts_that_no_longer_stand_line_by_line_are_no_pairs(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = mine / "baseline" / "held_out.txt"
    lines = file.read_text().splitlines()
    for kept, words in (
        (lines[1:] + lines[:1], "80 + 40 + 40 prompts of each kind"),
        (["?"] * 21 + lines[21:], "80 + 40 + 40 prompts of each kind"),
        (lines[1:], "80 + 40 + 40 prompts that show it"),
        (lines, "80 + 40 + 40 pairs"),
    ):
        file.write_text("\n".join(kept))
        run(str(mine))
        assert f"    {words} (training, search, held out)\n" in capsys.readouterr().out


def test_other_ways_of_measuring_are_told_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hedging") == run("verbosity") == 0
    hedging, verbosity = (text.split("\n")[0] for text in capsys.readouterr().out.split("measured by ")[1:])
    assert (hedging, verbosity) == ("density, or with --measure-with classifier | judge", "length")


@pytest.mark.parametrize("name", sorted(set(bundled_behaviors()) - {"refusal"}))
def test_a_copy_has_the_prompts_of_the_pack_in_files_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    mine = tmp_path / "new" / "mine"
    assert run(name, "--copy", str(mine)) == 0
    said = capsys.readouterr().out
    assert f"Copied. Change {mine / 'pack.toml'} and the prompts beside it, then:" in said
    assert "plain questions" in said
    original, copied = find_pack(name), find_pack(str(mine))
    assert (copied.name, copied.evaluator, copied.options) == (original.name, original.evaluator, original.options)
    for role in ROLES:
        file = Path(copied.prompts[role].dataset)
        assert file.is_relative_to(mine)
        read = [load_prompt_set(role, own.prompts[role], None) for own in (original, copied)]
        assert read[0] == read[1]
        # What stands in the file is what is read, so that changing it changes something.
        file.write_text(f"Only {role}?\n")
        assert [prompt.user for prompt in load_prompt_set(role, copied.prompts[role], None).prompts] == [
            f"Only {role}?"
        ]


def test_a_copy_of_a_pack_whose_prompts_are_on_the_hub_says_so_and_has_none_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    assert run("refusal", "--copy", str(mine)) == 0
    assert f"Copied. Change {mine / 'pack.toml'}, which names prompts on the hub, then:" in capsys.readouterr().out
    assert [file.name for file in mine.iterdir()] == ["pack.toml"]
    assert find_pack(str(mine)) == find_pack("refusal")


@pytest.mark.parametrize("name", ["file/mine", "x" * 300])
def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(.*\); name another folder with --copy\.$"):
        run("hedging", "--copy", name)


def test_a_copy_is_a_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hedging", "--copy", str(tmp_path / "mine")) == 0
    assert run(str(tmp_path / "mine")) == 0
    assert "mine (hedging)" in capsys.readouterr().out.replace("\n", " ")
    with pytest.raises(UserError, match="exists already"):
        run("hedging", "--copy", str(tmp_path / "mine"))


def test_problems_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("hedging", "--copy", str(tmp_path / "mine"))
    train = tmp_path / "mine" / "target" / "train.txt"
    held_out = tmp_path / "mine" / "target" / "held_out.txt"
    held_out.write_text(held_out.read_text() + train.read_text().splitlines()[0] + "\n")
    (tmp_path / "mine" / "baseline" / "evaluation.txt").unlink()
    capsys.readouterr()
    assert run(str(tmp_path / "mine" / "pack.toml")) == ConfigurationError.exit_code
    shown = capsys.readouterr().out
    assert "1 of 41 bad_held_out_prompts also stand in bad_prompts" in shown
    assert "there is no file or folder" in shown


@pytest.fixture
def mine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy of verbosity, whose evaluator needs no patterns."""
    run("verbosity", "--copy", str(tmp_path / "mine"))
    capsys.readouterr()
    return tmp_path / "mine"


def measured_by(folder: Path, evaluator: str) -> None:
    """Have a pack name another evaluator."""
    file = folder / "pack.toml"
    text = file.read_text()
    assert 'evaluator = "length"' in text
    file.write_text(text.replace('evaluator = "length"', f'evaluator = "{evaluator}"'))


@pytest.mark.parametrize(
    ("evaluator", "problem"),
    [
        ("classifier", "The evaluator classifier of verbosity needs hypotheses; add some to the pack's options."),
        ("judge", "The evaluator judge of verbosity needs hypotheses; add some to the pack's options."),
        ("density", "The evaluator density of verbosity needs patterns; add some to the pack's options."),
        ("kl", NO_SUCH_EVALUATOR.format("kl")),
        (
            "lenght",
            NO_SUCH_EVALUATOR.format("lenght").replace("; choose", "; did you mean length? Else choose"),
        ),
    ],
)
def test_what_a_run_would_refuse_of_an_evaluator_is_a_problem(
    mine: Path, capsys: pytest.CaptureFixture[str], evaluator: str, problem: str
) -> None:
    measured_by(mine, evaluator)
    settings = Settings(model="demo", extractor="mean", behavior=[str(mine)])
    with pytest.raises(UserError) as caught:
        preflight(settings)
    assert str(caught.value) == problem
    assert run(str(mine)) == ConfigurationError.exit_code
    assert f"PROBLEM: {problem}\n" in capsys.readouterr().out


def test_training_prompts_that_are_the_same_on_both_sides_are_a_problem(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, baseline = mine / "target" / "train.txt", mine / "baseline" / "train.txt"
    lines = target.read_text().splitlines()
    # One prompt less is another set.
    baseline.write_text("\n".join(lines[1:]))
    assert run(str(mine)) == 0
    baseline.write_text("\n".join(reversed(lines)))
    capsys.readouterr()
    assert run(str(mine)) == ConfigurationError.exit_code
    assert (
        "PROBLEM: The training prompts of verbosity are the same on both sides, bad_prompts and good_prompts, so no "
        "direction tells them apart; change one side.\n"
    ) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["mine", "./mine", "mine/pack.toml"])
def test_a_missing_file_is_a_problem_however_the_pack_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run("hedging", "--copy", "mine")
    (tmp_path / "mine" / "target" / "train.txt").unlink()
    assert run(name) == ConfigurationError.exit_code
    file = Path("mine") / "target" / "train.txt"
    assert f"PROBLEM: bad_prompts: there is no file or folder {file}; check the path." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--copy", "x"), "--copy copies one pack, but 0 are named"),
        (("--model", "demo"), "--model looks at one pack, but 0 are named"),
        (("--new", "x", "hedging"), "--new stands alone"),
        (("hedging", "--copy", "x", "--model", "demo"), "leave one of them out"),
        (("refusals", "--copy", "x"), "refusals is no bundled pack; copy one of demo, .* over-refusal, refusal, "),
    ],
)
def test_bad_input_is_one_sentence(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        run(*argv)
    assert "\n" not in str(caught.value)
    assert "--behavior" not in str(caught.value)


@pytest.mark.parametrize("name", ["hedging", "meta-commentary", "flattery"])
def test_long_patterns_of_a_copy_stand_in_a_file_of_their_own(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    run(name, "--copy", str(mine))
    assert 'patterns = "patterns.txt"\n' in (mine / "pack.toml").read_text(encoding="utf-8")
    lines = (mine / "patterns.txt").read_text(encoding="utf-8").splitlines()
    patterns = find_pack(name).options.further["patterns"]
    assert [line for line in lines if line and not line.startswith("#")] == patterns
    assert sum(line.startswith("# ") for line in lines) > 5


def test_a_new_pack_works_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "new" / "cheering"
    assert run("--new", str(mine)) == 0
    assert f"heretic behaviors {mine} --model MODEL" in capsys.readouterr().out
    assert run(str(mine)) == 0
    shown = capsys.readouterr().out
    assert "48 + 24 + 24 pairs (training, search, held out)" in shown
    assert "PROBLEM" not in shown
    assert "NOTE" not in shown
    assert find_pack(str(mine)).name == "cheering"
    with pytest.raises(UserError, match="exists already"):
        run("--new", str(mine))


def test_a_folder_whose_name_no_pack_can_have_keeps_the_example_s(tmp_path: Path) -> None:
    assert run("--new", str(tmp_path / "a b")) == 0
    assert find_pack(str(tmp_path / "a b")).name == "excitement"


def test_all_packs_are_checked_and_all_their_mistakes_are_named(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (mine / "pack.toml").read_text()
    (mine / "pack.toml").write_text(text.replace("card =", "crad =").replace("tokens = 120", "tokens = 0"))
    assert run("hegding", str(mine), "verbosity") == ConfigurationError.exit_code
    shown = capsys.readouterr().out
    assert "PROBLEM: There is no behaviour hegding; did you mean hedging?" in shown
    assert "(did you mean card?)" in shown
    assert "options.tokens: " in shown
    assert "80 + 40 + 40 pairs" in shown


def test_unknown_options_are_named_with_their_like(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured_by(mine, "density")
    file = mine / "pack.toml"
    file.write_text(file.read_text().replace("tokens = 120", "tokens = 120\npaterns = ['!']\nloud = 1"))
    assert run(str(mine)) == ConfigurationError.exit_code
    shown = capsys.readouterr().out
    assert "needs patterns" in shown
    assert "options.paterns: no evaluator reads it; did you mean patterns?" in shown
    assert "options.loud: no evaluator reads it; leave it out." in shown


def test_an_instruction_on_the_target_side_of_the_evaluation_prompts_is_remarked_on(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = mine / "target" / "evaluation.txt"
    lines = file.read_text().splitlines()
    for instructed, phrase in (
        ([f"{line} Answer at great length." for line in lines], "Answer at great length."),
        ([f"Be verbose: {line}" for line in lines[:30]] + lines[30:], "Be verbose:"),
    ):
        file.write_text("\n".join(instructed))
        assert run(str(mine)) == 0
        assert (
            f"NOTE: bad_evaluation_prompts: most prompts differ from the other side's by the same words ({phrase!r})"
            in (capsys.readouterr().out)
        )
    file.write_text("\n".join([f"Be verbose: {line}" for line in lines[:15]] + lines[15:]))
    run(str(mine))
    assert "NOTE" not in capsys.readouterr().out


def test_few_training_prompts_are_remarked_on(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("target", "baseline"):
        file = mine / side / "train.txt"
        file.write_text("\n".join(file.read_text().splitlines()[:15]))
    assert run(str(mine)) == 0
    shown = capsys.readouterr().out
    assert "NOTE: bad_prompts: 15 training prompts are few; below 16" in shown
    assert "NOTE: good_prompts: 15" in shown


def test_a_look_shows_what_the_model_answers_and_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("demo", "--model", "demo") == 0
    shown = capsys.readouterr().out
    assert "8/8 refusals by target prompts, 0/8 refusals by the others" in shown
    assert "Fit for a search: heretic demo --behavior demo" in shown
    assert "(refused)" in shown


KEEP = """
[[keep]]
name = "doubt"
description = "What nobody knows."
evaluator = "EVALUATOR"
[keep.options]
patterns = ["perhaps"]
"""


def test_what_has_to_stay_is_listed_checked_and_copied(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = mine / "pack.toml", mine / "keep" / "doubt"
    own = file.read_text()
    file.write_text(own + KEEP.replace("EVALUATOR", "patterns"))
    assert run(str(mine)) == ConfigurationError.exit_code
    assert "PROBLEM: keep doubt evaluation: there is no file" in " ".join(capsys.readouterr().out.split())
    folder.mkdir(parents=True)
    (folder / "evaluation.txt").write_text("One?\nTwo?\n")
    (folder / "held_out.txt").write_text("Three?\n")
    assert run(str(mine)) == 0
    # Training prompts may be missing.
    shown = " ".join(capsys.readouterr().out.split())
    assert "keeps doubt, by patterns: ? + 2 + 1 prompts. What nobody knows." in shown
    (folder / "held_out.txt").write_text("Two?\n")
    assert run(str(mine)) == ConfigurationError.exit_code
    assert "1 of 1 keep doubt held_out also stand in keep doubt evaluation" in " ".join(capsys.readouterr().out.split())
    file.write_text(own + KEEP.replace("EVALUATOR", "density"))
    assert run(str(mine)) == ConfigurationError.exit_code
    assert "its evaluator density measures marks per 100 words" in " ".join(capsys.readouterr().out.split())
