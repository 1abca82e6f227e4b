"""Throughput against latency: how long answers and receipts take at shares of what the daemon could carry."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Final

from bench.cases import Case
from bench.points import Column, Curve, Graph, Point, point
from bench.stand import Bench, Stand, Values

BASE: Final = 30
"""The share of the base point, in percent."""
GROUPS: Final = ("one core", "all cores")
_NAMES: Final = ("p50", "p99", "p99.9")
_ANSWER: Final = ("p50", "p99", "p999")
_RECEIPT: Final = tuple(f"receipt_{name}" for name in _ANSWER)
SHARES: Final = (10, 30, 50, 70, 90, 100)


def capacity(stand: Stand, times: int = 3) -> float:
    """Messages a second at full speed."""
    return median(stand.drive(stand.bench.seconds)["rate"] for _ in range(times))


def _latency(bench: Bench) -> Iterator[Point]:
    for pinned in (True, False):
        group = GROUPS[not pinned]
        pairs: dict[int, list[tuple[Values, Values]]] = {}
        for number in range(bench.rounds):
            with Stand(bench, Case(pinned=pinned)) as stand, stand.running():
                most = capacity(stand, 1 if bench.quick else 3)
                for share in bench.first(SHARES, (30, 90)):
                    bench.say(f"latency, {group}, {share} % of {most:,.0f}, round {number + 1}")
                    base = stand.drive(bench.seconds, max(1, int(most * BASE / 100)))
                    values = stand.drive(bench.seconds, max(1, int(most * share / 100)))
                    pairs.setdefault(share, []).append((values | {"capacity": most}, base))
        for share, found in pairs.items():
            yield point(share, group, found, form=stand.form)


LATENCY: Final = Curve(
    "latency",
    "Throughput against latency",
    "Capacity is measured first, at full speed, in each round anew; then messages come at a steady pace, whether the daemon"
    f" keeps up or not. Ten binds with window 50. Base of the ratios: {BASE} % again, just before each point.",
    "% of capacity",
    (
        Column("rate", "msg/s", 0),
        Column("capacity", "capacity", 0),
        Column("cores", "cores", 2),
        Column("p50", "answer p50 ms", 2),
        Column("p99", "p99", 2),
        Column("p999", "p99.9", 2),
        Column("p99", "p99 ratio", 2, ratio=True),
        Column("receipt_p50", "receipt p50 ms", 2),
        Column("receipt_p99", "receipt p99", 2),
        Column("receipt_p999", "receipt p99.9", 2),
    ),
    (
        *(Graph(f"Answer, {group}, ms", _ANSWER, log_y=True, names=_NAMES, group=group) for group in GROUPS),
        *(Graph(f"Receipt, {group}, ms", _RECEIPT, log_y=True, names=_NAMES, group=group) for group in GROUPS),
    ),
    _latency,
    log_x=False,
)
