"""The confirmation on held-out prompts, as the terminal shows it."""

from heretic.held_out_text import table
from heretic.interface.formatting import duration, plural, trial_number
from heretic.interface.rows import Row, rows
from heretic.interface.scores import scores_text
from heretic.observability import events


@rows.register
def _(event: events.HeldOutMeasured) -> list[Row]:
    lines = table(event.held_out)
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    widths[1] = max(widths[1], len("unedited"))
    found = [
        Row(
            "Held out",
            f"trial {trial_number(event.number)} on prompts that nothing was chosen with; {duration(event.seconds)}",
        ),
        Row("", f"answers of up to {plural(event.held_out.tokens, 'token')}"),
        Row("", f"in the search: {scores_text(event.searched)}"),
        Row("", f"{'':{widths[0]}}  {'unedited':>{widths[1]}}  edited"),
    ]
    return found + [
        Row("", f"{what:{widths[0]}}  {base:>{widths[1]}}  {edited}") for what, base, edited, _prompts in lines
    ]
