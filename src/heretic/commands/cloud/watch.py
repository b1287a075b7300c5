"""``heretic cloud watch``: a run on a machine, live."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heretic.commands.base import Command, option
from heretic.commands.cloud.base import Account, MachineArguments, account
from heretic.common.errors import CloudError

if TYPE_CHECKING:
    from heretic.cloud.fetch import Fetcher
    from heretic.cloud.machines import Machine
    from heretic.interface.formatting import Row
    from heretic.interface.printer import Printer

_FETCH_SECONDS = 300.0


def _seconds(text: str) -> float:
    expected = "a number of seconds from 1 to 3600"
    try:
        seconds = float(text)
    except ValueError as error:
        raise ValueError(expected) from error
    if not 1 <= seconds <= 3600:
        raise ValueError(expected)
    return seconds


@dataclass(frozen=True, slots=True)
class WatchArguments(MachineArguments):
    """What is asked for."""

    interval: float = option("SECONDS", "How often to look. [10]", default=10.0, read=_seconds)


def run(arguments: WatchArguments, printer: "Printer") -> int:
    """Show a run until it is over or the machine is gone; returns the exit code.

    Raises:
        CloudError: The machine is gone, or cannot be used.
    """
    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    watch = _Watch(ours, machine, arguments.interval)
    printer.pages(watch.pages())
    printer.line(watch.ended)
    return 0 if watch.code == 0 else 1


class _Watch:
    """Looks again and again; a connection that is lost is made anew."""

    def __init__(self, ours: Account, machine: "Machine", interval: float) -> None:
        self._ours = ours
        self._machine = machine
        self._interval = interval
        self._fetched = 0.0
        self._found: dict[str, Any] | None = None
        self.ended = ""
        self.code = 0

    def pages(self) -> "Iterator[list[Row]]":
        """The pages that are shown, until the run is over."""
        from heretic.cloud.shell import Unreachable
        from heretic.interface.cloud_lines import look_rows, lost_row

        while True:
            try:
                yield from self._connected()
                return
            except Unreachable as error:
                rows = [] if self._found is None else look_rows(self._machine, self._found, time.time())
                yield [*rows, lost_row(str(error))]
            time.sleep(self._interval)
            self._look_whether_it_is_there()

    def _connected(self) -> "Iterator[list[Row]]":
        from heretic.cloud.fetch import Fetcher
        from heretic.cloud.work import site_on
        from heretic.interface.cloud_lines import job_text, look_rows

        access = self._ours.access()
        with site_on(access, self._machine) as site:
            fetcher = Fetcher(site, access, self._machine, lambda _text: None)
            while True:
                found = self._found = site.look()
                over = found["job"]["state"] != "running"
                self._fetch_study(fetcher, found, over)
                yield look_rows(self._machine, found, time.time())
                if over:
                    self.code = int(found["job"].get("exit_code") or 0) if found["job"]["state"] == "finished" else 1
                    self.ended = f"{job_text(found)}. {self._next_step(found)}"
                    return
                time.sleep(self._interval)

    def _fetch_study(self, fetcher: "Fetcher", found: dict[str, Any], now: bool) -> None:
        """Fetch the study every few minutes, so that a machine that is taken away takes little with it."""
        from heretic.cloud.fetch import models_folder, study_folder

        if found["status"] is not None and (now or time.monotonic() - self._fetched >= _FETCH_SECONDS):
            fetcher.remember({}, fetcher.study(study_folder(models_folder(os.environ, Path.cwd()), self._machine)))
            self._fetched = time.monotonic()

    def _look_whether_it_is_there(self) -> None:
        """Ask the provider; a new address is used.

        Raises:
            CloudError: The machine is gone, or was stopped.
        """
        from heretic.cloud.machines import State
        from heretic.cloud.provider import AnswerLost, TooManyRequests

        program = self._ours.program
        try:
            machine = self._ours.provider.machine(self._machine.id)
        except (AnswerLost, TooManyRequests):
            return
        resume = f"'{program} run MODEL --resume' goes on elsewhere with the study that was fetched last"
        if machine is None:
            raise CloudError(f"The machine {self._machine.name} is gone. {resume}.")
        if machine.state is State.STOPPED:
            raise CloudError(
                f"The machine {machine.name} was stopped, by itself or because somebody paid more for it; its disk is "
                f"still paid for. '{program} start' lets it run again; {resume}."
            )
        if machine.endpoint is not None:
            self._machine = machine

    def _next_step(self, found: dict[str, Any]) -> str:
        program = self._ours.program
        if found["models"]:
            return f"'{program} download' fetches the model."
        return f"'{program} connect' looks at it, '{program} terminate' gives the machine back."


COMMAND = Command(
    "watch",
    WatchArguments,
    run,
    summary="Show a run live until it is over, and fetch its study now and then.",
    description="""\
Show a run live: trials by state, the front, GPUs, memory, disk, cost so far,
and when it will be done at which cost. A lost connection is made anew. The
study is fetched every five minutes. Ctrl+C ends watching alone.""",
    examples={"--interval 5": "Look every five seconds."},
    exit_codes="0 the run did what it was to, 1 it failed or the machine is gone, 130 interrupted.",
)
