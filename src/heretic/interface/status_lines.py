"""What ``heretic status`` shows of a study, and ``heretic studies`` of several; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from heretic.common.redaction import without_secrets
from heretic.export.redact import redact
from heretic.interface.formatting import Row, clean_line, clock, duration, plural
from heretic.interface.watch_lines import memory_rows
from heretic.results import tables, words
from heretic.results.trial import shown
from heretic.search.pulse import Pulse
from heretic.search.status import StudyStatus

LONGEST_FRONT = 12
"""Trials of the front that are shown; --json has them all."""
LONGEST_LIST = 20
"""Studies that are listed; likewise."""
_STATES = {"unknown": "no run has told how it is"}
_STUDIES = ("Study", "Model", "Trials", "Best", "Run")


def status_rows(status: StudyStatus) -> list[Row]:
    """What is shown of a study, without secrets."""
    result = [Row("Study", f"{clean_line(status.name)} in {clean_line(status.storage)}")]
    if len(status.studies) > 1:
        runs = [f"{clean_line(name)} ({_STATES.get(run, run)})" for name, run in status.studies.items()]
        result += [Row("" if place else "Studies", run) for place, run in enumerate(runs[:LONGEST_LIST])]
        if len(runs) > LONGEST_LIST:
            result.append(Row("", f"and {len(runs) - LONGEST_LIST} more"))
    result += _run_rows(status)
    workers = [_worker_text(status, worker) for worker in status.workers]
    result += [Row("" if place else "Workers", text) for place, text in enumerate(workers)]
    result += [Row("Not read", clean_line(note)) for note in status.notes]
    result += trials_rows(status)
    return _without_secrets([*result, *_speed_rows(status)])


def studies_rows(studies: Sequence[StudyStatus], unread: Sequence[str]) -> list[Row]:
    """A line a study, without secrets; then why others cannot be read."""
    rows = [Row("Studies", f"{len(studies)} in {clean_line(studies[0].storage)}")] if studies else []
    if studies:
        rows.append(Row("", table=tables.Table(_STUDIES, tuple(map(_study_line, studies)), names=2)))
    return _without_secrets([*rows, *(Row("Not read", clean_line(reason)) for reason in unread)])


def trials_rows(status: StudyStatus) -> list[Row]:
    """Trials by state, the best and the front."""
    trials, result = status.trials, []
    wanted = "" if status.pulse is None or not status.pulse.counts_trials else f" of {status.pulse.n_trials}"
    result.append(Row("Trials", f"{status.finished}{wanted} finished: {_states(trials)}"))
    going_on = [f"{trials[name]} {name}" for name in ("running", "waiting") if trials[name]]
    if going_on:
        result.append(Row("", ", ".join(going_on)))
    if status.best is not None:
        result.append(Row("Best", f"trial {status.best.shown}, {words.numbers(status.best.measured)}"))
        originals = map(words.original, status.best.measured.of_answers)
        result.append(Row("", f"original: {'; '.join(originals)}"))
        front = tables.trials(status.front[:LONGEST_FRONT])
        result.append(Row("Front", table=front.without(tables.KL_INTERVAL, *tables.SPREAD)))
        if len(status.front) > LONGEST_FRONT:
            result.append(Row("", f"and {len(status.front) - LONGEST_FRONT} more"))
    else:
        result.append(Row("Best", "no trial is complete yet"))
    return _without_secrets(result)


def _without_secrets(rows: list[Row]) -> list[Row]:
    return [without_secrets(replace(row, text=redact(row.text))) for row in rows]


def _worker_text(status: StudyStatus, worker: Pulse) -> str:
    numbers = ", ".join(str(shown(number)) for number in worker.trials)
    measures = f"measures {'trials' if worker.trials[1:] else 'trial'} {numbers}" if worker.trials else ""
    speed = "" if worker.seconds_per_trial is None else f"{duration(worker.seconds_per_trial)} a trial"
    heard = f"last heard of {duration(max(status.seen - worker.updated, 0.0))} ago"
    where = f"{worker.device} of {clean_line(worker.host)}" if worker.device else ""
    said = filter(None, (where, status.run_of(worker), measures, speed, heard))
    return f"{clean_line(worker.worker)}: {', '.join(said)}"


def _states(trials: Mapping[str, int]) -> str:
    return ", ".join(f"{trials[name]} {name}" for name in ("complete", "stopped", "failed"))


def _run_rows(status: StudyStatus) -> list[Row]:
    pulse = status.pulse
    if pulse is None:
        return [Row("Run", "no run has told how it is")]
    where = f"process {pulse.pid} on {clean_line(pulse.host)}"
    heard = f"last heard of {duration(status.heard_seconds or 0.0)} ago"
    texts = {
        "preparing": f"prepares its first trial; {where}, {heard}",
        "searching": f"searches; {where}, {heard}",
        "finishing": f"finished its search and goes on; {where}, {heard}",
        "finished": f"finished its search; {heard}",
        "interrupted": f"was interrupted; {heard}; the same command goes on",
        "gone": f"is gone without having finished ({where}, {heard}); the same command goes on",
    }
    result = [Row("Model", clean_line(pulse.model)), Row("Run", texts[status.run])]
    if status.is_running and pulse.step:
        left = "" if pulse.step_remaining is None else f", {clock(pulse.step_remaining)} left"
        result.append(Row("Step", f"{clean_line(pulse.step)}{left}"))
    return result


def _speed_rows(status: StudyStatus) -> list[Row]:
    pulse = status.pulse
    if pulse is None:
        return []
    result = []
    if pulse.seconds_per_trial is not None:
        result.append(Row("Rate", f"{duration(pulse.seconds_per_trial)} a trial"))
    if pulse.tokens_per_second is not None:
        at_once = f"{plural(pulse.candidates, 'trial')} at once, batch size {pulse.batch_size}"
        result.append(Row("" if result else "Rate", f"{pulse.tokens_per_second:.0f} tokens/s; {at_once}"))
    result += [Row("", f"slower: {clean_line(text)}") for text in pulse.slower]
    times = [] if status.elapsed_seconds is None else [f"{clock(status.elapsed_seconds)} elapsed"]
    if status.remaining_seconds is not None:
        times.append(f"{clock(status.remaining_seconds)} left")
    if times:
        result.append(Row("Time", ", ".join(times)))
    result += memory_rows("Memory", pulse.memory)
    if pulse.out_of_memory:
        result.append(Row("", f"memory ran out {plural(pulse.out_of_memory, 'time')}"))
    return result


def _study_line(study: StudyStatus) -> tables.Row:
    model = "" if study.pulse is None else clean_line(study.pulse.model)
    best = "none yet" if study.best is None else words.numbers(study.best.measured)
    heard = "" if study.heard_seconds is None else f", {duration(study.heard_seconds)} ago"
    run = f"{_STATES.get(study.run, study.run)}{heard}"
    return tables.Row((clean_line(study.name), model, str(study.finished), best, run))
