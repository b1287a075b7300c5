"""What happens during a run, as frozen payloads; everybody may emit, interface, web and observability subscribe.

Payloads hold plain values and measured scores only: these modules import nothing that needs a model.
"""

from heretic.observability.events.bus import *
from heretic.observability.events.directions import *
from heretic.observability.events.preparation import *
from heretic.observability.events.result import *
from heretic.observability.events.search import *
from heretic.observability.events.steps import *
