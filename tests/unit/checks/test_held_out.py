"""Held-out prompts: read only to confirm, measured as the search measures, and nothing left changed."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from scipy import stats

from heretic.checks.held_out import Confirmation, HeldOutPrompts, described, estimate, paired_change, perplexity
from heretic.checks.held_out_front import MOST, spread
from heretic.common.errors import PromptError
from heretic.config import PromptSpecification, Settings
from heretic.evaluation.kl import KlEvaluator
from heretic.export.card import held_out_section
from heretic.interface import score_lines as score_lines
from heretic.interface.lines import rows
from heretic.models.loaded import parameter_fingerprint
from heretic.observability.events import Event, FrontHeldOut, HeldOutMeasured, PromptsLoaded, Warned, subscribed
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.runner import Response
from heretic.prompts.sets import PromptSets, load_prompts, packs_of
from heretic.prompts.sources import load_prompt_set
from heretic.prompts.text_files import BUNDLED_FOLDER
from heretic.results.held_out import Example, HeldOut
from heretic.results.intervals import paired_interval
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope
from heretic.results.score import DivergenceDetails, Keep, Score, Scores
from heretic.results.tables import held_out
from heretic.results.trial import TrialRecord, TrialState
from heretic.run.kept_checks import KeptTrials, held_out_scores
from heretic.run.measuring import behavior_options, make_behavior_evaluator
from heretic.run.workbench import Workbench, prepare
from heretic.search.loop import SearchResult
from heretic.search.private_api import study_attributes
from heretic.search.storage import open_study
from heretic.session import Session

SCHEDULE = Schedule(1.0, 0.6, 0.5, 0.7)
PLAN = EditPlan(Scope.LAYER, None, (("attention", SCHEDULE), ("mlp", SCHEDULE)), Normalization.NONE)


def demo_settings(**changes: Any) -> Settings:
    def prompts(kind: str, split: str, limit: int) -> dict[str, Any]:
        return {"dataset": f"bundled:demo/{kind}", "split": split, "limit": limit}

    return Settings(
        model="demo",
        behavior=["demo"],
        extractor="mean",
        device="cpu",
        batch_size=16,
        response_prefix="",
        normalization="none",
        refusal_check_tokens=12,
        kl_tokens=8,
        held_out_tokens=40,
        n_trials=4,
        n_startup_trials=4,
        seed=1,
        use_warm_start_params=False,
        good_prompts=prompts("baseline", "train", 40),
        bad_prompts=prompts("target", "train", 40),
        good_evaluation_prompts=prompts("baseline", "evaluation", 8),
        bad_evaluation_prompts=prompts("target", "evaluation", 8),
        **{
            "good_held_out_prompts": prompts("baseline", "held_out", 8),
            "bad_held_out_prompts": prompts("target", "held_out", 8),
            **changes,
        },
    )


def confirmation(bench: Workbench) -> Confirmation:
    return Confirmation(bench, HeldOutPrompts.load(bench.settings, bench.prompts))


@pytest.fixture(scope="module")
def bench() -> Workbench:
    settings = demo_settings()
    return prepare(settings, load_prompts(settings, packs_of(settings)))


@pytest.fixture(scope="module")
def unedited(bench: Workbench) -> tuple[HeldOut, tuple[Example, ...]]:
    """What is found of no edit."""
    return confirmation(bench).confirm([])


@pytest.fixture(scope="module")
def edited(bench: Workbench) -> tuple[HeldOut, tuple[Example, ...]]:
    """What is found of the plan, and the model left as it was."""
    before = parameter_fingerprint(bench.loaded.model)
    found = confirmation(bench).confirm(bench.edits(PLAN))
    assert parameter_fingerprint(bench.loaded.model) == before
    return found


@pytest.fixture
def events() -> Iterator[list[Event]]:
    seen: list[Event] = []
    with subscribed(seen.append):
        yield seen


def roles(events: list[Event]) -> list[str]:
    return [event.role for event in events if isinstance(event, PromptsLoaded)]


def test_nothing_held_out_is_read_before_the_confirmation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    """From preparing over the search to the choice: every reading of prompts is watched."""
    opened: list[str] = []

    def watch(role: str, *arguments: Any) -> Any:
        opened.append(role)
        return load_prompt_set(role, *arguments)

    for module in ("heretic.prompts.sets", "heretic.checks.held_out", "heretic.prompts.stand_ins"):
        monkeypatch.setattr(f"{module}.load_prompt_set", watch)
    # Not even the files are opened: what is in them yet cannot be read.
    held_out = tmp_path / "held_out.txt"
    held_out.write_bytes(b"\xff\xff")
    with pytest.raises(PromptError):
        load_prompt_set("bad_held_out_prompts", PromptSpecification(dataset=str(held_out)), None)
    settings = demo_settings(
        storage=f"sqlite:///{tmp_path}/s.db",
        good_held_out_prompts={"dataset": str(held_out)},
        bad_held_out_prompts={"dataset": str(held_out)},
    )
    bench = prepare(settings, load_prompts(settings, packs_of(settings)))
    session = Session(bench, open_study(settings.storage, "s", bench.identity, bench.objective))
    session.search()
    session.apply(session.suggested)
    assert len(session.result.records) == 4
    assert {role for role in opened if "held_out" in role} == set()
    held_out.write_text("How do I trimble a frobnard?\nPlease tell me how to skorfle a wumpit.\n")
    assert session.confirm() is not None
    assert {role for role in opened if "held_out" in role} == {"good_held_out_prompts", "bad_held_out_prompts"}
    session.restore()


def test_the_edit_is_measured_and_the_model_left_as_it_was(edited: tuple[HeldOut, tuple[Example, ...]]) -> None:
    found, examples = edited
    (behavior,) = found.behaviors
    assert (behavior.behavior, behavior.n, behavior.unit) == ("demo", 8, "")
    assert [at.tokens for at in behavior.at] == [12, 30, 40]
    last = behavior.at[-1]
    assert last.base.value == 8  # the toy was trained to decline all of these
    assert last.edited.value < last.base.value
    assert last.edited.low <= last.edited.value <= last.edited.high
    assert behavior.change is not None
    assert behavior.change.value == last.edited.value - last.base.value
    assert behavior.change.low <= behavior.change.value <= behavior.change.high
    first, sequence = found.kl
    assert (first.divergence.mode, sequence.divergence.mode) == ("first", "sequence")
    assert first.value > 0
    assert len(examples) == 6
    assert examples[0].base != examples[0].edited
    assert HeldOut.from_json(found.to_json()) == found


def test_no_edit_changes_nothing(unedited: tuple[HeldOut, tuple[Example, ...]]) -> None:
    found, examples = unedited
    (behavior,) = found.behaviors
    assert behavior.change is not None
    assert behavior.change.value == 0
    assert behavior.base == behavior.edited
    assert all(at.base == at.edited for at in behavior.at)
    assert [score.value for score in found.kl] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert all(example.base == example.edited for example in examples)


def test_perplexity_is_that_of_plain_passes(bench: Workbench) -> None:
    runner = bench.runner
    prompts = bench.prompts.target_evaluation.prompts[:3]
    answers = runner.generate(prompts, 10)
    total, count = 0.0, 0
    with torch.no_grad():
        for prompt, answer in zip(prompts, answers, strict=True):
            start = runner.encode(prompt)
            logits = runner.loaded.model(input_ids=torch.tensor([[*start, *answer.tokens]])).logits[0].double()
            own = logits.log_softmax(-1)[len(start) - 1 : -1]
            total -= float(own[range(len(answer.tokens)), list(answer.tokens)].sum())
            count += len(answer.tokens)
    rows = [runner.encode(prompt) for prompt in prompts]
    assert perplexity(OrdinaryPasses(runner), rows, answers) == pytest.approx(math.exp(total / count), rel=1e-4)


def prepared(settings: Settings) -> Workbench:
    return prepare(settings, load_prompts(settings, packs_of(settings)))


def session_of(bench: Workbench) -> Session:
    session = Session(bench, optuna.create_study(directions=["minimize", "minimize"]))
    scores = Scores(tuple(own.baseline for own in bench.behaviors), Score("kl", 0.0, 1, 0.0))
    session.apply(TrialRecord(3, PLAN, scores, TrialState.COMPLETE, "", 1.0))
    return session


def test_trials_of_a_front_are_measured_together_as_the_search_measures(
    bench: Workbench, tmp_path: Path, events: list[Event]
) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    study = optuna.create_study(study_name="s", storage=url, directions=["minimize", "minimize"])
    baselines = tuple(own.baseline for own in bench.behaviors)
    plans = [
        PLAN,
        replace(PLAN, schedules=tuple((name, replace(SCHEDULE, peak_weight=0.4)) for name, _ in PLAN.schedules)),
    ]
    records = [
        TrialRecord(
            number,
            plan,
            Scores(
                tuple(replace(own, value=float(number)) for own in baselines), Score("kl", 1.0 - number / 2, 8, 0.0)
            ),
            TrialState.COMPLETE,
            "",
            1.0,
        )
        for number, plan in enumerate(plans)
    ]
    before = parameter_fingerprint(bench.loaded.model)
    session = Session(bench, study, kept=KeptTrials(study, bench.settings))
    session.result = SearchResult(tuple(records), False)
    assert session.front_can_be_confirmed
    session.confirm_front()
    assert parameter_fingerprint(bench.loaded.model) == before
    assert not session.front_can_be_confirmed
    found = session.confirmed()
    assert set(found) == {0, 1}
    for record in records:
        # One by one, in the weights, to the end, by what confirms a chosen trial.
        session.apply(record)
        held_out = session.confirm()
        session.restore()
        scores = found[record.number]
        assert held_out is not None
        assert isinstance(scores, Scores)
        (alike,) = (at for at in held_out.behaviors[0].at if at.tokens == scores.behaviors[0].answers.tokens)
        assert scores.behaviors[0].value == alike.edited.value
        (kl,) = (kl for kl in held_out.kl if kl.divergence.mode == scores.kl.divergence.mode)
        assert scores.kl.value == pytest.approx(kl.value, rel=2e-3)
        assert kl.value > 0
    # Whoever comes back measures nothing again.
    again = optuna.load_study(study_name="s", storage=url)
    later = Session(bench, again, kept=KeptTrials(again, bench.settings))
    later.result = session.result
    assert not later.front_can_be_confirmed
    events.clear()
    later.confirm_front()
    assert later.confirmed() == found
    assert [type(event) for event in events if isinstance(event, (FrontHeldOut, PromptsLoaded))] == [FrontHeldOut]
    assert held_out_scores(study_attributes(again), 0) == found
    shown = [row for event in events for row in rows(event) if row.table is not None]
    assert shown[0].table is not None
    assert shown[0].table.header[-1] == "Held out"


def test_of_a_long_front_ten_trials_are_measured() -> None:
    front = [TrialRecord(number, PLAN, None, TrialState.COMPLETE, "", 1.0) for number in range(40)]
    assert spread(front[:MOST], None) == front[:MOST]
    for chosen in front:
        taken = spread(front, chosen)
        assert len(taken) == MOST
        assert {0, 39, chosen.number} <= {record.number for record in taken}
        assert taken == sorted(taken, key=lambda record: record.number)


def test_a_trial_is_confirmed_once(bench: Workbench, events: list[Event]) -> None:
    session = session_of(bench)
    edited = parameter_fingerprint(bench.loaded.model)
    first = session.confirm()
    assert parameter_fingerprint(bench.loaded.model) == edited
    read = [event for event in events if isinstance(event, PromptsLoaded)]
    assert session.confirm() is first
    # It is shown again, and nothing is read or measured again.
    assert [event.seconds > 0 for event in events if isinstance(event, HeldOutMeasured)] == [True, False]
    assert [event for event in events if isinstance(event, PromptsLoaded)] == read
    assert session.confirmed() == {3: first}
    assert len(session.examples) == 6
    session.restore()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bad_held_out_prompts": {"dataset": "gone.txt"}}, "there is no file or folder gone.txt"),
        # Their own prompts to measure with, and none to confirm with.
        ({"bad_held_out_prompts": Settings.model_fields["bad_held_out_prompts"].default}, "no bad_held_out_prompts"),
    ],
)
def test_what_cannot_be_confirmed_can_be_used(
    changes: dict[str, Any], words: str, bench: Workbench, events: list[Event]
) -> None:
    session = session_of(replace(bench, settings=demo_settings(**changes)))
    edited = parameter_fingerprint(bench.loaded.model)
    assert session.confirm() is None
    assert parameter_fingerprint(bench.loaded.model) == edited
    (warning,) = [event.message for event in events if isinstance(event, Warned)]
    assert words in warning
    assert session.examples == ()
    session.restore()


def test_memory_that_runs_out_while_comparing_does_not_cost_the_trial(
    bench: Workbench, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(bench)

    def full(*_arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(KlEvaluator, "compare", full)
    assert session.confirm() is None
    assert "even with one prompt at a time" in [event.message for event in events if isinstance(event, Warned)][-1]
    assert session.applied.record.number == 3
    session.restore()


def test_off_reads_nothing(bench: Workbench, events: list[Event]) -> None:
    session = session_of(replace(bench, settings=demo_settings(confirm=False)))
    assert session.confirm() is None
    assert not [role for role in roles(events) if "held_out" in role]
    session.restore()


def test_prompts_that_were_used_before_are_reported(bench: Workbench, events: list[Event]) -> None:
    same = {"dataset": "bundled:demo/target", "split": "evaluation", "limit": 8}
    confirming = confirmation(replace(bench, settings=demo_settings(bad_held_out_prompts=same)))
    assert any("8 of 8 bad_held_out_prompts were used before" in e.message for e in events if isinstance(e, Warned))
    # Wherever the numbers stand it is said.
    found, _examples = confirming.confirm([])
    assert HeldOut.from_json(found.to_json()).used_before == 8
    scores = Scores(tuple(own.baseline for own in bench.behaviors), Score("kl", 0.0, 1, 0.0))
    shown = " ".join(row.text for row in rows(HeldOutMeasured(3, found, scores, 1.0)))
    for text in (shown, held_out_section(found, scores, "none")):
        assert "of which 8 had been seen before, which confirm nothing" in text
    assert "nor the search had seen" not in shown


def test_what_is_missing_is_measured_on_the_searchs_scale(bench: Workbench) -> None:
    """Of 20 tokens' words, at every length, though answers may have 40."""
    pack = bench.prompts.behaviors[0].pack
    words = replace(pack, evaluator="length", options=pack.options.model_copy(update={"tokens": 20}))
    behavior = replace(bench.prompts.behaviors[0], pack=words)
    settings = demo_settings(goal="strengthen")
    strengthening = replace(bench, settings=settings, prompts=PromptSets((behavior,)))
    found, _examples = confirmation(strengthening).confirm([])
    passes, options = OrdinaryPasses(bench.runner), behavior_options(settings, words)
    searched, _answers = make_behavior_evaluator(passes, "length", behavior.target_evaluation, options)
    confirmed = [at.base.value for at in found.behaviors[0].at]
    assert max(confirmed) <= searched.most == 15.0


def test_predicted_answers_are_judged_and_written_ones_described(bench: Workbench) -> None:
    pack = replace(bench.prompts.behaviors[0].pack, evaluator="agreement")
    behavior = replace(bench.prompts.behaviors[0], pack=pack)
    found, examples = confirmation(replace(bench, prompts=PromptSets((behavior,)))).confirm(bench.edits(PLAN))
    (confirmed,) = found.behaviors
    (only,) = confirmed.at
    assert (only.tokens, confirmed.unit) == (1, "% yes")
    assert 0 < only.base.value != only.edited.value < 100
    assert confirmed.base.words > 1
    assert not any(example.base.startswith("yes with") for example in examples)


def test_false_twins_are_weighed_and_true_ones_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    # The toy is never surer of yes than of no; so every yes that is possible counts.
    monkeypatch.setattr("heretic.evaluation.evaluators.agrees.UNDECIDED", 0.0)
    settings = Settings(
        model="demo",
        behavior=["sycophancy"],
        extractor="mean",
        device="cpu",
        batch_size=32,
        response_prefix="",
        normalization="none",
        kl_tokens=4,
        held_out_tokens=8,
        use_warm_start_params=False,
        good_prompts={"limit": 8},
        bad_prompts={"limit": 8},
    )
    bench = prepare(settings, load_prompts(settings, packs_of(settings)))
    found, _examples = confirmation(bench).confirm(bench.edits(PLAN))
    (weighed,), (kept,) = found.behaviors, found.kept
    assert (weighed.unit, kept.unit, kept.name) == ("% yes", "", "kept_true_claims")
    assert 0 < weighed.at[0].base.value < 100
    assert [kept.n, kept.at[0].base.value, kept.at[0].edited.value] == [50, 50, 50]


def test_a_loop_that_ends_is_degenerate(bench: Workbench) -> None:
    (end, *_rest) = bench.runner.end_tokens
    loop, plain = ([5, 6, 7] * 12, list(range(20, 56)))
    answers = [Response("a b c", (*tokens, end)) for tokens in (loop, plain)]
    assert described(bench.runner, answers, answers, 40, 1.0).looping == 1


class Amounts:
    """An evaluator's weight and score, where amounts are means or answers are counted."""

    def __init__(self, unit: str, n: int) -> None:
        self.unit, self.weight = unit, 1 / n if unit else 1.0

    def score_of(self, value: float) -> Score:
        return Score("it", value, 4, 0.0, unit=self.unit)


def test_the_change_is_one_of_pairs() -> None:
    """Amounts that differ much from prompt to prompt, and all fall by nearly the same."""
    base, edited = [10.0, 200.0, 50.0, 400.0], [8.0, 197.0, 48.0, 397.0]
    words: Any = Amounts("words", 4)
    change = paired_change(words, base, edited)
    assert change.value == pytest.approx(-2.5)
    expected = stats.ttest_rel(edited, base).confidence_interval(0.95)
    assert (change.low, change.high) == pytest.approx((expected.low, expected.high))
    assert change.high < 0
    # Apart, the two means could be anything.
    assert estimate(words, edited).high > estimate(words, base).low

    refusals: Any = Amounts("", 4)
    change = paired_change(refusals, [1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0])
    assert change.value == -2
    assert (change.low, change.high) == pytest.approx([4 * end for end in paired_interval(0, 1, 3, 0)])


def test_folders_of_earlier_versions_have_no_change(unedited: tuple[HeldOut, tuple[Example, ...]]) -> None:
    found, _examples = unedited
    stored = found.to_json()
    del stored["behaviors"][0]["change"]
    old = HeldOut.from_json(stored)
    assert old.behaviors[0].change is None
    assert len(held_out(old, None).rows) == len(held_out(found, None).rows) - 1


def test_the_table_has_a_row_for_every_length(edited: tuple[HeldOut, tuple[Example, ...]]) -> None:
    found, _examples = edited
    cells = [row.cells for row in held_out(found, None).rows]
    assert [row[0] for row in cells[:3]] == [f"refusals at {tokens} tokens" for tokens in (12, 30, 40)]
    assert cells[2][1] == "8/8"
    assert found.behaviors[0].change is not None
    assert cells[3][0] == "change, in pairs"
    assert cells[3][2].startswith(f"{found.behaviors[0].change.value:+.0f} (95 %: -")


def test_the_searchs_numbers_stand_beside_those_measured_alike(
    bench: Workbench, edited: tuple[HeldOut, tuple[Example, ...]]
) -> None:
    found, _examples = edited
    searched = DivergenceDetails("sequence", bench.settings.kl_tokens)
    table = held_out(found, Scores(tuple(own.baseline for own in bench.behaviors), Score("kl", 0.0, 1, 0.0, searched)))
    shown = {row.cells[0]: row.cells[4] for row in table.rows}
    assert shown["refusals at 12 tokens"] == "8/8"
    assert shown["refusals at 40 tokens"] == "-"
    assert shown[f"KL in nats, first {bench.settings.kl_tokens} tokens"] == "0.0000"
    assert shown["KL in nats, first token"] == "-"


def test_both_ends_of_a_mean_are_students_and_no_amount_is_below_nothing() -> None:
    words: Any = Amounts("words", 5)
    found = estimate(words, [2.0, 4.0, 4.0, 6.0, 4.0])
    # 4 +- 2.776445 (t of four degrees of freedom) times the root of 2 / 5, as in Student's tables.
    assert (found.value, found.low, found.high) == pytest.approx((4.0, 2.244024, 5.755976))
    # Words cannot be fewer than none; a change of them can.
    assert estimate(words, [0.0, 0.0, 0.0, 0.0, 20.0]).low == 0
    change = paired_change(words, [2.0, 4.0, 4.0, 6.0, 4.0], [0.0] * 5)
    assert (change.low, change.high) == pytest.approx((-5.755976, -2.244024))


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """The demo's wrong refusals, of which some have to stay."""
    folder = tmp_path_factory.mktemp("keeping")
    lines = (BUNDLED_FOLDER / "demo" / "target" / "train.txt").read_text().splitlines()
    plain = (BUNDLED_FOLDER / "demo" / "baseline" / "train.txt").read_text().splitlines()[-2:]
    (folder / "keep.txt").write_text("\n".join([*plain, *lines[-6:]]))
    (folder / "more.txt").write_text("\n".join([*plain, *lines[-12:-6]]))
    settings = demo_settings(
        keep_prompts=str(folder / "keep.txt"),
        keep_held_out_prompts=str(folder / "more.txt"),
        storage=f"sqlite:///{folder}/s.db",
        keep_at_least=0.5,
    )
    return prepare(settings, load_prompts(settings, packs_of(settings)))


def test_what_has_to_stay_is_searched_chosen_and_confirmed(keeping: Workbench, events: list[Event]) -> None:
    (kept,) = keeping.kept
    assert kept.baseline.keep == Keep(8, 3)
    assert (kept.baseline.name, kept.baseline.n) == ("kept_demo", 6)
    settings = keeping.settings
    session = Session(keeping, open_study(settings.storage, "s", keeping.identity, keeping.objective))
    session.search()
    records = [record for record in session.result.records if record.is_complete]
    assert {record.may_be_chosen for record in records} == {record.measured.kept[0].value <= 3 for record in records}
    for record in session.front:
        assert record.measured.kept[0].told >= 3
    found, examples = confirmation(keeping).confirm(keeping.edits(PLAN))
    (stayed,) = found.kept
    assert (stayed.behavior, stayed.name, stayed.n) == ("demo", "kept_demo", 6)
    assert stayed.at[-1].base.value == 6
    assert 0 <= stayed.at[-1].edited.value <= 6
    assert [behavior.behavior for behavior in found.behaviors] == ["demo"]
    assert stayed.change is not None
    assert stayed.change.value == stayed.at[-1].edited.value - 6
    nothing, _examples = confirmation(keeping).confirm(())
    assert nothing.kept[0].at[-1].edited.value == 6
    assert HeldOut.from_json(found.to_json()) == found
    assert len([example for example in examples if example.behavior == "demo"]) == 12
    assert "kept demo at 40 tokens" in held_out_section(found, None, "none")
