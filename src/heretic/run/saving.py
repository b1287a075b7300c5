"""Saving an applied trial: to a folder or by way of one to the hub, in full precision whatever the search ran on."""

import gc
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import torch

from heretic.common.errors import ExportError, HereticError, TrialFailed, UserError
from heretic.editors.adapter import adapter_factors, adapter_obstacle
from heretic.editors.inplace import InplaceEditor
from heretic.editors.originals import original_weights
from heretic.export.atomic import check_free_space, check_target
from heretic.export.content import ExportContent, ExportFormat, SavedModel
from heretic.export.hub import check_repository, upload_folder
from heretic.export.verify import Verification
from heretic.export.weights import model_bytes, save_model
from heretic.models.biases import hold_biases
from heretic.models.chat_template import ChatFormatter
from heretic.models.layout import find_layout
from heretic.models.loader import load_model
from heretic.observability.events import FullPrecisionMeasured, FullPrecisionNeeded, emit
from heretic.passes.runner import ModelRunner
from heretic.results.held_out import UNCHECKED, Checked
from heretic.results.score import Scores
from heretic.run.applied import AppliedTrial, measured_in_weights, usable
from heretic.run.measuring import choose_passes, measure_original
from heretic.run.workbench import Workbench

VERIFIED_PROMPTS = 8
"""Answers of a saved folder that are compared with the edited model's."""


class Saver:
    """Writes trials that are applied to a workbench's model."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        # By trial number: scores of the weights that are saved, where the search ran on quantised ones.
        self._full_precision_scores: dict[int, Scores] = {}

    def adapter_obstacle(self, trial: AppliedTrial) -> str | None:
        """Why a trial cannot be saved as an adapter, or None where it can."""
        return self._bench.loaded.adapter_obstacle or adapter_obstacle(trial.edits)

    def save(
        self,
        trial: AppliedTrial,
        folder: Path,
        export_format: ExportFormat,
        checked: Checked = UNCHECKED,
    ) -> SavedModel:
        """Save a trial; the folder appears under its name only when it is whole.

        Args:
            trial: In the weights of the workbench's model.
            folder: Where to.
            export_format: What is written.
            checked: What else was measured of it.

        Raises:
            UserError: The folder cannot be used, or the edit cannot be an adapter.
            ExportError: It could not be saved; nothing was left behind.
        """
        adapter = export_format is ExportFormat.ADAPTER
        obstacle = self.adapter_obstacle(trial) if adapter else None
        if obstacle is not None:
            raise UserError(f"This edit cannot be saved as an adapter ({obstacle}); save the merged model.")
        # Before a quantised model is loaded again and measured, which takes minutes.
        target = check_target(folder)
        bench, saved, number = self._bench, trial, trial.record.number
        quantization = bench.loaded.quantization
        if quantization != "none":
            emit(FullPrecisionNeeded(quantization, number in self._full_precision_scores))
            bench = full_precision(bench)
            if not adapter:
                check_free_space(target, model_bytes(bench.loaded.model))
            saved = self._in_full_precision(bench, trial)
        texts = tuple(map(bench.runner.render, bench.prompts.target_evaluation.prompts[:VERIFIED_PROMPTS]))
        return save_model(
            bench.loaded,
            folder,
            self._content(trial, saved.scores, checked),
            factors=adapter_factors(saved.edits, bench.editor) if adapter else None,
            verification=Verification(texts, bench.runner.formatter.add_special_tokens),
            max_shard_size=bench.settings.max_shard_size,
        )

    def publish(
        self,
        trial: AppliedTrial,
        repository: str,
        private: bool,
        export_format: ExportFormat,
        checked: Checked = UNCHECKED,
    ) -> str:
        """Upload a trial by way of a temporary folder; returns its address on the hub. Emits ModelUploaded.

        Raises:
            UserError: The repository or the temporary folder cannot be used, or the edit cannot be an adapter.
            ExportError: It could not be written or uploaded; nothing was left behind on this machine.
        """
        check_repository(repository)
        try:
            scratch = TemporaryDirectory(prefix="heretic-upload-", ignore_cleanup_errors=True)
        except OSError as error:
            raise ExportError(
                f"There is no temporary folder to prepare the upload in ({error.strerror}); set TMPDIR to a folder."
            ) from error
        with scratch:
            folder = Path(scratch.name) / "model"
            try:
                self.save(trial, folder, export_format, checked)
            except HereticError as error:
                if Path(scratch.name).name not in str(error):
                    raise
                raise type(error)(
                    f"{error} (An upload is prepared in the temporary folder {gettempdir()}; TMPDIR names another.)"
                ) from error
            return upload_folder(folder, repository, private)

    def _content(self, trial: AppliedTrial, scores: Scores, checked: Checked) -> ExportContent:
        bench, quantization = self._bench, self._bench.loaded.quantization
        return ExportContent(
            behaviors=tuple(behavior.pack.name for behavior in bench.prompts.behaviors),
            plan=trial.record.plan,
            scores=scores,
            settings=bench.settings.model_dump(mode="json"),
            direction_method=bench.directions.method,
            direction_provenance=bench.directions.provenance,
            adjustments=bench.adjustments.notes,
            trial=trial.record.number,
            search_quantization=quantization,
            search_scores=None if quantization == "none" else trial.scores,
            goal=bench.settings.goal,
            held_out=checked.held_out,
            capability=checked.capability,
            descriptions=tuple(behavior.pack.card for behavior in bench.prompts.behaviors),
        )

    def _in_full_precision(self, bench: Workbench, trial: AppliedTrial) -> AppliedTrial:
        """Put a trial into the weights of a full-precision workbench, and measure it there, once.

        The model card speaks of the saved weights, so neither the scores nor the KL's base may come from the quantised
        ones that the search ran on.

        Raises:
            ExportError: The edited weights cannot be measured.
        """
        record = trial.record
        rescored = self._full_precision_scores.get(record.number)
        edits = bench.edits(record.plan)
        if rescored is not None:
            bench.editor.apply(edits)
            return AppliedTrial(record, edits, rescored)
        # While the weights are unedited.
        choice = choose_passes(bench.settings, bench.runner, bench.prompts)
        original = measure_original(bench.settings, choice, bench.prompts, bench.readers)
        reference = original.jobs(original.runner)
        reference.remember()
        bench.editor.apply(edits)
        try:
            with usable(bench.loaded, record):
                scores = measured_in_weights(reference, record)
        except TrialFailed as error:
            raise ExportError(f"{error} It was measured in full precision; nothing was saved.") from error
        self._full_precision_scores[record.number] = scores
        emit(FullPrecisionMeasured(self._bench.loaded.quantization, scores, trial.scores))
        return AppliedTrial(record, edits, scores)


def full_precision(bench: Workbench) -> Workbench:
    """The same workbench on weights that can be written to: a quantised model is loaded again without quantisation.

    Both models are in memory while this runs, the new one in host memory.
    """
    settings = bench.settings.model_copy(update={"quantization": "none", "device": "cpu", "device_map": "cpu"})
    loaded = load_model(bench.loaded.name, settings)
    paths = [shift.path for shift in bench.adjustments.shifts.values()]
    layout = hold_biases(loaded.model, find_layout(loaded.model), paths)
    runner = ModelRunner(loaded, layout, ChatFormatter(loaded.tokenizer), bench.runner.calibration)
    gc.collect()
    editor = InplaceEditor(loaded.model, layout, original_weights(loaded, layout))
    directions = bench.directions.to(torch.device("cpu"))
    return replace(bench, settings=settings, runner=runner, editor=editor, directions=directions)
