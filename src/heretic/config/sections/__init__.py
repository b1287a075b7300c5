"""Every setting, one model per concern; the help, config.default.toml and the error messages are made from here.

Names are flat: the sections are mixins of one class, so a setting is called the same in Python, in config.toml, in the
environment and on the command line. Only pydantic is imported here, which keeps ``heretic --help`` fast.
"""

from heretic.config.sections.direction import *
from heretic.config.sections.edit import *
from heretic.config.sections.evaluation import *
from heretic.config.sections.model import *
from heretic.config.sections.output import *
from heretic.config.sections.prompts import *
from heretic.config.sections.search import *
from heretic.config.sections.section import *
from heretic.config.sections.validation import *


# Pydantic collects the fields of the last base first, so the sections stand in reverse.
class AllSections(
    WatchSection,
    OutputSection,
    SearchSection,
    ValidationSection,
    EvaluationSection,
    EditSection,
    DirectionSection,
    GenerationSection,
    PromptSection,
    ModelSection,
):
    """Every setting in one class, which `heretic.config.settings.Settings` fills from its sources."""


SECTIONS: tuple[type[Section], ...] = AllSections.__bases__[::-1]
"""All sections, in the order of the help."""
