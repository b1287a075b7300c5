"""RunPod, by its REST API, version 2: no SDK knows it yet."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

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
from heretic.common.errors import CloudError, ConfigurationError

KEY, KEY_PAGE = "RUNPOD_API_KEY", "https://console.runpod.io/user/settings"
TIMEOUT = (10, 120)
"""Seconds to connect, and to answer."""
PAGE = 100
SYSTEM_DISK = 30
"""GB for the system, which a stopped machine loses; what matters is on the volume."""
VOLUME = "/workspace"
CUDA = "12.8"
DEFAULT_WAIT = 5.0
_STATES = {
    "PROVISIONING": State.LOADING, "STARTING": State.LOADING, "RUNNING": State.RUNNING, "EXITED": State.STOPPED,
    "ERROR": State.OFFLINE,
}  # fmt: skip
_NO_CAPACITY = re.compile(r"capacity|no (longer any )?(instances|machines)|not available|unavailable", re.I)


class RunPod:
    """See `Provider`."""

    def __init__(self, key: str, address: str) -> None:
        self._address = address
        self._session = requests.Session()
        # A proxy's or a file's (~/.netrc) credentials would replace the key.
        self._session.auth = _Bearer(key)

    def offers(self, tier: Tier, wish: Wish) -> list[Offer]:
        """See `Provider`."""
        if wish.bid is not None:
            raise ConfigurationError("RunPod's API, version 2, takes no bids; leave --bid out, or use heretic-vast.")
        offers = []
        for cloud in ("secure",) if wish.secure else ("community", "secure"):
            query = {"include": "AVAILABILITY", "product": "POD", "count": wish.gpus, "cloud": cloud.upper()}
            for row in self._ask("GET", "/catalog/gpus", query=query).get("gpus", []):
                price = (row.get("price") or {}).get(cloud)
                # Prices are listed for clouds that do not have the GPU, too.
                if row.get("id") not in tier.runpod or not row.get(cloud) or not price:
                    continue
                if row.get("availability") != "NONE" and int((row.get("maxCount") or {}).get(cloud) or 1) >= wish.gpus:
                    offers.append(_offer(str(row["id"]), cloud, wish.gpus, float(price)))
        return offers

    def rent(self, offer: Offer, order: Order) -> str:
        """See `Provider`."""
        gpu, _, cloud = offer.id.partition("@")
        environment = {**dict(order.environment), "PUBLIC_KEY": order.public_key}
        body = {
            "name": order.label,
            "image": order.image,
            "cloud": cloud.upper(),
            "gpu": {"id": gpu, "count": offer.gpus, "minCudaVersion": CUDA},
            "disk": SYSTEM_DISK,
            "mounts": {"persistent": {"size": order.disk, "path": VOLUME}},
            "ports": ["22/tcp"],
            "env": environment,
            "startSsh": True,
        }
        machine_id = str(self._ask("POST", "/pods", body=body).get("id", ""))
        if not is_id(machine_id):
            raise AnswerLost("RunPod's answer to the request to rent names no machine.")
        return machine_id

    def machines(self) -> list[Machine]:
        """See `Provider`."""
        found: list[Machine] = []
        query: dict[str, Any] = {"limit": PAGE}
        seen = set()
        while True:
            answer = self._ask("GET", "/pods", query=query)
            found += [_machine(row) for row in answer.get("pods", []) if _is_ours(row)]
            pages = answer.get("pagination") or {}
            cursor = pages.get("nextCursor")
            if not pages.get("hasNextPage") or not cursor or cursor in seen:
                return found
            seen.add(cursor)
            query = {"limit": PAGE, "cursor": cursor}

    def machine(self, machine_id: str) -> Machine | None:
        """See `Provider`."""
        try:
            row = self._ask("GET", f"/pods/{_checked(machine_id)}")
        except NoSuchMachine:
            return None
        return _machine(row) if _is_ours(row) and row.get("status") != "TERMINATED" else None

    def start(self, machine: Machine) -> None:
        """See `Provider`."""
        self._ask("POST", f"/pods/{_checked(machine.id)}/action", body={"action": "start"})

    def stop(self, machine: Machine) -> None:
        """See `Provider`."""
        self._ask("POST", f"/pods/{_checked(machine.id)}/action", body={"action": "stop"})

    def destroy(self, machine_id: str) -> None:
        """See `Provider`."""
        self._ask("DELETE", f"/pods/{_checked(machine_id)}")

    def attach_key(self, machine_id: str, public_key: str) -> None:
        """Nothing: the key came with the order, as the account's list of keys can only be replaced as a whole."""

    def balance(self) -> float | None:
        """See `Provider`; version 2 of the API does not say it."""
        self._ask("GET", "/pods", query={"limit": 1})
        return None

    def _ask(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> dict[str, Any]:
        """A call; its errors in words.

        Raises:
            CloudError: See `Provider`.
        """
        try:
            response = self._session.request(
                method, self._address + path, params=query, json=body, timeout=TIMEOUT, allow_redirects=False
            )
        except requests.RequestException as error:
            raise AnswerLost(
                f"RunPod did not answer ({type(error).__name__}); check the network and try again."
            ) from error
        if response.status_code >= 300:
            raise _problem(response)
        if response.status_code == 204 or not response.content:
            return {}
        try:
            answer = response.json()
        except ValueError as error:
            raise AnswerLost("RunPod's answer was cut off or is no JSON; try again.") from error
        if not isinstance(answer, dict):
            raise CloudError("RunPod answered something that this version does not know; a newer version may.")
        return answer


class _Bearer(requests.auth.AuthBase):
    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _checked(machine_id: str) -> str:
    if not is_id(machine_id):
        raise ConfigurationError(f"{machine_id[:60]!r} is no machine of RunPod's.")
    return machine_id


def _offer(gpu: str, cloud: str, gpus: int, each: float) -> Offer:
    return Offer(f"{gpu}@{cloud}", gpu.removeprefix("NVIDIA "), gpus, each * gpus, None, f"{cloud} cloud")


def _is_ours(row: Mapping[str, Any]) -> bool:
    return str(row.get("name") or "").startswith(LABEL)


def _machine(row: Mapping[str, Any]) -> Machine:
    said = row.get("status")
    state = _STATES.get(str(said), State.UNKNOWN)
    gpu = row.get("gpu") or {}
    ways = row.get("ssh") or {}
    direct, volume = ways.get("direct") or {}, (row.get("mounts") or {}).get("persistent") or {}
    host, port = str(direct.get("host") or ""), direct.get("port")
    endpoint = Endpoint(host, port) if is_host(host) and isinstance(port, int) and state is State.RUNNING else None
    return Machine(
        str(row.get("id")),
        str(row.get("name")),
        state,
        str(said or "unknown").lower(),
        str(gpu.get("id") or "?").removeprefix("NVIDIA "),
        int(gpu.get("count") or 0),
        float(row.get("cost") or 0.0),
        int(volume.get("size") or 0),
        _seconds(row.get("createdAt")),
        endpoint,
        only_proxy=state is State.RUNNING and endpoint is None and bool(ways.get("proxy")),
    )


def _seconds(moment: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(moment).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _problem(response: requests.Response) -> CloudError | ConfigurationError:
    """An answer that is none, in a sentence (RFC 9457, or plain text)."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    told = body if isinstance(body, Mapping) else {}
    status = response.status_code
    said = " ".join(str(told.get("detail") or told.get("title") or response.text).split())[:200].rstrip(".")
    if status == 401:
        return ConfigurationError(f"RunPod does not accept {KEY}; make a new key at {KEY_PAGE} and put it into .env.")
    if status == 403:
        return ConfigurationError(f"{KEY} may not do that ({said}); make a key with more permissions at {KEY_PAGE}.")
    if status == 402:
        return CloudError(f"RunPod wants money first ({said}); add credit in its console.")
    if status == 404:
        return NoSuchMachine("RunPod has no such machine any more.")
    if status == 429:
        wait = response.headers.get("Retry-After", "")
        return TooManyRequests(
            "RunPod is asked too often; wait a minute and try again.", float(wait) if wait.isdigit() else DEFAULT_WAIT
        )
    if status in (400, 409, 422) and _NO_CAPACITY.search(said):
        return OfferGone("RunPod has no such machine free any more.")
    if status >= 500:
        return AnswerLost(f"RunPod has a fault of its own (HTTP {status}); try again later.")
    if status == 410:
        return CloudError(
            "RunPod has switched this version of its API off; a newer version of heretic may know the next."
        )
    return CloudError(f"RunPod refused it (HTTP {status}): {said or 'without a reason'}.")


PROVIDERS.register(
    "runpod",
    ProviderKind(
        "runpod",
        "RunPod",
        KEY,
        KEY_PAGE,
        "RUNPOD_URL",
        "https://api.runpod.io/v2",
        "runpod/pytorch:2.8.0-py3.11-cuda12.8.1",
        RunPod,
        "A stopped machine's volume is still paid for (at more than while it runs), and its GPUs may be gone.",
        keeps_system=False,
    ),
)
