"""Memory in use, and what is said when it runs out."""

import psutil
import pytest
import torch
from tests.unit.passes.pico_runner import make_runner

from heretic.common.errors import OutOfMemoryError
from heretic.models.memory import USAGE, RanOut, attempt, halving, memory_ran_out, memory_text, memory_use
from heretic.observability.events import Event, MemoryRanOut, subscribed
from heretic.passes.calibration import backing_off
from heretic.passes.runner import ModelRunner

FAMILY = "llama"


def test_host_memory_is_that_of_this_process() -> None:
    block = bytearray(50_000_000)
    host = memory_use()["host"]
    used = psutil.Process().memory_info().rss
    assert len(block) < host["used_bytes"] <= host["peak_bytes"]
    assert host["used_bytes"] == pytest.approx(used, rel=0.2)
    assert 0 < host["available_bytes"] <= psutil.virtual_memory().total


def test_a_place_is_a_part_of_one_line() -> None:
    device = {"used_bytes": 78_200_000_000, "reserved_bytes": 1, "peak_bytes": 79_000_000_000, "available_bytes": 4e8}
    assert memory_text({"host": {"used_bytes": 1_500_000_000, "available_bytes": 0}, "cuda:0": device}) == (
        "host 1.5 GB used, 0.0 GB free; cuda:0 78.2 GB used, 0.0 GB reserved, at most 79.0 GB, 0.4 GB free"
    )


def test_running_out_is_counted_and_reported() -> None:
    seen: list[Event] = []
    before = USAGE.out_of_memory
    with subscribed(seen.append):
        found = memory_ran_out(torch.device("cpu"), "measuring")
    assert USAGE.out_of_memory == before + 1
    (event,) = seen
    assert isinstance(event, MemoryRanOut)
    assert event.doing == "measuring"
    assert event.memory["host"]["used_bytes"] > 0
    assert found.used.startswith("host ")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), OSError(12, "no room")])
def test_an_attempt_ends_in_its_result_or_in_that_memory_ran_out(error: Exception) -> None:
    def fail(error: Exception) -> None:
        raise error

    assert attempt(lambda: 3, torch.device("cpu"), "measuring") == 3
    assert isinstance(attempt(lambda: fail(error), torch.device("cpu"), "measuring"), RanOut)
    with pytest.raises(ValueError, match="other"):
        attempt(lambda: fail(ValueError("other")), torch.device("cpu"), "measuring")


def test_what_fits_in_the_end_is_done_from_its_beginning() -> None:
    tried: list[int] = []

    def work(size: int) -> str:
        tried.append(size)
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert halving(11, work, torch.device("cpu"), "measuring") == ("done", 2)
    assert tried == [11, 5, 2]


def test_the_error_says_what_was_used() -> None:
    def work(_runner: ModelRunner) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    runner = make_runner(FAMILY, batch_size=2)
    seen: list[Event] = []
    with subscribed(seen.append), pytest.raises(OutOfMemoryError, match=r"while counting, .*\(host [\d.]+ GB used"):
        backing_off(runner, work, "counting")
    assert sum(isinstance(event, MemoryRanOut) for event in seen) == 2


def test_tokens_that_go_through_a_model_are_counted() -> None:
    runner = make_runner(FAMILY)
    before = USAGE.tokens
    list(runner.teacher_forced_batch([[1, 2, 3], [4]], [(5, 6), (7,)]))
    # Three and one of the prompts, and the one forced token that is read: the last of each is only predicted.
    assert USAGE.tokens == before + 5
