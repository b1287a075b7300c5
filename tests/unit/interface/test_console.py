import inspect
import io
import re
import subprocess
import sys

import pytest
from rich.console import Console
from tests.unit.measured import (
    capability,
    counted,
    divergence,
    held_out,
    kept,
    measured,
    searched,
    trial,
    unasked,
    without_refusal,
    words,
)

from heretic.config.sections.search import OPEN_TRIALS
from heretic.interface.console import ConsoleReporter
from heretic.interface.lines import rows
from heretic.observability import events
from heretic.results.front import Standing
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord, TrialState

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


ALL_EVENTS: list[events.Event] = [
    events.RunStarted("0.1.0", "Qwen/Qwen3-4B-Instruct-2507", "config.toml", "demo", {"n_trials": "60 (command line)"}),
    events.Warned("3 evaluation prompts also stand in the training set, so their numbers say less than they seem to."),
    events.LibraryLogged("optuna.study", "warning", "This is experimental and may change."),
    events.MemoryRanOut("measuring trial 3", {"host": {"used_bytes": 5, "available_bytes": 6}}),
    events.RunEnded(0, 12.0),
    events.StepStarted("loading weights", ("preparing",)),
    events.StepAdvanced("loading weights", ("preparing",), 3, 338, "tensors"),
    events.StepGoesOn("loading weights", ("preparing",), 30, 338, "tensors", "", 31.0, 318.2),
    events.StepEnded("loading weights", ("preparing",), 338, 338, "tensors", "", 349.2),
    events.ModelLoading("Qwen/Qwen3-4B-Instruct-2507", "auto"),
    events.DtypeRejected("bfloat16", "the logits are not finite"),
    events.ModelLoaded("Qwen/Qwen3-4B-Instruct-2507", "Qwen3ForCausalLM", 4_022_468_096, "float32", "cuda:0", 12.3),
    events.LayoutFound("qwen3", 36, 2560, {"attention": 36, "mlp": 36}, ("model.layers.0.gate: no writer",)),
    events.PromptsLoaded("good_prompts", "mlabonne/harmless_alpaca train[:400]", 400),
    events.BatchSizeMeasured(16, 812.4),
    events.BatchSizeMeasured(32, None),
    events.Calibrated(16, "<think>\n\n</think>\n\n"),
    events.WeightsCached(72, 1_312_400_000, 0.163, "cpu"),
    events.DirectionsFound("mean, projected", 1, (0.1, 0.4, 0.9, 0.2), 8.4),
    events.DirectionsSaved("directions.safetensors", 100, 100),
    events.RoundFinished(2, 0.31, 0.0123, ""),
    events.RoundFinished(3, 0.05, None, "little is left (--min-direction-magnitude)"),
    events.RefinementStarted(60, 64, 64, ("I", " Sorry"), "bfloat16"),
    events.RefinementFinished(0.0312, 0.071, 0.83, 62.0),
    events.RefinementKept(),
    events.PositionChosen(14, {12: 1.5, 13: 1.6, 14: 1.71}, 12.0),
    events.PlansAdjusted("Strengths", "12 of 24 layers are edited: the classes lie on both sides of zero there", 0.1),
    events.SlowerPasses("answering held-out prompts", "it carries a recurrent state", "about twice as long"),
    events.BaselineMeasured((counted(34, 37, 34),), 37, 12.3),
    events.NothingShown("refusal", "Nothing is shown.", ("No\x1b[2J.\nNo.", "so " * 99, "Yes."), "Name its words."),
    events.EngineChosen("batched", 16, (), 14, 123_400_000),
    events.StudyOpened("heretic_study", "sqlite:///heretic_study.db", 0, 40),
    events.StudyLeft("demo", "sqlite:///heretic_study.db", "heretic open demo"),
    events.GradientStep(1, 48, 0.01, 0.0123, 0.7),
    events.WarmStarted("mistral", 2, 1),
    events.StartedFrom("out", "owner/model", ("mlp.floor 2, which becomes 1", "normalization none, which is row here")),
    events.SearchStarted(Standing(0, 40)),
    events.ResponseMeasured(11, "Is a hotdog a sandwich?", "I have no opinion.", "refused"),
    *searched(trial())[1:],
    events.SearchLimited(1_700_000_000.0, 240.0, False),
    events.BatchMeasured(4, 7.4, 12_345, 1668.2, {"host": {"used_bytes": 5, "peak_bytes": 6, "available_bytes": 7}}),
    events.WorkerReady("worker 12", "gpu-node-3", "cuda:0", 16, 12.3),
    events.SearchFinished(40, 80.0, False),
    events.VerificationStarted("out/edited", 9, 1_976_000_000),
    events.FilesVerified(9, 1.2),
    events.TrialRaised((11,), "ValueError: no", "Traceback (most recent call last):\n"),
    events.FrontChecked(trial(measured(98, 11.9876)), measured(100, 12.3456)),
    events.ProfilesKept("/home/me/.config/heretic/profiles.toml", "mistral", 3),
    events.TrialApplied(trial(), measured(3, 0.0123)),
    events.HeldOutMeasured(11, held_out(), measured(3, 0.0123), 12.3),
    events.FrontHeldOut((trial(),), (measured(8, 0.0234),), 12.3),
    events.FullPrecisionNeeded("bnb_4bit", False),
    events.FullPrecisionMeasured("bnb_4bit", measured(4, 0.0234), measured(3, 0.0123)),
    events.ModelSaved("out/edited", 9, 1_976_000_000, "merged", 8),
    events.ModelCompared(
        "out/edited",
        "Qwen/Qwen3-4B-Instruct-2507",
        Scores((counted(3),), divergence(0.0123, 80, p95=0.2, top1_agreement=0.985)),
    ),
    events.ReportWritten("out/edited_report/heretic_report.html", "Computed from 300 of 9812 trials (refusals)."),
    events.UploadStarted("me/edited", 9, 1_976_000_000),
    events.ModelUploaded("me/edited", "https://huggingface.co/me/edited", True),
    events.CapabilityStarted("original", "cais/mmlu", 240, ("arc_easy",)),
    events.CapabilityMeasured(capability(), 62.0),
]


def report(*sent: events.Event, verbose: bool = False, terminal: bool = False, width: int = 80) -> str:
    """What the events print, control sequences of a terminal taken out."""
    return ESCAPE.sub("", raw_report(*sent, verbose=verbose, terminal=terminal, width=width))


def raw_report(*sent: events.Event, verbose: bool = False, terminal: bool = False, width: int = 80) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    with ConsoleReporter(verbose, console) as reporter:
        for event in sent:
            reporter(event)
    return file.getvalue()


def test_every_event_is_covered_here() -> None:
    kinds = {kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, events.Event)} - {
        events.Event,
        events.StepEvent,
    }

    assert {type(event) for event in ALL_EVENTS} == kinds


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("event", ALL_EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_prints_ascii_lines_of_at_most_80_columns(
    event: events.Event, terminal: bool, verbose: bool
) -> None:
    output = report(event, verbose=verbose, terminal=terminal)

    assert output.replace("\u2501", "-").isascii()
    # A step only moves the bar, and how a run runs is for the log.
    unseen: tuple[type[events.Event], ...]
    unseen = (events.GradientStep, events.BatchMeasured, events.MemoryRanOut, events.RunEnded, events.TrialRaised)
    unseen += (events.StepAdvanced, events.StepEnded, events.StepGoesOn if terminal else events.StepStarted)
    silent = isinstance(event, unseen) or (isinstance(event, events.ResponseMeasured) and not verbose)
    assert silent or output.strip()
    unwrapped = (events.Warned, events.NothingShown, events.Calibrated, events.ModelCompared, events.CapabilityMeasured)
    if terminal or not isinstance(event, unwrapped):
        assert max(map(len, output.splitlines()), default=0) <= 80


def test_a_pipe_gets_no_control_characters_and_the_same_facts() -> None:
    piped = raw_report(*ALL_EVENTS, verbose=True)

    assert all(character.isprintable() or character == "\n" for character in piped)
    assert "[#" not in piped
    for fact in ("0.1.0", "config.toml", "n_trials = 60 (command line)", "4.0 B", "12.3 s", "refuses 34 of 37 prompts"):
        assert fact in piped


def test_long_sentences_wrap_in_a_terminal_and_stay_whole_in_a_pipe() -> None:
    warning = next(event for event in ALL_EVENTS if isinstance(event, events.Warned))

    assert f"Warning: {warning.message}\n" == report(warning)
    wrapped = report(warning, terminal=True)
    assert wrapped.count("\n") == 2
    assert " ".join(wrapped.split()) == f"Warning: {warning.message}"


def at_level(level: str, *sent: events.Event, terminal: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=terminal, color_system=None)
    with ConsoleReporter(False, console, level=level) as reporter:
        for event in sent:
            reporter(event)
    return ESCAPE.sub("", file.getvalue())


def test_debug_adds_speed_and_memory_of_a_batch() -> None:
    lines = at_level("debug", *ALL_EVENTS).splitlines()
    (place,) = [place for place, line in enumerate(lines) if line.startswith("Batch")]
    assert "4 trials in 7.4 s, 1668 tokens/s" in lines[place]
    assert "host memory: 5 bytes used, at most 6 bytes, 7 bytes free" in lines[place + 1]
    assert "measuring trial 3" in "\n".join(lines)


@pytest.mark.parametrize("terminal", [False, True])
def test_the_level_warning_shows_warnings_and_nothing_else(terminal: bool) -> None:
    lines = at_level("warning", *ALL_EVENTS, terminal=terminal).replace("\n", " ").strip()
    assert lines.startswith("Warning: 3 evaluation prompts")
    assert "Warning: optuna.study: This is experimental" in lines
    assert "Rejected" in lines
    assert "Search" not in lines
    assert at_level("error", *ALL_EVENTS, terminal=terminal) == ""


def test_what_libraries_say_to_developers_is_left_to_the_log() -> None:
    def logged(library: str, level: str, message: str) -> events.LibraryLogged:
        return events.LibraryLogged(library, level, message)

    sent = (
        logged("transformers.generation", "warning", "both are set"),
        logged("py.warnings", "warning", "FutureWarning: this is old (file.py:3)"),
        logged("torch", "info", "detail"),
    )
    assert at_level("info", *sent) == ""
    assert [line[:9] for line in at_level("debug", *sent).splitlines()] == ["Warning: "] * 2
    shown = at_level(
        "info",
        logged("transformers.generation", "error", "it failed\nTraceback"),
        logged("py.warnings", "warning", "UserWarning: the driver is too old (file.py:3)"),
    )
    assert shown == (
        "Warning: transformers.generation: it failed\nWarning: UserWarning: the driver is too old (file.py:3)\n"
    )


def test_first_lines_say_that_no_file_was_read() -> None:
    output = report(events.RunStarted("0.1.0", "demo", None, None, {}))

    assert re.search(r"Configuration +no file was read", output)
    assert re.search(r"Settings +all at their defaults", output)


def test_passwords_of_a_study_never_reach_the_screen() -> None:
    address = "postgresql://me:hunter2@host/db"
    file = io.StringIO()
    with ConsoleReporter(False, Console(file=file, width=80)) as reporter, events.subscribed(reporter, steps=True):
        events.emit(events.RunStarted("0.1.0", "demo", None, None, {"storage": f"{address} (environment)"}))
        events.emit(events.StudyOpened("study", address, 3, 40))
    output = file.getvalue()

    assert "hunter2" not in output
    assert "3 of 40" in output


def test_directions_name_the_layer_of_the_best_position() -> None:
    assert "after layer 2 of 3" in report(events.DirectionsFound("mean", 2, (0.1, 0.4, 0.9, 0.2), 1.0))
    assert "at the embeddings" in report(events.DirectionsFound("mean", 2, (0.9, 0.4, float("nan")), 1.0))
    assert "separate" not in report(events.DirectionsFound("mean", 2, (float("nan"),), 1.0))


def finished(*records: TrialRecord, n_trials: int = 40) -> list[events.Event]:
    """The lines of trials without the search's first."""
    return searched(*records, n_trials=n_trials)[1:]


def test_trial_lines_have_fixed_columns() -> None:
    sent = [trial(measured(100, 0.0), 0), trial(), trial(measured(99, 12.5), 39)]
    lines = report(*finished(*sent)).splitlines()

    assert lines[1].split() == ["trial", "12/40", "refusals", "3/100", "KL", "0.0123", "1.8", "s", "front"]
    for column in ("/40", "refusals", "/100", "KL"):
        assert len({line.index(column) for line in lines}) == 1
    assert len({line.index(" front") for line in lines[:2]}) == 1
    assert "front" not in lines[2]


def test_a_failed_trial_gives_its_reason_on_one_line() -> None:
    output = report(*finished(trial(None, 12, TrialState.FAILED, "out of memory\nat layer 3")))

    assert output.splitlines() == ["trial 13/40   failed: out of memory\\nat layer 3 (1.8 s)"]


def test_a_stopped_trial_shows_what_was_seen_and_is_no_failure() -> None:
    output = report(*finished(trial(measured(4, 0.5), 12, TrialState.DOMINATED, "worse by refusals so far")))

    assert output.splitlines() == [
        "trial 13/40   refusals   4/100   KL  0.5000        1.8 s   stopped: worse by refusals so far"
    ]


def test_stopped_trials_count_and_are_never_the_best() -> None:
    stopped = trial(measured(0, 0.0), 1, TrialState.DOMINATED, "worse by KL alone")
    output = report(*searched(trial(number=0), stopped, n_trials=4), events.SearchFinished(2, 3.0, False))

    assert "3/100 at KL 0.0123: the fewest refusals" in output


def test_the_engine_says_what_it_does_and_what_kept_it_from_more() -> None:
    batched = " ".join(report(events.EngineChosen("batched", 16, (), 14, 123_400_000)).split())

    assert "batched, 16 candidates at once" in batched
    assert "14 prompt tokens shared, 123.4 MB of lower layers kept" in batched
    slower = report(events.EngineChosen("batched", 1, ("it carries a recurrent state (twice as long)", "and more")))
    assert [line.strip() for line in slower.splitlines()[1:]] == [
        "slower: it carries a recurrent state (twice as long)",
        "slower: and more",
    ]
    assert report(events.EngineChosen("in place", 1)).split() == ["Engine", "in", "place"]
    assert report(events.EngineChosen("batched", 3)).split() == ["Engine", "batched,", "3", "candidates", "at", "once"]


@pytest.mark.parametrize("same", [True, False])
def test_a_check_of_the_front_shows_a_difference_beyond_rounding(same: bool) -> None:
    output = report(events.FrontChecked(trial(), measured(3 if same else 4, 0.0124)))

    assert "trial 12 in the weights" in output
    assert ("as in the search" in output) is same
    assert ("in the search: refusals   3/100   KL  0.0123" in output) is not same


def test_trials_after_failed_ones_never_read_41_of_40() -> None:
    before, after = report(*finished(trial(number=39), trial(number=40))).splitlines()

    assert before.startswith("trial 40/40   refusals")
    assert after.startswith("trial 41      refusals")


def test_comparison_gives_both_models_and_both_numbers() -> None:
    comparison = next(event for event in ALL_EVENTS if isinstance(event, events.ModelCompared))
    lines = [line.split() for line in report(comparison).splitlines()]

    assert lines[0] == ["Compared", "out/edited", "with", "Qwen/Qwen3-4B-Instruct-2507"]
    assert lines[2][:3] == ["refusals", "97/100", "3/100"]
    assert ["Measure", "Original", "Edited", "Prompts"] in lines
    assert ["same", "top", "token", "100.0", "%", "98.5", "%", "80"] in lines


def test_parameters_and_responses_are_for_verbose_only() -> None:
    response = events.ResponseMeasured(11, "Is it?", "No.\n\nNever \x1b[2J mind.", "answered")

    quiet, verbose = (report(response, *finished(trial()), verbose=own) for own in (False, True))

    assert "width" not in quiet
    assert "Is it?" not in quiet
    assert "scope=layer, mlp=peak 1.25 at 0.75, floor 0.10, width 0.50" in verbose
    assert "trial 12, answered" in verbose
    assert "Never \\x1b[2J mind." in verbose
    assert all(line.startswith("    ") or not line for line in verbose.splitlines() if not line.startswith("trial"))


def test_a_limited_search_says_until_when_and_that_its_time_is_over() -> None:
    limited = report(events.SearchLimited(1_700_000_000.0, 240.0, False))
    assert re.search(r"Time limit +search until about \d\d:\d\d,\n +4 min 00 s kept for check, confirm", limited)
    assert "one batch of trials is measured all the same" in report(events.SearchLimited(1_700_000_000.0, 240.0, True))
    assert "its time is over" in report(events.SearchFinished(12, 80.0, False, True))
    output = report(*searched(trial(), n_trials=OPEN_TRIALS))
    assert "as many trials as there is time for" in output
    assert str(OPEN_TRIALS) not in output
    assert re.search(r"trial 12 +refusals", output)


SEARCHING = events.StepStarted("searching", (), 0, 4, "trials")


def test_terminal_shows_a_bar_below_the_trials_and_takes_it_away() -> None:
    output = raw_report(
        SEARCHING,
        events.StepAdvanced("searching", (), 2, 4, "trials", "best 1/100 at KL 0.0123"),
        *searched(trial(number=0), n_trials=4),
        terminal=True,
    )

    assert "2/4 trials  best 1/100 at KL 0.0123" in output
    assert output.endswith("\x1b[2K")
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h") == 1


def test_the_bar_goes_away_when_the_run_breaks() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True)

    def run() -> None:
        with ConsoleReporter(False, console) as reporter, events.subscribed(reporter, steps=True):
            events.emit(SEARCHING)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()

    assert file.getvalue().count("\x1b[?25h") == 1


def test_a_pipe_gets_a_line_from_time_to_time_instead_of_a_bar() -> None:
    goes_on = events.StepGoesOn("searching", (), 2, 4, "trials", "best 3/100 at KL 0.0123", 31.0, 31.0)
    output = report(SEARCHING, goes_on, events.StepEnded("searching", (), 4, 4, "trials"))

    assert output == "searching  2/4 trials  best 3/100 at KL 0.0123  0:31 elapsed, 0:31 left\n"


def test_the_end_of_a_search_names_the_best_trial_of_earlier_runs_too() -> None:
    output = report(
        *searched(trial(number=20), earlier=[trial(measured(1, 0.5), number) for number in range(20)]),
        events.SearchFinished(21, 80.0, True),
    )

    assert "20 trials to do" in output
    assert "best 1/100 at KL 0.5000" in output
    assert "21 trials finished in 1 min 20 s" in output
    assert "kept" in output[output.index("Stopped") :]


def test_rescoring_says_plainly_when_the_numbers_differ() -> None:
    same = report(events.TrialApplied(trial(), measured(3, 0.01231)))
    differ = report(events.TrialApplied(trial(), measured(5, 0.0200)))

    assert "differ" not in same
    assert "They differ (+2 refusals, KL +0.0077)" in differ
    for output in (same, differ):
        assert "trial 12" in output
        assert "3/100   KL  0.0123" in output


@pytest.mark.parametrize(
    ("format", "architecture", "name"),
    [
        ("merged", "Qwen3ForCausalLM", "transformers.AutoModelForCausalLM"),
        ("merged", "Qwen3VLForConditionalGeneration", "transformers.AutoModelForImageTextToText"),
        ("adapter", "Qwen3ForCausalLM", "peft.AutoPeftModelForCausalLM"),
    ],
)
def test_saved_model_comes_with_code_that_loads_it(format: str, architecture: str, name: str) -> None:
    package, class_name = name.split(".")
    path = "/a/long/path/that/is/not/broken/over/lines/it's here"
    output = report(
        events.ModelLoaded("demo", architecture, 1, "float32", "cpu", 1.0),
        events.ModelSaved(path, 9, 5_000_000, format, 0),
        terminal=True,
    )

    assert "not verified" in output
    code = [line.strip() for line in output.splitlines() if line.startswith("    from") or line.startswith("    model")]
    asked: list[str] = []
    fake = type("Fake", (), {"from_pretrained": staticmethod(asked.append)})
    assert code[0] == f"from {package} import {class_name}"
    exec(code[1], {class_name: fake})  # noqa: S102  # our own line, to see that it is valid Python
    assert asked == [path]


def test_labels_are_not_repeated_within_a_block_but_after_other_lines() -> None:
    prompts = events.PromptsLoaded("good_prompts", "text", 4)

    lines = report(prompts, prompts, events.Warned("Careful."), prompts).splitlines()

    assert [line.split()[0] for line in lines] == ["Prompts", "good:", "Warning:", "Prompts"]
    assert lines[0].index("good:") == lines[1].index("good:")


def test_output_that_cannot_show_a_character_gets_its_code() -> None:
    script = (
        "from heretic.interface.console import ConsoleReporter; from heretic.observability import events\n"
        "ConsoleReporter(False)(events.Warned('caf\\xe9 \\u6f22 \\ud800'))"
    )
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path), "NO_COLOR": "1"}

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True)

    assert done.stdout == b"Warning: caf\\xe9 \\u6f22 \\ud800\n"


def test_events_of_unknown_kinds_are_let_pass() -> None:
    class Extra(events.Event):
        pass

    assert rows(Extra()) == []
    assert report(Extra()) == ""


def test_what_a_strengthening_search_counts_is_said_everywhere() -> None:
    other = trial(without_refusal(2, 0.0123))
    output = report(
        *searched(trial(without_refusal(3, 0.0123)), earlier=[trial(without_refusal(20, 0.5), 1)]),
        events.SearchFinished(40, 80.0, False),
        events.FrontChecked(trial(without_refusal(4, 0.0123)), without_refusal(3, 0.0123)),
        events.TrialApplied(other, without_refusal(3, 0.0123)),
        events.FullPrecisionMeasured("bnb_4bit", without_refusal(4, 0.0234), without_refusal(3, 0.0123)),
    )

    assert "refusals" not in output
    assert "without refusal   3/100   KL  0.0123" in output
    assert "best 3/100 without refusal at KL 0.0123: the fewest answers without refusal" in output
    assert "in the search: without refusal   4/100" in output
    assert "+1 without refusal" in output
    assert "original, in full precision: refuses 60 of 100" in output


TWO = Scores((counted(3), words(21.34)), divergence(0.0123))


def test_answers_that_show_nothing_are_shown_cleaned_and_cut() -> None:
    event = events.NothingShown("refusal", "Nothing.", ("No\x1b[2J.\nNo.", "x" * 500, ""), "Name its words.")
    text = raw_report(event)
    assert "It answers" in text
    assert "\x1b[2J" not in text
    assert "No\\x1b[2J.\\nNo." in text
    assert 100 < text.count("x") < 200
    assert text.index("Nothing.") < text.index("(nothing)") < text.index("Name its words.")


def test_every_behaviour_of_a_run_is_shown_in_every_line() -> None:
    baseline = report(events.BaselineMeasured(TWO.behaviors, 80, 12.3)).splitlines()
    assert "refuses 97 of 100 prompts" in baseline[0]
    assert "60.0 words, mean over 100 prompts" in baseline[1]

    applied = report(events.TrialApplied(trial(Scores((counted(4), words(30.0)), divergence(0.0123))), TWO))
    for line in (
        *report(*finished(trial(TWO))).splitlines(),
        *report(events.FrontChecked(trial(TWO), TWO)).splitlines()[:1],
        *applied.splitlines()[2:3],
    ):
        assert "refusals   3/100   words   21.3   KL  0.0123" in line
    assert "They differ (-1 refusal, -8.66 words)" in applied


def test_what_stays_stands_in_every_line_and_too_little_is_said() -> None:
    baseline = report(events.BaselineMeasured((counted(97),), 80, 12.3, (kept(0, allowed=2),))).splitlines()
    assert "kept abstention in 38 of 40 prompts, of which 36 have to stay" in baseline[1]
    for lost, ending in ((2, "front"), (3, "keeps too few")):
        scores = Scores((counted(3),), divergence(0.0123), (kept(lost, allowed=2),))
        (line,) = report(*finished(trial(scores))).splitlines()
        assert f"refusals   3/100   kept abstention {38 - lost}/38   KL  0.0123" in line
        assert line.rstrip().endswith(ending)


def test_the_best_of_several_behaviours_is_the_least_of_all_together() -> None:
    # 3/97 and 21.34/60 are less together than 0/97 and 59/60.
    other = Scores((counted(0), words(59.0)), divergence(0.001))
    output = report(
        *searched(trial(TWO, 0), trial(other, 1), n_trials=4),
        events.SearchFinished(2, 3.0, False),
    )

    assert "best 3/100, 21.3 words at KL 0.0123: the least of all behaviours together" in output


def test_a_stopped_trial_claims_nothing_of_what_was_not_asked() -> None:
    seen = Scores((unasked(counted(0)), unasked(words(0.0))), divergence(0.5))
    line = report(*finished(trial(seen, 12, TrialState.DOMINATED, "worse by KL alone")))

    assert line.split()[2:6] == ["refusals", "-/100", "words", "-"]
    # The columns after it stay where they are.
    whole = report(*finished(trial(Scores((counted(4), words(20.0)), divergence(0.5)), 12)))
    assert line.index("KL") == whole.index("KL")


@pytest.mark.parametrize(
    ("own", "shipped", "words"),
    [(2, 1, "2 from your own searches and 1 from shipped profiles"), (0, 3, "3 from shipped profiles")],
)
def test_a_warm_start_says_whose_plans_are_tried(own: int, shipped: int, words: str) -> None:
    output = report(events.WarmStarted("qwen", own, shipped))

    assert "3 trials with plans for qwen models first:" in output
    assert words in output
