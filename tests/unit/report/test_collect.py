"""What a report's data are made of: manifest, study, and what is given."""

import copy
import itertools
import math
from dataclasses import replace
from typing import Any

import optuna
import pytest
import torch
from tests.unit.directions.direction_sets import LAYERS, random_set
from tests.unit.measured import capability
from tests.unit.report.reports import MANIFEST, RECORDS, SCORES, study_of
from tests.unit.search.studies import dominated, record

from heretic.common.errors import UserError
from heretic.config import Settings
from heretic.report import importance
from heretic.report.collect import changed_settings, report_data
from heretic.report.importance import FEWEST_TRIALS, importances
from heretic.results.front import evenly_spread
from heretic.results.held_out import Example
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialRecord
from heretic.search.stored_directions import StoredDirections, encoded


def test_a_saved_folder_says_what_was_chosen_and_run() -> None:
    data = report_data(MANIFEST, RECORDS, study_of(RECORDS))
    assert (data.model, data.behaviors, data.layer_count) == ("some/model", ("refusal",), 8)
    assert data.chosen is not None
    assert (data.chosen.number, data.chosen.scores, data.chosen.automatic) == (2, SCORES, False)
    assert data.held_out is not None
    assert data.held_out.tokens == 200
    assert data.records == RECORDS
    facts = dict(data.facts)
    assert facts["Model"] == "some/model, commit abc123"
    assert facts["Training prompts"] == "40 with the behaviour, 41 without"
    assert facts["Adjusted"] == "Strengths were calibrated."
    assert dict(data.versions) == {"heretic": "0.1.0", "torch": "2.9"}


def test_no_path_host_or_secret_is_repeated() -> None:
    text = repr(report_data(MANIFEST, (), None))
    for private in ("/home", "somebody", "/var", "10.1.2.3", "hf_abc", "study.db"):
        assert private not in text
    cached = changed_settings({"behavior": "/cache/hub/models--a--b/snapshots/0123abc"})
    assert [setting.value for setting in cached] == ["a/b"]
    settings = {own.name: own.value for own in report_data(MANIFEST, (), None).settings}
    assert settings == {
        "behavior": "mine.toml",
        "system_prompt": "Ask *** for more.",
        "bad_prompts.dataset": "bad.txt",
        "bad_prompts.limit": "12",
        "n_trials": "60",
        "study_name": "heretic",
    }


def test_secrets_in_answers_are_masked() -> None:
    data = report_data(
        MANIFEST, (), None, [Example("a", "Say it.", "No.", "It is hf_abcdefghijklmnopqrstuvwxyz012345.")]
    )
    assert data.examples == (Example("a", "Say it.", "No.", "It is ***."),)


def test_a_local_model_is_named_without_its_folder() -> None:
    manifest: dict[str, Any] = copy.deepcopy(MANIFEST)
    manifest["source"].update(name="/home/somebody/models/mine", commit=None)
    data = report_data(manifest, (), None)
    assert data.model == "mine"
    assert dict(data.facts)["Model"] == "mine"


def test_defaults_are_no_changed_settings() -> None:
    assert changed_settings(Settings().model_dump(mode="json")) == ()
    kept = changed_settings(Settings(keep_prompts="a/b", keep_held_out_prompts="c/d").model_dump(mode="json"))
    assert [(each.name, each.value, each.default) for each in kept] == [
        ("keep_prompts.dataset", "a/b", "not set"),
        ("keep_held_out_prompts.dataset", "c/d", "not set"),
    ]
    (changed,) = changed_settings(Settings(n_trials=7, storage="sqlite:///x.db").model_dump(mode="json"))
    assert (changed.name, changed.value, changed.default) == ("n_trials", "7", "200")


def test_a_study_alone_shows_its_automatic_choice() -> None:
    data = report_data(None, RECORDS, study_of(RECORDS))
    assert data.chosen is not None
    assert data.chosen.automatic
    assert data.chosen.number == 2
    assert data.held_out is None
    empty = report_data(None, (), study_of(()))
    assert empty.chosen is None
    assert empty.no_records


def test_of_one_number_the_lowest_is_the_automatic_choice() -> None:
    """In a study of one number the knee of the front of both is nothing special."""
    records = RECORDS[:3]
    study = optuna.create_study()
    for own, value in zip(records, (0.9, 0.2, 0.5), strict=True):
        study.add_trial(optuna.create_trial(value=value))
        assert own.number == study.trials[-1].number
    data = report_data(None, records, study)
    assert data.chosen is not None
    assert data.chosen.number == 1
    assert report_data(None, records, study_of(records)).chosen_number == 2


def test_capability_comes_with_the_manifest() -> None:
    assert report_data({**MANIFEST, "capability": capability().to_json()}, (), None).capability == capability()
    assert report_data(MANIFEST, (), None).capability is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("plan",), {}),
        (("plan", "schedules", "attention", "width"), float("nan")),
        (("scores",), [{"name": "refusals"}]),
        (("scores", 1, "value"), "low"),
        (("scores",), [SCORES.behaviors[0].to_json()]),
        (("held_out", "behaviors"), [{}]),
        (("held_out", "kl", 0, "details"), None),
        (("source",), None),
        (("versions",), 3),
        (("settings",), None),
        (("capability",), [["a"]]),
        (("optuna_trial_number",), "first"),
        (("optuna_trial_number",), -math.inf),
        (("adjustments",), "x" * 1000),
        (("held_out", "tokens"), 0.5),
        (("held_out", "behaviors", 0, "n"), "3"),
        (("held_out", "behaviors", 0, "at"), []),
        (("held_out", "behaviors", 0, "at", 0, "base", "value"), 10**400),
        (("held_out", "behaviors", 0, "at", 0, "edited", "low"), math.nan),
        (("held_out", "behaviors", 0, "base", "words"), 10**400),
        (("held_out", "behaviors", 0, "edited", "perplexity"), 10**400),
    ],
    ids=str,
)
def test_a_damaged_manifest_is_one_sentence(path: tuple[str | int, ...], value: object) -> None:
    manifest: Any = copy.deepcopy(MANIFEST)
    place = manifest
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(UserError, match="damaged or too new") as raised:
        report_data(manifest, (), None)
    assert "\n" not in str(raised.value)


def test_no_more_adjustments_are_shown_than_there_are_kinds() -> None:
    facts = report_data({**MANIFEST, "adjustments": ["Strengths were calibrated."] * 100_000}, (), None).facts
    assert 0 < sum(name == "Adjusted" for name, _sentence in facts) < 1000


def test_quality_is_given_or_kept_by_the_study() -> None:
    study = study_of(RECORDS)
    assert "direction file" in report_data(None, RECORDS, study).no_quality
    quality = torch.linspace(0.25, 1, LAYERS + 1)
    for name, value in encoded(StoredDirections({}, random_set(0, quality=quality))).items():
        study.set_user_attr(name, value)
    data = report_data(None, RECORDS, study)
    assert data.quality == pytest.approx(quality.tolist())
    assert (data.layer_count, data.no_quality) == (LAYERS, "")
    assert report_data(None, RECORDS, study, quality=[1.0, 2.0]).quality == (1.0, 2.0)
    # Those of a model with another number of layers than the manifest's say nothing about it.
    other = report_data(MANIFEST, RECORDS, study)
    assert (other.quality, other.layer_count) == ((), 8)
    assert other.no_quality


def shaped(count: int) -> tuple[tuple[TrialRecord, ...], optuna.Study]:
    """Refusals that follow one parameter, divergence another, of trials with random parameters."""
    blank = tuple(record(number, 1, 1) for number in range(count))
    study = study_of(blank)
    records = []
    for own, trial in zip(blank, study.trials, strict=True):
        refusals = 100 * trial.params["attention.peak_weight"] + trial.params["mlp.floor"]
        kl = trial.params["mlp.width"] + 0.01 * trial.params["mlp.floor"]
        records.append(
            replace(own, scores=Scores((replace(own.behaviors[0], value=refusals),), replace(own.kl, value=kl)))
        )
    return tuple(records), study


def test_importance_finds_what_each_number_follows() -> None:
    records, study = shaped(60)
    found, missing = importances(study.trials, records)
    assert [(own.label, own.trials, own.shares[0][0]) for own in found] == [
        ("refusals", 60, "attention.peak_weight"),
        ("KL divergence", 60, "mlp.width"),
    ]
    assert all(own.shares[0][1] > 0.8 for own in found)
    assert all(sum(share for _, share in own.shares) == pytest.approx(1) for own in found)
    assert missing == ""


def test_stopped_trials_count_for_divergence_only() -> None:
    records, study = shaped(FEWEST_TRIALS + 5)
    stopped = tuple(replace(own, state=dominated(0, 1, 1).state) for own in records[:10])
    found, missing = importances(study.trials, (*stopped, *records[10:]))
    assert [(own.label, own.trials) for own in found] == [("KL divergence", FEWEST_TRIALS + 5)]
    assert f"refusals ({FEWEST_TRIALS - 5})" in missing
    assert f"it takes {FEWEST_TRIALS}" in missing


def test_of_many_trials_some_are_looked_at_from_the_first_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    records, study = shaped(60)
    looked_at: list[int] = []

    def fewer(study: optuna.Study, **_options: object) -> dict[str, float]:
        looked_at.append(len(study.trials))
        return {"mlp.width": 1.0}

    monkeypatch.setattr(importance, "MOST_TRIALS", 40)
    monkeypatch.setattr(optuna.importance, "get_param_importances", fewer)
    found, _ = importances(study.trials, records)
    assert looked_at == [40, 40]
    assert {(own.trials, own.measured) for own in found} == {(40, 60)}
    spread = evenly_spread(range(60), 40)
    assert (spread[0], spread[-1], len(set(spread))) == (0, 59, 40)
    assert max(second - first for first, second in itertools.pairwise(spread)) == 2
    assert evenly_spread(range(60), 60) == range(60)


def test_numbers_that_do_not_vary_have_no_importance() -> None:
    records, study = shaped(FEWEST_TRIALS)
    same = Score("refusals", 4.0, 100, 50.0)
    found, missing = importances(study.trials, [replace(own, scores=Scores((same,), own.kl)) for own in records])
    assert [own.label for own in found] == ["KL divergence"]
    assert missing == "No parameter explains any variation of refusals."


def test_importance_of_nothing() -> None:
    assert importances((), ())[0] == ()
    assert importances((), ())[1]
