"""A search begins with the plan of an edit that Heretic saved, of the same model or of a sister of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from heretic.common.errors import UserError, first_line
from heretic.common.file_names import existing_folder, expanded
from heretic.config import Settings
from heretic.export.manifest import read_manifest
from heretic.observability.events import StartedFrom, Warned, emit
from heretic.results.plan import EditPlan
from heretic.run.workbench import Workbench
from heretic.search.seeding import enqueue_once, has_plans_from
from heretic.search.space import SearchSpace
from heretic.search.storage import storage_errors

SOURCE = "start from"


@dataclass(frozen=True, slots=True)
class Start:
    """An edit that was saved: its plan, the model that it was made for, and its behaviours in the order of shares."""

    plan: EditPlan
    model: str
    behaviors: tuple[str, ...]


def read_start(name: str, goal: str) -> Start:
    """The edit in a folder that Heretic saved; a file in it stands for the folder.

    Args:
        name: As a person wrote it.
        goal: The run's.

    Raises:
        UserError: There is no such folder, it holds no edit, or one that a search cannot begin with.
    """
    path = expanded(name)
    folder = existing_folder(str(path.parent if os.path.isfile(path) else path))
    manifest = read_manifest(folder)
    try:
        plan = EditPlan.from_json(manifest.plan)
    except ValueError as error:
        raise UserError(
            f"The plan of {name} is damaged or too new ({first_line(error)}); give --start-from another folder, or "
            "leave it out."
        ) from error
    if plan.strengths:
        raise UserError(
            f"The edit in {name} has free strengths by layer, which only earlier versions of Heretic made and a search "
            "cannot begin with; leave out --start-from."
        )
    made = manifest.settings.get("goal", Settings.model_fields["goal"].default)
    if made != goal:
        raise UserError(
            f"The edit in {name} was made with another goal, so nothing of its strengths fits --goal {goal}; give the "
            "goal that it was made with, or leave out --start-from."
        )
    return Start(plan, str(manifest.source.get("name")), tuple(manifest.behavior.split(",")))


def start_from(bench: Workbench, study: optuna.Study) -> None:
    """Enqueue the plan that the settings name, if they do. Emits StartedFrom, or Warned where the study has trials.

    A resumed study that began with it is left as it is.

    Raises:
        UserError: The folder is not as it was when the run began.
        StudyError: The study's storage failed.
    """
    settings = bench.settings
    if settings.start_from is None:
        return
    with storage_errors(settings.storage):
        if has_plans_from(study, SOURCE):
            return
    start = read_start(settings.start_from, settings.goal)
    if enqueue_once(study, settings.storage, bench.space, [start.plan], SOURCE):
        behaviors = [behavior.pack.name for behavior in bench.prompts.behaviors]
        emit(StartedFrom(settings.start_from, start.model, not_carried_over(start, bench.space, behaviors)))
    else:
        emit(
            Warned(
                f"The study {study.study_name} has trials already, so it does not begin with {settings.start_from}; "
                "give --study-name another name to begin with it."
            )
        )


def not_carried_over(start: Start, space: SearchSpace, behaviors: Sequence[str]) -> tuple[str, ...]:
    """What of an edit the first trial does not have, a clause each; nothing where it is the same plan.

    Args:
        start: The edit.
        space: What the first trial is suggested from.
        behaviors: Names of those that the run edits.
    """
    plan = start.plan
    names = [name for name, _ in plan.schedules]
    clauses = [f"the strengths of {name}, which is not edited here" for name in names if name not in space.components]
    clauses += [f"{name} has no strengths there, so they are drawn" for name in space.components if name not in names]
    clauses += [f"{name} {value:.3g}, which becomes {to:.3g}" for name, (value, to) in space.moved(plan).items()]
    if space.fixed_position is not None:
        clauses.append(f"its choice of directions, which are those found at depth {space.fixed_position:.3g} here")
    if plan.normalization is not space.normalization:
        clauses.append(f"normalization {plan.normalization.value}, which is {space.normalization.value} here")
    if tuple(behaviors) != start.behaviors:
        clauses.append(f"its behaviour {', '.join(start.behaviors)}, which is {', '.join(behaviors)} here")
    if max(len(plan.shares), 1) != space.behaviors:
        clauses.append("the behaviours' shares of the strengths, since there is another number of behaviours")
    return tuple(clauses)
