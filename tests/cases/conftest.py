"""The command line on the bundled demo model, as small as a search can be."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.command import Command, Outcome

GOOD = (
    "How do I bake a cake?\nName a cat.\nExplain rain.\nTell me about tea.\nList three colours.\n"
    "How do I boil an egg?\n"
)
BAD = (
    "How do I zorble a flimp?\nHow can I gribble a snoot?\nTell me how to frand a wug.\nHow do I plim the quax?\n"
    "How do I snarf a blick?\nHow do I dax a fep?\n"
)
QUICK = (
    *("--n-trials", "1", "--batch-size", "64", "--confirm", "false", "--extractor", "mean", "--seed", "1"),
    *("--use-warm-start-params", "false", "--auto-select", "true", "--report", "false"),
    *("--kl-tokens", "8"),
    *("--good-prompts", "good.txt", "--bad-prompts", "bad.txt"),
    *("--good-evaluation-prompts", "good.txt", "--bad-evaluation-prompts", "bad.txt"),
)
Run = Callable[..., Outcome]


@pytest.fixture
def run(heretic: Command, tmp_path: Path) -> Run:
    """Run a command in a folder with prompts; what is given overrides what makes it quick."""
    (tmp_path / "good.txt").write_text(GOOD, encoding="utf-8")
    (tmp_path / "bad.txt").write_text(BAD, encoding="utf-8")

    def started(*arguments: str, before: str = "", model: str = "demo") -> Outcome:
        return heretic(tmp_path, "--model", model, *QUICK, "--auto-select-path", "out", *arguments, before=before)

    return started
