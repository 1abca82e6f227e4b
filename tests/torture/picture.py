"""The soak's picture: a few curves over minutes, each in its own panel with its own scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench import chart as charts


class Curve(NamedTuple):
    """One panel: a title with its unit, and a value for each minute."""

    title: str
    values: Sequence[float]


def chart(curves: Sequence[Curve], foot: str) -> str:
    """The picture. Each panel begins at zero, so that flat looks flat and a rise looks like one."""
    panels = [charts.Panel(title, [charts.Line("", list(enumerate(values)))]) for title, values in curves]
    return charts.chart(panels, foot)
