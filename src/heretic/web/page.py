"""The page itself: Gradio's components around a Desk. What stands below the conversation is in `panels`."""

from collections.abc import Generator
from dataclasses import fields
from functools import partial
from typing import Any

from heretic.editors.blend import STRONGEST
from heretic.web import markup
from heretic.web.conversation import LONGEST_QUESTION, LONGEST_SYSTEM_PROMPT, Conversation
from heretic.web.desk import LONGEST_ANSWER, Desk, Options
from heretic.web.errors import ChatError
from heretic.web.folders import FoundModel
from heretic.web.guard import Guard
from heretic.web.panels.examples import ExamplesPanel
from heretic.web.panels.gradio import MODEL, QUIET, import_gradio, with_owner
from heretic.web.panels.history import HistoryPanel
from heretic.web.panels.trials import TrialsPanel
from heretic.web.panels.votes import VotesPanel
from heretic.web.server import Address, port_errors
from heretic.web.web_search import ENGINE_SHOWN

MEMORY_SECONDS = 2
_MOST_WAITING = 16


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
            self._trials = None if desk.trials is None else TrialsPanel(self._gr, desk, desk.trials)
            self._talk()
            self._answering()
            self._earlier()
            self._votes = VotesPanel(self._gr, desk)
            self._history = HistoryPanel(self._gr, desk)
            self._wire()
        self._blocks.queue(max_size=_MOST_WAITING, default_concurrency_limit=4, api_open=False)

    def serve(self, address: Address) -> Any:
        """Serve the page in threads of its own; returns what has a `close`.

        Raises:
            UserError: Another program has taken the port since it was looked at, as it may while a model is loaded.
        """
        gr = self._gr
        fonts = ["system-ui", "sans-serif"]
        theme = gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"])
        with port_errors(address):
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
                css=markup.STYLE,
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
        usable = {model.name: model for model in found if not model.problem}
        first = chosen if chosen in usable else next(iter(usable), None)
        compare = compare or (chosen is None and first is not None and usable[first].base is not None)
        with gr.Accordion("Model", open=True):
            # A study's model stays in memory, and no other one is loaded beside it.
            with gr.Column(visible=self._desk.trials is None):
                self._model = gr.Dropdown(
                    [(_label(model), name) for name, model in usable.items()],
                    value=first,
                    label="Model",
                )
                # Not beside each other: in a narrow window their texts would be cut.
                self._compare = gr.Checkbox(compare, label="Beside the model it was made from")
                self._four_bits = gr.Checkbox(False, label="Load in 4 bits (needs less memory)")
                with gr.Row():
                    self._load = gr.Button("Load", variant="primary", size="sm")
                    self._unload = gr.Button("Unload", size="sm")
                self._loading = gr.HTML("", elem_id="loading")
                self._unusable = gr.HTML(_unusable(found))
            self._present = gr.HTML(self._desk.present, elem_id="present")
            self._memory = gr.HTML(self._desk.memory, elem_id="memory")
            self._timer = gr.Timer(MEMORY_SECONDS)

    def _talk(self) -> None:
        gr = self._gr
        self._transcript = gr.HTML(markup.transcript(Conversation()), elem_id="transcript", autoscroll=True)
        self._notice = gr.HTML("", elem_id="notice")
        self._examples = ExamplesPanel(gr)
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
        self._searches = gr.Checkbox(False, label=f"Search the web for each message (sends it to {ENGINE_SHOWN})")

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

    def _wire(self) -> None:
        gr = self._gr
        # In the order of `Options`.
        options = [
            self._system,
            self._temperature,
            self._top_p,
            self._length,
            self._seed,
            self._strength,
            self._searches,
        ]
        shown = [self._conversation, self._transcript, self._notice]
        state = [self._notice, self._present, self._strength, *self._examples.components]
        choice = [self._model, self._compare, self._four_bits]
        self._load.click(self._loads, choice, [self._loading, *state], show_progress_on=self._loading, **MODEL)
        self._model.input(self._suits, self._model, self._compare, **QUIET)
        self._unload.click(self._unloads, None, state, **MODEL)
        self._timer.tick(self._desk.memory, None, self._memory, **QUIET)
        asks = gr.on(
            [self._send.click, self._question.submit],
            with_owner(gr, self._asks),
            [self._conversation, self._question, *options],
            [*shown, self._question],
            **MODEL,
        )
        asks_again = with_owner(gr, self._asks_again)
        again = self._again.click(asks_again, [self._conversation, *options], shown, **MODEL)
        edited = self._ask_again.click(
            asks_again, [self._conversation, *options, self._place, self._text], shown, **MODEL
        )
        tried = self._examples.wire(with_owner(gr, self._asks_anew), options, shown)
        for event in (asks, again, edited, *tried):
            after = event.then(self._settles, self._conversation, [self._transcript, self._place], **QUIET)
            self._history.lists_after(after.then)
        self._place.input(self._text_of, [self._conversation, self._place], self._text, **QUIET)
        self._stop.click(with_owner(gr, self._stops), None, None, queue=False, **QUIET)
        self._new.click(self._begins_anew, None, [*shown, self._place], **QUIET)
        self._blocks.load(self._opened, None, [*state, self._model, self._unusable], **QUIET)
        self._history.lists_after(self._blocks.load)
        opened = self._history.wire(self._conversation, shown, self._notice)
        opened.then(self._places, self._conversation, self._place, **QUIET)
        self._votes.wire(options)
        if self._trials is not None:
            self._trials.wire(self._notice, self._present)

    # What components hand over ----------------------------------------------------------------------------------------

    def _opened(self) -> list[Any]:
        found = self._desk.models()
        choices = [(_label(model), model.name) for model in found if not model.problem]
        return [*self._state(""), self._gr.update(choices=choices), _unusable(found)]

    def _state(self, notice: str) -> list[Any]:
        examples = self._examples.shows(self._desk.about())
        return [notice, self._desk.present(), self._gr.update(visible=self._desk.compares), *examples]

    def _suits(self, name: str | None) -> bool:
        return any(model.name == name and model.base is not None for model in self._desk.models())

    def _loads(self, name: str | None, compare: bool, four_bits: bool) -> Generator[list[Any], None, None]:
        kept = [self._gr.skip()] * len(self._state(""))
        notice = ""
        try:
            for told in self._desk.loads(name, bool(compare), bool(four_bits)):
                if isinstance(told, str):
                    notice = markup.notice(told)
                else:
                    yield [markup.bar(told), *kept]
        except ChatError as error:
            notice = markup.notice(str(error), is_error=True)
        yield ["", *self._state(notice)]

    def _unloads(self) -> list[Any]:
        return self._state(markup.notice(self._desk.unload()))

    def _asks(
        self, owner: str, conversation: Conversation, question: str, *options: Any
    ) -> Generator[list[Any], None, None]:
        drawn = False
        for shown in self._desk.ask(conversation, str(question), Options.of(options), owner):
            # What was refused stays in its field.
            emptied = "" if not drawn and not shown.notice else self._gr.skip()
            drawn = True
            yield [*shown.values, emptied]

    def _asks_anew(self, owner: str, question: str, *options: Any) -> Generator[list[Any], None, None]:
        for shown in self._desk.ask(Conversation(), str(question), Options.of(options), owner):
            yield shown.values

    def _asks_again(self, owner: str, conversation: Conversation, *given: Any) -> Generator[list[Any], None, None]:
        count = len(fields(Options))
        options, edit = Options.of(given[:count]), given[count:]
        place, text = (None, None) if not edit else (-1 if edit[0] is None else int(edit[0]), str(edit[1]))
        for shown in self._desk.again(conversation, place, text, options, owner):
            yield shown.values

    def _stops(self, owner: str) -> None:
        self._desk.stop(owner)

    def _begins_anew(self) -> list[Any]:
        empty = Conversation()
        return [empty, markup.transcript(empty), "", self._places(empty)]

    def _settles(self, conversation: Conversation) -> list[Any]:
        return [markup.transcript(conversation), self._places(conversation)]

    def _places(self, conversation: Conversation) -> Any:
        turns = enumerate(conversation.turns)
        return self._gr.update(choices=[(f"{place + 1}: {turn.question[:60]}", place) for place, turn in turns])

    def _text_of(self, conversation: Conversation, place: int | None) -> str:
        known = place is not None and 0 <= place < len(conversation.turns)
        return conversation.turns[place].question if known and place is not None else ""


def _middleware(address: Address) -> Any:
    from starlette.middleware import Middleware

    return Middleware(partial(Guard, hosts=address.names))


def _label(model: FoundModel) -> str:
    size = f", {model.bytes / 1e6:.1f} MB" if 0 < model.bytes < 1e9 else f", {model.bytes / 1e9:.1f} GB"
    return f"{model.shown}{size if model.bytes else ''}: {model.line}"


def _unusable(found: list[FoundModel]) -> str:
    problems = [(model.shown, model.problem) for model in found if model.problem]
    return f"<p>Cannot be used:</p>{markup.facts_list(problems)}" if problems else ""
