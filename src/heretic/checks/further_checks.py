"""What is measured of a trial once it is chosen: held-out prompts, and what the model is able to do."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

from heretic.checks.capability import CapabilityCheck, check_capability
from heretic.checks.held_out import Confirmation
from heretic.common.errors import ConfigurationError, ModelError, OutOfMemoryError, PromptError, TrialFailed, UserError
from heretic.edits.algebra import Edit
from heretic.observability.events import HeldOutMeasured, Warned, emit
from heretic.results.capability import Capability
from heretic.results.held_out import UNCHECKED, Checked, HeldOut
from heretic.results.score import Scores
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
        self._capabilities: dict[tuple[bool, tuple[str, ...]], CapabilityCheck] = {}
        self._checked: dict[int, Checked] = dict(known)

    def checked(self, number: int) -> Checked:
        """What is known of a trial."""
        return self._checked.get(number, UNCHECKED)

    def confirmed(self) -> dict[int, HeldOut]:
        """What held-out prompts showed, by trial."""
        return {number: checked.held_out for number, checked in self._checked.items() if checked.held_out is not None}

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
                    self._confirmation = Confirmation(self._bench)
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
