"""The main path: settings in, an edited model out. Read this first."""

import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import optuna

from heretic.checks.capability import check_capability
from heretic.common.errors import INTERRUPTED, TERMINATED, UserError
from heretic.common.integrity import check_folder, harmful
from heretic.common.redaction import mask_secrets
from heretic.config import LoadedSettings, Settings
from heretic.export.content import ExportFormat
from heretic.export.manifest import read_manifest
from heretic.extraction.find import refines
from heretic.observability.events import StudyLeft, StudyOpened, Warned, emit, subscribed
from heretic.observability.fields import worker_name
from heretic.observability.steps import step
from heretic.report.write import check_report_folder, report_folder
from heretic.run.comparison import compare
from heretic.run.kept_calibration import keep_calibration, kept_calibration
from heretic.run.kept_checks import KeptTrials, keep_settings
from heretic.run.preflight import continues_upload, preflight
from heretic.run.rules import searches
from heretic.run.start_from import start_from
from heretic.run.study_name import ResolveConflict, instead, settle_study
from heretic.run.time_limit import Stopwatch
from heretic.run.warm_start import warm_start
from heretic.run.workbench import Workbench, prepare
from heretic.search.claim import Turn, claimed
from heretic.search.heartbeat import Heartbeat, preparation_told
from heretic.search.sampler import make_sampler
from heretic.search.storage import IDENTITY_ATTRIBUTE, StudyConflict, claim_file, open_study, shown_url
from heretic.search.stored_directions import StoredDirections, decoded, keep_directions, stored_attributes
from heretic.search.workers import Workers, workers_before
from heretic.session import Session
from heretic.workers.cluster import place
from heretic.workers.placement import ALONE, Placement, of_lead

Choose = Callable[[Session], None]
"""Lets a person choose trials and say what happens with them, until they are done."""
DecideOnLittle = Callable[[Sequence[str]], None]
"""Behaviours that the original model hardly shows -> returns to go on; raises AnotherBehavior or SelectionError."""


class AnotherBehavior(Exception):
    """A person takes another pack, since the original model hardly shows this one's behaviour.

    Attributes:
        name: The pack's.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def go_on(_behaviors: Sequence[str]) -> None:
    """A DecideOnLittle for runs without a terminal; an event has said how it is."""


def run(
    loaded: LoadedSettings,
    choose: Choose,
    resolve_conflict: ResolveConflict,
    decide_on_little: DecideOnLittle = go_on,
    opens: bool = False,
) -> int:
    """Everything that one command does; returns the exit code.

    Args:
        loaded: The settings.
        choose: See Choose.
        resolve_conflict: See ResolveConflict.
        decide_on_little: See DecideOnLittle.
        opens: Whether the study's trials are chosen from as they are stored: nothing is searched, nor measured but what
            is asked for.

    Raises:
        AnotherBehavior: Somebody chose another pack.
        HereticError: The message says what to do, `exit_code` what the process ends with.
    """
    settings = loaded.settings
    stopwatch = Stopwatch(settings)
    with step("reading prompts and checking what is asked for"):
        prompts = preflight(settings)
        placement = place(settings) if searches(settings) else ALONE
        settings = of_lead(settings, placement)
    if settings.evaluate_model is not None:
        with step("comparing"):
            compare(settings, settings.evaluate_model, prompts)
        return 0
    if settings.auto_select and settings.auto_select_path is not None and settings.report:
        check_report_folder(report_folder(Path(settings.auto_select_path)))
    with step("reading questions and benchmarks"):
        check_capability(settings)
    with ExitStack() as claims, Turn(settings.storage, settings.join) as turn, subscribed(stopwatch):
        settings, prompts = settle_study(settings, prompts, resolve_conflict)
        claims.enter_context(claimed(settings.storage, settings.study))
        turn.take(settings.study)
        attributes = stored_attributes(settings.storage, settings.study)
        if IDENTITY_ATTRIBUTE in attributes:
            # Else others wait until identity, directions and first plans are stored.
            turn.give()
        told = preparation_told(
            claim_file(settings.storage, settings.study), settings.model or "", settings.wanted_trials, settings.study
        )
        with told, step("preparing"):
            stored = decoded(attributes, f"The study {settings.study}")
            bench = prepare(settings, prompts, stored, kept_calibration(attributes), measures=not opens)
        if not (opens or settings.auto_select or IDENTITY_ATTRIBUTE in attributes) and bench.hardly_shown:
            decide_on_little(bench.hardly_shown)
        study = open_matching_study(bench, resolve_conflict, claims, turn)
        # What is saved says where it came from.
        bench = replace(bench, settings=bench.settings.model_copy(update={"study_name": study.study_name}))
        if opens:
            turn.give()
            return choose_from(Session(bench, study, kept=KeptTrials(study, bench.settings)), choose)
        return searched(bench, study, stopwatch, turn, placement, choose)


def searched(
    bench: Workbench, study: optuna.Study, stopwatch: Stopwatch, turn: Turn, placement: Placement, choose: Choose
) -> int:
    """Store what the run found before its search, then search and let somebody choose; returns the exit code."""
    settings = bench.settings
    keep_settings(study, settings)
    keep_calibration(study, settings.storage, bench.calibrated)
    keep_refinement(bench, study)
    start_from(bench, study)
    warm_start(bench, study)
    heartbeat = Heartbeat(
        study,
        bench.loaded.name,
        bench.runner.calibration.batch_size,
        settings.wanted_trials,
        tuple(map(str, bench.engine.slower)),
        worker=worker_name() if turn.is_needed else "",
    )
    workers = Workers(study, turn, bench.objective, heartbeat) if turn.is_needed else None
    turn.give()
    with subscribed(heartbeat, steps=True):
        kept = KeptTrials(study, settings)
        return search_and_choose(
            Session(bench, study, heartbeat, stopwatch.deadline(bench), workers, placement, kept), choose
        )


def choose_from(session: Session, choose: Choose) -> int:
    """Let a person choose from the trials that are stored; returns the exit code."""
    session.recall()
    choose(session)
    emit(left(session))
    return 0


def left(session: Session) -> StudyLeft:
    """Says where a study is whose menu was left, and what comes back to it."""
    storage = session.bench.settings.storage
    shown = shown_url(storage)
    usual = storage == Settings.model_fields["storage"].default
    # What has a password is not written out.
    address = [] if usual else ["--storage", storage if mask_secrets(storage) == storage == shown else "..."]
    return StudyLeft(session.study, shown, shlex.join(["heretic", "open", session.study, *address]))


def search_and_choose(session: Session, choose: Choose) -> int:
    """The second half of the main path, from the first trial on; returns the exit code."""
    settings = session.bench.settings
    result = session.search()
    if result.terminated:
        # Whoever sent the signal will not wait for a choice.
        emit(Warned("Ended by a signal; run the same command again to go on with this study."))
        return TERMINATED
    if not settings.auto_select:
        choose(session)
        emit(left(session))
        return 0
    if result.interrupted:
        emit(Warned("Nothing was chosen; run the same command again to go on with this study."))
        return INTERRUPTED
    deliver(session)
    return 0


def keep_refinement(bench: Workbench, study: optuna.Study) -> None:
    """Store refined directions with the study, so that all its trials rest on the same ones."""
    settings = bench.settings
    if refines(settings) and not settings.load_directions:
        keep_directions(study, settings.storage, StoredDirections(bench.identity.aspects, bench.directions))


def open_matching_study(
    bench: Workbench, resolve_conflict: ResolveConflict, claims: ExitStack, turn: Turn
) -> optuna.Study:
    """The study of this run; one that measured something else is never continued, but left as it is.

    Args:
        bench: The prepared model.
        resolve_conflict: Asks about another study.
        claims: Holds the claim to the settings' study, and then that to another one instead.
        turn: Is kept for what comes next.
    """
    settings, name, study = bench.settings, bench.settings.study, None
    while study is None:
        try:
            turn.take(name)
            with step("opening the study"):
                study = open_study(settings.storage, name, bench.identity, bench.objective, settings.join)
        except StudyConflict as conflict:
            # The other study is nobody's while this run goes on.
            turn.give()
            claims.close()
            name = instead(settings, name, bench.identity.aspects, str(conflict), resolve_conflict)
            claims.enter_context(claimed(settings.storage, name))
    finished = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    bounded = settings.keep_as == "bound" and bool(bench.prompts.kept)
    workers = workers_before(study)
    study.sampler = make_sampler(settings.seed, settings.n_startup_trials, finished, workers, bounded)
    emit(StudyOpened(name, shown_url(settings.storage), finished, settings.wanted_trials))
    return study


def saved_before(session: Session, folder: Path) -> Path:
    """The folder, if it is whole and holds what would be saved now.

    Raises:
        UserError: It holds something else; nothing is replaced.
    """
    path, record = folder.expanduser().resolve(), session.suggested
    manifest = read_manifest(path)
    same = manifest.optuna_trial_number == record.number and record.plan.is_stored_as(manifest.plan)
    if not same or harmful(check_folder(path)):
        raise UserError(
            f"{folder} holds another model than trial {record.shown} of this study, or was changed; name another "
            "folder with --auto-select-path."
        )
    return path


def deliver(session: Session) -> None:
    """Apply the automatic choice, save it, upload it."""
    settings = session.bench.settings
    if continues_upload(settings) and settings.auto_select_path is not None and settings.hf_upload is not None:
        # An earlier run saved, and its upload was interrupted.
        session.upload(saved_before(session, Path(settings.auto_select_path)), settings.hf_upload, settings.hf_private)
        return
    if settings.confirm and settings.confirm_front:
        session.confirm_front()
    session.apply(session.suggested)
    session.check()
    export_format = ExportFormat(settings.save_format)
    folder = None
    if settings.auto_select_path is not None:
        folder = session.save(Path(settings.auto_select_path), export_format).path
    if settings.hf_upload is None:
        return
    if folder is not None and export_format is ExportFormat.MERGED:
        session.upload(folder, settings.hf_upload, settings.hf_private)
    else:
        # An adapter in a folder names its original model by a path of this machine, which is nobody else's business.
        session.publish(settings.hf_upload, settings.hf_private, export_format)
