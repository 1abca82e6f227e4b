"""Points of a growth curve: medians over rounds, and ratios to the base point that was measured beside each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from bench.stand import PACE, Bench, Values

OTHERS_LIMIT: Final = 0.20  # cores; as in bench.report


@dataclass(frozen=True)
class Column:
    """A column of a curve's table: the figure's name, its heading, digits after the point. ``ratio``: shows it as a ratio
    to the base instead."""

    key: str
    heading: str
    digits: int = 1
    ratio: bool = False


@dataclass(frozen=True)
class Graph:
    """A panel of a curve's picture: which figures over x; `names` of them for the legend. ``group``: only of this one."""

    title: str
    keys: Sequence[str]
    log_y: bool = False
    ratio: bool = False
    names: Sequence[str] = ()
    group: str | None = None


@dataclass(frozen=True)
class Point:
    """One row. ``group``: which of a curve's lines it is on. ``values``: medians. ``ratios``: medians of value / base value
    of the same round. ``base``: medians of the base."""

    x: float
    group: str
    values: Values
    ratios: Values = field(default_factory=dict)
    base: Values = field(default_factory=dict)
    rounds: int = 1
    note: str = ""
    form: str = ""

    def as_json(self) -> dict[str, Any]:
        """For docs/growth.json."""
        made = asdict(self)
        for name in ("values", "ratios", "base"):
            made[name] = {key: round(value, 4) for key, value in made[name].items()}
        return made


@dataclass(frozen=True)
class Curve:
    """One curve of the campaign. ``run`` measures it and gives its points as they are known; ``x``: what x counts, empty
    where the points have names only (their group); the one graph of such a curve is one of dots."""

    name: str
    title: str
    about: str
    x: str
    columns: Sequence[Column]
    graphs: Sequence[Graph]
    run: Callable[[Bench], Iterator[Point]]
    log_x: bool = True


def point(x: float, group: str, pairs: Sequence[tuple[Values, Values]], note: str = "", form: str = "") -> Point:
    """The medians of (values, base values) of each round; base values may be empty."""
    values, bases = _medians([one for one, _ in pairs]), _medians([base for _, base in pairs])
    ratios: dict[str, list[float]] = {}
    for one, base in pairs:
        for key in one.keys() & base.keys():
            if base[key]:
                ratios.setdefault(key, []).append(one[key] / base[key])
    notes = [note] if note else []
    if bad := sum(one.get("bad", 0.0) + base.get("bad", 0.0) for one, base in pairs):
        notes.append(f"{bad:.0f} messages went wrong")
    if (others := values.get("others", 0.0)) > OTHERS_LIMIT:
        notes.append(f"other processes took {others:.1f} cores")
    return Point(
        x,
        group,
        values,
        {key: median(found) for key, found in sorted(ratios.items())},
        bases,
        len(pairs),
        "; ".join(notes),
        form,
    )


def _medians(runs: Sequence[Values]) -> Values:
    keys = dict.fromkeys(key for run in runs for key in run)
    return {key: median([run[key] for run in runs if key in run]) for key in keys}


COST: Final = (
    Column("rate", "msg/s", 0),
    Column("cpu", "CPU us/msg"),
    Column("cpu", "ratio", 2, ratio=True),
    Column("p50", "answer p50 ms", 2),
    Column("p99", "p99 ms", 2),
    Column("p99", "ratio", 2, ratio=True),
)
"""What `Stand.figures` tells, in every curve's table."""
PACED: Final = Graph(f"p99 of the answer at {PACE:,} messages/s, ms", ("p99",), log_y=True)
