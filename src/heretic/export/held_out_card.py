"""The card's table of the confirmation on held-out prompts."""

from heretic.export.markdown import table
from heretic.held_out import HeldOut
from heretic.held_out_text import HEADER, sections
from heretic.score import Scores


def held_out_section(held_out: HeldOut, searched: Scores, quantization: str) -> str:
    """A section of the card, in markdown."""
    several = len(held_out.behaviors) > 1
    rows = []
    for title, lines in sections(held_out, searched):
        rows += [(f"**{title}**", *[""] * (len(HEADER) - 1))] if several else []
        rows += lines
    where = "" if quantization == "none" else f" It was measured on the weights quantised with `{quantization}`."
    return (
        "## Confirmed on held-out prompts\n\n"
        "The chosen edit was measured once on prompts that neither the directions nor the search had seen, "
        f"with answers of up to {held_out.tokens} tokens. An edit that only delays a behaviour shows it at the larger "
        f"lengths.{where}\n\n"
        "Degenerate answers are empty, looping, or in another script than the base model's (how many of each stands in "
        "brackets). Perplexity is that of the base model reading the answers.\n\n"
        f"{table(HEADER, rows)}"
    )
