"""A small line chart as SVG: values over a size that grows by the power of ten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 360
LEFT: Final = 60
RIGHT: Final = 210  # the lines' names stand there
TOP: Final = 40
BOTTOM: Final = 40
COLOURS: Final = ("#1b6ca8", "#c0392b", "#1e8449", "#7d3c98", "#b9770e")


@dataclass(frozen=True)
class Line:
    """One line: what it shows, and a value for each place."""

    name: str
    values: Sequence[float]


def chart(title: str, across: Sequence[float], lines: Sequence[Line]) -> str:
    """The picture; the axis below is logarithmic, the other one begins at nought."""
    top = max(value for line in lines for value in line.values) * 1.1
    marks = [_frame(title), *(_below(across, place) for place in across), *_left(top)]
    for number, line in enumerate(lines):
        points = [
            (_x(across, place), _y(top, value)) for place, value in zip(across, line.values, strict=True)
        ]
        marks.append(_line(line.name, points, COLOURS[number % len(COLOURS)]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">\n' + "\n".join(marks) + "\n</svg>\n"
    )


def _x(across: Sequence[float], place: float) -> float:
    first, last = math.log10(across[0]), math.log10(across[-1])
    share = (math.log10(place) - first) / (last - first) if last > first else 0.5
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(top: float, value: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _frame(title: str) -> str:
    below = HEIGHT - BOTTOM
    return (
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        f'<text x="{LEFT}" y="{TOP - 16}" font-size="15">{escape(title)}</text>\n'
        f'<path d="M{LEFT} {TOP}V{below}H{WIDTH - RIGHT}" fill="none" stroke="#888"/>'
    )


def _below(across: Sequence[float], place: float) -> str:
    return f'<text x="{_x(across, place):.0f}" y="{HEIGHT - 18}" text-anchor="middle">{place:,.0f}</text>'


def _left(top: float) -> list[str]:
    step = 10 ** math.floor(math.log10(top))
    return [
        f'<text x="{LEFT - 8}" y="{_y(top, value) + 4:.0f}" text-anchor="end">{value:g}</text>'
        for value in (step * number for number in range(int(top / step) + 1))
    ]


def _line(name: str, points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>' for x, y in points)
    x, y = points[-1]
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'
        f'<text x="{x + 10:.0f}" y="{y + 4:.0f}" fill="{colour}">{escape(name)}</text>'
    )
