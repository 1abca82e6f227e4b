"""Garbage is looked at a little at a time, and never with all there is."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from smppd.daemon import garbage


class Knot:
    """Something cyclic."""

    alive = 0

    def __init__(self) -> None:
        self.itself = self
        Knot.alive += 1

    def __del__(self) -> None:
        Knot.alive -= 1


@pytest.fixture(autouse=True)
def looks() -> Iterator[list[tuple[int, int]]]:
    """The looks of the collector: generation, and how many objects it looked at."""
    looked: list[tuple[int, int]] = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            looked.append((info["generation"], sum(len(gc.get_objects(n)) for n in range(info["generation"] + 1))))

    gc.collect()
    garbage.begin()
    gc.callbacks.append(look)
    yield looked
    gc.callbacks.remove(look)
    gc.unfreeze()
    gc.enable()
    gc.collect()


def test_nothing_is_looked_at_while_work_is_done(looks: list[tuple[int, int]]) -> None:
    kept: list[list[dict[str, str]]] = [[{}] for _ in range(100_000)]
    assert looks == [] and len(kept) == 100_000


def test_much_that_lives_is_not_looked_at(looks: list[tuple[int, int]]) -> None:
    kept: list[list[dict[str, str]]] = [[{}] for _ in range(100_000)]
    garbage.look()
    garbage.look()
    assert looks == [] and len(kept) == 100_000


def test_a_little_cyclic_garbage_goes(looks: list[tuple[int, int]]) -> None:
    for _ in range(10):
        for _ in range(150):
            Knot()
        garbage.look()
    garbage.look()
    assert Knot.alive <= 150 and looks
    assert all(generation == 0 and objects <= 2 * garbage.MOST for generation, objects in looks)
