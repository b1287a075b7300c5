"""Subscribers get every event in order while they are subscribed, and nothing afterwards."""

import dataclasses
import re

import pytest

from heretic.observability.events import Event, Warned, bus, emit, subscribed


def subclasses() -> list[type[Event]]:
    return Event.__subclasses__()


def test_events_reach_subscribers_in_the_order_of_subscription() -> None:
    seen: list[tuple[str, Event]] = []
    with (
        subscribed(lambda event: seen.append(("first", event))),
        subscribed(lambda event: seen.append(("second", event))),
    ):
        emit(Warned("a"))
        emit(Warned("b"))
    expected = [(name, Warned(text)) for text in "ab" for name in ("first", "second")]
    assert seen == expected


def test_subscription_ends_with_the_block_even_after_an_error() -> None:
    seen: list[Event] = []
    before = list(bus._handlers)

    def fail_while_subscribed() -> None:
        with subscribed(seen.append):
            emit(Warned("counted"))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_while_subscribed()
    emit(Warned("lost"))
    assert seen == [Warned("counted")]
    assert bus._handlers == before


def test_a_handler_may_subscribe_another_while_it_is_called() -> None:
    seen: list[Event] = []
    inner = subscribed(seen.append)

    def subscribe_more(_event: Event) -> None:
        inner.__enter__()

    with subscribed(subscribe_more):
        emit(Warned("first"))
    emit(Warned("second"))
    inner.__exit__(None, None, None)
    assert seen == [Warned("second")]


def test_emitting_without_subscribers_does_nothing() -> None:
    emit(Event())


@pytest.mark.parametrize("kind", subclasses(), ids=lambda kind: kind.__name__)
def test_payloads_are_frozen_dataclasses_of_plain_values(kind: type[Event]) -> None:
    assert dataclasses.is_dataclass(kind)
    arguments = [None] * len(dataclasses.fields(kind))
    event = kind(*arguments)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]  # not declared, but documented by use
    for name in [field.name for field in dataclasses.fields(kind)][:1]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, name, 1)
    for field in dataclasses.fields(kind):
        # Results hold numbers and texts only.
        plain = re.sub(r"heretic\.results\.\w+\.", "", str(field.type))
        assert "heretic" not in plain
        assert "Tensor" not in str(field.type)


def test_every_subscriber_is_served_before_the_first_error_is_raised() -> None:
    heard = []

    def failing(_event: Event) -> None:
        raise OSError("nobody reads")

    with subscribed(failing), subscribed(heard.append), pytest.raises(OSError, match="nobody reads"):
        emit(Warned("a"))
    assert heard == [Warned("a")]
