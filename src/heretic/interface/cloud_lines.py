"""What is shown of rented machines; pure."""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from heretic.cloud.machines import HOURS_A_MONTH, Machine, Offer
from heretic.cloud.tiers import SMALLEST_DISK, TIERS, USUAL, disk_needed, gpus_needed, usual_footprint
from heretic.common.redaction import without_secrets
from heretic.interface.formatting import Row, clean_line, dollars, duration, size
from heretic.results import tables

TRIAL_STATES = ("complete", "stopped", "failed", "running", "waiting")
LONGEST_FRONT = 12
"""Trials of the front that are shown."""
LITTLE_DISK = 10_000_000_000
"""Bytes."""


def machine_rows(machines: Sequence[Machine], now: float) -> list[Row]:
    """A row for each machine: what it is, how it is, what it costs."""
    if not machines:
        return [Row("Machines", "none")]
    return [Row("" if place else "Machines", machine_text(machine, now)) for place, machine in enumerate(machines)]


def machine_text(machine: Machine, now: float) -> str:
    """A machine in a line."""
    cost = machine.cost(now)
    rented = "" if machine.started is None else f", rented for {duration(now - machine.started)}"
    so_far = "" if cost is None else f", at most {dollars(cost)} so far"
    disk = f", {machine.disk} GB" if machine.disk else ""
    return clean_line(
        f"{machine.id} ({machine.name}): {machine.said}, {machine.gpus} x {machine.gpu}{disk}, "
        f"{'interruptible, ' if machine.interruptible else ''}{dollars(machine.price)}/h{rented}{so_far}"
    )


def offer_rows(offer: Offer, disk: int, storage_rule: str) -> list[Row]:
    """What is said of an offer before it is taken."""
    where = f", {offer.place}" if offer.place else ""
    storage = "not told by the provider; see its page" if offer.storage is None else f"{dollars(offer.storage)} a month"
    a_day = dollars(offer.price * 24)
    taken = "It is stopped when somebody bids more; 'watch' fetches its study every five minutes for 'run --resume'."
    return [
        *([Row("Interruptible", taken)] if offer.interruptible else []),
        Row("Machine", clean_line(f"{offer.gpus} x {offer.gpu}{where}")),
        Row("Price", f"{dollars(offer.price)} an hour, {a_day} a day, {dollars(offer.price * HOURS_A_MONTH)} a month"),
        Row("Disk", f"{disk} GB: {storage}. {storage_rule}"),
    ]


def tier_table() -> tables.Table:
    """What can be asked for: memory, and how many GPUs hold usual models in bfloat16."""
    sizes = {name: usual_footprint(shape) for name, shape in USUAL.items()}
    lines = [
        tables.Row((name, f"{tier.memory} GB", *(str(gpus_needed(tier, size)) for size in sizes.values())))
        for name, tier in TIERS.items()
    ]
    return tables.Table(("Tier", "each", *(f"GPUs for {name}" for name in sizes)), tuple(lines))


def disk_text() -> str:
    """How much disk is rented."""
    sizes = ", ".join(f"{disk_needed(2 * shape.parameters)} GB for {name}" for name, shape in USUAL.items())
    return f"2 x the model's files + 20 GB, at least {SMALLEST_DISK} GB: {sizes}"


def gpu_rows(found: Iterable[tuple[str, Sequence[Offer]]]) -> list[Row]:
    """For each tier how many offers there are, and the cheapest."""
    rows = []
    for name, offers in found:
        cheapest = min(offers, key=lambda offer: offer.price, default=None)
        text = "none" if cheapest is None else f"{len(offers)} from {dollars(cheapest.price)}/h ({cheapest.gpu})"
        rows.append(Row(name, clean_line(text)))
    return rows


def moment(seconds_from_now: float) -> str:
    """The time of day then, and the day where that is not today."""
    then, today = datetime.fromtimestamp(time.time() + seconds_from_now), datetime.now()
    return f"{then:%H:%M}" if then.date() == today.date() else f"{then:%A %H:%M}"


def job_text(found: Mapping[str, Any]) -> str:
    """How the run on a machine is, in a line."""
    job = found["job"]
    ago = "" if not job.get("started") else f", begun {duration(float(found['now']) - float(job['started']))} ago"
    left = job.get("left") or {}
    leaving = f"; {left['problem']}" if left.get("problem") else ""
    texts = {
        "none": "nothing has been run there",
        "running": f"a run goes on{ago}",
        "finished": f"the run ended with exit code {job.get('exit_code')}{ago}{leaving}",
        "gone": f"the run is gone without having ended (the machine was restarted, or it was killed){ago}",
    }
    return clean_line(texts[job["state"]])


def look_rows(machine: Machine, found: Mapping[str, Any], now: float) -> list[Row]:
    """Everything that is shown of a machine and its run; what it says is foreign text.

    Args:
        machine: Which.
        found: See `heretic.cloud.job.look`.
        now: Seconds since 1970.
    """
    rows = [Row("Machine", machine_text(machine, now)), Row("Run", job_text(found))]
    status = found.get("status")
    if status:
        rows += _status_rows(status)
        rows += _end_rows(machine, status, now)
    elif found.get("problem"):
        rows.append(Row("Study", clean_line(str(found["problem"]))))
    rows += [Row("" if place else "GPUs", _gpu_text(gpu)) for place, gpu in enumerate(found.get("gpus") or [])]
    disk = found["disk"]
    low = "; little is left" if int(disk["free"]) < LITTLE_DISK else ""
    rows.append(Row("Disk", f"{size(int(disk['free']))} of {size(int(disk['total']))} free{low}"))
    for place, model in enumerate(found.get("models") or []):
        text = (
            f"{model['name']}, {size(int(model['bytes']))}{'' if model['name'] in found['unfetched'] else ', fetched'}"
        )
        rows.append(Row("" if place else "Saved", clean_line(text)))
    if found["job"]["state"] in ("finished", "gone") and found["job"].get("exit_code") != 0:
        lines = found.get("log") or []
        rows += [Row("" if place else "Log", clean_line(str(line))) for place, line in enumerate(lines)]
    return [without_secrets(row) for row in rows]


def lost_row(reason: str) -> Row:
    """What is said while there is no connection."""
    return Row("Connection", clean_line(f"lost: {reason} It is made anew."))


def _status_rows(status: Mapping[str, Any]) -> list[Row]:
    trials = status.get("trials") or {}
    wanted = "" if not status.get("n_trials") else f" of {status['n_trials']}"
    states = ", ".join(f"{trials[name]} {name}" for name in TRIAL_STATES if trials.get(name))
    rows = [Row("Trials", f"{status.get('finished', 0)}{wanted} finished{f': {states}' if states else ''}")]
    if status.get("step"):
        rows.append(Row("Step", clean_line(str(status["step"]))))
    front = status.get("front") or []
    if front:
        lines = [
            tables.Row((str(one["trial"]), f"{one['count']:g} of {one['baseline']:g}", f"{one['kl']:.4f}"))
            for one in front[:LONGEST_FRONT]
        ]
        header = ("Trial", f"{front[0]['counted']} (original)", "KL (nats)")
        rows.append(Row("Front", table=tables.Table(header, tuple(lines))))
        if len(front) > LONGEST_FRONT:
            rows.append(Row("", f"and {len(front) - LONGEST_FRONT} more"))
    if status.get("seconds_per_trial"):
        rows.append(Row("Rate", f"{duration(float(status['seconds_per_trial']))} a trial"))
    for place, amounts in (status.get("memory") or {}).items():
        text = f"{place}: {size(int(amounts['used_bytes']))} used, {size(int(amounts['available_bytes']))} available"
        rows.append(Row("Memory", clean_line(text)))
    return rows


def _end_rows(machine: Machine, status: Mapping[str, Any], now: float) -> list[Row]:
    """When the search will be done, and what it will have cost by then."""
    cost = machine.cost(now)
    so_far = "" if cost is None else f"at most {dollars(cost)} so far"
    remaining = status.get("remaining_seconds")
    if remaining is None:
        return [Row("Cost", so_far)] if so_far else []
    total = "" if cost is None else f", about {dollars(cost + float(remaining) / 3600 * machine.price)}"
    rows = [Row("Search", f"done by {moment(float(remaining))}{total}")]
    return [*rows, Row("Cost", so_far)] if so_far else rows


def _gpu_text(gpu: Mapping[str, str]) -> str:
    return clean_line(
        f"{gpu['name']}: {gpu['utilization.gpu']} % busy, {gpu['memory.used']} of {gpu['memory.total']} MiB, "
        f"{gpu['temperature.gpu']} C"
    )
