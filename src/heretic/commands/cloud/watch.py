"""``heretic cloud watch``: a run on a machine, live."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heretic.commands.base import Command, number, option, positional
from heretic.commands.cloud.base import Account, CloudArguments, account
from heretic.common.errors import CloudError

if TYPE_CHECKING:
    from heretic.cloud.fetch import Fetcher
    from heretic.cloud.machines import Machine
    from heretic.interface.formatting import Row
    from heretic.interface.printer import Printer

_FETCH_SECONDS = 300.0


_INTERVAL = number("a number of seconds from 1 to 3600", 1, 3600)


@dataclass(frozen=True, slots=True)
class WatchArguments(CloudArguments):
    """What is asked for."""

    machine: tuple[str, ...] = positional("[MACHINE ...]")
    interval: float = option("SECONDS", "How often to look. [10]", default=10.0, read=_INTERVAL)


def run(arguments: WatchArguments, printer: "Printer") -> int:
    """Show a run until it is over or the machine is gone; returns the exit code.

    Raises:
        CloudError: The machine is gone, or cannot be used.
    """
    ours = account(arguments)
    watches = [_Watch(ours, machine) for machine in ours.machines(arguments.machine)]
    printer.pages(_together(watches, arguments.interval))
    for watch in watches:
        printer.line(watch.ended)
    return 0 if all(watch.code == 0 for watch in watches) else 1


def _together(watches: "Sequence[_Watch]", interval: float) -> "Iterator[list[Row]]":
    """The pages of several machines below each other, until all runs are over.

    Raises:
        CloudError: The only machine is gone, or cannot be used; of several the others are watched on.
    """
    pages = [(watch, watch.pages()) for watch in watches]
    while pages:
        for watch, looks in pages:
            try:
                watch.shown = next(looks)
            except CloudError as error:
                if len(watches) == 1:
                    raise
                watch.ends(str(error), 1)
        yield [row for watch in watches for row in watch.shown]
        pages = [(watch, looks) for watch, looks in pages if not watch.ended]
        if pages:
            time.sleep(interval)


class _Watch:
    """Looks again and again; a connection that is lost is made anew."""

    def __init__(self, ours: Account, machine: "Machine") -> None:
        self._ours = ours
        self._machine = machine
        self._fetched = 0.0
        self._found: dict[str, Any] | None = None
        self.shown: list[Row] = []
        self.ended = ""
        self.code = 0

    def ends(self, text: str, code: int) -> None:
        """Nothing more comes."""
        self.ended, self.code = text, code

    def pages(self) -> "Iterator[list[Row]]":
        """The pages that are shown, until the run is over."""
        from heretic.cloud.shell import Unreachable
        from heretic.interface.cloud_lines import look_rows, lost_row

        self._look_whether_it_is_there()
        while True:
            try:
                yield from self._connected()
                return
            except Unreachable as error:
                rows = [] if self._found is None else look_rows(self._machine, self._found, time.time())
                yield [*rows, lost_row(str(error))]
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
                if over:
                    code = int(found["job"].get("exit_code") or 0) if found["job"]["state"] == "finished" else 1
                    self.ends(f"{self._machine.name}: {job_text(found)}. {self._next_step(found)}", code)
                yield look_rows(self._machine, found, time.time())
                if over:
                    return

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
            reason = "because somebody bid more for it" if machine.interruptible else "by itself or by somebody else"
            raise CloudError(
                f"The machine {machine.name} was stopped, {reason}; its disk is still paid for. "
                f"'{program} terminate' gives it back, '{program} start' lets it run again; {resume}."
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
    summary="Show runs live until they are over, and fetch their studies.",
    description="""\
Show a run live, or those of several machines below each other: trials by state,
the front, GPUs, memory, disk, cost so far, and when it will be done at which
cost. A lost connection is made anew. The study is fetched every five minutes.
Ctrl+C ends watching alone.""",
    examples={"": "All machines.", "first second --interval 5": "Two of them, every five seconds."},
    exit_codes="0 the run did what it was to, 1 it failed or the machine is gone, 130 interrupted.",
)
