"""The chat page as a terminal shows it: where it is, until Ctrl+C."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from heretic.web import HISTORY, MODELS
from heretic.web.desk import Desk
from heretic.web.history import History
from heretic.web.manager import ModelManager
from heretic.web.page import Page
from heretic.web.server import LOOPBACK, Address, find_address
from heretic.web.trials import StudyTrials

if TYPE_CHECKING:
    from heretic.interface.printer import Printer
    from heretic.session import Session


def serve(page: Page, address: Address, printer: "Printer") -> None:
    """Serve a page until Ctrl+C."""
    served = page.serve(address)
    printer.row("Page", address.url)
    if address.host != LOOPBACK:
        printer.row("", f"Other machines can use it at {address.host}, with the name and password of --auth.")
    printer.line("Open that address in a browser on this machine; Ctrl+C here ends it.")
    try:
        Event().wait()
    except KeyboardInterrupt:
        printer.line("Ended.")
    finally:
        served.close(verbose=False)


def talk_to_trials(
    session: "Session", printer: "Printer", address: Address | None = None, history: Path | None = None
) -> None:
    """Serve a page for the trials of a session until Ctrl+C; the suggested one answers at first.

    Args:
        session: Its model stays as it is, unedited.
        printer: Says where the page is.
        address: None for this machine's usual one.
        history: Folder of kept conversations; None for the usual one here.

    Raises:
        UserError: Gradio is not installed, or these trials cannot answer beside the original.
    """
    trials = StudyTrials(session)
    manager = ModelManager(session.bench.settings)
    desk = Desk(manager, Path(MODELS), Path.cwd(), None, None, History(history or Path(HISTORY)), trials)
    try:
        if trials.suggested is not None:
            desk.choose(trials.suggested)
        serve(Page(desk, None, compare=False), address or find_address(None, None, None), printer)
    finally:
        manager.unload()
