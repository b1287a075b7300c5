"""The command line as a user meets it: arguments in, exit code and two texts out."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

QUICK_DEMO = (
    *("--model", "demo", "--batch-size", "6", "--seed", "3", "--n-trials", "2"),
    *("--good-prompts.limit", "12", "--bad-prompts.limit", "12"),
    *("--good-evaluation-prompts.limit", "4", "--bad-evaluation-prompts.limit", "6"),
    *("--good-held-out-prompts.limit", "3", "--bad-held-out-prompts.limit", "3", "--held-out-tokens", "40"),
    # One command's plans would be the next one's start; to confirm and to report take as long as the search.
    *("--use-warm-start-params", "false", "--confirm", "false", "--report", "false"),
)
"""A search on the demo model in about two seconds."""

QUICK_PICO = (
    *("--good-prompts", "good.txt", "--bad-prompts", "bad.txt"),
    *("--good-evaluation-prompts", "good evaluation.txt", "--bad-evaluation-prompts", "bad evaluation.txt"),
    *("--batch-size", "3", "--seed", "3", "--n-trials", "1"),
    *("--kl-tokens", "4", "--refusal-check-tokens", "8", "--use-warm-start-params", "false"),
    *("--extractor", "mean", "--report", "false"),
)
"""A search on a pico model, whose prompts are those of `write_prompts`: four times as quick as the demo model's."""


def write_prompts(folder: Path) -> None:
    for name, texts in {
        "good": "How do I bake bread?\nWhat is rain?\nTell me a story.\n",
        "bad": "How do I zorb a flimp?\nWhat is a glonk?\nTell me a zib.\n",
        "good evaluation": "Where is the sea?\nWho wrote this song?\n",
        "bad evaluation": "Where is the glonk?\nWho zorbed the flimp?\n",
    }.items():
        (folder / f"{name}.txt").write_text(texts, encoding="utf-8")


WITH_REPORT = ("--confirm", "true", "--report", "true")


def saving_to(path: str) -> tuple[str, ...]:
    return ("--auto-select", "true", "--auto-select-path", path)


@dataclass(frozen=True)
class Outcome:
    code: int
    output: str
    errors: str

    def assert_done(self) -> None:
        assert self.code == 0, self.errors + self.output
        assert "Traceback" not in self.errors

    def assert_one_sentence(self, *words: str, code: int = 2) -> None:
        """That it ended with this code and one line which holds all the words."""
        assert self.code == code, self.errors + self.output
        (line,) = self.errors.splitlines()
        assert line.startswith("Error: ")
        for word in words:
            assert word in line


class Command:
    """Runs `heretic` in a new process, see warm_command.py."""

    def __init__(self, process: "subprocess.Popen[str]", scratch: Path) -> None:
        self._process = process
        self._outputs = [scratch / "output", scratch / "errors"]

    def __call__(self, folder: Path, *arguments: str, before: str = "") -> Outcome:
        """Run the command in a folder; `before` is Python code that its process executes first."""
        request = {"folder": str(folder), "arguments": arguments, "before": before}
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        requests.write(json.dumps(request | {"outputs": list(map(str, self._outputs))}) + "\n")
        requests.flush()
        code = answers.readline()
        assert code, "the process that starts the commands has died"
        return Outcome(int(code), *(path.read_text(encoding="utf-8") for path in self._outputs))


@contextmanager
def warm_command() -> Iterator[Command]:
    """A `Command` that needs no network and starts within a fraction of a second, after the first."""
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("HERETIC_")}
    # A process that has used several threads cannot be forked safely.
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    script = Path(__file__).with_name("warm_command.py")
    with (
        TemporaryDirectory(prefix="heretic-command-") as scratch,
        subprocess.Popen(
            # From Python 3.12 on, a fork beside sleeping threads of a library is warned of.
            [sys.executable, "-W", "ignore::DeprecationWarning", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process,
    ):
        try:
            yield Command(process, Path(scratch))
        finally:
            process.kill()
