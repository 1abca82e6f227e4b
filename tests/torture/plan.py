"""What a campaign is made of: units of work that are planned ahead, run one after another and written down one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import gettempdir
from typing import Any

from tests.e2e.children import ROOT


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. ``rounds``: None for the campaign's own number. ``source``: the tree whose smppd is run.
    ``scratch``: where stores may be made. ``rate``: messages a second, of campaigns with a steady load."""

    seed: int = 1
    rounds: int | None = None
    short: bool = False
    source: Path = ROOT
    scratch: Path = Path(gettempdir())
    seconds: float | None = None
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of a campaign: the smallest that is repeated or left out by ``--resume``. ``key`` names it in a run."""

    key: str
    seed: int
    values: dict[str, Any] = field(default_factory=dict)

    def random(self) -> Random:
        """The unit's own sequence of random numbers, the same in each run."""
        return Random(f"{self.key} {self.seed}")


@dataclass(frozen=True, slots=True)
class Campaign:
    """``plan(options)`` gives the units, ``run(unit, options, directory)`` one result: figures, and ``faults`` in words.
    ``faults`` empty means that every promise held."""

    name: str
    plan: Callable[[Options], list[Unit]]
    run: Callable[[Unit, Options, Path], dict[str, Any]]


def blocks(options: Options, name: str, total: int, size: int, variants: list[dict[str, Any]]) -> list[Unit]:
    """``total`` rounds in blocks of ``size`` that share one store; variants take turns by block."""
    units, done, number = [], 0, 0
    while done < total:
        rounds = min(size, total - done)
        values = {**variants[number % len(variants)], "rounds": rounds}
        units.append(Unit(f"{name}-{number:03d}", options.seed * 1000 + number, values))
        done += rounds
        number += 1
    return units
