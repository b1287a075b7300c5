"""Gradio, imported where a page is made, and what all parts of the page use of it."""

import os
from collections.abc import Callable, Generator, Mapping
from inspect import isgeneratorfunction
from typing import Any

from heretic.common.errors import UserError

MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
"""For what the model does: one after the other, in a queue that people see."""
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""For what is done at once."""


def import_gradio() -> Any:
    """Gradio, which takes seconds.

    Raises:
        UserError: It is not installed.
    """
    # Read while Gradio is imported; it would count its uses elsewhere.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            "The chat page needs Gradio, which is not installed; run: pip install 'heretic[web]'"
        ) from error
    return gradio


def with_owner(gr: Any, handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler that is given, before its inputs, a text that tells the pages that are open apart."""
    return _given(handler, gr.Request, lambda request: str(getattr(request, "session_hash", None) or ""))


def with_event(gr: Any, handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler that is given, before its inputs, what the browser told of the event, as a mapping."""

    def told(event: Any) -> Mapping[str, Any]:
        data = getattr(event, "_data", None)
        return data if isinstance(data, Mapping) else {}

    return _given(handler, gr.EventData, told)


def _given(handler: Callable[..., Any], kind: Any, read: Callable[[Any], Any]) -> Callable[..., Any]:
    def called(given: Any, *values: Any) -> Any:
        return handler(read(given), *values)

    def steps(given: Any, *values: Any) -> Generator[Any, None, None]:
        yield from handler(read(given), *values)

    # Gradio looks at a parameter's annotation, which cannot be written where Gradio is not imported, and at whether a
    # function is a generator.
    wrapper = steps if isgeneratorfunction(handler) else called
    wrapper.__annotations__ = {"given": kind}
    return wrapper
