import re
from xml.etree import ElementTree

import pytest
from tests.unit.measured import measured, trial, words

from heretic.results.score import Scores
from heretic.web.front import HEIGHT, WIDTH, picture

FRONT = [trial(measured(40, 0.0), 3), trial(measured(3, 0.01), 5), trial(measured(0, 0.2), 7)]


def circles(html: str) -> dict[str, tuple[float, float]]:
    """The place of every trial's button, by its number."""
    root = ElementTree.fromstring(html)  # noqa: S314 - made by ourselves
    return {
        group.attrib["data-trial"]: (float(group.find("circle").attrib["cx"]), float(group.find("circle").attrib["cy"]))  # type: ignore[union-attr]
        for group in root.iter("g")
    }


def test_every_trial_of_the_front_is_a_button_at_its_numbers() -> None:
    places = circles(picture(FRONT, [], 5))
    assert list(places) == ["3", "5", "7"]
    # More divergence lies to the right, fewer refusals below.
    assert places["3"][0] < places["5"][0] < places["7"][0]
    assert places["3"][1] < places["5"][1] < places["7"][1]
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in places.values())


def test_the_chosen_one_is_told_to_eyes_and_screen_readers() -> None:
    html = picture(FRONT, [], 5)
    assert re.findall(r'data-trial="(\d+)"[^>]*aria-pressed="true"', html) == ["5"]
    assert 'aria-label="Trial 6, refusals 3/100, KL 0.0100"' in html
    assert "aria-pressed" in picture(FRONT, [], None)
    assert 'aria-pressed="true"' not in picture(FRONT, [], None)


def test_other_trials_are_dots_and_an_empty_front_is_nothing() -> None:
    html = picture(FRONT, [trial(measured(50, 0.3), 8)], None)
    assert html.count('class="dot"') == 1
    assert "8" not in circles(html)
    assert picture([], [], None) == ""


@pytest.mark.parametrize(
    "records", [[trial(measured(5, 0.01), 1)], [trial(measured(0, 0.0), number) for number in (1, 2)]]
)
def test_equal_numbers_have_a_place_as_well(records: list[object]) -> None:
    assert all(x == x and y == y for x, y in circles(picture(records, [], None)).values())  # type: ignore[arg-type]


def test_names_are_text() -> None:
    scores = Scores((words(3.0),), measured(0, 0.1).kl)
    html = picture([trial(scores, 1)], [], None)
    assert not set("${}`") & set(html)
    assert "words" in html
