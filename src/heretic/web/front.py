"""The trials of a study as a picture: behaviour over divergence, every trial of the front to be pressed. Pure."""

import math
from collections.abc import Iterable, Sequence

from heretic.results.trial import TrialRecord
from heretic.results.words import measured, title
from heretic.web.markup import text

WIDTH, HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 16, 16, 44
_LEAST = 1e-5
"""Nats; a divergence of nothing has no place on a logarithmic axis."""


def picture(front: Sequence[TrialRecord], others: Sequence[TrialRecord], chosen: int | None) -> str:
    """An SVG picture, as HTML.

    Args:
        front: Trials that no other beats in all numbers; each is a button whose ``data-trial`` is its number.
        others: Further trials that were measured, as dots.
        chosen: Number of the trial that answers in the right column, or None.
    """
    if not front:
        return ""
    points = {record.number: _point(record) for record in (*front, *others)}
    horizontal = _Axis([point[0] for point in points.values()], _LEFT, WIDTH - _RIGHT, logarithmic=True)
    vertical = _Axis([point[1] for point in points.values()], HEIGHT - _BOTTOM, _TOP)
    places = {number: (horizontal.place(kl), vertical.place(amount)) for number, (kl, amount) in points.items()}
    dots = [
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in (places[each.number] for each in others)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in sorted(places[each.number] for each in front))
    return (
        f'<svg class="front" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="Trials of the front">'
        f"{''.join(_ticks(horizontal, vertical))}{_names(front[0])}"
        f'{"".join(dots)}<polyline class="line" points="{line}"/>'
        f"{''.join(_button(record, *places[record.number], record.number == chosen) for record in front)}</svg>"
    )


def _point(record: TrialRecord) -> tuple[float, float]:
    return max(record.kl.value, _LEAST), record.behaviors[0].value


def _button(record: TrialRecord, x: float, y: float, is_chosen: bool) -> str:
    name = text(title(record))
    return (
        f'<g class="trial{" chosen" if is_chosen else ""}" data-trial="{record.number}" role="button" tabindex="0" '
        f'aria-pressed="{"true" if is_chosen else "false"}" aria-label="{name}"><title>{name}</title>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="14" class="reach"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{8 if is_chosen else 6}"/></g>'
    )


def _names(record: TrialRecord) -> str:
    behavior = text(measured(record.behaviors[0]))
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    return (
        f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">KL divergence (nats)</text>'
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{behavior}</text>'
    )


class _Axis:
    """From values to places, with a little room at both ends."""

    def __init__(self, values: Sequence[float], start: float, end: float, logarithmic: bool = False) -> None:
        self._logarithmic = logarithmic
        scaled = [self._scaled(value) for value in values]
        least, most = min(scaled), max(scaled)
        room = 0.06 * (most - least) or 0.5
        self._least, self._most = least - room, most + room
        self._start, self._end = start, end

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._logarithmic else value

    def place(self, value: float) -> float:
        share = (self._scaled(value) - self._least) / (self._most - self._least)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Round values: of a logarithmic axis 1, 2 and 5 times powers of ten, else at most six even steps."""
        if self._logarithmic:
            powers = range(math.floor(self._least), math.ceil(self._most) + 1)
            values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
            return [value for value in values if self._least <= math.log10(value) <= self._most]
        size = 10.0 ** math.floor(math.log10((self._most - self._least) / 2))
        step = next(each for each in (size, 2 * size, 5 * size, 10 * size) if (self._most - self._least) / each <= 6)
        first, last = math.ceil(self._least / step), math.floor(self._most / step)
        return [step * count for count in range(first, last + 1)]


def _ticks(horizontal: _Axis, vertical: _Axis) -> Iterable[str]:
    bottom = HEIGHT - _BOTTOM
    for value in horizontal.ticks():
        x = horizontal.place(value)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:.4g}</text>'
    for value in vertical.ticks():
        y = vertical.place(value)
        yield f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
