"""The ledger: what is opened lives in a place until it is closed, is found there, weighs what it weighs, and is written as it
says; the rest of what it writes are the promises' transcripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smppd.relay.ledger.journal import Entry, read
from smppd.relay.ledger.ledger import Ledger, mail_row, message_row
from smppd.relay.state.living import WEIGHT, Living
from smppd.relay.state.model import Mail, Message, Parked
from smppd.store.api import Batch, Kind
from tests.relay.fakes import World
from tests.store.memory import MemoryStore
from tests.vault.rows import submit_sm

WORLD = World()
FRAME = submit_sm(b"hello")


def parked(identity: int) -> Parked:
    return Parked(identity, WORLD.upstream(), (), bytes(identity), 99)


def message(identity: int) -> Message:
    account = WORLD.account()
    lane = WORLD.relay.context.lane(account, "a")
    return Message(identity, account, lane, FRAME, 1, 99, b"%016x" % identity)


def mail(identity: int) -> Mail:
    return Mail(identity, WORLD.account(), FRAME, 0, 99)


def filled(*places: list[int]) -> tuple[Ledger, Batch, dict[int, Parked]]:
    """A ledger with these ids in places 1, 2, ..."""
    store = MemoryStore()
    ledger = Ledger(store)
    things = {}
    for place, identities in enumerate(places, 1):
        ledger.begin(place)
        for identity in identities:
            things[identity] = parked(identity)
            ledger.open(things[identity], kept=True)
    return ledger, store.batch, things


def entries(some: list[bytes]) -> list[tuple[int, int]]:
    return [(kind, identity) for kind, identity, _ in read(b"".join(some))]


def test_things_know_their_home_and_are_found_wherever_they_live() -> None:
    ledger, _, things = filled([1, 2], [3])
    assert [things[n].home for n in (1, 2, 3)] == [1, 1, 2]
    assert ledger.get(1) is things[1] and ledger.get(3) is things[3]
    assert (ledger.get(4), ledger.count(), ledger.opened(), ledger.highest()) == (None, 3, 1, 3)
    assert ledger.living() == [things[1], things[2], things[3]]
    assert ledger.places() == [1, 2] and (ledger.alive_in(1), ledger.alive_in(7)) == (2, 0)


def test_a_thing_written_anew_lives_in_the_present_place() -> None:
    ledger, batch, things = filled([1], [2])
    ledger.rewrite(things[1])
    assert (things[1].home, ledger.get(1), ledger.count(), ledger.alive_in(1)) == (2, things[1], 2, 0)
    assert entries(batch.marks) == [(Entry.PARK, 1), (Entry.PARK, 2), (Entry.PARK, 1)]
    ledger.leave(2)
    assert ledger.places() == [1, 2], "something lives there"
    ledger.leave(1)
    assert ledger.places() == [2]


def test_closing_what_is_nowhere_is_nothing() -> None:
    ledger, batch, things = filled([1])
    ledger.close(parked(9))
    ledger.close(things[1])
    ledger.close(things[1])
    assert ledger.count() == 0 and entries(batch.marks) == [(Entry.PARK, 1), (Entry.PARK_DONE, 1)]
    assert batch.drop == []


def test_what_lives_is_weighed_once_however_often_it_is_written() -> None:
    ledger, _, things = filled([1, 20], [300])
    assert ledger.octets == 3 * WEIGHT + 321
    read_back = Living(5, bytes(50))
    ledger.weigh(read_back)
    ledger.weigh(read_back)
    assert ledger.octets == 4 * WEIGHT + 371
    things[20].frame = bytes(7)  # changed by a rule or by replace_sm: taken off with what it was counted with
    ledger.close(things[20])
    ledger.rewrite(things[300])
    ledger.close(read_back)
    ledger.close(read_back)
    assert ledger.octets == 2 * WEIGHT + 301
    for thing in (things[1], things[300]):
        ledger.close(thing)
    assert ledger.octets == 0


@pytest.mark.parametrize(
    ("make", "opens", "closes"),
    [
        (message, Entry.ACCEPT, Entry.DONE),
        (mail, Entry.MAIL, Entry.MAIL_DONE),
        (parked, Entry.PARK, Entry.PARK_DONE),
    ],
)
@pytest.mark.parametrize("kept", [True, False])
def test_each_kind_has_its_entries_and_kept_is_said_once(
    make: Callable[[int], Living], opens: Entry, closes: Entry, kept: bool
) -> None:
    ledger, batch, _ = filled([])
    thing = make(7)
    ledger.open(thing, kept=kept)
    assert entries(batch.marks if kept else batch.accepts) == [(opens, 7)] and not (
        batch.accepts if kept else batch.marks
    )
    ledger.close(thing)
    assert entries(batch.marks)[-1] == (closes, 7)


def test_a_row_is_opened_read_written_into_the_spool_and_closed() -> None:
    ledger, batch, _ = filled([])
    waiting, letter = message(7), mail(8)
    ledger.open_row(waiting, message_row(waiting), kept=False)
    ledger.open_row(letter, mail_row(letter), kept=True)
    assert [row.id for row in batch.put] == [7] and [row.id for row in batch.moves] == [8]
    assert ledger.count() == 0 and ledger.octets == 0
    ledger.rewrite(waiting)
    assert batch.drop == [(Kind.QUEUE, waiting.lane.name, b"", 7)] and ledger.get(7) is waiting
    ledger.close(letter)
    assert batch.drop[1] == (Kind.MAIL, "acme", b"", 8)
    assert [row.id for row in ledger.alive([*batch.put, *batch.moves])] == []
    for then in batch.then:
        then()
    assert [row.id for row in ledger.alive([*batch.put, *batch.moves])] == [7, 8], (
        "gone from the disk, not from queries"
    )


def test_a_thing_becomes_a_row_and_its_entry_is_closed() -> None:
    ledger, batch, _ = filled([])
    letter = mail(8)
    ledger.open(letter, kept=True)
    ledger.shelve(letter, mail_row(letter))
    assert entries(batch.marks) == [(Entry.MAIL, 8), (Entry.MAIL_DONE, 8)] and [row.id for row in batch.moves] == [8]
    assert (letter.home, letter.cold, ledger.count()) == (0, (Kind.MAIL, "acme", b""), 0)


def test_the_oldest_of_a_place_are_given_in_steps() -> None:
    ledger, _, things = filled([1, 2, 3], [4])
    assert ledger.oldest_in(1, 2, 1 << 20) == [things[1], things[2]]
    assert ledger.oldest_in(1, 9, 1) == [things[1]], "one at least"
    assert ledger.oldest_in(9, 9, 1 << 20) == []


def test_a_payload_that_cannot_be_written_changes_nothing() -> None:
    ledger, batch, _ = filled([])
    broken = message(7)
    broken.expires = -1
    with pytest.raises(Exception, match="argument"):
        ledger.open(broken, kept=True)
    assert not batch.marks and ledger.count() == 0 and ledger.octets == 0
