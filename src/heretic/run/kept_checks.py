"""What was measured and saved of chosen trials, kept with the study: whoever comes back to it measures nothing again.

The study keeps as well what the run was asked for, so that it can be opened by its name alone.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import optuna

from heretic.common.errors import first_line
from heretic.common.redaction import without_secrets
from heretic.config import Settings
from heretic.observability.events import Warned, emit
from heretic.results import reading
from heretic.results.capability import Capability
from heretic.results.held_out import Checked, Example, HeldOut
from heretic.results.score import Scores
from heretic.search.private_api import set_study_attribute, study_attributes
from heretic.search.storage import storage_errors

SETTINGS_ATTRIBUTE = "settings"
"""Attribute of a study with the settings of its last run that differ from the defaults."""
_TRIAL = "checked."
"""What the attributes of chosen trials begin with."""
_CONFIRMING = ("held_out_tokens", "good_held_out_prompts", "bad_held_out_prompts")
"""Settings that decide what held-out prompts show and are no part of what a study measures."""
UNKEPT = frozenset({"storage", "study_name", "join", "trust_remote_code", "allow_pickle"})
"""Settings that nobody takes from a study: where it is, which may hold a password, and what lets foreign code run."""


@dataclass(frozen=True, slots=True)
class KeptTrial:
    """What is known of a chosen trial.

    Attributes:
        scores: Measured in the weights, or None.
        checked: What was measured besides.
        saved: Folders that it was saved to.
    """

    scores: Scores | None = None
    checked: Checked = field(default_factory=Checked)
    saved: tuple[str, ...] = ()

    def to_json(self, settings: Settings) -> dict[str, Any]:
        """As plain JSON values, with the settings that it rests on."""
        held_out, capability, alike = self.checked.held_out, self.checked.capability, self.checked.held_out_scores
        return {
            "scores": [] if self.scores is None else self.scores.to_json(),
            "held_out": None if held_out is None else held_out.to_json(),
            "examples": [asdict(example) for example in self.checked.examples],
            "capability": None if capability is None else capability.to_json(),
            "held_out_scores": [] if alike is None else alike.to_json(),
            "confirming": _confirming(settings),
            "saved": list(self.saved),
        }

    @classmethod
    def from_json(cls, data: Any, settings: Settings) -> "KeptTrial":
        """The inverse of `to_json`; what other held-out prompts showed is left out.

        Raises:
            KeyError, TypeError, ValueError: It is of another version, or damaged.
        """
        data = reading.table(data, "a chosen trial")
        held_out, capability = data.get("held_out"), data.get("capability")
        alike = data.get("confirming") == _confirming(settings)
        confirmed = held_out is not None and alike
        checked = Checked(
            HeldOut.from_json(held_out) if confirmed else None,
            tuple(Example(**example) for example in reading.items(data.get("examples", []), "examples"))
            if confirmed
            else (),
            None if capability is None else Capability.from_json(capability),
            Scores.from_json(data.get("held_out_scores", [])) if alike else None,
        )
        saved = tuple(reading.text(path, "a folder") for path in reading.items(data.get("saved", []), "folders"))
        return cls(Scores.from_json(data.get("scores", [])), checked, saved)


def _confirming(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json", include=set(_CONFIRMING))


class KeptTrials:
    """The chosen trials of a study by number."""

    def __init__(self, study: optuna.Study, settings: Settings) -> None:
        """Read them; those that cannot be read count as unknown, which is said."""
        self._study, self._settings = study, settings
        self._trials: dict[int, KeptTrial] = {}
        with storage_errors(settings.storage):
            attributes = study_attributes(study)
        for name, value in attributes.items():
            if name.startswith(_TRIAL):
                try:
                    self._trials[int(name.removeprefix(_TRIAL))] = KeptTrial.from_json(value, settings)
                except (KeyError, TypeError, ValueError) as error:
                    emit(Warned(f"What the study keeps of a chosen trial cannot be read ({first_line(error)})."))

    def __getitem__(self, number: int) -> KeptTrial:
        return self._trials.get(number, KeptTrial())

    @property
    def known(self) -> Mapping[int, KeptTrial]:
        """All of them."""
        return self._trials

    def keep(self, number: int, scores: Scores | None, checked: Checked, saved: str | None = None) -> None:
        """Store what is known of a trial now.

        Args:
            number: The trial's.
            scores: Measured in the weights, or None.
            checked: What was measured besides.
            saved: A folder that it was saved to.

        Raises:
            StudyError: The storage failed.
        """
        folders = dict.fromkeys((*self[number].saved, *([saved] if saved else [])))
        found = replace(self[number], scores=scores, checked=checked, saved=tuple(folders))
        if found != self[number]:
            self._trials[number] = found
            with storage_errors(self._settings.storage):
                set_study_attribute(self._study, f"{_TRIAL}{number}", found.to_json(self._settings))


def held_out_scores(attributes: Mapping[str, Any], chosen: int) -> dict[int, Scores]:
    """What a study keeps of its trials on the held-out prompts that a chosen one was measured on, by number.

    Raises:
        ValueError: It is of another version, or damaged.
    """
    stored = {name: value for name, value in attributes.items() if name.startswith(_TRIAL)}
    own = reading.table(stored.get(f"{_TRIAL}{chosen}", {}), "a chosen trial").get("confirming")
    found = {}
    for name, value in stored.items():
        data = reading.table(value, "a chosen trial")
        scores = Scores.from_json(data.get("held_out_scores", [])) if data.get("confirming") == own else None
        if scores is not None:
            found[int(name.removeprefix(_TRIAL))] = scores
    return found


def keep_settings(study: optuna.Study, settings: Settings) -> None:
    """Store what the run is asked for, as far as it differs from the defaults; secrets in it are masked.

    Raises:
        StudyError: The storage failed.
    """
    values = settings.model_dump(mode="json")
    defaults = Settings().model_dump(mode="json")
    kept = without_secrets(
        {name: value for name, value in values.items() if name not in UNKEPT and value != defaults[name]}
    )
    with storage_errors(settings.storage):
        if study_attributes(study).get(SETTINGS_ATTRIBUTE) != kept:
            set_study_attribute(study, SETTINGS_ATTRIBUTE, kept)
