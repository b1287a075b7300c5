"""Record what `heretic demo` prints: writes docs/demo.svg, and prints the lines that README has.

The run is a real one, in a folder and with a home of its own; most trials are left out of what is shown.
"""

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

COMMAND = ("demo", "--n-trials", "40", "--auto-select", "--auto-select-path", "out")
PICTURE = Path(__file__).parents[1] / "docs" / "demo.svg"
WIDTH = 100
SHOWN = re.compile(
    r"Model|Loaded|Baseline|Search|trial +([1-4]|3[89]|40)/|  +best|Held out|  +(Measure|refusals|change|KL)|Saved"
)


def main() -> None:
    """Run, choose lines, draw."""
    with TemporaryDirectory() as folder:
        own = {"HOME": folder, "XDG_CONFIG_HOME": folder, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
        command = [sys.executable, "-m", "heretic", *COMMAND]
        run = subprocess.run(  # noqa: S603 - our own program
            command, cwd=folder, env={**os.environ, **own}, capture_output=True, text=True, check=True
        )
        printed = run.stdout.replace(f"{Path(folder).resolve()}/", "")
    lines = [line for line in map(Text.from_ansi, printed.splitlines()) if SHOWN.match(line.plain)]
    console = Console(record=True, width=WIDTH, file=StringIO())
    console.print(f"[bold]$ heretic {' '.join(COMMAND)}[/]")
    for line in lines:
        console.print(line)
        sys.stdout.write(f"{line.plain}\n")
    picture = console.export_svg(title="heretic")
    # Its fonts would come from another host; a reader's own fixed-width font serves.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
