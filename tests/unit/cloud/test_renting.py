"""However providers answer: never two machines for one wish, and none that is left without a word."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heretic.cloud.machines import Endpoint, Machine, Offer, Order, State, Wish
from heretic.cloud.provider import AnswerLost, NoSuchMachine, OfferGone, TooManyRequests
from heretic.cloud.renting import LOADING_SECONDS, Clock, Renter
from heretic.cloud.tiers import Tier
from heretic.common.errors import CloudError, HereticError, Terminated

OFFERS = [Offer(str(number), "RTX 4090", 1, 0.7) for number in range(4)]
ORDER = Order("one", "image", 100, "ssh-ed25519 AAAA x")
READY = Machine("", ORDER.label, State.RUNNING, "running", "RTX 4090", 1, 0.7, endpoint=Endpoint("127.0.0.1", 22))
RENTS = ("rents", "gone", "busy", "lost and rented", "lost and not rented", "lost and rented late", "refused")
STATES = ("loading", "running", "stopped", "offline", "unknown", "vanished", "proxy", "no address")
FAULTS = ("", "", "", "busy", "lost", "refused")


@dataclass
class Scripted:
    """A provider that answers as it is told; afterwards everything works."""

    rents: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    destroys: list[str] = field(default_factory=list)
    there: dict[str, Machine] = field(default_factory=dict)
    late: dict[str, Machine] = field(default_factory=dict)
    ever: list[str] = field(default_factory=list)
    numbers: count = field(default_factory=lambda: count(1))  # type: ignore[type-arg]

    def _fault(self) -> None:
        self._raise(self.faults.pop(0) if self.faults else "")

    def _raise(self, what: str) -> None:
        if what == "busy":
            raise TooManyRequests("busy", 5.0)
        if what == "lost":
            raise AnswerLost("lost.")
        if what == "refused":
            raise CloudError("refused.")

    def offers(self, tier: Tier, wish: Wish) -> list[Offer]:
        raise NotImplementedError

    def rent(self, offer: Offer, order: Order) -> str:
        what = self.rents.pop(0) if self.rents else "rents"
        if what == "gone":
            raise OfferGone("gone.")
        self._raise(what)
        machine_id = str(next(self.numbers))
        if what != "lost and not rented":
            place = self.late if what == "lost and rented late" else self.there
            place[machine_id] = replace(READY, id=machine_id, label=order.label)
            self.ever.append(machine_id)
        if what != "rents":
            raise AnswerLost("lost.")
        return machine_id

    def machines(self) -> list[Machine]:
        self._fault()
        return list(self.there.values())

    def machine(self, machine_id: str) -> Machine | None:
        self._fault()
        what = self.states.pop(0) if self.states else "running"
        if what == "vanished":
            self.there.pop(machine_id, None)
        machine = self.there.get(machine_id)
        if machine is None or what in ("running", "vanished"):
            return machine
        if what == "proxy":
            return replace(machine, endpoint=None, only_proxy=True)
        if what == "no address":
            return replace(machine, endpoint=None)
        return replace(machine, state=State(what), said=what, endpoint=None)

    def start(self, machine: Machine) -> None:
        raise NotImplementedError

    def stop(self, machine: Machine) -> None:
        raise NotImplementedError

    def destroy(self, machine_id: str) -> None:
        self._raise(self.destroys.pop(0) if self.destroys else "")
        if self.there.pop(machine_id, None) is None:
            raise NoSuchMachine("none.")

    def attach_key(self, machine_id: str, public_key: str) -> None:
        self._fault()

    def balance(self) -> float | None:
        return None


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def renter(provider: Scripted, said: list[str], time: Time, reaches: Callable[[Machine], bool] = bool) -> Renter:
    return Renter(provider, "heretic-vast", said.append, reaches, Clock(lambda: time.now, time.sleep))


def lists(values: tuple[str, ...], most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), max_size=most)


@given(lists(RENTS, 6), lists(STATES, 8), lists(FAULTS, 12), lists(("", "lost", "busy", "refused"), 8))
def test_never_two_machines_and_none_without_a_word(
    rents: list[str], states: list[str], faults: list[str], destroys: list[str]
) -> None:
    provider, said, time = Scripted(rents, states, faults, destroys), [], Time()
    try:
        machine = renter(provider, said, time).rent(OFFERS, ORDER)
    except CloudError as error:
        told = " ".join([*said, str(error)])
        for left in provider.there:
            named = f"machine {left}" in told and "still paid for" in told
            assert named or "one may still come: look with 'heretic-vast list'" in told
        if provider.late:
            assert "one may still come: look with 'heretic-vast list'" in told
    else:
        assert list(provider.there) == [machine.id]
        assert machine.endpoint is not None
        assert not provider.late
    # However often the provider was asked.
    assert len(provider.ever) <= 1
    assert time.now < LOADING_SECONDS + 20 * 60


def test_a_machine_that_loads_for_ever_is_given_back() -> None:
    provider, said, time = Scripted(states=["loading"] * 1000), [], Time()
    with pytest.raises(CloudError, match=r"was not ready after 10 minutes\. It was destroyed; 'heretic-vast create'"):
        renter(provider, said, time).rent(OFFERS, ORDER)
    assert provider.there == {}
    assert LOADING_SECONDS <= time.now < LOADING_SECONDS + 60
    assert said == [
        "Rented: machine 1 (one). It is paid for from now on.",
        "The machine is loading.",
        "The machine 1 was not ready after 10 minutes. Destroying machine 1.",
    ]


def test_a_machine_that_answers_no_ssh_is_given_back() -> None:
    provider, time = Scripted(), Time()
    with pytest.raises(CloudError, match="not ready after 10 minutes"):
        renter(provider, [], time, lambda _machine: False).rent(OFFERS, ORDER)
    assert provider.there == {}


def test_gone_offers_are_passed_over_and_their_end_is_said() -> None:
    provider, said, time = Scripted(["gone", "busy", "gone"]), [], Time()
    assert renter(provider, said, time).rent(OFFERS, ORDER).id == "1"
    assert said[:2] == ["gone. The next one is taken."] * 2
    with pytest.raises(CloudError, match=r"All 4 offers were gone .* nothing was rented"):
        renter(Scripted(["gone"] * 4), said, time).rent(OFFERS, ORDER)


def test_a_machine_whose_answer_was_lost_is_found() -> None:
    provider, said, time = Scripted(["lost and rented"]), [], Time()
    assert renter(provider, said, time).rent(OFFERS, ORDER).id == "1"
    assert provider.ever == ["1"]
    assert "Looking whether a machine was rented." in said[0]


@pytest.mark.parametrize("end", [KeyboardInterrupt, Terminated])
def test_whoever_ends_it_is_told_what_stays(end: type[BaseException]) -> None:
    def ends(_machine: Machine) -> bool:
        raise end

    provider, said, time = Scripted(), [], Time()
    with pytest.raises(end):
        renter(provider, said, time, ends).rent(OFFERS, ORDER)
    assert said[-1] == "Ended: machine 1 stays rented. 'heretic-vast terminate 1' gives it back."


def test_what_cannot_be_destroyed_is_said() -> None:
    provider, said, time = Scripted(states=["stopped"], destroys=["refused"] * 9), [], Time()
    with pytest.raises(HereticError, match=r"could not be destroyed \(refused\.\) and is still paid for: run"):
        renter(provider, said, time).rent(OFFERS, ORDER)
