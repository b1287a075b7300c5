"""Vast.ai, by its official SDK."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import requests

from heretic.cloud.keys import is_host, is_id
from heretic.cloud.machines import LABEL, Endpoint, Machine, Offer, Order, State, Wish
from heretic.cloud.provider import (
    PROVIDERS,
    AnswerLost,
    NoSuchMachine,
    OfferGone,
    ProviderKind,
    TooManyRequests,
)
from heretic.cloud.tiers import Tier
from heretic.common.errors import CloudError, ConfigurationError, first_line

KEY, KEY_PAGE = "VAST_API_KEY", "https://cloud.vast.ai/manage-keys/"
OFFERS = 30
"""Offers that are asked for at a time."""
PAGE = 25
RELIABILITY, CUDA = 0.98, 12.8
"""What offers have at least: torch's packages need a driver of that CUDA."""
DEFAULT_WAIT = 5.0
"""Seconds to wait where the provider says no number."""
_STATES = {
    None: State.LOADING, "created": State.LOADING, "loading": State.LOADING, "running": State.RUNNING,
    "exited": State.STOPPED, "stopped": State.STOPPED, "offline": State.OFFLINE, "frozen": State.OFFLINE,
}  # fmt: skip

T = TypeVar("T")


class Vast:
    """See `Provider`."""

    def __init__(self, key: str, address: str) -> None:
        # Takes seconds to import.
        from vastai import VastAI

        self._api = VastAI(api_key=key, server_url=address, quiet=True)
        # A request to rent that is repeated after its answer was lost rents twice, or looks like an offer that is gone.
        self._once = VastAI(api_key=key, server_url=address, quiet=True, retry=1)

    def offers(self, tier: Tier, wish: Wish) -> list[Offer]:
        """See `Provider`."""
        query: dict[str, Any] = {
            "gpu_name": {"in": list(tier.vast)},
            "num_gpus": {"eq": wish.gpus},
            # Two sizes of a GPU share their names; memory is in MiB, of which the driver keeps some.
            "gpu_ram": {"gte": tier.memory * 940, "lte": tier.memory * 1100},
            "disk_space": {"gte": wish.disk},
            "reliability2": {"gte": RELIABILITY},
            "cuda_max_good": {"gte": CUDA},
            "direct_port_count": {"gte": 1},
        }
        if wish.secure:
            query["datacenter"] = {"eq": True}

        def ask() -> list[Offer]:
            kind = "on-demand" if wish.bid is None else "bid"
            rows = self._api.search_offers(
                query=query, type=kind, order="dph_total", limit=OFFERS, storage=float(wish.disk)
            )
            offers = [_offer(row, wish.disk) for row in rows if wish.bid is None or float(row["min_bid"]) <= wish.bid]
            # What is paid is the bid.
            return offers if wish.bid is None else [replace(own, price=wish.bid, interruptible=True) for own in offers]

        return [offer for offer in _asked(ask) if is_id(offer.id)]

    def rent(self, offer: Offer, order: Order) -> str:
        """See `Provider`."""
        answer = _asked(
            lambda: self._once.create_instance(
                id=int(offer.id),
                image=order.image,
                disk=float(order.disk),
                label=order.label,
                bid_price=offer.price if offer.interruptible else None,
                env=dict(order.environment),
                ssh=True,
                direct=True,
                # A machine that cannot start at once would be kept, stopped, and its disk paid for.
                cancel_unavail=True,
                # Sessions begin in tmux otherwise, which commands cannot be sent to.
                onstart_cmd="touch ~/.no_auto_tmux",
            )
        )
        machine_id = str(answer.get("new_contract", "")) if isinstance(answer, Mapping) else ""
        if not is_id(machine_id):
            raise AnswerLost("Vast's answer to the request to rent names no machine.")
        return machine_id

    def machines(self) -> list[Machine]:
        """See `Provider`."""
        return _asked(self._machines)

    def _machines(self) -> list[Machine]:
        query: dict[str, Any] = {"select_filters": {}, "order_by": [{"col": "id", "dir": "asc"}], "limit": PAGE}
        found, seen = [], set()
        while True:
            page = self._api.show_instances_v1(query)
            found += [_machine(row) for row in page["instances"] if _is_ours(row)]
            token = page.get("next_token")
            if not token or token in seen:
                return found
            seen.add(token)
            query = {**query, "after_token": token}

    def machine(self, machine_id: str) -> Machine | None:
        """See `Provider`."""

        # The SDK's own function cannot read a machine that has not begun.
        def ask() -> Machine | None:
            response = self._api.client.get(f"/instances/{_checked(machine_id)}/", query_args={"owner": "me"})
            response.raise_for_status()
            row = response.json()["instances"]
            return _machine(row) if row and _is_ours(row) else None

        try:
            return _asked(ask)
        except NoSuchMachine:
            return None

    def start(self, machine: Machine) -> None:
        """See `Provider`."""
        _succeeded(_asked(lambda: self._api.start_instance(_checked(machine.id))), "start")

    def stop(self, machine: Machine) -> None:
        """See `Provider`."""
        _succeeded(_asked(lambda: self._api.stop_instance(_checked(machine.id))), "stop")

    def destroy(self, machine_id: str) -> None:
        """See `Provider`."""
        _succeeded(_asked(lambda: self._api.destroy_instance(_checked(machine_id))), "destroy")

    def attach_key(self, machine_id: str, public_key: str) -> None:
        """See `Provider`."""
        _succeeded(_asked(lambda: self._api.attach_ssh(_checked(machine_id), public_key)), "attach the key to")

    def balance(self) -> float | None:
        """See `Provider`."""
        credit = _asked(self._api.show_user).get("credit")
        return float(credit) if isinstance(credit, int | float) else None


def _checked(machine_id: str) -> int:
    if not machine_id.isascii() or not machine_id.isdigit():
        raise ConfigurationError(f"{machine_id[:60]!r} is no machine of Vast's; its ids are numbers.")
    return int(machine_id)


def _offer(row: Mapping[str, Any], disk: int) -> Offer:
    each = row.get("storage_cost")
    storage = float(each) * disk if isinstance(each, int | float) else None
    place = row.get("geolocation")
    gpu = str(row["gpu_name"])
    return Offer(str(row["id"]), gpu, int(row["num_gpus"]), float(row["dph_total"]), storage, str(place or ""))


def _is_ours(row: Mapping[str, Any]) -> bool:
    return str(row.get("label") or "").startswith(LABEL)


def _machine(row: Mapping[str, Any]) -> Machine:
    said = row.get("actual_status")
    state = _STATES.get(said, State.UNKNOWN)
    # What is told to stop goes on "running" for a while, and the other way round.
    if row.get("intended_status") == "stopped" and state is State.LOADING:
        state = State.STOPPED
    started = row.get("start_date")
    return Machine(
        str(row["id"]),
        str(row["label"]),
        state,
        str(said or "not created yet"),
        str(row.get("gpu_name") or "?"),
        int(row.get("num_gpus") or 0),
        float(row.get("dph_total") or 0.0),
        int(row.get("disk_space") or 0),
        float(started) if isinstance(started, int | float) else None,
        _endpoint(row) if state is State.RUNNING else None,
        interruptible=row.get("is_bid") is True,
    )


def _endpoint(row: Mapping[str, Any]) -> Endpoint | None:
    """Where SSH is: the machine itself where it has a port, else the provider's gateway."""
    direct = (row.get("ports") or {}).get("22/tcp") or []
    ways = [(row.get("public_ipaddr"), port.get("HostPort")) for port in direct]
    for host, port in [*ways, (row.get("ssh_host"), row.get("ssh_port"))]:
        name = str(host or "").strip()
        if is_host(name) and str(port).isdigit():
            return Endpoint(name, int(port))
    return None


def _succeeded(answer: Any, what: str) -> None:
    if isinstance(answer, Mapping) and answer.get("success") is False:
        reason = str(answer.get("msg") or answer.get("error") or "without a reason")[:200]
        raise CloudError(f"Vast did not {what} the machine: {reason}.")


def _asked(ask: Callable[[], T]) -> T:
    """What a call of the SDK returns; its errors in words.

    Raises:
        CloudError: See `Provider`.
    """
    try:
        return ask()
    except requests.HTTPError as error:
        raise _problem(error) from error
    except requests.exceptions.JSONDecodeError as error:
        raise AnswerLost("Vast's answer was cut off or is no JSON; try again.") from error
    except requests.RequestException as error:
        raise AnswerLost(f"Vast did not answer ({type(error).__name__}); check the network and try again.") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CloudError(
            f"Vast answered something that this version does not know ({type(error).__name__}: {first_line(error)}); "
            "a newer version may."
        ) from error


def _problem(error: requests.HTTPError) -> CloudError | ConfigurationError:
    """An answer that is none, in a sentence; some come as plain text."""
    response = error.response
    if response is None:
        return AnswerLost("Vast did not answer; try again.")
    try:
        body = response.json()
    except ValueError:
        body = {}
    told = body if isinstance(body, Mapping) else {}
    kind, status = str(told.get("error") or ""), response.status_code
    said = " ".join(str(told.get("msg") or kind or response.text).split())[:200].rstrip(".")
    if kind == "auth_error" or status == 401:
        return ConfigurationError(f"Vast does not accept {KEY}; make a new key at {KEY_PAGE} and put it into .env.")
    if status == 403:
        return ConfigurationError(f"{KEY} may not do that ({said}); make a key with more permissions at {KEY_PAGE}.")
    if kind == "search_quota_exceeded":
        return CloudError("Vast answers no more searches today: the quota begins anew at midnight UTC.")
    if status == 429:
        wait = response.headers.get("Retry-After", "")
        return TooManyRequests(
            "Vast is asked too often; wait a minute and try again.", float(wait) if wait.isdigit() else DEFAULT_WAIT
        )
    if status == 410 or kind == "no_such_ask":
        return OfferGone("The offer is gone: somebody else has taken it.")
    if status == 404:
        return NoSuchMachine("Vast has no such machine any more.")
    if status >= 500:
        return AnswerLost(f"Vast has a fault of its own (HTTP {status}); try again later.")
    return CloudError(f"Vast refused it (HTTP {status}): {said or 'without a reason'}.")


PROVIDERS.register(
    "vast",
    ProviderKind(
        "vast",
        "Vast.ai",
        KEY,
        KEY_PAGE,
        "VAST_URL",
        "https://console.vast.ai",
        "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-devel",
        Vast,
        "A stopped machine's disk is still paid for, and another person may get its GPUs.",
        keeps_system=True,
    ),
)
