"""What libraries say becomes events while it is captured; afterwards all is as before."""

import io
import logging
import warnings
from collections.abc import Iterator

import pytest

from heretic.observability.events import Event, LibraryLogged, subscribed
from heretic.observability.libraries import captured_libraries, quieten


@pytest.fixture
def printed() -> Iterator[io.StringIO]:
    """What transformers' own handler prints."""
    logger = logging.getLogger("transformers")
    before = list(logger.handlers), logger.propagate, logger.level
    stream = io.StringIO()
    logger.handlers, logger.propagate = [logging.StreamHandler(stream)], False
    logger.setLevel(logging.WARNING)
    yield stream
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])


def captured(level: str = "info") -> list[LibraryLogged]:
    seen: list[Event] = []
    logger = logging.getLogger("transformers.some.module")
    with warnings.catch_warnings(), subscribed(seen.append):
        warnings.simplefilter("always")
        with captured_libraries(level):
            logger.info("detail")
            for _ in range(3):
                logger.warning("careful with %s", "that")
            logging.getLogger("any.other").error("broken")
            warnings.warn("this is old", FutureWarning, stacklevel=1)
    return [event for event in seen if isinstance(event, LibraryLogged)]


def test_records_and_warnings_become_events_once_and_are_not_printed(printed: io.StringIO) -> None:
    first, second, third = captured()
    assert first == LibraryLogged("transformers.some.module", "warning", "careful with that")
    assert second == LibraryLogged("any.other", "error", "broken")
    assert (third.library, third.level) == ("py.warnings", "warning")
    assert third.message.startswith("FutureWarning: this is old (")
    assert printed.getvalue() == ""


def test_debug_adds_what_libraries_call_information(printed: io.StringIO) -> None:
    assert "detail" in [event.message for event in captured("debug")]


def test_afterwards_all_is_as_before(printed: io.StringIO) -> None:
    logger, show, root = logging.getLogger("transformers"), warnings.showwarning, list(logging.getLogger().handlers)
    before = list(logger.handlers), logger.propagate, logger.level
    captured("debug")
    assert (logger.handlers, logger.propagate, logger.level) == before
    assert warnings.showwarning is show
    assert logging.getLogger().handlers == root
    logger.warning("again")
    assert "again" in printed.getvalue()


def test_a_record_whose_arguments_do_not_fit_is_no_reason_to_fail(
    printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The test runner's own handlers raise on it.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    seen: list[Event] = []
    with subscribed(seen.append), captured_libraries("info"):
        logging.getLogger("datasets").warning("%d trials", "many")
    assert seen == [LibraryLogged("datasets", "warning", "%d trials")]


def test_a_subscriber_that_logs_does_not_call_itself(printed: io.StringIO) -> None:
    seen: list[Event] = []

    def log_as_well(event: Event) -> None:
        seen.append(event)
        logging.getLogger("optuna").warning("said while being told")

    with subscribed(log_as_well), captured_libraries("info"):
        logging.getLogger("torch").warning("first")
    assert len(seen) == 1


def test_quieten_keeps_errors_on_the_terminal_and_warnings_for_others(printed: io.StringIO) -> None:
    quieten("transformers")
    logging.getLogger("transformers").warning("small")
    logging.getLogger("transformers").error("large")
    assert printed.getvalue() == "large\n"
    assert captured()[0].message == "careful with that"
