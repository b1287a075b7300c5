"""What is read of stored trials."""

from heretic.results.plan import EditPlan, Scope
from heretic.results.trial import TrialRecord, TrialState


def test_a_trial_with_free_strengths_is_a_failed_one_with_its_reason() -> None:
    plan = EditPlan(Scope.LAYER, None, ()).to_json() | {"strengths": {"attention": [0.5, 1.0]}}
    score = {"name": "kl", "value": 0.1, "n": 4, "baseline": 0.0, "details": {}}
    stored = {"number": 3, "plan": plan, "scores": [score], "state": "complete", "reason": "", "seconds": 2.0}
    record = TrialRecord.from_json(stored)
    assert (record.number, record.state, record.scores, record.seconds) == (3, TrialState.FAILED, None, 2.0)
    assert "free strengths" in record.reason
