"""What takes long: it runs in a thread of its own, and how far it is comes back between its own words."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from heretic.observability.events import Event, StepAdvanced, StepEnded, StepEvent, subscribed

REDRAWN_SECONDS = 0.1
"""So often a step that advances is told of; a model may have thousands of tensors."""


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
        try:
            with subscribed(hear, steps=True):
                for words in said:
                    heard.put(words)
        finally:
            heard.put(None)

    with ThreadPoolExecutor(1, "page") as threads:
        working = threads.submit(work)
        told = 0.0
        while (latest := heard.get()) is not None:
            now = time.monotonic()
            if isinstance(latest, StepAdvanced) and latest.done < latest.total and now - told < REDRAWN_SECONDS:
                continue
            told = now
            yield latest
        working.result()
