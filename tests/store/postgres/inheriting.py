"""Nodes on one database that take each other over, without threads that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from smppd.store.api import ColdRow, Kind
from smppd.store.nodes import Blocks, Convert
from smppd.store.postgres.connection import Connection
from smppd.store.postgres.leases import LIVE
from smppd.store.postgres.takeover import TakeOver
from tests.store.stands import PostgresStand
from tests.store.test_interface import LATE


def entries(blocks: Blocks) -> Iterator[ColdRow]:
    """``store.nodes.Convert`` of journals whose entries are numbers: ``7;`` opens 7, ``-7;`` ends it."""
    alive: dict[int, None] = {}
    for _segment, block in blocks:
        for number in map(int, block.split(b";")[:-1]):
            if number > 0:
                alive[number] = None
            else:
                alive.pop(-number, None)
    for number in alive:
        yield ColdRow(Kind.QUEUE, "acme", b"", number, LATE, b"of the journal")


def take_over(stand: PostgresStand, convert: Convert = entries) -> TakeOver:
    """By the node of this stand."""
    store = stand.store
    return TakeOver(
        stand.server,
        store.node,
        store.epoch,
        store.keys,
        store._ring,
        convert,
        lifetime=lambda _owner: 60.0,
        wall=lambda: 1000.0,
    )


def lives(stand: PostgresStand) -> None:
    """Its lease says so."""
    stand.execute(f"UPDATE leases SET life = '{LIVE}' WHERE node = {stand.node}")


def values(stand: PostgresStand, query: str, *given: Any) -> list[tuple[object, ...]]:
    db = Connection(stand.server)
    try:
        return db.all(query, given)
    finally:
        db.close()


def nodes(count: int, after: Callable[[PostgresStand], object] = lives) -> list[PostgresStand]:
    """So many on one database, with numbers from 0 on."""
    made = [PostgresStand(Path())]
    made += [PostgresStand(Path(), made[0].server, node=number) for number in range(1, count)]
    for one in made:
        after(one)
    return made
