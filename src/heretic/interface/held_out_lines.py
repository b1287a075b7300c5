"""The confirmation on held-out prompts, as the terminal shows it."""

from heretic.interface.formatting import clean_line, duration, plural, trial_number
from heretic.interface.rows import Row, rows
from heretic.interface.scores import scores_text
from heretic.observability import events
from heretic.results.held_out_text import origin, sections


@rows.register
def _(event: events.HeldOutMeasured) -> list[Row]:
    took = f"; {duration(event.seconds)}" if event.seconds else ""
    parts = sections(event.held_out, None)
    lines = [line for _title, own in parts for line in own]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    widths[1] = max(widths[1], len("unedited"))
    found = [
        Row("Held out", f"trial {trial_number(event.number)}{took}"),
        Row("", f"prompts {origin(event.held_out)}"),
        Row("", f"answers of up to {plural(event.held_out.tokens, 'token')}"),
        Row("", f"in the search: {scores_text(event.searched)}"),
        Row("", f"{'':{widths[0]}}  {'unedited':>{widths[1]}}  edited"),
    ]
    several = len(event.held_out.behaviors) > 1
    for title, own in parts:
        found += [Row("", clean_line(title))] if several else []
        found += [Row("", f"{line[0]:{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]}") for line in own]
    return found
