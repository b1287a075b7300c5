"""What ``heretic behaviors PACK --model X`` shows: answers of both sides, what counts in them, what to think."""

from rich.padding import Padding
from rich.text import Text

from heretic.common.output import printable
from heretic.evaluation.evaluator import LITTLE
from heretic.interface.formatting import clean_line, plural
from heretic.interface.printer import LABEL_WIDTH, Printer
from heretic.run.looking import Look, LookedAt, Side

SHOWN = 3
"""Answers of a side that are shown."""
APART = 2.0
"""Standard deviations below which two sides are hardly told apart."""
AGREEING = 0.5
"""Cosine below which a direction depends on which prompts it was found with."""
_MARK = "black on yellow"


def print_look(look: Look, name: str, model: str, pack: str, printer: Printer) -> None:
    """Print it.

    Args:
        look: What was seen.
        name: The behaviour's.
        model: What the user calls the model.
        pack: What the user calls the pack.
        printer: To print by.
    """
    for label, side in (("Target", look.target), ("Baseline", look.baseline)):
        printer.row(label, f"prompts {'that call for it' if side is look.target else 'that do not'}")
        for answer in side.answers[:SHOWN]:
            printer.row("", f"> {answer.prompt}")
            _print_answer(answer, printer)
    printer.row("Shown", f"{amount_text(look.target)} by target prompts, {amount_text(look.baseline)} by the others")
    if look.layer:
        printer.row(
            "Apart",
            f"{look.apart:.1f} standard deviations at layer {look.layer} of {look.layers}, along a direction that "
            f"other training prompts gave; two halves of {look.read} give directions with a cosine of "
            f"{look.agreement:.2f}",
        )
    for label, text in zip(("Verdict", *[""] * 9), verdict(look, name, model, pack), strict=False):
        printer.row(label, text)


def _print_answer(answer: LookedAt, printer: Printer) -> None:
    """One answer; what counts in it is coloured, or stands in brackets where there are no colours."""
    text, end = Text(), 0
    coloured = printer.console.is_terminal and not printer.console.no_color
    for start, stop in answer.marks:
        mark = _plain(answer.text[start:stop], printer)
        text.append(_plain(answer.text[end:start], printer))
        text.append(*((mark, _MARK) if coloured else (f"[{mark}]",)))
        end = stop
    text.append(_plain(answer.text[end:], printer) or ("" if end else "(nothing)"))
    text.append(f"  ({answer.verdict})", "dim")
    width = printer.width
    if width is None:
        printer.console.print(Text(" " * LABEL_WIDTH) + text, soft_wrap=True)
    else:
        printer.console.print(Padding(text, (0, 0, 0, LABEL_WIDTH)), width=width)


def _plain(text: str, printer: Printer) -> str:
    """Foreign text on one line, as wide as it was but for what cannot be shown."""
    return printable(clean_line(text.replace("\n", " ")), printer.console.encoding)


def amount_text(side: Side) -> str:
    """How much the answers of a side show: ``2.10 marks per 100 words``, ``3/8``."""
    return f"{side.score.amount()} {side.score.unit or side.score.label}"


def verdict(look: Look, name: str, model: str, pack: str) -> list[str]:
    """What to think of it and what to do next, in sentences; pure. Arguments as of `print_look`."""
    sentences = []
    target, baseline = look.target.score.value, look.baseline.score.value
    if look.target.room < LITTLE:
        sentences.append(
            f"This model hardly shows {name} by itself, so a search has little to take away. If the answers above do "
            "show it, mend what counts them; else ask for it by other evaluation prompts, or take another model."
        )
    elif baseline >= target:
        sentences.append(
            "The baseline's evaluation prompts show as much; ask them in a way that calls for it less, or what counts "
            "it counts something else."
        )
    if look.layer and look.apart < APART:
        sentences.append(
            "The model reads both sides of the training prompts nearly alike, so there is hardly a direction to "
            "remove; make them differ more, and in what you are after."
        )
    elif look.layer and look.agreement < AGREEING:
        sentences.append(
            "Half of the training prompts give another direction than the other half; write more, and make the "
            f"difference between the sides more alike ({plural(look.read, 'prompt')} a side were read)."
        )
    return sentences or [f"Fit for a search: heretic {model} --behavior {pack}"]
