"""Gathers a report's data from a saved folder's manifest and the study that its edit came from.

What a manifest says is foreign: it may come from anybody's folder.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import optuna

from heretic.common.errors import UserError, VersionSkewError, first_line
from heretic.common.file_names import public_name
from heretic.common.redaction import without_secrets
from heretic.config import Settings
from heretic.config.catalogue import ALIASES, SETTINGS
from heretic.export.redact import publishable, redact
from heretic.report.data import ChangedSetting, Chosen, ReportData
from heretic.report.importance import importances
from heretic.results import reading, tables
from heretic.results.capability import Capability
from heretic.results.front import chosen_automatically
from heretic.results.held_out import Example, HeldOut
from heretic.results.plan import EditPlan
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord
from heretic.run.kept_checks import held_out_scores
from heretic.search.private_api import study_attributes
from heretic.search.records import unreadable_text
from heretic.search.storage import DIRECTIONS_ATTRIBUTE
from heretic.search.told import read_pulse

NOT_GIVEN = "No study was given, so its trials are not shown."
NO_QUALITY = "The quality of the directions is not kept with the model or its study; a direction file holds it."
_LEFT_OUT = re.compile(
    r"(model|storage|auto_select|auto_select_path|profile_store|save_directions|hf_upload|hf_private|verbose"
    r"|log_\w+|metrics_\w+|tracker)(\.|$)"
)
"""Settings that say where things lie on the machine, or what is said elsewhere in the report."""
_PLACES = re.compile(
    r"(behavior|evaluate_model|load_directions|neural_detection_model|start_from|\w+_prompts\.dataset)$"
)
"""Settings that may be paths."""
_PATH = re.compile(r"~|/|\.{1,2}[/\\]|[A-Za-z]:[\\/]|\\")
_MOST_LAYERS = 10_000
_MOST_ADJUSTMENTS = 100
"""There are as many as kinds of adjusting; whoever names more has not been here."""


def report_data(
    manifest: Mapping[str, Any] | None,
    records: Sequence[TrialRecord],
    study: optuna.Study | None,
    examples: Sequence[Example] = (),
    *,
    quality: Sequence[float] | None = None,
    no_records: str = NOT_GIVEN,
) -> ReportData:
    """Gather what a report says; secrets are masked.

    Args:
        manifest: Of the saved folder (``heretic_metadata.json``); None for a study of which nothing was saved.
        records: The study's trials.
        study: For the parameters' importance and kept directions; None where it is not at hand.
        examples: Answers of both models; a manifest holds none.
        quality: Of the directions by residual position, where they are at hand.
        no_records: Why there are no records.

    Raises:
        UserError: The manifest does not say what a saved folder's says.
    """
    try:
        data = _of_study(records, study) if manifest is None else _of_manifest(manifest)
        stored = (manifest or {}).get("capability")
        capability = None if stored is None else Capability.from_json(stored)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(
            f"The manifest is damaged or too new ({type(error).__name__}: {first_line(error)}); save the model again."
        ) from error
    notes = [] if study is None else [read_pulse(study_attributes(study))[1], unreadable_text(records)]
    if quality is None and study is not None:
        quality, problem = _stored_quality(study)
        notes.append(problem)
    front_held_out: Mapping[int, Scores] = {}
    if study is not None and data["chosen"] is not None and data["chosen"].number is not None:
        front_held_out, problem = _front_held_out(study, data["chosen"].number)
        notes.append(problem)
    data["facts"] = (*data["facts"], *(("Not read", note) for note in notes if note))
    ranked = importances(study.get_trials(deepcopy=False), records) if study is not None else ((), no_records)
    count = data["layer_count"]
    if quality is not None and count is not None and len(quality) != count + 1:
        quality = None
    return without_secrets(
        ReportData(
            **{**data, "layer_count": count if count is not None or quality is None else len(quality) - 1},
            records=tuple(records),
            no_records="" if records else no_records,
            importances=ranked[0],
            no_importances=ranked[1],
            quality=() if quality is None else tuple(map(float, quality)),
            no_quality=NO_QUALITY if quality is None else "",
            examples=tuple(examples),
            capability=capability,
            front_held_out=front_held_out,
        )
    )


def _of_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    source, directions = manifest["source"], manifest["directions"]
    model = str(source["name"])
    # Without a commit it was no repository of the hub, but a folder or a model of ours.
    model = model if source["commit"] else _last_part(model)
    provenance = directions.get("provenance") or {}
    held_out = None if manifest.get("held_out") is None else HeldOut.from_json(manifest["held_out"])
    if held_out is not None:
        tables.held_out(held_out, None)  # whatever is no number is noticed here
    number = manifest["optuna_trial_number"]
    chosen = Chosen(
        None if number is None else reading.whole(number, "optuna_trial_number"),
        EditPlan.from_json(manifest["plan"]),
        Scores.from_json(manifest["scores"]),
        Scores.from_json(manifest["search"].get("scores", ())),
    )
    return {
        "model": model,
        "behaviors": tuple(str(manifest["behavior"]).split(",")),
        "chosen": chosen,
        "layer_count": _layer_count(provenance.get("layer_count")),
        "direction_method": str(directions["method"]),
        "held_out": held_out,
        "facts": tuple(_facts(manifest, model)),
        "versions": tuple((str(name), str(version)) for name, version in manifest["versions"].items()),
        "settings": changed_settings(dict(manifest["settings"])),
        "created": str(manifest["created"]),
    }


def _front_held_out(study: optuna.Study, chosen: int) -> tuple[dict[int, Scores], str]:
    """What the study keeps of its trials on held-out prompts, by number; a sentence where that cannot be read."""
    try:
        return held_out_scores(study_attributes(study), chosen), ""
    except ValueError as error:
        return {}, f"What the study keeps of its trials on held-out prompts ({first_line(error)})."


def _layer_count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 < value < _MOST_LAYERS else None


def _facts(manifest: Mapping[str, Any], model: str) -> list[tuple[str, str]]:
    source, provenance = manifest["source"], manifest["directions"].get("provenance") or {}
    commit, quantization = source["commit"], source["quantization"]
    weights = f"{source['dtype']}, {source['weights']}"
    facts = [
        ("Model", f"{model}, commit {commit}" if commit else model),
        ("Architecture", str(source["architecture"])),
        ("Weights", weights if quantization == "none" else f"{weights}, quantised with {quantization}"),
        ("Saved as", str(manifest["format"])),
        ("Behaviours", str(manifest["behavior"]).replace(",", ", ")),
        ("Directions", str(manifest["directions"]["method"])),
    ]
    searched = manifest["search"].get("quantization", "none")
    if searched != "none":
        facts.append(("Searched on", f"weights quantised with {searched}"))
    counts = [provenance.get(f"{kind}_prompts") for kind in ("target", "baseline")]
    if all(isinstance(count, int) for count in counts):
        facts.append(("Training prompts", f"{counts[0]} with the behaviour, {counts[1]} without"))
    facts += [("Adjusted", redact(str(sentence))) for sentence in _adjustments(manifest)]
    return facts


def _adjustments(manifest: Mapping[str, Any]) -> Sequence[Any]:
    return reading.items(manifest.get("adjustments") or (), "adjustments")[:_MOST_ADJUSTMENTS]


def changed_settings(given: Mapping[str, Any]) -> tuple[ChangedSetting, ...]:
    """The settings that differ from the defaults; places on the machine are left out, of other paths the last part."""
    given = {ALIASES.get(name, name): value for name, value in given.items()}
    defaults = publishable(Settings().model_dump(mode="json"))
    changed = []
    for name, setting in SETTINGS.items():
        if setting.is_prompt_set or _LEFT_OUT.match(name):
            continue
        value, default = _part(given, setting.path), _part(defaults, setting.path)
        if default is _MISSING:
            # Of a prompt set that is not named by default.
            default = None if setting.field.is_required() else setting.field.default
        if value is not _MISSING and value != default:
            changed.append(ChangedSetting(name, _setting_text(name, value), _setting_text(name, default)))
    return tuple(changed)


_MISSING = object()


def _part(values: Any, path: Sequence[str]) -> Any:
    for name in path:
        if not isinstance(values, Mapping) or name not in values:
            return _MISSING
        values = values[name]
    return values


def _setting_text(name: str, value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_setting_text(name, item) for item in value) or "none"
    if value is None or value == "":
        return "not set" if value is None else "empty"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and _PLACES.match(name):
        return _last_part(value)
    return redact(str(value))


def _last_part(text: str) -> str:
    """A path's last part; anything else, such as a repository of the hub, as it is."""
    if _PATH.match(text) or (text.count("/") > 1 and ":" not in text):
        return public_name(text)
    return text


def _of_study(records: Sequence[TrialRecord], study: optuna.Study | None) -> dict[str, Any]:
    pulse = None if study is None else read_pulse(study_attributes(study))[0]
    record = _automatic(records, study)
    chosen = None if record is None else Chosen(record.number, record.plan, record.scores, automatic=True)
    measured = next((record for record in records if record.scores is not None), None)
    names = () if measured is None else tuple(score.label for score in measured.behaviors)
    facts = []
    created = ""
    if pulse is not None:
        created = datetime.fromtimestamp(pulse.updated, timezone.utc).isoformat(timespec="seconds")
        facts = [
            ("Model", _last_part(pulse.model)),
            ("Trials wanted", str(pulse.n_trials) if pulse.counts_trials else "as many as there is time for"),
        ]
    return {
        "model": "" if pulse is None else _last_part(pulse.model),
        "behaviors": names,
        "chosen": chosen,
        "layer_count": None,
        "facts": tuple(facts),
        "versions": () if pulse is None else (("heretic", pulse.version),),
        "created": created,
    }


def _automatic(records: Sequence[TrialRecord], study: optuna.Study | None) -> TrialRecord | None:
    """The automatic choice; of one number its values are those that the study was told."""
    if not any(record.may_be_chosen for record in records):
        return None
    if study is None or len(study.directions) > 1:
        return chosen_automatically(records)
    told = {trial.number: trial.value for trial in study.get_trials(deepcopy=False)}
    return chosen_automatically(records, lambda record: told[record.number] or 0.0)


def _stored_quality(study: optuna.Study) -> tuple[tuple[float, ...] | None, str]:
    """The quality of the directions that a study keeps, or None; and why, where they cannot be read."""
    attributes = study_attributes(study)
    if DIRECTIONS_ATTRIBUTE not in attributes:
        return None, ""
    # Imports torch.
    from heretic.search.stored_directions import decoded

    try:
        stored = decoded(attributes, f"The study {study.study_name}")
    except VersionSkewError as error:
        return None, str(error)
    return None if stored is None else tuple(stored.directions.quality.tolist()), ""
