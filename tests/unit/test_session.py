"""What can be done with a trial: saved, uploaded, from full-precision and from quantised weights."""

import hashlib
import itertools
import json
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from peft import PeftModel
from tests.unit.export.conftest import all_logits, load_back
from transformers import AutoModelForCausalLM

from heretic.common.errors import ExportError, ModelError, TrialFailed, UserError
from heretic.config import PromptSpecification, Settings
from heretic.editors import inplace
from heretic.editors.editor import applied
from heretic.edits.algebra import Edit
from heretic.engine.engine import Engine
from heretic.engine.measurement import Measurement
from heretic.evaluation.kl import KlEvaluator
from heretic.export import hub, weights
from heretic.export.content import ExportFormat
from heretic.interface.console import ConsoleReporter
from heretic.models.access import put_back
from heretic.observability.events import (
    Event,
    FrontChecked,
    FullPrecisionMeasured,
    FullPrecisionNeeded,
    ModelSaved,
    ModelUploaded,
    TrialApplied,
    Warned,
    subscribed,
)
from heretic.passes.choose import still_agrees
from heretic.prompts.sets import load_prompts, packs_of
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialRecord, TrialState
from heretic.run import applied as run_applied
from heretic.run.comparison import compare
from heretic.run.kept_checks import KeptTrials
from heretic.run.measuring import Measuring
from heretic.run.preflight import check_files
from heretic.run.workbench import Workbench, prepare
from heretic.search.loop import SearchResult
from heretic.search.private_api import set_study_attribute
from heretic.session import Session
from heretic.workflow import deliver

PLAN = EditPlan(
    Scope.GLOBAL,
    0.6,
    (("attention", Schedule(1.0, 0.6, 0.2, 0.6)), ("mlp", Schedule(1.0, 0.6, 0.2, 0.6))),
    Normalization.NONE,
)
SEARCHED = Scores((Score("refusals", 1.0, 6, 6.0),), Score("kl", 0.02, 6, 0.0))
RECORD = TrialRecord(11, PLAN, SEARCHED, TrialState.COMPLETE, "", 1.0)


def settings(**changes: Any) -> Settings:
    def prompts(kind: str, split: str, limit: int) -> dict[str, Any]:
        return {"dataset": f"bundled:demo/{kind}", "split": split, "limit": limit}

    return Settings(
        model="demo",
        extractor="mean",
        device="cpu",
        batch_size=12,
        response_prefix="",
        refusal_check_tokens=8,
        kl_tokens=8,
        good_prompts=prompts("baseline", "train", 12),
        bad_prompts=prompts("target", "train", 12),
        good_evaluation_prompts=prompts("baseline", "evaluation", 6),
        bad_evaluation_prompts=prompts("target", "evaluation", 6),
        **changes,
    )


def prepared(settings: Settings) -> Workbench:
    return prepare(settings, load_prompts(settings, packs_of(settings)))


def session_of(bench: Workbench) -> Session:
    session = Session(bench, optuna.create_study(directions=["minimize", "minimize"]))
    session.apply(RECORD)
    return session


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return prepared(settings(normalization="none"))


@pytest.fixture
def session(bench: Workbench) -> Iterator[Session]:
    session = session_of(bench)
    yield session
    session.restore()


@pytest.fixture
def events() -> Iterator[list[Event]]:
    recorded: list[Event] = []
    with subscribed(recorded.append):
        yield recorded


class FakeApi:
    """A hub that remembers what it was sent."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def whoami(self) -> None:
        """Accept any login."""

    def create_repo(self, repo_id: str, **_: Any) -> Any:
        class Url(str):
            pass

        url = Url(f"https://hub.example/{repo_id}")
        url.repo_id = repo_id
        return url

    def repo_info(self, repo_id: str, **_: Any) -> Any:
        return SimpleNamespace(private=True)

    def upload_folder(self, folder_path: Path, **_: Any) -> None:
        self.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    api = FakeApi()
    monkeypatch.setattr(hub, "get_token", lambda: "a made-up token")
    monkeypatch.setattr(hub, "HfApi", lambda: api)
    return api


def manifest(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "heretic_metadata.json").read_text(encoding="utf-8"))
    return data


# Quantised weights ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quantised_bench() -> Workbench:
    pytest.importorskip("bitsandbytes", reason="there are no bitsandbytes wheels for this system")
    return prepared(settings(normalization="none", quantization="bnb_4bit"))


def test_scores_of_a_model_searched_quantised_are_those_of_the_saved_weights(
    quantised_bench: Workbench, tmp_path: Path, events: list[Event]
) -> None:
    session = session_of(quantised_bench)
    session.save(tmp_path / "out", ExportFormat.MERGED)
    session.restore()

    # Measured independently: the saved folder against the original model, both as they are on the disk.
    refusals, kl = compare(settings(), str(tmp_path / "out"), load_prompts(settings(), packs_of(settings())))
    data = manifest(tmp_path / "out")
    written = {score["name"]: score for score in data["scores"]}
    assert written["kl"]["value"] == pytest.approx(kl.value, rel=1e-3)
    assert (written["refusals"]["value"], written["refusals"]["baseline"]) == (refusals.value, refusals.baseline)

    # What the search saw is kept beside them, and is something else.
    assert data["search"]["quantization"] == "bnb_4bit"
    assert data["settings"]["quantization"] == "bnb_4bit"
    seen = {score["name"]: score["value"] for score in data["search"]["scores"]}
    assert seen["kl"] != pytest.approx(kl.value, rel=1e-3)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "quantised with `bnb_4bit`" in card
    assert re.search(rf"\| KL in nats, [^|]+ \| 0 \| {kl.value:.4f} \(95 %: [^|]+\) \|", card)
    assert f"KL {seen['kl']:.4f}" in card

    (measured,) = (event for event in events if isinstance(event, FullPrecisionMeasured))
    assert {score.name: score.value for score in measured.scores} == {
        name: written[name]["value"] for name in ("refusals", "kl")
    }
    assert {score.name: score.value for score in measured.quantized} == seen
    assert measured.scores.behaviors[0].baseline == refusals.baseline


def test_saving_a_trial_twice_measures_it_once(quantised_bench: Workbench, tmp_path: Path, events: list[Event]) -> None:
    session = session_of(quantised_bench)
    session.save(tmp_path / "one", ExportFormat.MERGED)
    session.save(tmp_path / "two", ExportFormat.ADAPTER)
    session.restore()
    assert [event.measured for event in events if isinstance(event, FullPrecisionNeeded)] == [False, True]
    assert sum(isinstance(event, FullPrecisionMeasured) for event in events) == 1
    assert manifest(tmp_path / "one")["scores"] == manifest(tmp_path / "two")["scores"]


def test_a_taken_folder_is_refused_before_the_model_is_loaded_again(
    quantised_bench: Workbench, tmp_path: Path, events: list[Event]
) -> None:
    (tmp_path / "file").write_text("mine")
    session = session_of(quantised_bench)
    with pytest.raises(UserError, match="not empty"):
        session.save(tmp_path, ExportFormat.MERGED)
    session.restore()
    assert not any(isinstance(event, FullPrecisionNeeded) for event in events)


# Saving and uploading -------------------------------------------------------------------------------------------------


def test_scores_are_not_measured_again_where_the_saved_weights_were_measured(
    session: Session, tmp_path: Path, events: list[Event]
) -> None:
    scores = session.applied.scores
    session.save(tmp_path / "out", ExportFormat.MERGED)
    data = manifest(tmp_path / "out")
    assert [score["value"] for score in data["scores"]] == [score.value for score in scores]
    assert data["search"] == {"quantization": "none", "scores": []}
    assert [event.path for event in events if isinstance(event, ModelSaved)] == [str(tmp_path / "out")]


def test_people_read_the_trial_number_that_the_console_shows(session: Session, tmp_path: Path) -> None:
    session.save(tmp_path / "out", ExportFormat.MERGED)
    data = manifest(tmp_path / "out")
    assert (data["trial"], data["optuna_trial_number"]) == (12, 11)
    assert "trial 12 of a search" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_adapter_of_a_bundled_or_local_model_goes_on_its_base_and_names_no_path(
    session: Session, tmp_path: Path
) -> None:
    session.save(tmp_path / "merged", ExportFormat.MERGED)
    session.save(tmp_path / "adapter", ExportFormat.ADAPTER)
    configuration = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert "/" not in configuration["base_model_name_or_path"]
    base = AutoModelForCausalLM.from_pretrained(session.bench.loaded.source)
    adapted = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    expected = all_logits(load_back(tmp_path / "merged"))
    assert (all_logits(adapted) - expected).norm() < 1e-4 * expected.norm()


def test_failed_save_leaves_the_trial_applied(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = all_logits(session.bench.loaded.model)
    with monkeypatch.context() as patch:
        patch.setattr("heretic.run.saving.save_model", lambda *_, **__: (_ for _ in ()).throw(ExportError("full")))
        with pytest.raises(ExportError, match="full"):
            session.save(tmp_path / "out", ExportFormat.ADAPTER)
    assert (all_logits(session.bench.loaded.model) == before).all()


def test_impossible_adapter_is_refused_in_a_sentence(bench: Workbench, tmp_path: Path) -> None:
    session = Session(bench, optuna.create_study(directions=["minimize", "minimize"]))
    session.apply(replace(RECORD, plan=replace(PLAN, normalization=Normalization.COLUMN)))
    try:
        with pytest.raises(UserError, match=r"cannot be saved as an adapter .*--normalization"):
            session.save(tmp_path / "out", ExportFormat.ADAPTER)
    finally:
        session.restore()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("export_format", list(ExportFormat))
def test_upload_speaks_of_the_hub_and_of_no_temporary_folder(
    session: Session, api: FakeApi, events: list[Event], capsys: pytest.CaptureFixture[str], export_format: ExportFormat
) -> None:
    with ConsoleReporter(False) as reporter, subscribed(reporter):
        url = session.publish("someone/edited", True, export_format)
    assert url == "https://hub.example/someone/edited"
    assert [event for event in events if isinstance(event, ModelUploaded)] == [
        ModelUploaded("someone/edited", url, True)
    ]
    assert not any(isinstance(event, ModelSaved) for event in events)
    shown = capsys.readouterr().out
    assert url in shown
    assert "heretic-upload-" not in shown
    assert "to load it in Python" not in shown
    source = str(session.bench.loaded.source)
    assert api.files.keys() >= {"README.md", "heretic_metadata.json"}
    assert not [name for name, content in api.files.items() if source.encode() in content]


def test_missing_login_is_said_before_anything_is_written(
    session: Session, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "get_token", lambda: None)
    monkeypatch.setattr("heretic.run.saving.save_model", lambda *_, **__: pytest.fail("was written"))
    with pytest.raises(UserError, match="needs a login"):
        session.publish("someone/edited", True, ExportFormat.MERGED)


def test_full_temporary_folder_says_how_to_move_it(
    session: Session, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr("heretic.export.atomic.shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"is free on that disk.*TMPDIR"):
        session.publish("someone/edited", True, ExportFormat.MERGED)
    assert api.files == {}


@pytest.mark.parametrize(
    ("path", "save_format", "saved"), [(None, "merged", 0), ("out", "merged", 1), ("out", "adapter", 1)]
)
def test_automatic_upload(
    session: Session,
    api: FakeApi,
    events: list[Event],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str | None,
    save_format: str,
    saved: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {"auto_select": True, "auto_select_path": path, "hf_upload": "a/b", "save_format": save_format}
    session.bench = replace(session.bench, settings=session.bench.settings.model_copy(update=changes))
    session.result = replace(session.result, records=(RECORD,))
    deliver(session)
    paths = [event.path for event in events if isinstance(event, ModelSaved)]
    assert paths == [str(tmp_path / "out")] * saved
    assert sum(isinstance(event, ModelUploaded) for event in events) == 1
    assert {entry.name for entry in tmp_path.iterdir()} == ({"out", "out_report"} if saved else set())
    assert ("adapter_model.safetensors" in api.files) is (save_format == "adapter")
    assert str(session.bench.loaded.source).encode() not in api.files.get("adapter_config.json", b"")


def test_an_interrupted_automatic_upload_goes_on_from_the_saved_folder(
    session: Session, api: FakeApi, events: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {"auto_select": True, "auto_select_path": "out", "hf_upload": "a/b", "report": False, "confirm": False}
    session.bench = replace(session.bench, settings=session.bench.settings.model_copy(update=changes))
    session.result = replace(session.result, records=(RECORD,))
    upload = api.upload_folder

    def cut(**_: Any) -> None:
        raise ConnectionError("cut")

    monkeypatch.setattr(api, "upload_folder", cut)
    with pytest.raises(ExportError, match="check the network and try again"):
        deliver(session)
    session.restore()
    monkeypatch.setattr(api, "upload_folder", upload)
    before = (tmp_path / "out" / "heretic_metadata.json").read_bytes()
    check_files(session.bench.settings)
    deliver(session)
    assert sum(isinstance(event, ModelSaved) for event in events) == 1
    assert api.files["heretic_metadata.json"] == before
    # Not what would be saved now, or changed since.
    session.result = replace(session.result, records=(replace(RECORD, number=3),))
    with pytest.raises(UserError, match="holds another model than trial 4"):
        deliver(session)
    session.result = replace(session.result, records=(RECORD,))
    changed = (tmp_path / "out" / "tokenizer.json").read_text() + "\n"
    (tmp_path / "out" / "tokenizer.json").write_text(changed)
    with pytest.raises(UserError, match="or was changed"):
        deliver(session)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == changed


def test_trial_that_cannot_be_measured_is_named_as_people_know_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_number: int, _doing: str) -> Scores:
        raise TrialFailed("the edited model's logits are not finite")

    monkeypatch.setattr(session.bench.engine.reference, "present_scores", fails)
    # One that was not measured in the weights before.
    with pytest.raises(TrialFailed, match="Trial 13 cannot be used because the edited"):
        session.apply(replace(RECORD, number=12))


def weights_hash(bench: Workbench) -> str:
    put_back(bench.loaded.model.parameters())
    digest = hashlib.sha256()
    for parameter in bench.loaded.model.parameters():
        digest.update(parameter.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def crowd(bench: Workbench, limit: int) -> Callable[[], None]:
    """Let passes of more than so many rows run out of memory; returns what makes room again."""

    def check(_module: object, _arguments: object, keywords: dict[str, torch.Tensor]) -> None:
        if len(keywords["input_ids"]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return bench.loaded.model.register_forward_pre_hook(check, with_kwargs=True).remove


@pytest.fixture
def original(bench: Workbench) -> Iterator[Session]:
    """A session with no trial applied."""
    before = weights_hash(bench)
    yield Session(bench, optuna.create_study(directions=["minimize", "minimize"]))
    assert weights_hash(bench) == before


def test_a_picked_trial_is_measured_with_smaller_batches_where_memory_runs_out(
    original: Session, bench: Workbench, events: list[Event]
) -> None:
    expected = original.apply(RECORD)
    make_room = crowd(bench, 2)
    try:
        found = Session(bench, original._study).apply(RECORD)
    finally:
        make_room()
    original.restore()
    assert found.behaviors == expected.behaviors
    assert found.kl.value == pytest.approx(expected.kl.value, rel=1e-3, abs=1e-6)
    assert any(isinstance(event, Warned) and "going on with smaller batches" in event.message for event in events)


def test_a_trial_that_never_fits_is_named_and_leaves_the_weights_unedited(original: Session, bench: Workbench) -> None:
    before = weights_hash(bench)
    make_room = crowd(bench, 0)
    try:
        with pytest.raises(TrialFailed, match=r"^Memory ran out while trial 12 .* run the same command again"):
            original.apply(RECORD)
    finally:
        make_room()
    assert weights_hash(bench) == before


def test_memory_that_runs_out_in_the_middle_of_an_edit_leaves_the_weights_unedited(
    original: Session, bench: Workbench, monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    before, edited, calls = weights_hash(bench), inplace.edited_weight, itertools.count()

    def full(weight: torch.Tensor, edit: Edit) -> torch.Tensor:
        if next(calls) == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        return edited(weight, edit)

    original.result = SearchResult((RECORD,), False)
    monkeypatch.setattr(inplace, "edited_weight", full)
    with pytest.raises(TrialFailed, match="Memory ran out while trial 12 "):
        original.apply(RECORD)
    assert weights_hash(bench) == before
    calls = itertools.count()
    original.check_front()
    assert next(calls) == 4
    assert weights_hash(bench) == before
    assert any(isinstance(event, Warned) and event.message.startswith("Memory ran out") for event in events)


@pytest.mark.parametrize("agrees", [True, False])
def test_the_checked_front_is_read_by_ordinary_passes_on_a_sample(
    original: Session, bench: Workbench, monkeypatch: pytest.MonkeyPatch, events: list[Event], agrees: bool
) -> None:
    before, read = weights_hash(bench), []

    def look(runner: Any, rows: list[list[int]]) -> bool:
        read.append((weights_hash(bench) != before, len(rows)))
        return still_agrees(runner, rows) and agrees

    original.result = SearchResult((RECORD,), False)
    monkeypatch.setattr(run_applied, "still_agrees", look)
    original.check_front()
    kinds = (bench.prompts.baseline_evaluation, bench.prompts.target_evaluation)
    assert read == [(True, sum(min(run_applied.SAMPLE, len(kind.prompts)) for kind in kinds))]
    warned = [event.message for event in events if isinstance(event, Warned)]
    assert [message.startswith("Trial 12: ordinary passes over a sample") for message in warned] == [True] * (
        not agrees
    )


@pytest.mark.parametrize("where", ["save_pretrained", "state_dict"])
def test_memory_that_runs_out_while_saving_leaves_nothing_behind_and_the_trial_applied(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    before, model = weights_hash(session.bench), session.bench.loaded.model

    def full(folder: Path | None = None, **_keywords: Any) -> None:
        if folder is not None:
            (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(weights, "model_bytes", lambda _model: 1)
        patch.setattr(model, where, full)
        with pytest.raises(ExportError, match=r"^Memory ran out while saving to .* run the same command again"):
            session.save(tmp_path / "out", ExportFormat.MERGED)
    assert list(tmp_path.iterdir()) == []
    assert weights_hash(session.bench) == before
    assert session.save(tmp_path / "out", ExportFormat.MERGED).file_count > 3


def test_edited_model_without_finite_logits_cannot_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arguments: object) -> Score:
        raise TrialFailed("the edited model's logits are not finite")

    monkeypatch.setattr(KlEvaluator, "score_of", fails)
    with pytest.raises(ModelError, match=r"demo cannot be compared because the edited model's .*; try --dtypes"):
        compare(settings(), "demo", load_prompts(settings(), packs_of(settings())))


# The ends of the front are measured again -----------------------------------------------------------------------------


class Claiming:
    """An engine that answers what it is told to, whatever the plan; every plan it is asked about is a harmless one."""

    candidates = 1
    is_reference = False
    slower = ()

    def __init__(self, bench: Workbench, *values: tuple[float, float]) -> None:
        self.reference = bench.engine.reference
        self.remember_reference = bench.engine.remember_reference
        self._values = list(values)

    def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
        claimed = []
        for _ in plans:
            refusals, kl = self._values.pop(0)
            scores = Scores((Score("refusals", refusals, 6, 6.0),), Score("kl", kl, 6, 0.0))
            claimed.append(Measurement(scores, TrialState.COMPLETE))
        return claimed


CLAIMS = ((0.0, 0.9), (3.0, 0.5), (5.0, 0.001), (6.0, 0.9))
"""The last is dominated; the front's ends are the first and the third."""


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch, bench: Workbench) -> list[int | None]:
    """Trials that were measured in the weights, by ordinary passes."""
    asked: list[int | None] = []
    reference = bench.engine.reference
    measure = reference.present_scores

    def watched(number: int | None, doing: str) -> Scores:
        asked.append(number)
        return measure(number, doing)

    monkeypatch.setattr(reference, "present_scores", watched)
    return asked


def present(bench: Workbench) -> Scores:
    """The scores of the model as it is."""
    return bench.engine.reference.present_scores(None, "testing")


def searching(bench: Workbench, engine: Engine, n_trials: int) -> Session:
    settings = bench.settings.model_copy(update={"n_trials": n_trials})
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0))
    return Session(
        replace(bench, measuring=Measuring(lambda: (bench.measuring.results[0], engine)), settings=settings), study
    )


def test_a_search_ends_with_its_front_confirmed(bench: Workbench, events: list[Event]) -> None:
    session = searching(bench, bench.engine, 5)
    before = all_logits(bench.loaded.model)
    session.search()
    checked = [event for event in events if isinstance(event, FrontChecked)]
    ends = {entry.number: entry for entry in (session.front[0], session.front[-1])}
    assert [event.record.number for event in checked] == list(ends)
    for event in checked:
        searched = ends[event.record.number]
        assert event.record == searched
        (refusals, kl), (searched_refusals, searched_kl) = event.scores, searched.scores
        assert refusals == searched_refusals
        assert kl.value == pytest.approx(searched_kl.value, rel=1e-3, abs=1e-5)
        assert refusals.n == 6
    assert (all_logits(bench.loaded.model) == before).all()


def test_what_a_wrong_engine_claims_is_shown_beside_the_truth(
    bench: Workbench, events: list[Event], measurements: list[int | None], capsys: pytest.CaptureFixture[str]
) -> None:
    session = searching(bench, Claiming(bench, *CLAIMS), 4)
    with ConsoleReporter(False) as reporter, subscribed(reporter):
        session.search()
    assert measurements == [0, 2]
    checked = [event for event in events if isinstance(event, FrontChecked)]
    assert [(event.record.number, *event.record.values) for event in checked] == [(0, 0, 0.9), (2, 5, 0.001)]
    shown = capsys.readouterr().out
    assert "in the search: refusals 0/6   KL  0.9" in shown
    for event in checked:
        with applied(bench.editor, bench.edits(event.record.plan)):
            assert event.scores == present(bench)


def test_picking_a_checked_trial_measures_nothing_again(
    bench: Workbench, events: list[Event], measurements: list[int | None]
) -> None:
    session = searching(bench, Claiming(bench, *CLAIMS), 4)
    session.search()
    measurements.clear()
    scores = session.apply(session.front[0])
    assert measurements == []
    checked = next(event for event in events if isinstance(event, FrontChecked))
    assert scores == checked.scores
    (shown,) = (event for event in events if isinstance(event, TrialApplied))
    assert shown.scores == checked.scores
    assert shown.record.values == (0, 0.9)
    # The edits are in the weights all the same.
    assert (session.applied.record, session.applied.scores) == (session.front[0], scores)
    assert present(bench) == scores
    measurements.clear()
    session.apply(session.front[1])
    assert measurements == [1]
    session.apply(session.front[1])
    assert measurements == [1]
    session.restore()


def test_going_on_checks_only_new_ends(bench: Workbench, measurements: list[int | None]) -> None:
    session = searching(bench, Claiming(bench, *CLAIMS, (0.0, 0.8)), 4)
    session.search()
    session.search(additional=1)
    assert measurements == [0, 2, 4]


def test_a_front_of_one_is_checked_once(bench: Workbench, measurements: list[int | None]) -> None:
    searching(bench, Claiming(bench, (0.0, 0.001), (3.0, 0.5)), 2).search()
    assert measurements == [0]


def test_the_reference_engine_is_not_checked_against_itself(
    bench: Workbench, events: list[Event], measurements: list[int | None]
) -> None:
    reference = bench.engine.reference
    reference.remember()
    session = searching(bench, Engine("in place", bench.edits, bench.editor, reference, reference), 2)
    assert session.search().complete == 2
    assert measurements == []
    assert not any(isinstance(event, FrontChecked) for event in events)


def test_an_interrupted_search_is_not_checked(bench: Workbench, measurements: list[int | None]) -> None:
    class Interrupted(Claiming):
        def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
            signal.raise_signal(signal.SIGINT)
            return super().measure(plans, numbers, gate)

    session = searching(bench, Interrupted(bench, *CLAIMS), 4)
    assert session.search().interrupted
    assert measurements == []


def test_an_end_that_cannot_be_measured_again_is_a_warning_and_the_search_goes_on(
    bench: Workbench, events: list[Event], measurements: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = bench.engine.reference
    watched = reference.present_scores

    def fails_once(number: int | None, doing: str) -> Scores:
        scores = watched(number, doing)
        if number == 0:
            raise TrialFailed("the edited model's logits are not finite")
        return scores

    monkeypatch.setattr(reference, "present_scores", fails_once)
    session = searching(bench, Claiming(bench, *CLAIMS), 4)
    assert session.search().complete == 4
    assert [event.record.number for event in events if isinstance(event, FrontChecked)] == [2]
    (warning,) = (event.message for event in events if isinstance(event, Warned))
    assert warning.startswith("Trial 1 cannot be used because the edited model's logits are not finite")


def test_what_was_measured_and_saved_is_known_to_whoever_comes_back(
    bench: Workbench, tmp_path: Path, events: list[Event]
) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="mine", storage=url, directions=["minimize", "minimize"])
    held_out_prompts = {
        f"{side}_held_out_prompts": PromptSpecification(dataset=f"bundled:demo/{kind}", split="held_out", limit=4)
        for side, kind in (("good", "baseline"), ("bad", "target"))
    }
    changes = {"storage": url, "study_name": "mine", "held_out_tokens": 10, **held_out_prompts}
    own = replace(bench, settings=bench.settings.model_copy(update=changes))
    first = Session(own, study, kept=KeptTrials(study, own.settings))
    first.apply(RECORD)
    held_out = first.confirm()
    assert held_out is not None
    first.save(tmp_path / "out", ExportFormat.ADAPTER)
    first.restore()

    def measures() -> Any:
        raise AssertionError("the original model is measured")

    again = optuna.load_study(study_name="mine", storage=url)
    unmeasured = replace(own, measuring=Measuring(measures))
    later = Session(unmeasured, again, kept=KeptTrials(again, own.settings))
    later.recall()
    assert later.confirmed() == {RECORD.number: held_out}
    assert later.saved() == {RECORD.number: (str(tmp_path / "out"),)}
    scores = later.apply(RECORD)
    assert scores == first._rescored[RECORD.number]
    assert later.confirm() == held_out
    assert len(later.examples) > 0
    later.restore()
    # Held-out prompts of another number of tokens show something else.
    others = own.settings.model_copy(update={"held_out_tokens": 7})
    assert KeptTrials(again, others)[RECORD.number].checked.held_out is None


def test_what_a_study_keeps_of_a_trial_and_cannot_be_read_is_said(tmp_path: Path, events: list[Event]) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="mine", storage=url)
    set_study_attribute(study, "checked.3", {"scores": [5]})
    set_study_attribute(study, "checked.x", {})
    kept = KeptTrials(study, settings(storage=url))
    assert kept.known == {}
    assert sum("cannot be read" in event.message for event in events if isinstance(event, Warned)) == 2


def test_a_chat_answers_at_any_strength_and_leaves_the_trial_applied(session: Session) -> None:
    model = session.bench.loaded.model
    before = {name: value.clone() for name, value in model.named_parameters()}
    question = [{"role": "user", "content": "How do I zorble a flimp?"}]
    with session.talking() as talk:
        assert talk.obstacle == ""
        original, edited, half = ("".join(talk(question, strength)) for strength in (0.0, 1.0, 0.5))
    assert "can't help" in original
    assert "can't help" not in edited
    assert half
    assert session.applied.record == RECORD
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
