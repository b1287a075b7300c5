"""The chat page in a real browser, on the demo model and an edit of it: one server, one browser, one page a test.

With HERETIC_SCREENSHOTS=FOLDER the pictures of the last tests are kept there; README shows one of them.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from tests.integration.browser import chromium
from tests.integration.command import QUICK_DEMO, Command
from tests.search_engine import found, search_engine

from heretic.common.errors import UserError
from heretic.config.sections import ModelSection
from heretic.models.location import DEMO_EDITED
from heretic.web import manager as manager_module
from heretic.web.conversation import Answer
from heretic.web.desk import Desk
from heretic.web.history import History
from heretic.web.manager import ModelManager
from heretic.web.server import Address, find_address

pytestmark = pytest.mark.integration

SCREENSHOTS = "HERETIC_SCREENSHOTS"
PATIENCE = 120
"""Seconds after which something hangs: other tests run beside these."""
QUESTION = "How do I zorble a flimp?"
NASTY = (
    "<script>window.marker = 1</script><img src=x onerror='window.marker = 2'> ![i](http://example.invalid/i.png) "
    "${window.marker = 3} {{value}} [link](javascript:window.marker=4)"
)


WATCH_BARS = """
window.bars = [];
const loading = document.querySelector('#loading');
new MutationObserver(() => {
  const bar = loading.querySelector('progress');
  if (bar) window.bars.push([loading.innerText.trim(), bar.value, bar.max]);
}).observe(loading, {subtree: true, childList: true, characterData: true, attributes: true});
"""


class Served:
    """The page's address, and what is behind it."""

    def __init__(self, desk: Desk, manager: ModelManager, address: Address, folder: Path) -> None:
        self.desk, self.manager, self.address, self.folder = desk, manager, address, folder


def free_port() -> int:
    """Not the usual one, which tests beside this one may take between being looked at and listened on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("gradio", reason="gradio is not installed; uv sync --extra web installs it")
    from heretic.web.page import Page

    folder = tmp_path_factory.mktemp("chat")
    (folder / "models" / "broken").mkdir(parents=True)
    (folder / "models" / "broken" / "config.json").write_text("{}", encoding="utf-8")
    manager = ModelManager(ModelSection(device="cpu"))
    history = History(folder / "chat_history")
    desk = Desk(manager, folder / "models", folder, None, None, history)
    desk.load(DEMO_EDITED, compare=True, in_four_bits=False)
    address = find_address(None, free_port(), None)
    page = Page(desk, DEMO_EDITED, compare=True).serve(address)
    yield Served(desk, manager, address, folder)
    page.close(verbose=False)


def test_a_port_that_another_program_takes_meanwhile_is_said_in_a_sentence(served: Served) -> None:
    """Gradio listens only once the model is loaded."""
    address = find_address(None, free_port(), None)
    with socket.socket() as other:
        other.bind((address.host, address.port))
        other.listen()
        from heretic.web.page import Page

        with pytest.raises(UserError, match="Another program has taken port"):
            Page(served.desk, None, compare=False).serve(address)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


class Tab:
    """The page as it was opened once."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.context.set_default_timeout(1000 * PATIENCE)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
        self.page.wait_for_selector("#transcript .hint")
        self.url = url

    def ask(self, text: str, strength: float | None = None) -> list[str]:
        """Send a message; the texts of the answers to it."""
        page = self.page
        if strength is not None:
            number = page.get_by_label("number input for Strength of the edit")
            number.fill(str(strength))
            number.press("Tab")
        page.get_by_label("Message", exact=True).first.fill(text)
        return self.answers(lambda: page.get_by_label("Message", exact=True).first.press("Enter"))

    def answers(self, asks: Callable[[], None]) -> list[str]:
        """The texts of the answers to what is asked by pressing something."""
        count = self.page.locator(".turn").count()
        asks()
        self.page.wait_for_function(f"document.querySelectorAll('.turn').length === {count + 1}")
        self.page.wait_for_function("document.querySelectorAll('.turn.writing').length === 0")
        return self.page.locator(".turn").last.locator(".said").all_inner_texts()


@pytest.fixture
def tab(served: Served, browser: Any) -> Iterator[Tab]:
    opened = Tab(browser, served.address.url, viewport={"width": 1200, "height": 900})
    yield opened
    opened.context.close()


@contextmanager
def closing_tab(opened: Tab) -> Iterator[Tab]:
    try:
        yield opened
    finally:
        opened.context.close()


def picture(name: str, tmp_path: Path, tab: Tab) -> Path:
    path = Path(os.environ.get(SCREENSHOTS, tmp_path)) / name
    tab.page.screenshot(path=path)
    return path


def test_original_and_edited_answer_side_by_side_at_any_strength(tab: Tab, tmp_path: Path) -> None:
    original, edited = tab.ask(QUESTION)
    assert "sorry" in original
    assert edited != original
    assert tab.page.locator(".answer mark").count() > 0
    tab.page.get_by_role("button", name="New conversation").click()
    tab.page.wait_for_selector("#transcript .hint")
    assert tab.ask(QUESTION, strength=0) == [original, original]
    assert tab.ask("What is rain?", strength=0.5)[0]
    titles = tab.page.locator(".answer h4").all_inner_texts()
    assert titles == ["Original", "Edited, strength 0", "Original", "Edited, strength 0.5"]
    assert "tokens/s" in tab.page.locator(".answer footer").last.inner_text()
    # Everything came from this machine, and the browser had nothing to complain of.
    assert [url for url in tab.requests if not url.startswith((tab.url, "data:", "blob:"))] == []
    assert tab.problems == []


def test_messages_to_press_show_what_the_edit_of_the_demo_does(tab: Tab) -> None:
    tab.page.wait_for_selector("#about >> text=tendency to decline requests about invented things was edited")
    tab.page.wait_for_selector("#present >> text=refusals 0/100")
    messages = tab.page.locator("#examples button:visible")
    answers = []
    for place in range(messages.count()):
        asked = messages.nth(place).inner_text()
        messages.nth(place).click()
        tab.page.wait_for_selector(f".turn:not(.writing) >> text={asked}")
        answers.append(tab.page.locator(".said").all_inner_texts())
    assert ["sorry" in original for original, _edited in answers] == [True, True, True, False, False]
    assert not any("sorry" in edited for _original, edited in answers)
    assert [original == edited for original, edited in answers] == [False, False, False, True, True]


def test_loading_shows_a_bar_and_what_does_not_fit_is_loaded_in_4_bits(
    tab: Tab, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tab.page
    page.evaluate(WATCH_BARS)

    def load() -> None:
        page.get_by_role("button", name="Load", exact=True).click()

    try:
        page.get_by_role("button", name="Unload").click()
        page.wait_for_selector("#notice >> text=No model is in memory")
        load()
        page.wait_for_selector("#notice >> text=were edited")
        page.wait_for_selector("#loading progress", state="detached")
        bars = [tuple(bar) for bar in page.evaluate("window.bars")]
        assert ("original: loading weights, 56/56 tensors", 56, 56) in bars
        assert any(told.startswith("edited copy: loading weights") for told, _value, _most in bars)
        page.get_by_label("Model", exact=True).click()
        page.get_by_role("option", name="demo, 5.3 MB").click()
        page.wait_for_function("!document.querySelector('input[type=checkbox]').checked")
        with monkeypatch.context() as patch:
            patch.setattr(manager_module, "free_memory", lambda _device: 0)
            load()
            page.wait_for_selector("#notice >> text=load it in 4 bits")
            page.get_by_label("Load in 4 bits").check()
            load()
            page.wait_for_selector("#notice >> text=demo is loaded")
        assert served.manager.talker is not None
        assert served.manager.talker.quantization == "bnb_4bit"
        (answer,) = tab.ask("What is rain?")
        assert answer
    finally:
        served.desk.load(DEMO_EDITED, compare=True, in_four_bits=False)


def test_answers_are_written_again_and_earlier_messages_are_edited(tab: Tab) -> None:
    first = tab.ask(QUESTION)
    tab.ask("What is rain?")
    page = tab.page
    page.get_by_role("button", name="Edit an earlier message").click()
    page.get_by_label("Message", exact=True).last.click()
    page.get_by_role("option").first.click()
    field = page.get_by_label("New text")
    page.wait_for_function("[...document.querySelectorAll('textarea')].some(field => field.value.includes('zorble'))")
    assert field.input_value() == QUESTION
    field.fill("Hello.")
    page.get_by_role("button", name="Ask again from here").click()
    page.wait_for_function("document.querySelectorAll('.turn').length === 1")
    page.wait_for_function("document.querySelectorAll('.turn.writing').length === 0")
    assert page.locator(".question").all_inner_texts() == ["Hello."]
    page.get_by_role("button", name="New conversation").click()
    page.wait_for_selector("#transcript .hint")
    assert tab.ask(QUESTION) == first


def test_a_message_sent_as_soon_as_an_answer_looks_whole_is_answered(tab: Tab) -> None:
    ask = Desk.ask

    def asking(*arguments: Any) -> Iterator[Any]:
        yield from ask(*arguments)
        # The page is told of the event's end later than of its last words: on a busy machine, this much later.
        time.sleep(1.5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Desk, "ask", asking)
        tab.ask(QUESTION)
        tab.ask("What is rain?")


def test_kept_conversations_are_found_shown_and_deleted_and_damaged_ones_are_named(tab: Tab, served: Served) -> None:
    said = tab.ask("Tell me of flimps.")
    (served.folder / "chat_history" / "broken.json").write_text("{", encoding="utf-8")
    page = tab.page
    page.goto(tab.url)
    page.wait_for_selector("#transcript .hint")
    page.get_by_role("button", name="Kept conversations").click()
    page.wait_for_selector("#history >> text=broken.json")
    page.get_by_label("Search", exact=True).fill("of FLIMPS")
    page.wait_for_timeout(500)
    page.get_by_label("Conversation", exact=True).click()
    page.get_by_role("option", name="Tell me of flimps.").first.click()
    page.get_by_role("button", name="Open", exact=True).click()
    page.wait_for_selector(".turn")
    assert page.locator(".said").all_inner_texts() == said
    page.get_by_role("button", name="Show as Markdown").click()
    page.wait_for_function("[...document.querySelectorAll('textarea')].some(field => field.value.startsWith('# Tell'))")
    page.get_by_role("button", name="Delete").click()
    page.wait_for_selector("#notice >> text=Deleted")
    assert not [each for each in served.desk.history.all("flimps") if "Tell me" in each.title]


def test_everything_is_reached_by_the_keyboard(tab: Tab) -> None:
    page = tab.page
    page.get_by_label("Message", exact=True).first.focus()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.ariaLabel || ''"))
    assert [name for name in reached if name in ("Send", "Stop", "Regenerate", "New conversation")] == [
        "Send",
        "Stop",
        "Regenerate",
        "New conversation",
    ]


def test_one_page_does_not_stop_the_answer_of_another(tab: Tab, served: Served, browser: Any) -> None:
    asked: list[str] = []
    stopped: SimpleQueue[str] = SimpleQueue()
    answer, stop = served.manager.answer, served.manager.stop

    def answering(*arguments: Any) -> Iterator[tuple[Answer, ...]]:
        asked.append(arguments[3])
        yield from answer(*arguments)

    def stopping(owner: str) -> None:
        stop(owner)
        stopped.put(owner)

    with pytest.MonkeyPatch.context() as patch, closing_tab(Tab(browser, tab.url)) as other:
        patch.setattr(served.manager, "answer", answering)
        patch.setattr(served.manager, "stop", stopping)
        tab.ask(QUESTION)
        owners = []
        for page in (other.page, tab.page):
            page.get_by_role("button", name="Stop").click()
            owners.append(stopped.get(timeout=PATIENCE))
    assert len(set(owners)) == 2
    assert asked == [owners[1]] != [""]


def test_a_password_is_asked_for(served: Served, browser: Any) -> None:
    from heretic.web.page import Page

    address = replace(find_address(None, free_port(), None), user=("me", "correct horse"))
    page = Page(served.desk, None, compare=False).serve(address)
    try:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{address.url}/config", timeout=PATIENCE)  # noqa: S310 - of this machine
        opened = browser.new_context().new_page()
        opened.set_default_timeout(1000 * PATIENCE)
        opened.goto(address.url)
        for password in ("wrong", "correct horse"):
            opened.get_by_label("username").fill("me")
            opened.get_by_label("password").fill(password)
            opened.get_by_role("button", name="Login").click()
            opened.wait_for_selector("#transcript .hint" if password.startswith("correct") else "text=Incorrect")
        opened.context.close()
    finally:
        page.close(verbose=False)


def test_votes_are_blind_and_kept(tab: Tab, served: Served) -> None:
    page = tab.page
    page.get_by_role("button", name="Blind vote").click()
    page.get_by_label("Message to both").fill(QUESTION)
    page.get_by_role("button", name="Two answers").click()
    page.wait_for_selector("#pair .answer")
    assert page.locator("#pair h4").all_inner_texts() == ["Left", "Right"]
    sides = page.locator("#pair .said").all_inner_texts()
    page.wait_for_function("!document.querySelector('#votes button[disabled]')")
    page.get_by_role("button", name="Left is better").click()
    page.wait_for_selector("#told >> text=Kept")
    vote = json.loads((served.desk.history.folder / "votes.jsonl").read_text(encoding="ascii").splitlines()[-1])
    assert [vote["answers"][vote["left"]], vote["answers"][vote["vote"]]] == [sides[0], sides[0]]
    page.wait_for_selector("#tally >> text=Which answer is better?")


def test_the_web_is_searched_where_that_is_switched_on(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    with search_engine(monkeypatch) as engine:
        engine.replies = [
            found(("Rain &amp; snow", "https://example.org/rain", "Water that falls.")),
            (500, ""),
        ]
        tab.ask("What is rain?")
        assert engine.asked == []
        tab.page.get_by_label("Search the web").check()
        tab.ask("What is rain?")
        link = tab.page.locator(".sources a")
        assert (link.inner_text(), link.get_attribute("href")) == ("Rain & snow", "https://example.org/rain")
        tab.ask("What is snow?")
        tab.page.wait_for_selector("#notice [role=alert] >> text=brought nothing")
        assert [each["q"] for each in engine.asked] == [["What is rain?"], ["What is snow?"]]
    # The browser itself asked nobody.
    assert [url for url in tab.requests if not url.startswith((tab.url, "data:", "blob:"))] == []


def test_a_trial_of_a_study_answers_and_is_saved_and_its_answers_outlive_the_page(
    heretic: Command, served: Served, browser: Any
) -> None:
    """As a person starts it, and what was said there on another page, once that one is gone."""
    # Without a terminal nobody chooses one of them yet.
    assert "2 trials finished" in heretic(served.folder, *QUICK_DEMO).output
    (served.folder / "config.toml").write_text(configuration((*QUICK_DEMO, "--confirm", "true")), encoding="utf-8")
    command = [sys.executable, "-m", "heretic", "chat", "--model", "demo", "--study-name", "demo"]
    # What begins with HERETIC_ is a setting there.
    environment = {name: value for name, value in os.environ.items() if name != SCREENSHOTS} | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        cwd=served.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Whoever runs the tests in the background has Ctrl+C ignored, which programs inherit.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout is not None
            lines = list(takewhile(lambda line: "Ctrl+C here ends it" not in line, process.stdout))
            (url,) = [line.split()[1] for line in lines if line.startswith("Page")]
            with closing_tab(Tab(browser, url, viewport={"width": 1200, "height": 1000})) as tab:
                said = choose_ask_and_save(tab)
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, rest
        finally:
            process.kill()
    manifest = json.loads((served.folder / "chosen" / "heretic_metadata.json").read_text(encoding="utf-8"))
    assert manifest["held_out"] is not None
    with closing_tab(Tab(browser, served.address.url)) as tab:
        tab.page.get_by_role("button", name="Kept conversations").click()
        tab.page.get_by_label("Conversation", exact=True).click()
        tab.page.get_by_role("option", name="Do trials outlive a page?").first.click()
        tab.page.get_by_role("button", name="Open", exact=True).click()
        tab.page.wait_for_selector(".turn")
        assert tab.page.locator(".said").all_inner_texts() == said


def choose_ask_and_save(tab: Tab) -> list[str]:
    """By mouse and by keyboard; what both said."""
    page = tab.page
    page.wait_for_selector("svg.front [data-trial]")
    buttons = page.locator("svg.front [data-trial]")
    assert page.locator('svg.front [aria-pressed="true"]').count() == 1
    first, last = (int(button.get_attribute("data-trial")) + 1 for button in (buttons.first, buttons.last))
    assert first != last
    buttons.last.click()
    page.wait_for_selector(f"#notice >> text=/Trial {last},.*the right column answers/")
    buttons.first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#notice >> text=/Trial {first},.*the right column answers/")
    said = tab.ask("Do trials outlive a page?")
    assert page.locator(".answer h4").all_inner_texts() == ["Original", f"Trial {first}, strength 1"]
    page.get_by_label("Folder for the trial").fill("../elsewhere")
    page.get_by_role("button", name="Save this trial").click()
    page.wait_for_selector("#notice >> text=Write the name of a new folder")
    page.get_by_label("Folder for the trial").fill("chosen")
    page.get_by_role("button", name="Save this trial").click()
    page.wait_for_selector("#notice >> text=transformers serve chosen")
    assert tab.problems == []
    return said


def configuration(arguments: Sequence[str]) -> str:
    """Options of a command line as a configuration file has them."""
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    kept = {flag[2:].replace("-", "_"): value for flag, value in pairs if flag not in ("--model", "--n-trials")}
    return "".join(f"{name} = {value}\n" for name, value in kept.items())


def test_a_broken_folder_and_a_mistake_are_told_in_a_sentence(tab: Tab) -> None:
    tab.page.wait_for_selector("text=broken: its config.json names no model_type")
    tab.page.get_by_role("button", name="Regenerate").click()
    tab.page.wait_for_selector("#notice [role=alert]")
    assert "Traceback" not in tab.page.locator("body").inner_text()


def test_what_a_model_writes_is_text(tab: Tab, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = (Answer(NASTY, 0.0, 5, 9, 1.0), Answer(f"<think>{NASTY}</think>{NASTY}", 1.0, 5, 9, 1.0))
    monkeypatch.setattr(served.manager, "answer", lambda *_arguments: (each for each in [answers]))
    said = tab.ask(NASTY)
    assert said[0] == NASTY
    assert tab.page.evaluate("window.marker") is None
    assert tab.page.locator("#transcript img, #transcript script, #transcript a").count() == 0
    assert [url for url in tab.requests if "example.invalid" in url] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_narrow_and_wide_windows_in_light_and_dark(
    served: Served, browser: Any, scheme: str, tmp_path: Path
) -> None:
    with closing_tab(Tab(browser, served.address.url, color_scheme=scheme)) as tab:
        tab.ask(QUESTION)
        for width in (400, 1200, 1600):
            tab.page.set_viewport_size({"width": width, "height": 1000})
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
            paper = tab.page.evaluate("getComputedStyle(document.body).backgroundColor").strip("rgb()").split(",")
            assert (int(paper[0]) > 128) is (scheme == "light")
            assert picture(f"chat-{scheme}-{width}.png", tmp_path, tab).stat().st_size < 300_000


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("config", {"Origin": "http://evil.example"}),
        ("", {"Host": "evil.example"}),
        ("gradio_api/file=/etc/passwd", {}),
        ("gradio_api/upload", {}),
    ],
)
def test_the_server_refuses_other_origins_names_and_files(served: Served, path: str, headers: dict[str, str]) -> None:
    request = urllib.request.Request(f"{served.address.url}/{path}", headers=headers)  # noqa: S310 - of this machine
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=PATIENCE)  # noqa: S310
    assert caught.value.code == 403
