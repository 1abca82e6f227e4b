"""A line of counts as a small picture (inline SVG), with its meaning in words for who does not see it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

WIDTH: Final = 120
HEIGHT: Final = 24
POINTS: Final = 60
"""Points drawn; more values are summed up."""


def sparkline(values: Sequence[float], label: str) -> str:
    """SVG of counts in order of time. label: what is counted, for who does not see it; escaped here."""
    points = _fewer([max(0.0, float(value)) for value in values])
    top = max(points, default=0.0)
    newest = points[-1] if points else 0.0
    said = escape(f"{label}: now {newest:g}, at most {top:g}" if points else f"{label}: nothing yet", quote=True)
    head = (
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img"'
        f' aria-label="{said}" preserveAspectRatio="none">'
    )
    if len(points) < 2:
        return f'{head}<path class="spark-line" d="M0 {HEIGHT - 1}H{WIDTH}"/></svg>'
    step = WIDTH / (len(points) - 1)
    scale = (HEIGHT - 3) / top if top else 0.0
    line = "L".join(f"{number * step:.1f} {HEIGHT - 1 - value * scale:.1f}" for number, value in enumerate(points))
    area = f"M{line}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z"
    return f'{head}<path class="spark-area" d="{area}"/><path class="spark-line" d="M{line}"/></svg>'


def _fewer(values: list[float]) -> list[float]:
    """At most POINTS values, each the mean of as many; the newest are in the last."""
    if len(values) <= POINTS:
        return values
    size = -(-len(values) // POINTS)
    first = len(values) % size
    groups = ([values[:first]] if first else []) + [values[at : at + size] for at in range(first, len(values), size)]
    return [sum(group) / len(group) for group in groups]
