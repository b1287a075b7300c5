import threading
from collections.abc import Iterator

import pytest

from heretic.observability.events import StepAdvanced, StepEvent
from heretic.observability.steps import counted, step
from heretic.web.manager import followed
from heretic.web.markup import bar


def loading(threads: list[str]) -> Iterator[str]:
    threads.append(threading.current_thread().name)
    yield "begun"
    with step("loading <weights>"):
        for _item in counted(range(500), 500, "tensors"):
            pass
    yield "done"


def test_words_and_steps_come_in_their_order_from_another_thread() -> None:
    threads: list[str] = []
    told = list(followed(loading(threads)))
    assert threads != [threading.current_thread().name]
    assert [each for each in told if isinstance(each, str)] == ["begun", "done"]
    steps = [each for each in told if isinstance(each, StepEvent)]
    assert told[0] == "begun"
    assert told[-1] == "done"
    # The last of many that came at once is told of in any case.
    assert [(each.done, each.total) for each in steps[-1:]] == [(500, 500)]
    assert len(steps) < 500


def test_what_is_raised_there_is_raised_here() -> None:
    def fails() -> Iterator[str]:
        yield "begun"
        raise ValueError("no")

    told = followed(fails())
    assert next(told) == "begun"
    with pytest.raises(ValueError, match="no"):
        next(told)


def test_a_bar_moves_where_something_is_counted() -> None:
    html = bar(StepAdvanced("loading <weights>", done=3, total=8, unit="tensors"))
    assert "loading &lt;weights&gt;, 3/8 tensors" in html
    assert 'max="8" value="3"' in html
    assert "value" not in bar(StepAdvanced("waiting"))
