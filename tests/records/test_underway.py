"""What is on its way is found though it moves while it is looked for: in the journal, as rows, set aside."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.cli.underway import Journal
from smppd.records.underway import Thing, Unread, find
from smppd.relay.ledger.journal import Entry, mark
from smppd.store.api import ColdRow, Damaged, Kind
from smppd.store.underway import Block, Row

ACCEPT, MAIL, DONE, SUBMITTED, MAIL_DONE = (
    int(one) for one in (Entry.ACCEPT, Entry.MAIL, Entry.DONE, Entry.SUBMITTED, Entry.MAIL_DONE)
)


class Spool:
    """`store.underway.Underway` in memory. meanwhile: called before each read, as a daemon at work would be."""

    def __init__(self, meanwhile: Callable[[Spool], object] = lambda _spool: None) -> None:
        self.journal: dict[int, bytes | None] = {}
        self.cold: dict[tuple[int, str, bytes, int], ColdRow | None] = {}
        self.aside: dict[int, Damaged | None] = {}
        self.meanwhile = meanwhile

    def write(self, *entries: bytes) -> int:
        at = max(self.journal, default=0) + 1
        self.journal[at] = b"".join(entries)
        return at

    def put(self, identity: int, data: bytes = b"me", kind: Kind = Kind.QUEUE) -> None:
        self.cold[int(kind), "acme", b"", identity] = ColdRow(kind, "acme", b"", identity, 0, data)

    def blocks(self, after: int, limit: int) -> list[Block]:
        self.meanwhile(self)
        return [Block(at, self.journal[at]) for at in sorted(self.journal) if at > after][:1]

    def rows(self, after: tuple[int, str, bytes, int] | None, limit: int) -> list[Row]:
        self.meanwhile(self)
        return [Row(at, self.cold[at]) for at in sorted(self.cold) if after is None or at > after][:1]

    def damaged(self, after: int, limit: int) -> list[tuple[int, Damaged | None]]:
        return [(at, self.aside[at]) for at in sorted(self.aside) if at > after][:1]

    def close(self) -> None:
        pass


def mine(thing: Thing) -> bool | None:
    return None if thing.data == b"?" else thing.data.startswith(b"me")


def found(spool: Spool) -> tuple[dict[int, Thing], Unread]:
    unread = Unread()
    listed = list(find(spool, Journal(), mine, unread))
    assert len({one.id for one in listed}) == len(listed), "nothing is told twice"
    return {one.id: one for one in listed}, unread


def test_what_lives_is_found_with_its_marks_and_what_is_over_is_not() -> None:
    spool = Spool()
    spool.write(mark(ACCEPT, 1, b"me"), mark(ACCEPT, 2, b"you"), mark(ACCEPT, 3, b"me"))
    spool.write(mark(SUBMITTED, 1, b"carrier\0x"), mark(SUBMITTED, 2, b"carrier\0y"), mark(DONE, 3))
    spool.write(mark(MAIL, 4, b"me too"), mark(MAIL, 5, b"me"), mark(MAIL_DONE, 5))
    spool.put(6)
    spool.put(7, b"you")
    spool.aside[1] = Damaged("mail", "acme", 8, "start", "ValueError", 0, 0, b"me")
    spool.aside[2] = None
    things, unread = found(spool)
    assert sorted(things) == [1, 4, 6, 8]
    assert things[1].marks == ((SUBMITTED, b"carrier\0x"),) and things[6].place == "row" and things[8].name == "mail"
    assert unread.counts() == {"blocks": 0, "entries": 0, "rows": 0, "items": 1}


def test_what_cannot_be_read_is_counted() -> None:
    spool = Spool()
    spool.write(mark(ACCEPT, 1, b"?"), mark(ACCEPT, 2, b"?"), mark(DONE, 2), mark(ACCEPT, 3, b"?"))
    spool.write(mark(ACCEPT, 3, b"me"))
    spool.journal[spool.write() + 1] = None
    spool.write(mark(ACCEPT, 4, b"me"), b"\1\2")
    spool.cold[1, "acme", b"", 9] = None
    things, unread = found(spool)
    assert sorted(things) == [3, 4]
    assert unread.counts() == {"blocks": 2, "entries": 1, "rows": 1, "items": 0} and unread


def test_what_has_gone_between_two_statements_is_passed_over() -> None:
    spool = Spool()
    spool.write()
    spool.put(1, b"")
    things, unread = found(spool)
    assert not things and not unread


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["row", "back", "anew", "drop"])), max_size=40))
def test_nothing_that_is_on_its_way_all_the_time_is_missed(moves: list[tuple[int, str]]) -> None:
    """Before each read a thing moves, as the relay moves it: in one commit."""
    left = list(reversed(moves))
    homes: dict[int, str] = {}

    def meanwhile(spool: Spool) -> None:
        if not left:
            return
        identity, move = left.pop()
        home = homes[identity]
        if move == "row" and home == "spool":
            spool.put(identity)
            spool.write(mark(DONE, identity))
            homes[identity] = "row"
        elif move == "back" and home == "row":
            del spool.cold[int(Kind.QUEUE), "acme", b"", identity]
            spool.write(mark(ACCEPT, identity, b"me"))
            homes[identity] = "spool"
        elif move == "anew" and home == "spool":
            spool.write(mark(ACCEPT, identity, b"me"))
        elif move == "drop":
            # The oldest blocks go once nothing lives in them: here the oldest, with its things written anew before.
            oldest = min(spool.journal)
            spool.write(*(mark(ACCEPT, one, b"me") for one, where in homes.items() if where == "spool"))
            del spool.journal[oldest]

    spool = Spool(meanwhile)
    for identity in range(1, 7):
        homes[identity] = "spool" if identity % 2 else "row"
        if identity % 2:
            spool.write(mark(ACCEPT, identity, b"me"))
        else:
            spool.put(identity)
    things, unread = found(spool)
    assert sorted(things) == list(range(1, 7)) and not unread
