"""A report's data as the tests of its parts need it: two behaviours or one, everything that there can be."""

from dataclasses import replace

import optuna
from tests.unit.measured import capability
from tests.unit.search.studies import PLAN, SPACE, dominated, failed, record

from heretic.report.data import ChangedSetting, Chosen, Importance, ReportData
from heretic.results.held_out import Answers, AtLength, Estimate, Example, HeldOut, HeldOutBehavior
from heretic.results.score import AnswerDetails, DivergenceDetails, Score, Scores
from heretic.results.trial import TrialRecord

RECORDS = (
    record(0, 50, 0.001),
    record(1, 20, 0.01),
    record(2, 4, 0.2),
    record(3, 30, 0.3),
    dominated(4, 9, 0.4),
    replace(
        dominated(5, 0, 0.9),
        scores=Scores(
            (Score("refusals", 0.0, 100, 50.0, AnswerDetails(answered=0)),),
            Score("kl", 0.9, 100, 0.0, DivergenceDetails("sequence")),
        ),
    ),
    failed(6),
)
"""The front is 2, 1, 0; of trial 5 no answer is known."""

SCORES = Scores(
    (Score("refusals", 5.0, 100, 50.0, AnswerDetails(30)),),
    Score("kl", 0.21, 100, 0.0, DivergenceDetails("sequence", None, 0.43, 0.875, 3000)),
)
"""Of the saved weights: another value than the search's, so that they cannot be mistaken for each other."""


def held_out(*names: str) -> HeldOut:
    """Measured at 30 and 200 tokens."""
    at = tuple(
        AtLength(tokens, Estimate(44, 30, 55), Estimate(edited, edited - 1.5, edited + 2.5))
        for tokens, edited in ((30, 6), (200, 17))
    )
    answers = [Answers(words, 1, 0, degenerate, 0, 3.5) for words, degenerate in ((20.5, 0), (31.5, 2))]
    behaviors = tuple(HeldOutBehavior(name, "refusals", "", 80, at, *answers) for name in names)
    kl = tuple(
        Score("kl", value, 80, 0.0, DivergenceDetails(mode, None, 2 * value, 0.75, 80))
        for mode, value in (("first", 0.31), ("sequence", 0.27))
    )
    return HeldOut(200, behaviors, kl)


DATA = ReportData(
    model="some/model",
    behaviors=("refusal",),
    chosen=Chosen(2, PLAN, SCORES),
    records=RECORDS,
    importances=(
        Importance("refusals", 24, 24, (("attention.peak_weight", 0.7), ("scope", 0.3))),
        Importance("KL divergence", 30, 31, (("scope", 0.6), ("attention.peak_weight", 0.4))),
    ),
    layer_count=8,
    quality=(0.0, 0.1, 0.2, 0.4, 0.8, 0.6, 0.5, float("nan"), 0.3),
    direction_method="mean, projected",
    examples=(Example("refusal", "What is rain?", "I cannot say.", "Water that falls."),),
    held_out=held_out("refusal"),
    capability=capability(),
    facts=(("Architecture", "LlamaForCausalLM"),),
    versions=(("heretic", "0.1.0"), ("torch", "2.9")),
    settings=(ChangedSetting("n_trials", "60", "200"),),
    created="2026-01-02T03:04:05+00:00",
)
NOTHING = ReportData("", (), None, no_records="There is no study.", no_importances="None.", no_quality="Not kept.")


def two_behaviors(number: int, refusals: float, words: float, kl: float) -> TrialRecord:
    """A complete trial of a study of two behaviours."""
    one = record(number, refusals, kl)
    return replace(one, scores=Scores((*one.behaviors, Score("words", words, 40, 80.0, unit="words")), one.kl))


def study_of(records: tuple[TrialRecord, ...]) -> optuna.Study:
    """A study in memory whose trials have the numbers of the records, and parameters at random."""
    study = optuna.create_study(directions=["minimize"] * 2, sampler=optuna.samplers.RandomSampler(seed=1))
    for own in records:
        trial = study.ask()
        SPACE.suggest(trial)
        if own.scores is not None:
            study.tell(trial, list(own.values))
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return study


MANIFEST: dict[str, object] = {
    "manifest_version": 1,
    "source": {
        "name": "some/model",
        "commit": "abc123",
        "architecture": "LlamaForCausalLM",
        "dtype": "bfloat16",
        "quantization": "none",
        "weights": "safetensors",
        "code": None,
    },
    "format": "merged",
    "behavior": "refusal",
    "trial": 3,
    "optuna_trial_number": 2,
    "plan": PLAN.to_json(),
    "scores": SCORES.to_json(),
    "search": {"quantization": "none", "scores": []},
    "directions": {
        "method": "mean, projected",
        "provenance": {"layer_count": 8, "target_prompts": 40, "baseline_prompts": 41},
    },
    "adjustments": ["Strengths were calibrated."],
    "held_out": held_out("refusal").to_json(),
    "settings": {
        "model": "/home/somebody/models/mine",
        "n_trials": 60,
        "n_startup_trials": 20,
        "direction": ["/home/somebody/packs/mine.toml"],
        "system_prompt": "Ask hf_abcdefghijklmnopqrstuvwxyz012345 for more.",
        "storage": "sqlite:///study.db",
        "study_name": "heretic",
        "log_file": "/var/log/heretic.log",
        "metrics_address": "10.1.2.3",
        "auto_select_path": "/home/somebody/out",
        "bad_prompts": {"dataset": "/home/somebody/prompts/bad.txt", "limit": 12},
    },
    "verification": {},
    "versions": {"heretic": "0.1.0", "torch": "2.9"},
    "created": "2026-01-02T03:04:05+00:00",
    "files": {},
}
"""As a saved folder has it."""
