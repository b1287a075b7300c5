"""What happens during a run, as frozen payloads; everybody may emit, interface and observability subscribe.

Payloads hold plain values and measured scores only: these modules import nothing that needs a model.
"""

from heretic.observability.events.bus import Event as Event
from heretic.observability.events.bus import Handler as Handler
from heretic.observability.events.bus import LibraryLogged as LibraryLogged
from heretic.observability.events.bus import MemoryRanOut as MemoryRanOut
from heretic.observability.events.bus import RunEnded as RunEnded
from heretic.observability.events.bus import RunStarted as RunStarted
from heretic.observability.events.bus import Warned as Warned
from heretic.observability.events.bus import emit as emit
from heretic.observability.events.bus import subscribed as subscribed
from heretic.observability.events.directions import DirectionsFound as DirectionsFound
from heretic.observability.events.directions import DirectionsSaved as DirectionsSaved
from heretic.observability.events.directions import GradientStep as GradientStep
from heretic.observability.events.directions import PlansAdjusted as PlansAdjusted
from heretic.observability.events.directions import PositionChosen as PositionChosen
from heretic.observability.events.directions import RefinementFinished as RefinementFinished
from heretic.observability.events.directions import RefinementKept as RefinementKept
from heretic.observability.events.directions import RefinementStarted as RefinementStarted
from heretic.observability.events.directions import RoundFinished as RoundFinished
from heretic.observability.events.preparation import BatchSizeMeasured as BatchSizeMeasured
from heretic.observability.events.preparation import Calibrated as Calibrated
from heretic.observability.events.preparation import DtypeRejected as DtypeRejected
from heretic.observability.events.preparation import FilesVerified as FilesVerified
from heretic.observability.events.preparation import LayoutFound as LayoutFound
from heretic.observability.events.preparation import ModelLoaded as ModelLoaded
from heretic.observability.events.preparation import ModelLoading as ModelLoading
from heretic.observability.events.preparation import ProfilesKept as ProfilesKept
from heretic.observability.events.preparation import PromptsLoaded as PromptsLoaded
from heretic.observability.events.preparation import SlowerPasses as SlowerPasses
from heretic.observability.events.preparation import VerificationStarted as VerificationStarted
from heretic.observability.events.preparation import WarmStarted as WarmStarted
from heretic.observability.events.preparation import WeightsCached as WeightsCached
from heretic.observability.events.result import CapabilityMeasured as CapabilityMeasured
from heretic.observability.events.result import CapabilityStarted as CapabilityStarted
from heretic.observability.events.result import FullPrecisionMeasured as FullPrecisionMeasured
from heretic.observability.events.result import FullPrecisionNeeded as FullPrecisionNeeded
from heretic.observability.events.result import HeldOutMeasured as HeldOutMeasured
from heretic.observability.events.result import ModelCompared as ModelCompared
from heretic.observability.events.result import ModelSaved as ModelSaved
from heretic.observability.events.result import ModelUploaded as ModelUploaded
from heretic.observability.events.result import ReportWritten as ReportWritten
from heretic.observability.events.result import TrialApplied as TrialApplied
from heretic.observability.events.result import UploadStarted as UploadStarted
from heretic.observability.events.search import BaselineMeasured as BaselineMeasured
from heretic.observability.events.search import BatchMeasured as BatchMeasured
from heretic.observability.events.search import EngineChosen as EngineChosen
from heretic.observability.events.search import FrontChecked as FrontChecked
from heretic.observability.events.search import NothingShown as NothingShown
from heretic.observability.events.search import ResponseMeasured as ResponseMeasured
from heretic.observability.events.search import SearchFinished as SearchFinished
from heretic.observability.events.search import SearchStarted as SearchStarted
from heretic.observability.events.search import StudyOpened as StudyOpened
from heretic.observability.events.search import TrialFinished as TrialFinished
from heretic.observability.events.search import TrialRaised as TrialRaised
