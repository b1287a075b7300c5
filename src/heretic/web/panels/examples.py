"""What was edited, and messages that show it: pressed, they are sent."""

from collections.abc import Callable
from typing import Any

from heretic.web.about import MOST, About
from heretic.web.panels.gradio import MODEL


class ExamplesPanel:
    """A sentence or two, and buttons with messages."""

    def __init__(self, gr: Any) -> None:
        """Lay it out, inside the page that is being made."""
        self._gr = gr
        self._text = gr.HTML("", elem_id="about")
        with gr.Row(elem_id="examples"):
            self._buttons = [gr.Button("", size="sm", visible=False, min_width=200) for _ in range(MOST)]

    @property
    def components(self) -> list[Any]:
        """What `shows` gives values of."""
        return [self._text, *self._buttons]

    def shows(self, about: About) -> list[Any]:
        """The values of the components."""
        messages = [*about.messages, *([""] * MOST)][:MOST]
        return [about.html, *(self._gr.update(value=message, visible=bool(message)) for message in messages)]

    def wire(self, asks: Callable[..., Any], options: list[Any], shown: list[Any]) -> list[Any]:
        """Say what a message that is pressed does; returns the buttons' events.

        Args:
            asks: Sends a message.
            options: The page's fields that say how answers are written.
            shown: Where a conversation is shown.
        """
        return [button.click(asks, [button, *options], shown, **MODEL) for button in self._buttons]
