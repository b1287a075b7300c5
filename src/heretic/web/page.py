"""The page itself: Gradio's components around a Desk. Only this module imports Gradio."""

import os
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from heretic.common.errors import UserError
from heretic.web import markup
from heretic.web.conversation import LONGEST_QUESTION, LONGEST_SYSTEM_PROMPT, Conversation
from heretic.web.desk import LONGEST_ANSWER, STRONGEST, Desk, Options, Shown
from heretic.web.errors import ChatError
from heretic.web.folders import FoundModel
from heretic.web.guard import Guard
from heretic.web.history import LONGEST_TITLE, as_markdown
from heretic.web.server import Address
from heretic.web.style import STYLE

MEMORY_SECONDS = 2
_MOST_WAITING = 16
_MODEL = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


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


class Page:
    """The page, once for a process."""

    def __init__(self, desk: Desk, chosen: str | None, compare: bool) -> None:
        """Lay the page out.

        Args:
            desk: Does what is asked for.
            chosen: The model that is chosen in the list at first.
            compare: Whether the comparison is switched on at first.
        """
        self._gr = import_gradio()
        self._desk = desk
        with self._gr.Blocks(title="Heretic chat", analytics_enabled=False, fill_width=True) as self._blocks:
            self._conversation = self._gr.State(Conversation())
            self._models(chosen, compare)
            self._talk()
            self._answering()
            self._earlier()
            self._history()
            self._wire()
        self._blocks.queue(max_size=_MOST_WAITING, default_concurrency_limit=4, api_open=False)

    def serve(self, address: Address) -> Any:
        """Serve the page in threads of its own; returns what has a `close`."""
        gr = self._gr
        fonts = ["system-ui", "sans-serif"]
        theme = gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"])
        self._blocks.launch(
            server_name=address.host,
            server_port=address.port,
            auth=None if address.user is None else [address.user],
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=1,
            theme=theme,
            css=STYLE,
            app_kwargs={
                "middleware": [_middleware(address)],
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
        )
        return self._blocks

    def _models(self, chosen: str | None, compare: bool) -> None:
        gr = self._gr
        found = self._desk.models()
        usable = [model for model in found if not model.problem]
        names = [model.name for model in usable]
        with gr.Accordion("Model", open=True):
            self._model = gr.Dropdown(
                [(_label(model), model.name) for model in usable],
                value=chosen if chosen in names else next(iter(names), None),
                label="Model",
            )
            # Not beside each other: in a narrow window their texts would be cut.
            self._compare = gr.Checkbox(compare, label="Beside the model it was made from")
            self._four_bits = gr.Checkbox(False, label="Load in 4 bits (needs less memory)")
            with gr.Row():
                self._load = gr.Button("Load", variant="primary", size="sm")
                self._unload = gr.Button("Unload", size="sm")
            self._unusable = gr.HTML(_unusable(found))
            self._present = gr.HTML(self._desk.present, elem_id="present")
            self._memory = gr.HTML(self._desk.memory, elem_id="memory")
            self._timer = gr.Timer(MEMORY_SECONDS)

    def _talk(self) -> None:
        gr = self._gr
        self._transcript = gr.HTML(markup.transcript(Conversation()), elem_id="transcript", autoscroll=True)
        self._notice = gr.HTML("", elem_id="notice")
        self._strength = gr.Slider(
            0, STRONGEST, value=1, step=0.05, label="Strength of the edit (0 original, 1 as chosen)", visible=False
        )
        self._question = gr.Textbox(
            label="Message", placeholder="Enter sends, Shift+Enter begins a line", lines=1, max_lines=10, autofocus=True
        )
        with gr.Row():
            self._send = gr.Button("Send", variant="primary")
            self._stop = gr.Button("Stop")
            self._again = gr.Button("Regenerate")
            self._new = gr.Button("New conversation")

    def _answering(self) -> None:
        gr = self._gr
        with gr.Accordion("How it answers", open=False):
            self._system = gr.Textbox(label="System prompt", lines=2, max_length=LONGEST_SYSTEM_PROMPT)
            with gr.Row():
                self._temperature = gr.Slider(0, 2, value=0, step=0.05, label="Temperature (0: the likeliest token)")
                self._top_p = gr.Slider(0.05, 1, value=1, step=0.05, label="Top-p")
            with gr.Row():
                self._length = gr.Slider(16, LONGEST_ANSWER, value=512, step=16, label="Longest answer (tokens)")
                self._seed = gr.Number(0, precision=0, minimum=0, label="Seed")

    def _earlier(self) -> None:
        gr = self._gr
        with gr.Accordion("Edit an earlier message", open=False):
            self._place = gr.Dropdown([], label="Message", interactive=True)
            self._text = gr.Textbox(label="New text", lines=2, max_length=LONGEST_QUESTION)
            self._ask_again = gr.Button("Ask again from here", size="sm")

    def _history(self) -> None:
        gr = self._gr
        with gr.Accordion("Kept conversations", open=False, elem_id="history"):
            with gr.Row():
                self._words = gr.Textbox(label="Search", max_length=200, scale=1)
                self._kept = gr.Dropdown([], label="Conversation", interactive=True, scale=2)
                self._title = gr.Textbox(label="New title", max_length=LONGEST_TITLE, scale=1)
            with gr.Row():
                self._open = gr.Button("Open", size="sm")
                self._rename = gr.Button("Rename", size="sm")
                self._delete = gr.Button("Delete", size="sm", variant="stop")
                self._export = gr.Button("Show as Markdown", size="sm")
            self._damaged = gr.HTML("")
            self._markdown = gr.Textbox(
                label="Markdown", lines=6, max_lines=20, interactive=False, visible=False, buttons=["copy"]
            )

    def _wire_history(self, shown: list[Any]) -> None:
        listed = [self._kept, self._damaged]
        self._words.change(self._lists, self._words, listed, **_QUIET)
        self._open.click(self._opens, [self._conversation, self._kept], shown, **_QUIET).then(
            self._places, self._conversation, self._place, **_QUIET
        )
        self._rename.click(self._renames, [self._kept, self._title, self._words], [self._notice, *listed], **_QUIET)
        self._delete.click(self._deletes, [self._kept, self._words], [self._notice, *listed], **_QUIET)
        self._export.click(self._exports, self._kept, [self._notice, self._markdown], **_QUIET)

    def _wire(self) -> None:
        gr = self._gr
        options = [self._system, self._temperature, self._top_p, self._length, self._seed, self._strength]
        shown = [self._conversation, self._transcript, self._notice]
        state = [self._notice, self._present, self._strength]
        self._load.click(self._loads, [self._model, self._compare, self._four_bits], state, **_MODEL)
        self._unload.click(self._unloads, None, state, **_MODEL)
        self._timer.tick(self._desk.memory, None, self._memory, **_QUIET)
        asks = gr.on(
            [self._send.click, self._question.submit],
            self._asks,
            [self._conversation, self._question, *options],
            [*shown, self._question],
            **_MODEL,
        )
        again = self._again.click(self._asks_again, [self._conversation, *options], shown, **_MODEL)
        edited = self._ask_again.click(
            self._asks_again, [self._conversation, *options, self._place, self._text], shown, **_MODEL
        )
        for event in (asks, again, edited):
            event.then(self._places, self._conversation, self._place, **_QUIET).then(
                self._lists, self._words, [self._kept, self._damaged], **_QUIET
            )
        self._place.input(self._text_of, [self._conversation, self._place], self._text, **_QUIET)
        self._stop.click(self._stops, None, None, queue=False, **_QUIET)
        self._new.click(self._begins_anew, None, [*shown, self._place], **_QUIET)
        self._blocks.load(self._opened, None, [*state, self._model, self._unusable], **_QUIET)
        self._blocks.load(self._lists, self._words, [self._kept, self._damaged], **_QUIET)
        self._wire_history(shown)

    # What components hand over ----------------------------------------------------------------------------------------

    def _opened(self) -> list[Any]:
        found = self._desk.models()
        choices = [(_label(model), model.name) for model in found if not model.problem]
        return [*self._state(""), self._gr.update(choices=choices), _unusable(found)]

    def _state(self, notice: str) -> list[Any]:
        return [notice, self._desk.present(), self._gr.update(visible=self._desk.compares)]

    def _loads(self, name: str | None, compare: bool, four_bits: bool) -> list[Any]:
        try:
            notice = markup.notice(self._desk.load(name, bool(compare), bool(four_bits)))
        except ChatError as error:
            notice = markup.notice(str(error), is_error=True)
        return self._state(notice)

    def _unloads(self) -> list[Any]:
        return self._state(markup.notice(self._desk.unload()))

    def _asks(
        self, conversation: Conversation, question: str, *options: Any, request: Any = None
    ) -> Generator[list[Any], None, None]:
        drawn = False
        for shown in self._desk.ask(conversation, str(question), _options(options), _owner(request)):
            # What was refused stays in its field.
            emptied = "" if not drawn and not shown.notice else self._gr.skip()
            drawn = True
            yield [*_values(shown), emptied]

    def _asks_again(
        self, conversation: Conversation, *given: Any, request: Any = None
    ) -> Generator[list[Any], None, None]:
        options, edit = _options(given[:6]), given[6:]
        place, text = (None, None) if not edit else (-1 if edit[0] is None else int(edit[0]), str(edit[1]))
        for shown in self._desk.again(conversation, place, text, options, _owner(request)):
            yield _values(shown)

    def _stops(self, request: Any = None) -> None:
        self._desk.stop(_owner(request))

    def _begins_anew(self) -> list[Any]:
        empty = Conversation()
        return [empty, markup.transcript(empty), "", self._places(empty)]

    def _lists(self, words: str) -> list[Any]:
        try:
            kept = self._desk.history.all(str(words or ""))
        except ChatError as error:
            return [self._gr.update(choices=[]), markup.notice(str(error), is_error=True)]
        whole = [(f"{each.title} ({each.identifier[:8]})", each.identifier) for each in kept if not each.problem]
        damaged = [(f"{each.identifier}.json", each.problem) for each in kept if each.problem]
        return [self._gr.update(choices=whole, value=None), markup.facts_list(damaged)]

    def _opens(self, conversation: Conversation, identifier: str | None) -> list[Any]:
        try:
            return _values(self._desk.open(identifier))
        except ChatError as error:
            return [conversation, self._gr.skip(), markup.notice(str(error), is_error=True)]

    def _renames(self, identifier: str | None, title: str, words: str) -> list[Any]:
        return self._changes(lambda: self._desk.history.rename(identifier, str(title or "")), "Renamed.", words)

    def _deletes(self, identifier: str | None, words: str) -> list[Any]:
        return self._changes(lambda: self._desk.history.delete(identifier), "Deleted.", words)

    def _changes(self, change: Callable[[], None], done: str, words: str) -> list[Any]:
        try:
            change()
        except ChatError as error:
            return [markup.notice(str(error), is_error=True), self._gr.skip(), self._gr.skip()]
        return [markup.notice(done), *self._lists(words)]

    def _exports(self, identifier: str | None) -> list[Any]:
        try:
            text = as_markdown(self._desk.history.get(identifier))
        except ChatError as error:
            return [markup.notice(str(error), is_error=True), self._gr.skip()]
        return ["", self._gr.update(value=text, visible=True)]

    def _places(self, conversation: Conversation) -> Any:
        turns = enumerate(conversation.turns)
        return self._gr.update(choices=[(f"{place + 1}: {turn.question[:60]}", place) for place, turn in turns])

    def _text_of(self, conversation: Conversation, place: int | None) -> str:
        known = place is not None and 0 <= place < len(conversation.turns)
        return conversation.turns[place].question if known and place is not None else ""


def _middleware(address: Address) -> Any:
    from starlette.middleware import Middleware

    return Middleware(partial(Guard, hosts=address.names))


def _owner(request: Any) -> str:
    return str(getattr(request, "session_hash", "") or "")


def _options(values: tuple[Any, ...]) -> Options:
    system, temperature, top_p, length, seed, strength = values
    return Options(str(system or ""), float(temperature), float(top_p), int(length), int(seed or 0), float(strength))


def _values(shown: Shown) -> list[Any]:
    return [shown.conversation, shown.html, shown.notice]


def _label(model: FoundModel) -> str:
    size = f", {model.bytes / 1e6:.1f} MB" if 0 < model.bytes < 1e9 else f", {model.bytes / 1e9:.1f} GB"
    return f"{model.shown}{size if model.bytes else ''}: {model.line}"


def _unusable(found: list[FoundModel]) -> str:
    problems = [(model.shown, model.problem) for model in found if model.problem]
    return f"<p>Cannot be used:</p>{markup.facts_list(problems)}" if problems else ""
