"""Every event becomes a line of JSON without a word about that event."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import pytest
import torch

from heretic.observability import events
from heretic.observability.events import Event
from heretic.observability.fields import LONGEST_SEQUENCE, LONGEST_TEXT, event_fields, event_name, level_of, plain


@pytest.mark.parametrize("kind", Event.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_event_gives_json_with_the_names_of_its_fields(kind: type[Event]) -> None:
    names = [entry.name for entry in fields(kind)]
    event = kind(*["x" for _ in names])
    if kind.to_log is Event.to_log:
        # Payloads of results have the fields of their lines in test_log.
        given = json.loads(json.dumps(event_fields(event), allow_nan=False))
        assert set(given) == set(names)
    assert level_of(event) in (10, 20, 30, 40)
    assert event_name(event) == event_name(event).lower()


def test_what_is_wrong_with_a_baseline_is_a_warning() -> None:
    assert level_of(events.NothingShown("refusal", "Nothing.", ("No.",), "Name its words.")) == level_of(
        events.Warned("x")
    )


def test_names_are_words_with_underscores() -> None:
    assert event_name(events.Warned("x")) == "warned"
    assert event_name(events.BatchMeasured(1, 1.0, 1, 1.0, {})) == "batch_measured"


def test_numbers_stay_numbers_and_those_that_json_does_not_know_become_null() -> None:
    given = plain({"a": 1, "b": 0.5, "c": math.nan, "d": -math.inf, "e": True, 3: None})
    assert given == {"a": 1, "b": 0.5, "c": None, "d": None, "e": True, "3": None}


def test_long_things_are_shortened_and_short_ones_are_not() -> None:
    assert plain("x" * LONGEST_TEXT) == "x" * LONGEST_TEXT
    assert len(plain("x" * 10 * LONGEST_TEXT)) < 2 * LONGEST_TEXT
    short = tuple(range(LONGEST_SEQUENCE))
    assert plain(short) == list(short)
    long = tuple(range(101))
    assert plain(long) == {"length": 101, "min": 0, "mean": 50, "max": 100}
    texts = plain(["word"] * 500)
    assert texts["length"] == 500
    assert len(texts["first"]) == LONGEST_SEQUENCE


def test_tensors_and_nested_dataclasses_are_described() -> None:
    @dataclass(frozen=True)
    class Nested:
        weights: torch.Tensor
        by_layer: Mapping[int, float]

    given = plain(Nested(torch.zeros(2, 3), {1: 0.5}))
    assert given == {"weights": {"shape": [2, 3], "dtype": "torch.float32"}, "by_layer": {"1": 0.5}}


def test_the_end_of_a_traceback_is_kept() -> None:
    given = event_fields(events.RunEnded(1, 2.0, "wrong", "a" * 50_000 + "the last line"))
    assert given["traceback"].endswith("the last line")
    assert "traceback" not in event_fields(events.RunEnded(0, 2.0))
