"""``heretic compare``: two saved models, or two trials of a study, side by side, with answers to the same prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heretic.commands.base import Command, option, positional, whole
from heretic.commands.open import open_stored
from heretic.common.errors import ConfigurationError, SelectionError, UserError
from heretic.common.file_names import existing_folder, expanded
from heretic.common.integrity import manifest_of

if TYPE_CHECKING:
    from heretic.interface.printer import Printer
    from heretic.passes.runner import ModelRunner
    from heretic.prompts.types import Prompt
    from heretic.results.score import Scores
    from heretic.session import Session

USUAL_COUNT = 3
_COUNT = whole("a whole number from 0 to 100", 0, 100)
_TOKENS = whole("a whole number from 1 to 1000", 1, 1000)


@dataclass(frozen=True, slots=True)
class CompareArguments:
    """What is asked for."""

    both: tuple[str, ...] = positional("A B")
    study: str | None = option("NAME", "Study of the trials. [the latest of this folder]")
    storage: str | None = option("URL", "Its database. [what a run in this folder uses]")
    prompts: str | None = option("FILE", "Prompts to answer, one a line. [the first evaluation prompts]")
    count: int = option("NUMBER", f"How many prompts. [{USUAL_COUNT}]", default=USUAL_COUNT, read=_COUNT)
    tokens: int = option("NUMBER", "Longest answer, in tokens. [60]", default=60, read=_TOKENS)
    device: str | None = option("DEVICE", "Device to compute on, as in a run.")

    def __post_init__(self) -> None:
        if len(self.both) != 2:
            raise ConfigurationError(f"Two are compared, but {len(self.both)} are named; name two.")
        if not self.are_trials and (self.study is not None or self.storage is not None):
            raise ConfigurationError("--study and --storage are for trials, which are named by their numbers.")

    @property
    def are_trials(self) -> bool:
        """Whether numbers of trials are named."""
        return all(name.isdecimal() for name in self.both)


def run(arguments: CompareArguments, printer: "Printer") -> int:
    """Print both side by side; returns the exit code.

    Raises:
        UserError: A folder, a trial or the prompts cannot be used.
    """
    own = {} if arguments.device is None else {"device": arguments.device}
    if arguments.are_trials:
        return open_stored(
            arguments.storage, arguments.study, own, lambda session: _trials(session, arguments, printer)
        )
    return _folders(arguments, own, printer)


def _trials(session: "Session", arguments: CompareArguments, printer: "Printer") -> None:
    from heretic.editors.editor import applied
    from heretic.passes.choose import ordinary_wanted
    from heretic.results.pairs import difference_sentence

    bench = session.bench
    by_number = {str(record.shown): record for record in session.result.records if record.scores is not None}
    missing = [name for name in arguments.both if name not in by_number]
    if missing:
        raise SelectionError(f"The study {session.study} has no measured trial {missing[0]}; see 'heretic status'.")
    records = [by_number[name] for name in arguments.both]
    prompts = _prompts(arguments, bench.prompts.target_evaluation.prompts)
    answer = _answering(bench.runner, prompts, arguments.tokens, ordinary_wanted(bench.settings))
    answers = {"original": answer()}
    for record in records:
        with applied(bench.editor, bench.edits(record.plan)):
            answers[f"trial {record.shown}"] = answer()
    scores = {f"Trial {record.shown}": record.measured for record in records}
    # Folders need not have been measured on the same prompts.
    first, second = ((f"trial {record.shown}", record.kl) for record in records)
    _print(scores, prompts, answers, printer, difference_sentence(first, second))


def _folders(arguments: CompareArguments, own: Mapping[str, Any], printer: "Printer") -> int:
    from heretic.config import Settings
    from heretic.observability.libraries import captured_libraries
    from heretic.passes.calibration import thinking_prefix
    from heretic.results.score import Scores
    from heretic.run.workbench import open_runner

    scores, answers, prompts = {}, {}, _prompts(arguments, ())
    for name in arguments.both:
        manifest = manifest_of(existing_folder(name))
        try:
            found = Scores.from_json(manifest["scores"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"The manifest of {name} holds no scores that can be read; save the model again."
            ) from error
        if found is not None:
            scores[name] = found
        if not arguments.count:
            continue
        with captured_libraries("info"), printer.steps():
            settings = Settings(model=name, **own)
            prompts = prompts or _prompts(arguments, _prompts_of(manifest))
            runner = open_runner(settings, name)
            runner = runner.calibrated(len(prompts), thinking_prefix(runner, prompts[0]))
            answers[name] = _answering(runner, prompts, arguments.tokens)()
            # Before the other one is loaded.
            del runner
    _print(scores, prompts, answers, printer)
    return 0


def _prompts(arguments: CompareArguments, usual: "Sequence[Prompt]") -> "list[Prompt]":
    """The prompts that are answered: those of the file that is named, else the usual ones."""
    from heretic.prompts.text_files import read_lines
    from heretic.prompts.types import Prompt

    if arguments.prompts is not None:
        usual = [Prompt(line.strip()) for line in read_lines(expanded(arguments.prompts))]
    return list(usual[: arguments.count])


def _prompts_of(manifest: Mapping[str, Any]) -> "Sequence[Prompt]":
    """Evaluation prompts of the behaviour that a saved model was edited for.

    Raises:
        UserError: They are not here.
    """
    from heretic.prompts.packs import find_pack
    from heretic.prompts.sources import load_prompt_set

    behavior = str(manifest.get("behavior", "")).split(",")[0]
    try:
        pack = find_pack(behavior)
        return load_prompt_set("bad_evaluation_prompts", pack.prompts["bad_evaluation_prompts"], None).prompts
    except UserError as error:
        raise UserError(f"The prompts of {behavior} are not here ({error}) Name others with --prompts FILE.") from error


def _answering(
    runner: "ModelRunner", prompts: "Sequence[Prompt]", tokens: int, unless: str = ""
) -> "Callable[[], list[str]]":
    """What answers the prompts by the model as it is then; asked of the original one."""
    from heretic.passes.choose import choose

    if not prompts:
        return list
    rows = [runner.encode(prompt) for prompt in prompts]
    passes = choose(runner, rows, max(map(len, rows)) + tokens, unless, "answering").passes
    return lambda: [answer.text for answer in passes.answers(rows, tokens, "answering")]


def _print(
    scores: "Mapping[str, Scores]",
    prompts: "Sequence[Prompt]",
    answers: Mapping[str, Sequence[str]],
    printer: "Printer",
    difference: str = "",
) -> None:
    from heretic.interface.formatting import Row
    from heretic.results.tables import side_by_side

    kinds = {tuple(score.name for score in each) for each in scores.values()}
    if len(kinds) == 1:
        printer.rows([Row("Scores", table=side_by_side(scores))])
        if difference:
            printer.row("", difference)
    else:
        printer.row("Scores", "are of different behaviours, so they do not stand side by side")
    for place, prompt in enumerate(prompts):
        printer.line()
        printer.text(f"> {prompt.user}")
        for name, texts in answers.items():
            printer.row(Path(name).name, " ".join(texts[place].split()) or "(nothing)")


COMMAND = Command(
    "compare",
    CompareArguments,
    run,
    summary="Put two saved models, or two trials, side by side.",
    description="""\
Put two models that Heretic saved, or two trials of a study by their numbers,
side by side: their scores, and their answers to the same prompts (of a study
the original model's as well).
""",
    examples={
        "out other": "The models in these folders.",
        "3 12": "Trials of the latest study of this folder.",
        "out other --prompts mine.txt --count 10": "Their answers to prompts of your own.",
    },
    exit_codes="0 done, 1 failed, 2 something given cannot be used, 130 interrupted.",
)
