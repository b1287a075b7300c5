"""What another version, or anybody, stored in a study is shown as far as it can be read, and never ends a command."""

import copy
import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.unit.directions.direction_sets import random_set
from tests.unit.search.studies import IDENTITY, PLAN, record, several, url_of

from heretic.common.errors import StudyError, VersionSkewError
from heretic.interface.status_lines import status_rows
from heretic.report.collect import report_data
from heretic.report.page import page
from heretic.results.front import Front, pareto_front
from heretic.results.gate import Gate
from heretic.results.score import AnswerDetails
from heretic.results.trial import TrialRecord, TrialState
from heretic.search.private_api import set_study_attribute
from heretic.search.pulse import PULSE_ATTRIBUTE, Pulse
from heretic.search.records import RECORD_ATTRIBUTE, records_of
from heretic.search.status import StudyReader, status_of
from heretic.search.storage import DIRECTIONS_ATTRIBUTE, IDENTITY_ATTRIBUTE, open_study
from heretic.search.stored_directions import StoredDirections, decoded, encoded

GONE = object()
VALUES = {
    "gone": GONE,
    "null": None,
    "text": "3",
    "no text": "",
    "unicode": "\ud800\u202e\x1b]52;c;x\x07",
    "list": [1, [2, {"a": None}]],
    "empty list": [],
    "table": {"value": {"value": 1}},
    "empty table": {},
    "huge": 10**400,
    "large": 2**63,
    "negative": -1,
    "fraction": 0.5,
    "overflow": 1e308,
    "nan": math.nan,
    "infinite": -math.inf,
    "bool": True,
    "long": "x" * 100_000,
    "wrong length": [{}] * 50,
    "deep": json.loads("[" * 100 + "]" * 100),
}
TOGETHER = 6
PULSE = Pulse(
    "searching", "elsewhere", 7, 1e9, "1.0", "demo", 10, 1e9, 1e9, 1.5, 16, 8, 100.0, 0,
    {"host": {"used_bytes": 1, "available_bytes": 2, "peak_bytes": 3}}, ("narrow",),
).to_json()  # fmt: skip
RECORD = replace(
    several(1, 3, 9.5, 0.2), plan=replace(PLAN, shares=(1.0, 0.5)), state=TrialState.COMPLETE, reason="none"
).to_json()
RECORD["scores"][0]["details"] = AnswerDetails(30, "judge", "a/model", 90, {"more": [1]}).to_json()


def paths(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, the whole first."""
    yield path
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, entry in entries:
        yield from paths(entry, (*path, name))


def changed(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The data with one place changed, as a database gives it back."""
    if not path:
        return None if value is GONE else json.loads(json.dumps(value))
    result = copy.deepcopy(data)
    parent = result
    for name in path[:-1]:
        parent = parent[name]
    if value is GONE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return json.loads(json.dumps(result))


def trial(number: int, stored: Any) -> optuna.trial.FrozenTrial:
    entry = optuna.trial.create_trial(values=[1.0, 2.0, 3.0], user_attrs={RECORD_ATTRIBUTE: stored})
    entry.number = number
    return entry


def shown(attributes: dict[str, Any], stored: list[Any]) -> tuple[list[TrialRecord], str]:
    """What resume, status and report make of a study with these attributes and records."""
    trials = [trial(number, entry) for number, entry in enumerate(stored)]
    records = records_of(trials)
    Gate.behind(Front.of(records))
    status = status_of("s", "sqlite:///s.db", attributes, trials, {"s": "unknown"})
    assert sum(status.trials.values()) == len(trials)
    told = json.dumps(status.to_json(), allow_nan=False)
    rows = "\n".join(row.text for row in status_rows(status))
    study = optuna.create_study(directions=["minimize"] * 3)
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    study.add_trials(trials)
    text = page(report_data(None, records, study), {})
    (told + rows + text).encode()
    for number, one in enumerate(records):
        assert one.number == number
        assert all(map(math.isfinite, one.values))
    return records, rows


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_record_is_read_or_counts_as_failed_and_is_named(value: Any) -> None:
    attributes = {IDENTITY_ATTRIBUTE: IDENTITY.aspects, PULSE_ATTRIBUTE: PULSE}
    good = several(0, 5, 8.0, 0.1)
    places = list(paths(RECORD))
    # Several to a study, which takes longest.
    for some in (places[start : start + TOGETHER] for start in range(0, len(places), TOGETHER)):
        stored = [good.to_json(), several(1, 9, 9.0, 0.05).to_json(), *(changed(RECORD, path, value) for path in some)]
        records, rows = shown(attributes, stored)
        assert records[0] == good, some
        assert len(records) == len(stored)
        unread = [record for record in records if not record.is_read]
        assert all(record.is_failed for record in unread), some
        assert not unread or f"{len(unread)} stored trial" in rows, some
        assert len(pareto_front(records)) >= 2, some


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_pulse_is_read_or_said_to_be_of_another_version(value: Any) -> None:
    records = [several(0, 5, 8.0, 0.1).to_json()]
    for path in paths(PULSE):
        pulse = changed(PULSE, path, value)
        _, rows = shown({IDENTITY_ATTRIBUTE: {}, PULSE_ATTRIBUTE: pulse}, records)
        try:
            assert pulse is None or Pulse.from_json(pulse) is not None
        except VersionSkewError:
            assert "newer or older Heretic" in rows


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_an_identity_differs_or_is_said_to_be_of_another_version(value: Any) -> None:
    stored = dict(IDENTITY.aspects)
    for path in paths(stored):
        hostile = changed(stored, path, value)
        if isinstance(hostile, dict):
            assert IDENTITY.differences(hostile)
        else:
            with pytest.raises(VersionSkewError, match="--study-name"):
                IDENTITY.differences(hostile)
    assert not IDENTITY.differences(stored)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_kept_directions_are_whole_or_said_to_be_damaged(value: Any) -> None:
    attributes = encoded(StoredDirections({"model": {"a": "b"}}, random_set(0, layers=2, width=8)))
    for path in paths(attributes):
        hostile = changed(attributes, path, value)
        if not isinstance(hostile, dict):
            continue
        study = study_with(hostile)
        try:
            directions = decoded(hostile, f"The study {study.study_name}")
            assert directions is None or directions.directions.vectors.shape == (3, 1, 8)
            told: tuple[Any, ...] = ()
        except VersionSkewError as error:
            told = (("Not read", str(error)),)
        assert report_data(None, (), study).facts == told


def study_with(attributes: dict[str, Any]) -> optuna.Study:
    study = optuna.create_study(directions=["minimize"] * 2)
    for name, entry in attributes.items():
        study.set_user_attr(name, entry)
    return study


def test_what_is_new_is_left_out_and_what_is_missing_has_its_default() -> None:
    newer = {**RECORD, "news": 1, "plan": {**RECORD["plan"], "news": 2}}
    newer["scores"] = [{**entry, "news": 3} for entry in RECORD["scores"]]
    assert TrialRecord.from_json(newer) == TrialRecord.from_json(RECORD)
    older = {name: entry for name, entry in RECORD.items() if name not in ("reason", "seconds")}
    assert TrialRecord.from_json(older) == replace(TrialRecord.from_json(RECORD), reason="", seconds=0.0)
    assert Pulse.from_json({**PULSE, "news": 1}) == Pulse.from_json(PULSE)
    assert DIRECTIONS_ATTRIBUTE in encoded(StoredDirections({}, random_set(0, layers=2, width=8)))


def test_one_trial_of_other_scores_does_not_spoil_the_front() -> None:
    records = records_of([trial(0, several(0, 5, 8.0, 0.1).to_json()), trial(1, several(1, 5, 8.0, 0.1).to_json())])
    mixed = records_of(
        [trial(0, record(0, 1, 0.1).to_json())] + [trial(1 + entry.number, entry.to_json()) for entry in records]
    )
    assert [entry.is_read for entry in mixed] == [False, True, True]
    assert len(pareto_front(mixed)) == 1


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE study_user_attributes SET value_json = '{' WHERE key = 'pulse'",
        "UPDATE study_system_attributes SET value_json = '{' WHERE key = 'heretic:pulse'",
    ],
)
def test_values_that_are_no_json_are_one_sentence(tmp_path: Path, change: str) -> None:
    url = url_of(tmp_path / "study.db")
    study = open_study(url, "heretic", IDENTITY)
    study.set_user_attr("pulse", PULSE)
    set_study_attribute(study, PULSE_ATTRIBUTE, PULSE)
    with closing(sqlite3.connect(tmp_path / "study.db")) as connection, connection:
        assert connection.execute(change).rowcount == 1
    with pytest.raises(StudyError, match="holds values that cannot be read"):
        open_study(url, "heretic", IDENTITY)
    with pytest.raises(StudyError, match="holds values that cannot be read"), StudyReader(url, "heretic") as reader:
        reader.read()
