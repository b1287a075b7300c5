"""``heretic chat``: a page in the browser to talk to models, an edited one beside its original."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, positional, switch
from heretic.common.errors import ConfigurationError
from heretic.common.file_names import expanded
from heretic.web import HISTORY, MODELS

if TYPE_CHECKING:
    from heretic.interface.printer import Printer
    from heretic.web.server import Address

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
    model: str | None = option("MODEL", "Model to talk to; with --compare what FOLDER was made from.")
    compare: bool = switch("Have FOLDER answer beside the model that its manifest names.")
    models_dir: str = option("DIR", "Folder whose folders and GGUF files are offered.", default=MODELS)
    history: str = option("DIR", "Folder that conversations are kept in; they never leave it.", default=HISTORY)
    device: str = option("DEVICE", "Device to compute on, as in a run. [the best one there is]", default="auto")
    port: int | None = option("N", "Port. [7860, or the next free one]", read=_port)
    listen: str | None = option("ADDRESS", "Address to listen on, for other machines; needs --auth. [127.0.0.1]")
    auth: str | None = option("NAME:FILE", "Name to log in with, and a file whose first line is the password.")
    study_name: str | None = option("NAME", "Study whose trials answer, before any is saved; with --model.")
    storage: str | None = option("URL", "Database of that study, as in a run.")
    config: str | None = option("PATH", "File with the options of that study. [config.toml]")

    def __post_init__(self) -> None:
        if self.compare and self.folder is None:
            raise ConfigurationError("--compare is for an edited folder; name it: heretic chat FOLDER --compare.")
        if self.folder is not None and self.model is not None and not self.compare:
            raise ConfigurationError(
                f"{self.folder} and --model {self.model} are two models; leave one out, or add --compare."
            )
        is_study = self.study_name is not None or self.storage is not None
        if is_study and (self.folder is not None or self.compare or self.model is None):
            raise ConfigurationError(
                "A study's trials answer beside its model: heretic chat --model MODEL --study-name NAME, without a "
                "folder and --compare."
            )
        if self.config is not None and not is_study:
            raise ConfigurationError("--config is for the options of a study; name it with --study-name.")


def run(arguments: ChatArguments, printer: "Printer") -> int:
    """Serve the page until Ctrl+C; returns the exit code.

    Raises:
        UserError: Gradio, the address, the named model or the study cannot be used.
    """
    from heretic.observability.steps import step
    from heretic.web.server import find_address

    address = find_address(arguments.listen, arguments.port, arguments.auth)
    with printer.steps(), step("preparing the page"):
        from heretic.web.panels.gradio import import_gradio

        import_gradio()
        from heretic.config.sections import ModelSection
        from heretic.interface.chat_page import serve
        from heretic.models.location import DEMO_EDITED
        from heretic.web.desk import Desk
        from heretic.web.history import History
        from heretic.web.manager import ModelManager
        from heretic.web.page import Page

    if arguments.study_name is not None or arguments.storage is not None:
        return _of_a_study(arguments, address, printer)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    manager = ModelManager(ModelSection(device=arguments.device))
    named = arguments.folder or arguments.model
    original = arguments.model if arguments.compare else None
    history = History(expanded(arguments.history))
    desk = Desk(manager, expanded(arguments.models_dir), Path.cwd(), named, original, history)
    chosen, compare = named, arguments.compare
    if named is None and desk.only_bundled:
        # Whoever has no model yet begins with the one whose edit is there.
        chosen, compare = DEMO_EDITED, True
    if chosen is not None:
        with printer.steps():
            printer.row("Model", desk.load(chosen, compare, in_four_bits=False))
    serve(Page(desk, chosen, compare), address, printer)
    return 0


def _of_a_study(arguments: ChatArguments, address: "Address", printer: "Printer") -> int:
    """The page of a study's trials: a run that tries nothing further, with the page in the menu's place."""
    from heretic.common.errors import StudyError
    from heretic.config.load import load_settings
    from heretic.config.study import study_of_a_run
    from heretic.interface.chat_page import talk_to_trials
    from heretic.interface.terminal import run_in_terminal
    from heretic.run.rules import check_options
    from heretic.search.status import StudyReader

    storage, name = study_of_a_run(arguments.storage, arguments.study_name, arguments.config, os.environ, Path.cwd())
    with StudyReader(storage, name) as reader:
        name, finished = reader.name, reader.read().finished
    if not finished:
        raise StudyError(f"The study {name} has no finished trial yet; run heretic with --study-name {name} first.")
    given = {"--model": arguments.model, "--config": arguments.config, "--storage": storage, "--study-name": name}
    given |= {"--n-trials": str(finished), "--auto-select": "false", "--device": arguments.device}
    argv = [text for flag, value in given.items() if value is not None for text in (flag, value)]
    loaded = load_settings(argv, os.environ, Path.cwd())
    check_options(loaded.settings)

    def refuse(conflicting: str, reason: str, _own: str) -> None:
        raise StudyError(
            f"{reason.rstrip('.')}: this page needs the options that {conflicting} was made with, in config.toml or "
            "a file that --config names; the menu of the run itself opens the page too."
        )

    history = expanded(arguments.history)
    return run_in_terminal(loaded, lambda session: talk_to_trials(session, printer, address, history), refuse)


COMMAND = Command(
    "chat",
    ChatArguments,
    run,
    summary="Talk to models in the browser, an edited one beside its original.",
    description="""\
A page to talk to the folders and GGUF files in models/, the folders here that
Heretic saved, and the demo model and its edit (at once, where there are no
others). --compare puts an edited folder beside the model it was made from, with
a slider for the strength of the edit; --study-name the trials of a study before
any is saved (so does the menu after a search). Votes are in votes.jsonl beside
the conversations. Nothing that is typed leaves this machine unless web search
is on (DuckDuckGo; DDGS_REGION). It needs Gradio: pip install 'heretic[web]'.
""",
    examples={
        "": "The models that are found here.",
        "out --compare": "The edited model in the folder out beside its original.",
        "--model demo --study-name demo": "The trials of a study.",
    },
    exit_codes="0 ended with Ctrl+C, 1 failed, 2 something given cannot be used.",
)
