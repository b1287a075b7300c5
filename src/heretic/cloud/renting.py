"""Renting a machine, so that there are never two for one wish, and none is left without a word."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from heretic.cloud.machines import Machine, Offer, Order, State
from heretic.cloud.provider import AnswerLost, NoSuchMachine, OfferGone, Provider, TooManyRequests
from heretic.common.errors import CloudError, HereticError

LOADING_SECONDS = 600.0
"""A machine that is not ready after so long never will be; its disk is paid for meanwhile."""
LOOK_SECONDS = 5.0
MOST_OFFERS = 6
MOST_WAITS = 5
LONGEST_WAIT = 60.0
LOOKS_FOR_LOST = 4
"""How often a machine is looked for whose renting got no answer."""

T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, which tests bring along."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Renter:
    """Rents machines from one provider.

    Attributes:
        provider: Where.
        program: What the user typed, to be named in next steps.
        say: Is told what happens, in sentences.
        reaches: Whether a machine answers by SSH.
        clock: Time.
    """

    provider: Provider
    program: str
    say: Say
    reaches: Callable[[Machine], bool]
    clock: Clock = Clock()

    def rent(self, offers: Sequence[Offer], order: Order) -> Machine:
        """Rent the first offer that is still there, and wait until the machine can be used.

        Raises:
            CloudError: There is no machine in the end; or there is, and the message names it.
        """
        try:
            machine_id = self._rented(offers, order)
        except HereticError:
            raise
        except BaseException:
            self.say(f"Ended while renting {order.name}: look with '{self.program} list' whether it is there.")
            raise
        try:
            self.say(f"Rented: machine {machine_id} ({order.name}). It is paid for from now on.")
            self.patiently(lambda: self.provider.attach_key(machine_id, order.public_key))
            return self._ready(machine_id)
        except HereticError as error:
            self._give_up(machine_id, str(error))
            raise CloudError(f"{error} It was destroyed; '{self.program} create' tries again.") from error
        except BaseException:
            self.say(
                f"Ended: machine {machine_id} stays rented. '{self.program} terminate {machine_id}' gives it back."
            )
            raise

    def patiently(
        self, ask: Callable[[], T], again_after: tuple[type[CloudError], ...] = (TooManyRequests, AnswerLost)
    ) -> T:
        """What is asked for; waits where the provider wants that, and asks again where its answer was lost.

        Args:
            ask: Asks.
            again_after: After what it may be asked again; renting not where it may have been done.
        """
        for left in range(MOST_WAITS, -1, -1):
            try:
                return ask()
            except again_after as error:
                if not left:
                    raise
                wait = min(error.seconds, LONGEST_WAIT) if isinstance(error, TooManyRequests) else LOOK_SECONDS
                self.clock.sleep(wait)
        raise AssertionError("unreachable")

    def _rented(self, offers: Sequence[Offer], order: Order) -> str:
        for offer in offers[:MOST_OFFERS]:
            try:
                return self.patiently(partial(self.provider.rent, offer, order), (TooManyRequests,))
            except OfferGone as gone:
                self.say(f"{gone} The next one is taken.")
            except AnswerLost as lost:
                return self._found(order, lost)
        raise CloudError(
            f"All {min(len(offers), MOST_OFFERS)} offers were gone before they could be rented; nothing was rented. "
            f"Run '{self.program} create' again, or take another tier."
        )

    def _found(self, order: Order, lost: AnswerLost) -> str:
        """The machine of an order whose answer was lost.

        Raises:
            CloudError: There seems to be none; nothing is asked for again, which could rent two.
        """
        self.say("The answer was lost. Looking whether a machine was rented.")
        for _ in range(LOOKS_FOR_LOST):
            try:
                ours = [machine for machine in self.patiently(self.provider.machines) if machine.label == order.label]
            except CloudError:
                ours = []
            if ours:
                return ours[0].id
            self.clock.sleep(LOOK_SECONDS)
        raise CloudError(
            f"{lost} No machine called {order.name} was found, but one may still come: look with '{self.program} list' "
            f"in a minute before you rent again."
        ) from lost

    def _ready(self, machine_id: str) -> Machine:
        """The machine once it runs and answers.

        Raises:
            CloudError: It does not in time, or is gone.
        """
        ends, said, was_there = self.clock.now() + LOADING_SECONDS, "", False
        while True:
            machine = self.patiently(lambda: self.provider.machine(machine_id))
            if machine is None and was_there:
                raise CloudError(f"The machine {machine_id} vanished while it was loading.")
            if machine is not None:
                was_there = True
                if machine.state is State.RUNNING and machine.only_proxy:
                    raise CloudError(
                        "The machine can only be reached by a proxy for terminals, which takes no files; a machine of "
                        "the secure cloud has an address of its own (--secure)."
                    )
                if machine.state is State.RUNNING and machine.endpoint is not None and self.reaches(machine):
                    return machine
                if machine.state in (State.STOPPED, State.OFFLINE):
                    raise CloudError(f"The machine {machine_id} did not start: the provider calls it {machine.said}.")
                if machine.said != said:
                    said = machine.said
                    self.say(f"The machine is {said}.")
            if self.clock.now() >= ends:
                raise CloudError(f"The machine {machine_id} was not ready after {LOADING_SECONDS / 60:.0f} minutes.")
            self.clock.sleep(LOOK_SECONDS)

    def _give_up(self, machine_id: str, reason: str) -> None:
        """Destroy a machine that cannot be used.

        Raises:
            CloudError: It could not be, and is still paid for.
        """
        self.say(f"{reason} Destroying machine {machine_id}.")
        try:
            self.destroy(machine_id)
        except HereticError as error:
            raise CloudError(
                f"{reason} The machine {machine_id} could not be destroyed ({error}) and is still paid for: run "
                f"'{self.program} terminate {machine_id} --yes', or remove it on the provider's page."
            ) from error

    def destroy(self, machine_id: str) -> None:
        """Give a machine back, and see that it is gone.

        Raises:
            CloudError: It is still there.
        """
        for _ in range(MOST_WAITS):
            try:
                self.patiently(lambda: self.provider.destroy(machine_id))
            except NoSuchMachine:
                return
            if self.patiently(lambda: self.provider.machine(machine_id)) is None:
                return
            self.clock.sleep(LOOK_SECONDS)
        raise CloudError("the provider still lists it")


def half_created(machines: Sequence[Machine]) -> list[Machine]:
    """Machines that were rented and never became ready, as a crash leaves them."""
    return [machine for machine in machines if machine.state in (State.LOADING, State.UNKNOWN, State.OFFLINE)]
