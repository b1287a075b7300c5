"""Every setting, one model per concern; the help, config.default.toml and the error messages are made from here.

Names are flat: the sections are mixins of one class, so a setting is called the same in Python, in config.toml, in the
environment and on the command line. Only pydantic is imported here, which keeps ``heretic --help`` fast.
"""

from heretic.config.sections.direction import DirectionFileOptions as DirectionFileOptions
from heretic.config.sections.direction import DirectionSection as DirectionSection
from heretic.config.sections.direction import ExtractorOptions as ExtractorOptions
from heretic.config.sections.direction import RefinementOptions as RefinementOptions
from heretic.config.sections.direction import RoundOptions as RoundOptions
from heretic.config.sections.direction import TransformOptions as TransformOptions
from heretic.config.sections.edit import ActivationOptions as ActivationOptions
from heretic.config.sections.edit import CircuitOptions as CircuitOptions
from heretic.config.sections.edit import ComplianceOptions as ComplianceOptions
from heretic.config.sections.edit import EditSection as EditSection
from heretic.config.sections.evaluation import EvaluationSection as EvaluationSection
from heretic.config.sections.evaluation import KlOptions as KlOptions
from heretic.config.sections.evaluation import MarkerOptions as MarkerOptions
from heretic.config.sections.evaluation import ReaderOptions as ReaderOptions
from heretic.config.sections.model import GenerationSection as GenerationSection
from heretic.config.sections.model import ModelSection as ModelSection
from heretic.config.sections.output import OutputSection as OutputSection
from heretic.config.sections.output import WatchSection as WatchSection
from heretic.config.sections.prompts import PromptSection as PromptSection
from heretic.config.sections.prompts import PromptSpecification as PromptSpecification
from heretic.config.sections.search import SearchSection as SearchSection
from heretic.config.sections.section import Options as Options
from heretic.config.sections.section import Section as Section
from heretic.config.sections.section import Size as Size
from heretic.config.sections.section import Text as Text
from heretic.config.sections.validation import ValidationSection as ValidationSection

SECTIONS: tuple[type[Section], ...] = (
    ModelSection,
    PromptSection,
    GenerationSection,
    DirectionSection,
    EditSection,
    EvaluationSection,
    ValidationSection,
    SearchSection,
    OutputSection,
    WatchSection,
)
"""All sections, in the order of the help."""
