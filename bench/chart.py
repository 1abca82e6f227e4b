"""Line charts as SVG, by hand: panels above each other, each with its own scales, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

_WIDTH: Final = 760
_HEIGHT: Final = 140
_LEFT: Final = 64
_RIGHT: Final = 24
_TOP: Final = 28
_GAP: Final = 30
_ROW: Final = 22  # of a picture of dots
_AXIS: Final = 26  # more gap where a panel has a scale of x
_COLOURS: Final = ("#2a6db0", "#c4542a", "#3c8c4b", "#8a4fa3", "#8a7a1f", "#555555")
_SCALES_OF_X: Final = 12  # values of x that each get a mark
_LETTER: Final = 6.2  # width of a letter of a legend, about


class Line(NamedTuple):
    """One line: its name in the legend, and its (x, y) in order of x."""

    name: str
    points: Sequence[tuple[float, float]]


class Panel(NamedTuple):
    """A title with its unit, and lines over one scale. ``x_title``: what x counts; without it x has no scale. On a
    logarithmic scale of x a zero stands to the left of all others; zeros of y are left out on one of y."""

    title: str
    lines: Sequence[Line]
    x_title: str = ""
    log_x: bool = False
    log_y: bool = False


def short(value: float) -> str:
    """A number as a scale shows it: 0.05, 2.5, 150, 10k, 1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"


def _power(value: float) -> float:
    return math.log10(value)


def _horizontal(panel: Panel, xs: Sequence[float]) -> Callable[[float], float]:
    """x -> place from the left edge."""
    above = [x for x in xs if x > 0]
    if panel.log_x and above:
        low = _power(min(above)) - (0.7 if len(above) < len(xs) else 0.0)
        high = _power(max(above))
    else:
        low, high = min(xs, default=0.0), max(xs, default=1.0)
    span = high - low or 1.0
    inner = _WIDTH - _LEFT - _RIGHT

    def place(x: float) -> float:
        at = low if panel.log_x and x <= 0 else _power(x) if panel.log_x else x
        return _LEFT + (at - low) / span * inner

    return place


def _vertical(panel: Panel, ys: Sequence[float], bottom: float) -> tuple[Callable[[float], float], list[float]]:
    """y -> place from the top, and the values that get a line. Linear panels begin at zero, so that flat looks flat."""
    if panel.log_y and ys:
        low, high = math.floor(_power(min(ys))), math.ceil(_power(max(ys)))
        high = max(high, low + 1)
        return (lambda y: bottom - (_power(y) - low) / (high - low) * _HEIGHT), [10.0**n for n in range(low, high + 1)]
    most = max(ys, default=0.0) * 1.05 or 1.0
    step = _step(most / 4)
    return (lambda y: bottom - y / most * _HEIGHT), [n * step for n in range(int(most / step) + 1)]


def _step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... that is not below `least`."""
    power = 10.0 ** math.floor(_power(least))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= least * 0.999)


def _legend(lines: Sequence[Line], y: float) -> list[str]:
    out, right = [], float(_WIDTH - _RIGHT)
    for number in reversed(range(len(lines))):
        name, colour = lines[number].name, _COLOURS[number % len(_COLOURS)]
        out.append(f'<text x="{right:.0f}" y="{y}" text-anchor="end" fill="{colour}">{escape(name)}</text>')
        right -= len(name) * _LETTER + 20
    return out


def _panel(panel: Panel, top: float) -> list[str]:
    bottom = top + _HEIGHT
    lines = [Line(line.name, [(x, y) for x, y in line.points if y > 0 or not panel.log_y]) for line in panel.lines]
    xs = sorted({x for line in lines for x, _ in line.points})
    across = _horizontal(panel, xs)
    down, marks = _vertical(panel, [y for line in lines for _, y in line.points], bottom)
    out = [f'<text x="{_LEFT}" y="{top - 8}" font-weight="bold">{escape(panel.title)}</text>']
    if len(lines) > 1:
        out += _legend(lines, top - 8)
    for mark in marks:
        y = down(mark)
        out.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(mark)}</text>')
    if panel.x_title:
        for x in xs if len(xs) <= _SCALES_OF_X else xs[:: len(xs) // 6]:
            out.append(f'<text x="{across(x):.1f}" y="{bottom + 14}" text-anchor="middle">{short(x)}</text>')
        out.append(
            f'<text x="{_WIDTH - _RIGHT}" y="{bottom + 27}" text-anchor="end" fill="#555">{escape(panel.x_title)}</text>'
        )
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(across(x), down(y)) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if panel.x_title:
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places]
    return out


def dots(title: str, names: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]], foot: str) -> str:
    """A line for each row with a dot for each of `names`, over a logarithmic scale; values of zero are left out."""
    values = [value for _, found in rows for value in found if value > 0]
    low = math.floor(_power(min(values, default=1.0)))
    high = max(math.ceil(_power(max(values, default=10.0))), low + 1)
    left, bottom = 300, _TOP + len(rows) * _ROW + 14
    inner = _WIDTH - left - _RIGHT
    body = [f'<text x="{_RIGHT}" y="{_TOP - 8}" font-weight="bold">{escape(title)}</text>']
    body += _legend([Line(name, ()) for name in names], _TOP - 8)
    for power in range(low, high + 1):
        x = left + (power - low) / (high - low) * inner
        body.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom - 12}" stroke="#ddd"/>')
        body.append(f'<text x="{x:.1f}" y="{bottom + 2}" text-anchor="middle">{short(10.0**power)}</text>')
    for number, (label, found) in enumerate(rows):
        y = _TOP + (number + 0.5) * _ROW
        body.append(f'<line x1="{left}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#eee"/>')
        body.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(label)}</text>')
        for colour, value in reversed(list(zip(_COLOURS, found, strict=False))):
            if value > 0:
                x = left + (_power(value) - low) / (high - low) * inner
                body.append(f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{colour}" fill-opacity="0.85"/>')
    return _svg(body, bottom + 26, foot)


def chart(panels: Sequence[Panel], foot: str) -> str:
    """The picture, with a line of small print under it."""
    body: list[str] = []
    top = float(_TOP)
    for panel in panels:
        body += _panel(panel, top)
        top += _HEIGHT + _GAP + (_AXIS if panel.x_title else 0)
    return _svg(body, int(top + 12), foot)


def _svg(body: Sequence[str], height: int, foot: str) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
            ' font-size="11">',
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
            *body,
            f'<text x="{_RIGHT}" y="{height - 6}" fill="#555">{escape(foot)}</text>',
            "</svg>",
            "",
        ]
    )
