"""The card's table of the confirmation on held-out prompts."""

from heretic.export.markdown import table
from heretic.results.held_out import HeldOut
from heretic.results.held_out_text import HEADER, origin, sections
from heretic.results.score import Scores


def held_out_section(held_out: HeldOut, searched: Scores | None, quantization: str) -> str:
    """A section of the card, in markdown."""
    several = len(held_out.behaviors) > 1
    rows = []
    for title, lines in sections(held_out, searched):
        rows += [(f"**{title}**", *[""] * (len(HEADER) - 1))] if several else []
        rows += lines
    where = "" if quantization == "none" else f" It was measured on the weights quantised with `{quantization}`."
    return (
        "## Confirmed on held-out prompts\n\n"
        f"The chosen edit was measured once on prompts {origin(held_out)}, with answers of up to {held_out.tokens} "
        f"tokens. An edit that only delays a behaviour shows it at the larger lengths.{where}\n\n"
        "The change in pairs is that of the longest answers to the same prompts. Degenerate answers are empty, looping "
        "or in another script than the base model's. Perplexity is that of the base model reading the answers.\n\n"
        f"{table(HEADER, rows)}"
    )
