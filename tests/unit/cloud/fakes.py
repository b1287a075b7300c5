"""Providers of machines on 127.0.0.1, which refuse what the real ones would; see tests of `heretic.cloud`."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "good-Key_4711-of-the-account"
CONTAINER_KEY = "key-of-the-container-0815"
LOST = object()
"""A fault: what was asked for is done, but the connection ends without an answer."""
REFUSED_CONNECTION = object()
"""A fault: the connection ends before anything is done."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    key: str


@dataclass
class Fault:
    """An answer instead of the right one, once: status and body (text as plain text), or LOST."""

    where: str
    status: int = 0
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    kind: object = None


@dataclass
class Fake:
    """What both fakes share: machines, what was asked, and faults to come.

    Attributes:
        ssh: Host and port of the SSH server that every machine has.
        authorized: File that attached keys are written to.
        looks_until_running: How often a machine is seen loading.
        ends_as: What a machine becomes instead of running; "vanished" for one that is gone.
    """

    ssh: tuple[str, int] = ("127.0.0.1", 22)
    authorized: Path | None = None
    looks_until_running: int = 1
    ends_as: str = "running"
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    ever: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=Lock)
    address: str = ""

    def answer(self, request: Request) -> tuple[int, Any]:
        raise NotImplementedError

    def let_in(self, key: str) -> None:
        if self.authorized is not None:
            with self.authorized.open("a") as file:
                file.write(key.strip() + "\n")

    def seen(self, machine: dict[str, Any], status: str, loading: str, running: str) -> None:
        """A machine gets on by being looked at."""
        machine["looks"] += 1
        if machine[status] == loading and machine["looks"] > self.looks_until_running:
            machine[status] = running if self.ends_as == "running" else self.ends_as

    def asked_for(self, method: str, pattern: str) -> list[Request]:
        return [request for request in self.asked if request.method == method and re.fullmatch(pattern, request.path)]


class FakeVast(Fake):
    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest)
        self.offers = [vast_offer(501, 0.71), vast_offer(502, 0.72), vast_offer(503, 1.9)]
        self.credit = 12.5
        self.next_id = 9000

    def answer(self, request: Request) -> tuple[int, Any]:
        method, path, body = request.method, request.path, request.body
        own = re.fullmatch(r"/api/v0/instances/(\d+)/", path)
        if request.key != KEY and not (own and request.key == f"{CONTAINER_KEY}-{own[1]}" and method != "GET"):
            return 404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}
        if (method, path) == ("GET", "/api/v0/instances/"):
            return 410, {"success": False, "error": "deprecated_endpoint"}
        if (method, path) == ("POST", "/api/v0/bundles/"):
            return 200, {"offers": [offer for offer in self.offers if _fits(offer, body)]}
        if method == "PUT" and (match := re.fullmatch(r"/api/v0/asks/(\d+)/", path)):
            return self._rent(int(match[1]), body)
        if (method, path) == ("GET", "/api/v1/instances/"):
            return self._page(request)
        if method == "POST" and (match := re.fullmatch(r"/api/v0/instances/(\d+)/ssh/", path)):
            if match[1] not in self.machines:
                return 404, {"success": False, "error": "no_such_instance"}
            self.let_in(body["ssh_key"])
            return 200, {"success": True}
        if (method, path) == ("GET", "/api/v0/users/current"):
            return 200, {"id": 1, "credit": self.credit, "email": "a@b.c"}
        return self._instance(method, own[1], body) if own else (404, {"success": False, "error": "not_faked"})

    def _rent(self, number: int, body: Any) -> tuple[int, Any]:
        offer = next((offer for offer in self.offers if offer["id"] == number), None)
        if offer is None:
            return 410, {"success": False, "error": "no_such_ask", "msg": "offer is gone"}
        assert {"image", "disk", "label", "runtype"} <= body.keys()
        assert body["disk"] >= 10
        assert "ssh" in body["runtype"]
        bid = body.get("price")
        if bid is not None and bid < offer["min_bid"]:
            return 400, {"success": False, "error": "bid_too_low", "msg": "price is below min_bid"}
        self.offers.remove(offer)
        machine_id = str(self.next_id)
        self.next_id += 1
        self.ever.append(machine_id)
        host, port = self.ssh
        self.machines[machine_id] = {
            "id": int(machine_id), "label": body["label"], "actual_status": "loading", "intended_status": "running",
            "public_ipaddr": host, "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}]},  # noqa: S104
            "ssh_host": "ssh1.vast.ai", "ssh_port": 1, "gpu_name": offer["gpu_name"], "num_gpus": offer["num_gpus"],
            "dph_total": offer["dph_total"] if bid is None else bid, "is_bid": bid is not None,
            "disk_space": body["disk"], "start_date": time.time(), "extra_env": [],
            "looks": 0,
        }  # fmt: skip
        return 200, {"success": True, "new_contract": int(machine_id)}

    def _page(self, request: Request) -> tuple[int, Any]:
        after, limit = int(request.query.get("after_token", 0)), int(request.query["limit"])
        assert limit <= 25
        rows = list(self.machines.values())[after : after + limit]
        for row in rows:
            self.seen(row, "actual_status", "loading", "running")
        more = after + limit < len(self.machines)
        return 200, {"success": True, "instances": rows, "next_token": str(after + limit) if more else None}

    def _instance(self, method: str, machine_id: str, body: Any) -> tuple[int, Any]:
        machine = self.machines.get(machine_id)
        if method == "GET":
            if machine is not None:
                self.seen(machine, "actual_status", "loading", "running")
                if machine["actual_status"] == "vanished":
                    del self.machines[machine_id]
                    machine = None
            return 200, {"instances": machine}
        if machine is None:
            return 404, {"success": False, "error": "no_such_instance", "msg": "no such instance"}
        if method == "DELETE":
            del self.machines[machine_id]
        elif "state" in body:
            machine["intended_status"] = machine["actual_status"] = body["state"]
        return 200, {"success": True}


def vast_offer(number: int, price: float, **rest: Any) -> dict[str, Any]:
    return {
        "id": number, "gpu_name": "RTX 4090", "num_gpus": 1, "gpu_ram": 24564, "dph_total": price, "disk_space": 500.0,
        "reliability2": 0.998, "rentable": True, "rented": False, "verified": True, "external": False,
        "min_bid": price / 2, "geolocation": "Sweden, SE",
        "cuda_max_good": 12.9, "direct_port_count": 20, "storage_cost": 0.1, **rest,
    }  # fmt: skip


def _fits(offer: dict[str, Any], query: dict[str, Any]) -> bool:
    checks: dict[str, Callable[[Any, Any], bool]] = {
        "eq": lambda have, want: have == want,
        "in": lambda have, want: have in want,
        "gte": lambda have, want: have >= want,
        "lte": lambda have, want: have <= want,
    }
    conditions = {name: wanted for name, wanted in query.items() if isinstance(wanted, dict)}
    return all(
        name in offer and checks[check](offer[name], value)
        for name, wanted in conditions.items()
        for check, value in wanted.items()
    )


class FakeRunPod(Fake):
    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest)
        self.prices = {"NVIDIA GeForce RTX 4090": {"community": 0.34, "secure": "0.69"}}
        self.free = {"community", "secure"}
        self.only_proxy = False

    def answer(self, request: Request) -> tuple[int, Any]:
        method, path, body = request.method, request.path.removeprefix("/v2"), request.body
        own = re.fullmatch(r"/pods/([a-z0-9]+)(/action)?", path)
        if request.key != KEY and not (own and request.key == f"{CONTAINER_KEY}-{own[1]}" and method != "GET"):
            return 401, {"title": "Unauthorized", "status": 401, "detail": "invalid api key"}
        if (method, path) == ("GET", "/catalog/gpus"):
            return 200, {"gpus": [self._gpu(name, request.query["cloud"].lower()) for name in self.prices]}
        if (method, path) == ("POST", "/pods"):
            return self._rent(body)
        if (method, path) == ("GET", "/pods"):
            return self._page(request)
        machine = self.machines.get(own[1]) if own else None
        if own is None or machine is None:
            return 404, {"title": "Not Found", "status": 404, "detail": "pod not found"}
        return self._pod(method, own[1], machine, body)

    def _gpu(self, name: str, cloud: str) -> dict[str, Any]:
        return {
            "id": name, "memory": 24, "secure": True, "community": True, "price": self.prices[name],
            "maxCount": {"secure": 8, "community": 2}, "availability": "HIGH" if cloud in self.free else "NONE",
        }  # fmt: skip

    def _rent(self, body: Any) -> tuple[int, Any]:
        assert {"name", "image", "gpu", "mounts", "env", "ports"} <= body.keys()
        assert body["cloud"] in ("SECURE", "COMMUNITY")
        cloud = body["cloud"].lower()
        if cloud not in self.free:
            return 400, {"title": "Bad Request", "status": 400, "detail": "no longer any instances available"}
        machine_id = f"pod{len(self.ever):03d}x"
        self.ever.append(machine_id)
        self.let_in(body["env"]["PUBLIC_KEY"])
        self.machines[machine_id] = {
            "id": machine_id, "name": body["name"], "status": "PROVISIONING", "gpu": body["gpu"], "looks": 0,
            "cost": float(self.prices[body["gpu"]["id"]][cloud]), "mounts": body["mounts"],
            "createdAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "ssh": None,
        }  # fmt: skip
        return 201, self.machines[machine_id]

    def _page(self, request: Request) -> tuple[int, Any]:
        after, limit = int(request.query.get("cursor", 0)), min(int(request.query["limit"]), 25)
        rows = list(self.machines.values())[after : after + limit]
        for row in rows:
            self._look(row)
        more = after + limit < len(self.machines)
        return 200, {"pods": rows, "pagination": {"nextCursor": str(after + limit), "hasNextPage": more}}

    def _look(self, machine: dict[str, Any]) -> None:
        self.seen(machine, "status", "PROVISIONING", "RUNNING")
        direct = {"host": self.ssh[0], "port": self.ssh[1], "username": "root"}
        proxy = {"host": "ssh.runpod.io", "port": 22, "username": machine["id"]}
        running = machine["status"] == "RUNNING"
        machine["ssh"] = {"direct": None if self.only_proxy else direct, "proxy": proxy} if running else None

    def _pod(self, method: str, machine_id: str, machine: dict[str, Any], body: Any) -> tuple[int, Any]:
        if method == "DELETE":
            del self.machines[machine_id]
            return 204, None
        if method == "POST":
            machine["status"] = {"start": "RUNNING", "stop": "EXITED"}[body["action"]]
            return 200, machine
        self._look(machine)
        if machine["status"] == "vanished":
            del self.machines[machine_id]
            return 404, {"title": "Not Found", "status": 404, "detail": "pod not found"}
        return 200, machine


@contextmanager
def served(fake: Fake) -> Iterator[str]:
    """The fake's address, while the with-block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body are two packets, of which the second would wait for the first one's receipt.
        disable_nagle_algorithm = True

        def log_message(self, *_arguments: Any) -> None:
            pass

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text, url = self.rfile.read(length), urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            with fake.lock:
                request = Request(self.command, url.path, query, json.loads(text) if text else None, key)
                fake.asked.append(request)
                fault = next((f for f in fake.faults if re.fullmatch(f.where, f"{self.command} {url.path}")), None)
                if fault is not None:
                    fake.faults.remove(fault)
                if fault is not None and fault.kind is REFUSED_CONNECTION:
                    self.close_connection = True
                    return
                status, body = (fault.status, fault.body) if fault and not fault.kind else fake.answer(request)
            if fault is not None and fault.kind is LOST:
                self.close_connection = True
                return
            plain = isinstance(body, str)
            content = b"" if body is None else body.encode() if plain else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if plain else "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in ({} if fault is None else fault.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - as http.server wants them

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    fake.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake.address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
