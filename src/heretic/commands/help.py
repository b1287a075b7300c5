"""``heretic help``: what is known of a command, an option or a group of options."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heretic.commands.base import Command, command_names, commands, find_command, positional
from heretic.config.help import short_help, topic_help, whole_help

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


@dataclass(frozen=True, slots=True)
class HelpArguments:
    """What is asked for."""

    topic: str | None = positional("[TOPIC]")


def run(arguments: HelpArguments, printer: "Printer") -> int:
    """Print what is known; returns the exit code.

    Raises:
        ConfigurationError: Nothing is called so.
    """
    topic = arguments.topic
    if topic is None:
        text = short_help({command.name: command.summary for command in commands()})
    elif topic == "all":
        text = whole_help({command.usage: command.summary for command in commands()})
    elif topic in command_names():
        text = find_command(topic).help()
    else:
        text = topic_help(topic)
    sys.stdout.write(text)
    return 0


COMMAND = Command(
    "help",
    HelpArguments,
    run,
    summary="Explain a command, an option, or a group of options.",
    description="""\
Explain a command (heretic help status), an option (heretic help n-trials) or a
group of options (heretic help search); all of them with heretic help all.
""",
    examples={"": "What fits a screen.", "model": "All options about the model."},
)
