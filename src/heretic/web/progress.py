"""What takes long: it runs in a thread of its own, and how far it is comes back between its own words."""

import time
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from threading import Event as Flag

from heretic.observability.events import Event, StepAdvanced, StepEnded, StepEvent, subscribed
from heretic.passes.streaming import read_in_thread
from heretic.web.manager import REDRAWN_SECONDS


def followed(said: Iterable[str]) -> Iterator[str | StepEvent]:
    """The same words, and between them how far the steps are that run meanwhile.

    Args:
        said: Gone through in another thread; whatever it raises is raised here. Who leaves early waits for it.
    """
    heard: SimpleQueue[str | StepEvent | None] = SimpleQueue()

    def hear(event: Event) -> None:
        if isinstance(event, StepEvent) and not isinstance(event, StepEnded):
            heard.put(event)

    def work() -> None:
        with subscribed(hear, steps=True):
            for words in said:
                heard.put(words)

    told = 0.0
    steps: Iterator[str | StepEvent] = read_in_thread(work, heard, Flag())
    for latest in steps:
        now = time.monotonic()
        # A model may have thousands of tensors.
        if isinstance(latest, StepAdvanced) and latest.done < latest.total and now - told < REDRAWN_SECONDS:
            continue
        told = now
        yield latest
