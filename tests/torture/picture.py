"""A line chart as SVG, by hand: a few curves over minutes, each in its own panel with its own scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

_WIDTH: Final = 760
_HEIGHT: Final = 130
_LEFT: Final = 64
_RIGHT: Final = 16
_TOP: Final = 28
_GAP: Final = 26


class Curve(NamedTuple):
    """One panel: a title with its unit, and a value for each minute."""

    title: str
    values: Sequence[float]


def _nice(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def chart(curves: Sequence[Curve], foot: str) -> str:
    """The picture. Each panel begins at zero, so that flat looks flat and a rise looks like one."""
    height = _TOP + len(curves) * (_HEIGHT + _GAP) + 12
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, curve in enumerate(curves):
        top = _TOP + number * (_HEIGHT + _GAP)
        bottom = top + _HEIGHT
        most = max(curve.values, default=0.0) * 1.15 or 1.0
        inner = _WIDTH - _LEFT - _RIGHT
        steps = max(1, len(curve.values) - 1)
        out.append(f'<text x="{_LEFT}" y="{top - 8}" font-weight="bold">{escape(curve.title)}</text>')
        for share in (0.0, 0.5, 1.0):
            y = bottom - share * _HEIGHT
            out.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            out.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_nice(share * most)}</text>')
        points = " ".join(
            f"{_LEFT + place * inner / steps:.1f},{bottom - value / most * _HEIGHT:.1f}"
            for place, value in enumerate(curve.values)
        )
        out.append(f'<polyline points="{points}" fill="none" stroke="#2a6db0" stroke-width="1.5"/>')
    out.append(f'<text x="{_LEFT}" y="{height - 4}" fill="#555">{escape(foot)}</text>')
    return "\n".join([*out, "</svg>", ""])
