"""The front of a study as a picture: a trial that is pressed answers in the right column, and can be saved."""

from collections.abc import Generator, Mapping
from typing import Any

from heretic.common.file_names import LONGEST
from heretic.web import markup
from heretic.web.desk import Desk
from heretic.web.errors import ChatError
from heretic.web.panels.gradio import MODEL, with_event
from heretic.web.trials import StudyTrials

_PRESSED = """
const choose = (event) => {
  const trial = event.target.closest('[data-trial]');
  if (!trial || (event.type === 'keydown' && !['Enter', ' '].includes(event.key))) return;
  event.preventDefault();
  trigger('select', {trial: Number(trial.dataset.trial)});
};
element.addEventListener('click', choose);
element.addEventListener('keydown', choose);
"""


class TrialsPanel:
    """The picture and the fields for saving."""

    def __init__(self, gr: Any, desk: Desk, trials: StudyTrials) -> None:
        """Lay it out, inside the page that is being made."""
        self._gr, self._desk = gr, desk
        with gr.Accordion("Trials of the study", open=True):
            self.picture = gr.HTML(desk.front, elem_id="front", js_on_load=_PRESSED)
            with gr.Row():
                self._name = gr.Textbox(trials.free_name, label="Folder for the trial", max_length=LONGEST, scale=2)
                self._adapter = gr.Checkbox(False, label="As an adapter (small; needs the original)", scale=1)
                self._save = gr.Button("Save this trial", size="sm", scale=1)

    def wire(self, notice: Any, present: Any) -> None:
        """Say what happens where a trial is pressed or saved.

        Args:
            notice: Shows a sentence.
            present: Shows what is loaded.
        """
        shown = [notice, self.picture, present]
        self.picture.select(with_event(self._gr, self._chooses), None, shown, **MODEL)
        self._save.click(self._saves, [self._name, self._adapter], shown, **MODEL)

    def _chooses(self, event: Mapping[str, Any]) -> list[Any]:
        try:
            sentence = markup.notice(self._desk.choose(event.get("trial")))
        except ChatError as error:
            sentence = markup.notice(str(error), is_error=True)
        return [sentence, self._desk.front(), self._desk.present()]

    def _saves(self, name: str, as_adapter: bool) -> Generator[list[Any], None, None]:
        skip = self._gr.skip()
        try:
            said = ""
            for told in self._desk.save(str(name or ""), bool(as_adapter)):
                said = markup.notice(told) if isinstance(told, str) else said
                yield [said if isinstance(told, str) else said + markup.bar(told), skip, skip]
        except ChatError as error:
            yield [markup.notice(str(error), is_error=True), skip, skip]
