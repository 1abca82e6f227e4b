"""Rows that come between others: no page leads past one that it may not have."""

from __future__ import annotations

from collections.abc import Callable

from smppd.relay.state.backlog import Backlog
from smppd.store.api import ColdRow, Kind
from tests.store.memory import MemoryStore


class Reader:
    """A backlog in a store, and what was read of it."""

    def __init__(self, *ids: int) -> None:
        self.store = MemoryStore()
        self.backlog = Backlog(Kind.QUEUE, "acme\nb")
        self.read: list[int] = []
        self.store_rows(*ids)
        self.backlog.count_found(len(ids))

    def store_rows(self, *ids: int) -> None:
        for one in ids:
            row = ColdRow(int(Kind.QUEUE), "acme\nb", b"", one, 0, b"x")
            self.store.cold[row.kind, row.owner, row.key, row.id] = row

    def page(self, limit: int = 3) -> None:
        def edge(then: Callable[[list[ColdRow]], None]) -> Callable[[list[ColdRow]], None]:
            return then

        self.backlog.page(self.store, limit, edge, lambda rows: self.read.extend(row.id for row in rows))

    def comes(self, identity: int) -> None:
        self.backlog.push()
        self.backlog.came_between(identity)


def test_a_page_ends_before_a_row_that_is_not_durable() -> None:
    reader = Reader(10, 20, 30)
    reader.page()  # asked for before
    reader.comes(15)
    reader.store.answer()
    assert reader.read == [10] and reader.backlog.upto == 10
    reader.page()  # asked for meanwhile
    reader.store.answer()
    assert reader.read == [10]
    reader.store_rows(15)
    assert reader.backlog.between_committed()
    reader.page()
    reader.store.answer()
    assert reader.read == [10, 15, 20, 30] and reader.backlog.upto == 30


def test_a_page_that_had_nothing_before_such_a_row_is_asked_for_again() -> None:
    reader = Reader(20, 30)
    reader.comes(15)
    reader.comes(12)
    reader.page()
    reader.store_rows(12, 15)
    assert not reader.backlog.between_committed() and reader.backlog.between_committed()
    assert not reader.backlog.unstored
    reader.store.answer()
    assert reader.read == [12, 15, 20]
