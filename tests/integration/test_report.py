"""A report of a real search, opened in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.browser import chromium
from tests.integration.command import QUICK_DEMO, WITH_REPORT, Command, saving_to

pytestmark = pytest.mark.integration

SHORT = (
    *("--n-trials", "4", "--held-out-tokens", "40"),
    *("--good-held-out-prompts.limit", "4", "--bad-held-out-prompts.limit", "6"),
    *WITH_REPORT,
)


@pytest.fixture
def browser() -> Iterator[Any]:
    """An installed Chromium without a window."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def report(heretic: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a saved demo model."""
    folder = tmp_path_factory.mktemp("report")
    heretic(folder, *QUICK_DEMO, *SHORT, *saving_to("out")).assert_done()
    result = heretic(folder, "report", "out")
    result.assert_done()
    assert str(folder / "out_report" / "heretic_report.html") in result.output
    # What was saved is as it was.
    heretic(folder, "verify", "out").assert_done()
    return folder / "out_report" / "heretic_report.html"


def test_the_report_knows_trials_edit_and_held_out_prompts(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "of 4 was chosen: refusals" in text
    assert "refusals at 40 tokens" in text
    assert "Too few trials were measured to the end" in text
    files = {path.name for path in (report.parent / "heretic_report").iterdir()}
    assert files == {"pareto.png", "strengths.png", "quality.png", "kept.json"}
    assert str(report.parent.parent) not in text


@pytest.mark.parametrize("width", [375, 1000])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_shown_by_a_browser_without_a_network(
    report: Path, browser: Any, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    page = context.new_page()
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    assert page.title() == "Heretic report: demo"
    assert page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)") == [920, 920, 920]
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    # Nothing but tables is wider than the window, and those scroll by themselves.
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 29)")
    shown = "document.images[0].currentSrc === document.images[0].src"
    assert page.evaluate(shown) is (scheme == "light")
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).is_visible()
    context.close()


def test_the_report_is_printed_on_white(report: Path, browser: Any) -> None:
    page = browser.new_context(color_scheme="dark").new_page()
    page.goto(report.as_uri())
    assert page.evaluate("document.images[0].currentSrc !== document.images[0].src")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    page.wait_for_function("document.images[0].currentSrc === document.images[0].src")
    assert page.pdf(format="A4").startswith(b"%PDF")
