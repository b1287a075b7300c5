"""What is measured of a trial once it is chosen: held-out prompts, and what the model is able to do."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType

from heretic.checks.capability import CapabilityCheck, check_capability
from heretic.checks.held_out import Confirmation, HeldOutPrompts
from heretic.checks.held_out_front import FrontCheck
from heretic.common.errors import ConfigurationError, ModelError, OutOfMemoryError, PromptError, TrialFailed, UserError
from heretic.edits.algebra import Edit
from heretic.observability.events import FrontHeldOut, HeldOutMeasured, Warned, emit
from heretic.results.capability import Capability
from heretic.results.held_out import UNCHECKED, Checked, HeldOut
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord
from heretic.run.workbench import Workbench


class FurtherChecks:
    """Measures the original model once, when first asked, and every trial once.

    Each check is asked while a trial's edits are applied, and leaves them applied. What cannot be measured is said, and
    the trial can be used all the same.
    """

    def __init__(self, bench: Workbench, known: Mapping[int, Checked] = MappingProxyType({})) -> None:
        """Args: bench: the run's; known: what was measured before, by trial."""
        self._bench = bench
        self._confirmation: Confirmation | None = None
        self._front: FrontCheck | None = None
        self._capabilities: dict[tuple[bool, tuple[str, ...]], CapabilityCheck] = {}
        self._checked: dict[int, Checked] = dict(known)

    @cached_property
    def _held_out(self) -> HeldOutPrompts:
        return HeldOutPrompts.load(self._bench.settings, self._bench.prompts)

    def checked(self, number: int) -> Checked:
        """What is known of a trial."""
        return self._checked.get(number, UNCHECKED)

    def confirmed(self) -> dict[int, HeldOut | Scores]:
        """What held-out prompts showed, by trial: as the search measures where that is known, else of long answers."""
        found = {number: checked.held_out_scores or checked.held_out for number, checked in self._checked.items()}
        return {number: shown for number, shown in found.items() if shown is not None}

    def confirm_front(self, records: Sequence[TrialRecord]) -> None:
        """Measure trials on held-out prompts as the search does, each once; none is applied. Emits FrontHeldOut.

        Where it cannot be done there is a warning.
        """
        missing = [record for record in records if self.checked(record.number).held_out_scores is None]
        started = time.perf_counter()
        try:
            if missing:
                self._front = self._front or FrontCheck(self._bench, self._held_out)
                for record, scores in zip(missing, self._front.measure(missing), strict=True):
                    self._checked[record.number] = replace(self.checked(record.number), held_out_scores=scores)
        except (ConfigurationError, ModelError, OutOfMemoryError, PromptError, TrialFailed) as error:
            emit(Warned(f"The front is not measured on held-out prompts: {str(error).removesuffix('.')}."))
            return
        found = [self.checked(record.number).held_out_scores for record in records]
        known = tuple(each for each in found if each is not None)
        emit(FrontHeldOut(tuple(records), known, time.perf_counter() - started))

    def confirm(self, number: int, edits: Sequence[Edit], searched: Scores) -> HeldOut | None:
        """Measure a trial on held-out prompts, once. Emits HeldOutMeasured, also of what is known already.

        Args:
            number: The trial's.
            edits: That are applied.
            searched: Its scores on the search's prompts, for the event.

        Returns:
            None where the settings turn it off or, with a warning, where it cannot be done.
        """
        checked = self.checked(number)
        if not self._bench.settings.confirm:
            return None
        if checked.held_out is not None:
            emit(HeldOutMeasured(number, checked.held_out, searched, 0.0))
            return checked.held_out
        started = time.perf_counter()
        try:
            with self._original(edits):
                if self._confirmation is None:
                    self._confirmation = Confirmation(self._bench, self._held_out)
                held_out, examples = self._confirmation.confirm(edits)
        except (ConfigurationError, ModelError, OutOfMemoryError, PromptError, TrialFailed) as error:
            emit(Warned(f"The trial is not confirmed on held-out prompts: {str(error).removesuffix('.')}."))
            return None
        self._checked[number] = replace(checked, held_out=held_out, examples=examples)
        emit(HeldOutMeasured(number, held_out, searched, time.perf_counter() - started))
        return held_out

    def validate(
        self, number: int, edits: Sequence[Edit], benchmarks: Sequence[str] | None = None
    ) -> Capability | None:
        """Compare what a trial is able to do with the original model. Emits CapabilityMeasured.

        Args:
            number: The trial's.
            edits: That are applied.
            benchmarks: Tasks to run instead of what the settings ask for; none for multiple-choice questions.

        Returns:
            None, with a warning, where it cannot be done.
        """
        settings = self._bench.settings
        if benchmarks is not None:
            settings = settings.model_copy(update={"benchmarks": list(benchmarks), "enable_validation": False})
        key = (settings.enable_validation, tuple(settings.benchmarks))
        try:
            if key not in self._capabilities:
                if benchmarks:
                    # What the settings ask for was checked before the search.
                    check_capability(settings)
                with self._original(edits):
                    self._capabilities[key] = CapabilityCheck(settings, self._bench.runner)
            result = self._capabilities[key].compare()
        except (ModelError, OutOfMemoryError, TrialFailed, UserError) as error:
            emit(Warned(f"What the model is able to do is not measured: {str(error).removesuffix('.')}."))
            return None
        checked = self.checked(number)
        self._checked[number] = replace(
            checked, capability=checked.capability.joined(result) if checked.capability else result
        )
        return result

    @contextmanager
    def _original(self, edits: Sequence[Edit]) -> Iterator[None]:
        """The original model for the duration of a with-block, in which edits may come and go."""
        self._bench.editor.restore()
        try:
            yield
        finally:
            self._bench.editor.apply(edits)
