"""Peak host memory of every step of a run, as a multiple of the model's weights; of a peer's whole run.

`python benchmarks/memory.py -- [heretic arguments]` runs Heretic in this process. The kernel's peak (VmHWM) is read and
reset (Linux, /proc/self/clear_refs) whenever a step begins, moves or ends, so each gets the peak of its own time.
Beside it stands the peak of anonymous memory: pages of files that are mapped count in VmHWM while they happen to be
in memory, but the system can take them back at any time. That one is looked at ten times a second, so it may miss an
instant.

`python benchmarks/memory.py --build FOLDER --hidden 1024 --layers 12` writes a random Llama with the demo's tokenizer.

`python benchmarks/memory.py --weights BYTES --command PROGRAM ARGUMENTS...` runs any program and gives the most that
it and its children had together.
"""

import argparse
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # comes with accelerate, without types

from heretic.observability.events import Event, ModelLoaded, subscribed
from heretic.observability.events.steps import StepEvent

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
SAMPLE_SECONDS = 0.1
PHASES = (
    ("loading torch and transformers", "imports"),
    ("loading weights", "loading"),
    ("finding a batch size", "calibration"),
    ("a common response prefix", "calibration"),
    ("answering training prompts", "refinement"),
    ("refining", "refinement"),
    ("keeping original weights", "keeping weights"),
    ("loading what was saved", "verifying"),
    ("writing", "saving"),
    ("saving", "saving"),
    ("checking the front", "front check"),
    ("applying trial", "applying"),
    ("confirming", "confirming"),
    ("preparing the batched engine", "engine"),
    ("original model's", "baseline"),
    ("searching", "search"),
    ("preparing", "directions and the rest of preparing"),
)
"""What a step's words contain, the innermost step first, and the row of the table that it belongs to."""


def memory(name: str) -> int:
    """One entry of this process's status, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def phase_of(steps: Sequence[str]) -> str:
    """The row of the table for steps that run, innermost first."""
    # What is confirmed measures an original model, too, as the baseline does.
    for doing in ("confirming", *steps) if "confirming" in steps else steps:
        for words, phase in PHASES:
            if words in doing:
                return phase
    return "between steps"


class Peaks:
    """By phase, the highest VmHWM and RssAnon in bytes, in the order in which phases came."""

    def __init__(self) -> None:
        self.resident: dict[str, int] = {}
        self.anonymous: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.parameters = 0
        self.dtype = ""
        self._running: list[str] = []
        self._phase = "imports"
        self._since = time.monotonic()
        self._lock = threading.Lock()
        CLEAR.write_text(RESET_PEAK, encoding="ascii")

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        if isinstance(event, ModelLoaded):
            self.parameters, self.dtype = event.parameter_count, event.dtype
        if not isinstance(event, StepEvent):
            return
        self.close()
        ended = type(event).__name__ == "StepEnded"
        self._phase = phase_of([*(() if ended else (event.doing,)), *reversed(event.within)])

    def close(self) -> None:
        """Count what was used since the last event."""
        with self._lock:
            peak, now = memory("VmHWM"), time.monotonic()
            CLEAR.write_text(RESET_PEAK, encoding="ascii")
            self.resident[self._phase] = max(self.resident.get(self._phase, 0), peak)
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
            self._since = now
        self.sample()

    def sample(self) -> None:
        """Look at the anonymous memory."""
        self.anonymous[self._phase] = max(self.anonymous.get(self._phase, 0), memory("RssAnon"))


def ours(arguments: Sequence[str]) -> None:
    """Run Heretic and print the table."""
    peaks, ended = Peaks(), threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            peaks.sample()

    from heretic.cli import main as heretic

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with subscribed(peaks, steps=True):
        code = heretic(list(arguments))
    peaks.close()
    ended.set()
    watcher.join()
    width = {"float64": 8, "float32": 4}.get(peaks.dtype, 2)
    weights = peaks.parameters * width
    print(f"\nexit code {code}; weights {weights / 1e9:.2f} GB ({peaks.dtype})\n")
    print("| step | peak GB | x weights | anonymous GB | x weights | s |\n|---|---|---|---|---|---|")
    for phase, resident in peaks.resident.items():
        row(phase, resident, peaks.anonymous.get(phase, 0), weights, peaks.seconds[phase])
    whole = max(peaks.resident.values()), max(peaks.anonymous.values())
    row("**whole run**", *whole, weights, sum(peaks.seconds.values()))


def row(name: str, resident: int, anonymous: int, weights: int, seconds: float) -> None:
    """One line of the table; bytes, and seconds."""
    cells = [f"{part / 1e9:.2f} | {part / max(weights, 1):.2f}" for part in (resident, anonymous)]
    print(f"| {name} | {cells[0]} | {cells[1]} | {seconds:.0f} |")


def other(command: Sequence[str], weights: int) -> None:
    """Run any program, and print the most that it and its children had together, and how much of it was anonymous."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    resident = anonymous = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        uses = []
        with suppress(psutil.NoSuchProcess):
            uses = [part.memory_info() for part in (watched, *watched.children(recursive=True))]
        resident = max(resident, sum(use.rss for use in uses))
        anonymous = max(anonymous, sum(use.rss - use.shared for use in uses))
        time.sleep(SAMPLE_SECONDS)
    print(f"exit code {process.returncode}")
    row(Path(command[0]).name, resident, anonymous, weights, time.monotonic() - started)


def build(folder: Path, hidden: int, layers: int, vocabulary: int, dtype: str) -> None:
    """Write a random Llama of a shape with the demo model's tokenizer and chat template."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from heretic.models.demo import DEMO_MODEL_FOLDER

    configuration = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 4,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(hidden // 256, 1),
        dtype=dtype,
    )
    torch.manual_seed(0)
    with torch.device("meta"):
        model = LlamaForCausalLM(configuration)
    model = model.to(getattr(torch, dtype)).to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02 if parameter.dim() > 1 else 0.0)
        if parameter.dim() == 1:
            torch.nn.init.ones_(parameter)
    model.save_pretrained(folder, max_shard_size="500MB")
    AutoTokenizer.from_pretrained(DEMO_MODEL_FOLDER).save_pretrained(folder)


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, help="write a random model into this folder")
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--dtype", default="bfloat16", help="of the files that --build writes")
    parser.add_argument("--weights", type=int, default=0, help="bytes of the weights that --command's program has")
    parser.add_argument("--command", nargs=argparse.REMAINDER, help="another program, whose whole run is measured")
    parser.add_argument("arguments", nargs="*", help="of heretic, behind --")
    options = parser.parse_args()
    if options.build is not None:
        build(options.build, options.hidden, options.layers, options.vocabulary, options.dtype)
    elif options.command:
        other(options.command, options.weights)
    else:
        ours(options.arguments)


if __name__ == "__main__":
    main()
