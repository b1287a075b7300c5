"""``heretic chat``: a page in the browser to talk to models, an edited one beside its original."""

import logging
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, positional, switch
from heretic.common.errors import ConfigurationError
from heretic.common.file_names import expanded

if TYPE_CHECKING:
    from heretic.interface.printer import Printer

_HIGHEST_PORT = 65535


def _port(text: str) -> int:
    expected = f"a number from 1 to {_HIGHEST_PORT}"
    if not text.isdecimal() or not 1 <= int(text) <= _HIGHEST_PORT:
        raise ValueError(expected)
    return int(text)


@dataclass(frozen=True, slots=True)
class ChatArguments:
    """What is asked for."""

    folder: str | None = positional("[FOLDER]")
    model: str | None = option(
        "MODEL", "Model to talk to (hub id, folder, GGUF file, demo); with --compare what FOLDER was made from."
    )
    compare: bool = switch("Have FOLDER answer beside the model it was made from, which its manifest names.")
    models_dir: str = option("DIR", "Folder whose folders and GGUF files are offered.", default="models")
    history: str = option("DIR", "Folder that conversations are kept in; they never leave it.", default="chat_history")
    device: str = option("DEVICE", "Device to compute on, as in a run. [the best one there is]", default="auto")
    port: int | None = option("N", "Port. [7860, or the next free one]", read=_port)
    listen: str | None = option("ADDRESS", "Address to listen on, for other machines; needs --auth. [127.0.0.1]")
    auth: str | None = option("NAME:FILE", "Name to log in with, and a file whose first line is the password.")

    def __post_init__(self) -> None:
        if self.compare and self.folder is None:
            raise ConfigurationError("--compare is for an edited folder; name it: heretic chat FOLDER --compare.")
        if self.folder is not None and self.model is not None and not self.compare:
            raise ConfigurationError(
                f"{self.folder} and --model {self.model} are two models; leave one out, or add --compare."
            )


def run(arguments: ChatArguments, printer: "Printer") -> int:
    """Serve the page until Ctrl+C; returns the exit code.

    Raises:
        UserError: Gradio, the address or the named model cannot be used.
    """
    from heretic.web.server import LOOPBACK, find_address

    address = find_address(arguments.listen, arguments.port, arguments.auth)
    from heretic.web.page import Page, import_gradio

    import_gradio()
    from heretic.config.sections import ModelSection
    from heretic.web.desk import Desk
    from heretic.web.history import History
    from heretic.web.manager import ModelManager

    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    manager = ModelManager(ModelSection(device=arguments.device))
    named = arguments.folder or arguments.model
    original = arguments.model if arguments.compare else None
    history = History(expanded(arguments.history))
    desk = Desk(manager, expanded(arguments.models_dir), Path.cwd(), named, original, history)
    if named is not None:
        with printer.steps():
            printer.row("Model", desk.load(named, arguments.compare, in_four_bits=False))
    served = Page(desk, named, arguments.compare).serve(address)
    printer.row("Page", address.url)
    if address.host != LOOPBACK:
        printer.row("", f"Other machines can use it at {address.host}, with the name and password of --auth.")
    printer.line("Ctrl+C ends it.")
    try:
        Event().wait()
    except KeyboardInterrupt:
        printer.line("Ended.")
    finally:
        served.close(verbose=False)
    return 0


COMMAND = Command(
    "chat",
    ChatArguments,
    run,
    summary="Talk to models in the browser, an edited one beside its original.",
    description="""\
Open a page to talk to models: answers stream, can be stopped, written again,
and asked for differently. Models are the folders and GGUF files in models/
(--models-dir), the folders in this one that Heretic saved, and the demo model.

With --compare an edited folder and the model it was made from answer side by
side, from one model in memory; a slider sets the strength of the edit for the
next answer, from 0 (the original) over 1 (as saved) to 1.5.

The page is for this machine alone, and nothing that is typed leaves it. It
needs Gradio: pip install 'heretic[web]'.
""",
    examples={
        "": "The models that are found here.",
        "out --compare": "The edited model in the folder out beside its original.",
        "--model demo": "The demo model.",
    },
    exit_codes="0 ended with Ctrl+C, 1 failed, 2 something given cannot be used.",
)
