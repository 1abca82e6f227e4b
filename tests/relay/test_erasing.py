"""A person is taken out of what is on its way, in each state a message can be in, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from math import inf

import pytest

from smppd.message import State
from smppd.protocol.receipt import MessageState
from smppd.protocol.wire import Command, Fields, Sm, Status, address_field, build_sm
from smppd.relay.acting import EXPIRE, MOVE, Acted, Waiting
from smppd.relay.erasing import Erasing, Found, Kept
from smppd.relay.inheritance import convert
from smppd.relay.state.living import Living
from smppd.relay.state.phase import Phase
from smppd.relay.turns import BUDGET
from smppd.store.api import ColdRow, Kind
from tests.relay.fakes import FROM, TO, World, receipt, settings

OTHER = b"447700900456"
OWNED = {"numbers": ["447700900001"]}
TEXT = b"a secret text"


def erase(world: World, *, acts: bool = True, accounts: list[str] | None = None, seconds: float = 5.0) -> Found:
    done: list[Found] = []
    world.relay.erase_person([TO], accounts, done.append, acts=acts)
    world.passes(seconds, step=0.1)
    assert len(done) == 1
    world.check()
    return done[0]


def stored(world: World) -> bytes:
    """All that the store has of what is on its way."""
    rows = [row.data for row in world.store.cold.values()]
    return b"".join([*(block for _, block in world.store.blocks), *rows, *(item.data for item in world.store.aside)])


def on_its_way(world: World) -> list[ColdRow]:
    """Rows, but for those that remember the erased number."""
    return [row for row in world.store.cold.values() if row.kind != Kind.ERASED]


def clean(world: World) -> None:
    assert TO not in stored(world) and TEXT not in stored(world)


def test_a_message_that_waits_is_deleted_with_a_receipt_that_says_nothing() -> None:
    world = World()
    acme = world.customer()
    acme.submits(TEXT)
    acme.submits(b"for another", to=OTHER)
    world.commits()
    mine, _ = acme.ids()
    found = erase(world)
    assert found.messages == 1 and found.records == {int(mine, 16)} and found.complete
    (sm,) = acme.takes()
    assert sm.source_digits == b"" and sm.destination_digits == FROM[2:-1]
    assert mine in sm.short_message and b"stat:DELETED" in sm.short_message and TEXT[:5] not in sm.raw
    assert world.states(mine)[-2:] == [State.DELETED, State.RECEIPT_DONE] or State.DELETED in world.states(mine)
    clean(world)
    a = world.carrier()
    world.commits()
    assert [sm.destination_digits for sm in a.sent] == [OTHER]
    world.restarts()
    world.check()


@pytest.mark.parametrize("steps", [0, 3, 5, 8, 12])
def test_what_an_act_brings_into_another_lane_meanwhile_is_found(steps: int) -> None:
    world = World(settings(hot=20, routes=[{"upstreams": ["b"]}]))
    acme = world.customer()
    for _ in range(8):
        acme.submits(*[TEXT] * 100, registered=0)
        world.commits()
    done: list[Found] = []
    moved: list[Acted] = []

    def turn() -> None:
        world.passes(0.01, step=0.01, commit=False)
        world.commits_once()

    # The new lane's name stands before that of the present one: its rows are looked through first.
    world.relay.act_on_waiting(Waiting(MOVE, world.relay.last_id(), upstream="b", to="a"), moved.append)
    for _ in range(steps):
        turn()
    world.relay.erase_person([TO], None, done.append, acts=True)
    for _ in range(1000):
        turn()
    assert moved and done and done[0].complete
    assert len(done[0].records) == done[0].messages == 800 and world.account().queued == 0
    world.check()
    clean(world)


@pytest.mark.parametrize("steps", [6, 9, 30])
def test_a_row_that_ends_while_its_page_is_looked_through_ends_once(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    world = World(settings(hot=20, routes=[{"upstreams": ["b"]}]))
    acme = world.customer()
    for _ in range(4):
        acme.submits(*[TEXT] * 100, registered=0)
        world.commits()
    erasing = world.relay.erasing
    look = erasing._row

    def slowly(kind: Kind, row: ColdRow) -> None:
        look(kind, row)
        world.now += BUDGET  # each row takes a turn

    monkeypatch.setattr(erasing, "_row", slowly)
    done: list[Found] = []
    ended: list[Acted] = []
    world.relay.erase_person([TO], None, done.append, acts=True)
    for at in range(2000):
        if at == steps:
            world.relay.act_on_waiting(Waiting(EXPIRE, world.relay.last_id(), upstream="b"), ended.append)
        world.passes(0.01, step=0.01, commit=False)
        world.commits_once()
    assert done and ended and done[0].messages and ended[0].changed
    over = [event for event in world.store.events if event.state in (State.DELETED, State.EXPIRED)]
    assert len(over) == len({event.id for event in over}) == 400 and world.account().queued == 0
    world.check()


def test_looking_changes_nothing() -> None:
    world = World()
    acme = world.customer()
    acme.submits(TEXT, TEXT)
    world.commits()
    found = erase(world, acts=False)
    assert found.messages == 2 and len(found.records) == 2
    assert world.account().queued == 2 and TO in stored(world)


def test_only_the_accounts_that_are_meant() -> None:
    zeta = {"system_id": "zeta", "password_hash": settings().accounts[0].password_hash, "networks": "any"}
    world = World(settings(more=[zeta]))
    world.customer().submits(TEXT)
    world.customer("zeta").submits(TEXT)
    world.commits()
    assert erase(world, accounts=["zeta"]).messages == 1
    assert world.account().queued == 1 and world.account("zeta").queued == 0


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("cold", [False, True])
def test_a_message_that_waits_for_its_receipt_gets_it_without_number_and_text(restarted: bool, cold: bool) -> None:
    world = World()
    a = world.carrier()
    acme = world.customer()
    acme.submits(TEXT)
    world.commits()
    (mine,) = acme.ids()
    a.answers(b"up-1")
    world.commits()
    if cold:
        world.spills()
        assert world.upstream().cold_waiting == 1
    found = erase(world)
    assert found.waiting == 1 and found.records == {int(mine, 16)}
    clean(world)
    if restarted:
        world.restarts()
        a, acme = world.carrier(), world.customer()
    a.reports(b"up-1")
    world.passes(2)
    (sm,) = acme.takes()
    assert TO not in sm.raw and sm.source_digits == b"" and sm.destination_digits == FROM[2:-1]
    assert mine in sm.short_message and b"stat:DELIVRD" in sm.short_message and b"dlvrd:001" in sm.short_message
    world.passes(2)
    world.check()
    assert world.relay.context.ledger.count() == 0 and not on_its_way(world)


def test_a_message_in_flight_finishes_and_then_waits_without_its_text() -> None:
    world = World()
    a = world.carrier()
    acme = world.customer()
    acme.submits(TEXT)
    world.commits()
    (mine,) = acme.ids()
    assert a.waiting
    found = erase(world, seconds=2)
    assert found.waiting == 1
    clean(world)
    a.answers(b"up-1")
    world.commits()
    a.reports(b"up-1", state=MessageState.UNDELIVERABLE)
    world.passes(1)
    (sm,) = acme.takes()
    assert TO not in sm.raw and mine in sm.short_message and b"stat:UNDELIV" in sm.short_message


def test_a_message_in_flight_that_the_carrier_would_have_later_is_not_sent_empty() -> None:
    world = World()
    a = world.carrier()
    acme = world.customer()
    acme.submits(TEXT)
    world.commits()
    acme.ids()
    erase(world, seconds=2)
    a.answers(status=Status.RTHROTTLED)
    world.passes(30)
    assert len(a.sent) == 1
    assert [stat for _, stat in acme.receipts()] == ["REJECTD"]


def test_an_unknown_message_is_never_sent_again() -> None:
    world = World(settings(acme={"on_unknown": "resend", "unknown_after": "5s"}))
    a = world.carrier()
    acme = world.customer()
    acme.submits(TEXT)
    world.commits()
    (mine,) = acme.ids()
    a.cut()
    world.commits()
    (message,) = world.upstream().unknown.values()
    assert message.phase is Phase.UNKNOWN
    assert erase(world, seconds=2).waiting == 1
    clean(world)
    b = world.carrier()
    world.passes(20)
    assert b.sent == [] and acme.receipts() == [(mine, "UNKNOWN")]


def test_parts_that_are_held_and_rows_of_a_lane_are_deleted() -> None:
    world = World(settings(hot=3))
    acme = world.customer()
    for _ in range(4):
        acme.submits(TEXT, b"x", b"y")
        acme.submits(b"for another", to=OTHER)
        world.commits()
    lane = next(iter(world.account().lanes.values()))
    assert lane.cold > 3
    found = erase(world)
    assert found.messages == 12 and len(found.records) == 12
    clean(world)
    assert world.account().queued == 4
    world.restarts()
    world.check()
    a = world.carrier()
    world.passes(3)
    assert len(a.sent) == 4


@pytest.mark.parametrize("cold", [False, True])
def test_what_lies_in_a_mailbox(cold: bool) -> None:
    world = World(settings(acme=OWNED))
    a = world.carrier()
    acme = world.customer()
    acme.submits(TEXT)
    world.commits()
    (mine,) = acme.ids()
    a.answers(b"up-1")
    world.commits()
    acme.leaves()
    a.reports(b"up-1")
    a.delivers(build_sm(Command.DELIVER_SM, 0, address_field(1, 1, TO), FROM, TEXT, Fields()))
    a.delivers(build_sm(Command.DELIVER_SM, 0, address_field(1, 1, OTHER), FROM, b"from another", Fields()))
    world.commits()
    if cold:
        world.spills()
        world.restarts()
        world.passes(1)
    box = world.account().mailbox
    assert len(box) == 3
    found = erase(world)
    assert (found.receipts, found.texts) == (1, 1)
    clean(world)
    assert len(box) == 2
    world.passes(3)
    acme = world.customer()
    world.passes(3)
    first, second = acme.takes()
    told, text = (first, second) if mine in first.short_message else (second, first)
    assert b"stat:DELIVRD" in told.short_message and told.source_digits == b"" and TO not in told.raw
    assert text.short_message == b"from another"
    world.passes(2)
    world.check()
    assert len(box) == 0 and not on_its_way(world)


def test_mail_that_a_customer_has_not_answered_yet() -> None:
    world = World(settings(acme=OWNED))
    a = world.carrier()
    acme = world.customer()
    a.delivers(build_sm(Command.DELIVER_SM, 0, address_field(1, 1, TO), FROM, TEXT, Fields()))
    world.commits()
    assert world.account().mailbox.sent == 1
    assert erase(world).texts == 1
    clean(world)
    acme.takes()
    world.passes(1)
    world.check()
    assert len(world.account().mailbox) == 0


def test_parked_receipts_are_deleted() -> None:
    world = World()
    a = world.carrier()
    a.reports(b"nobody-knows")
    a.delivers(receipt(b"nor-this", to=OTHER))
    world.commits()
    assert len(world.upstream().parked) == 2
    assert erase(world).parked == 1
    clean(world)
    assert len(world.upstream().parked) == 1


def test_after_a_restore_only_the_records_are_known() -> None:
    world = World()
    a = world.carrier()
    acme = world.customer()
    acme.submits(TEXT, b"stays")
    world.commits()
    mine, other = acme.ids()
    a.answers(b"up-1", b"up-2")
    world.commits()
    done: list[Found] = []
    world.relay.erase_records([int(mine, 16)], done.append)
    world.passes(3, step=0.1)
    assert done[0].waiting == 1
    assert TEXT not in stored(world) and b"stays" in stored(world)
    a.reports(b"up-1", b"up-2")
    world.passes(2)
    assert [stat for _, stat in acme.receipts()] == ["DELIVRD", "DELIVRD"]
    assert other != mine


def test_no_turn_is_long_with_a_hundred_thousand_things() -> None:
    world = World(settings(hot=1_000_000))
    acme = world.customer()
    for _ in range(100):
        acme.submits(*[TEXT] * 100)
        acme.submits(*[b"for another"] * 900, to=OTHER)
        world.commits()
        acme.answered()
        acme.session.unanswered = 0
    assert world.account().queued == 100_000
    turns: list[int] = []
    erasing = world.relay.erasing
    looks = count()
    # A clock that says 20 us more each time it is looked at: each thing takes that long.
    world.relay.context.now = lambda: next(looks) / 50_000
    plain, visit = erasing._go, erasing._visit
    visited = 0

    def counted(thing: Living) -> None:
        nonlocal visited
        visited += 1
        visit(thing)

    def turn() -> None:
        nonlocal visited
        visited = 0
        plain()
        turns.append(visited)

    erasing._go = turn  # type: ignore[method-assign]
    erasing._visit = counted  # type: ignore[method-assign]
    done: list[Found] = []
    world.relay.erase_person([TO], None, done.append, acts=True)
    for _ in range(40):
        if done:
            break
        world.passes(5, step=0.05)
    assert done and done[0].messages == 10_000
    assert world.account().queued == 90_000
    assert sum(turns) >= 100_000 and max(turns) <= BUDGET * 50_000 + 1


def test_the_frame_that_is_left_can_be_read() -> None:
    world = World()
    a = world.carrier()
    world.customer().submits(TEXT)
    world.commits()
    a.answers(b"up-1")
    world.commits()
    erase(world)
    (message,) = world.upstream().ids.values()
    sm = Sm(message.frame)
    assert (sm.destination_digits, sm.short_message, sm.source_digits) == (b"", b"", FROM[2:-1])


@pytest.mark.parametrize("cold", [False, True])
def test_an_id_made_of_the_number_is_neither_in_the_log_nor_a_key_and_still_finds_its_message(cold: bool) -> None:
    world = World()
    a = world.carrier()
    acme = world.customer()
    acme.submits(TEXT, TEXT)
    world.commits()
    first, second = acme.ids()
    names = [b"SAR-447700900123-%d-2-1" % number for number in range(2)]
    a.answers(*names)
    world.commits()
    if cold:
        world.spills()
        assert world.upstream().cold_waiting == 2
        assert all(TO not in key for _, _, key, _ in world.store.cold)
    a.reports(*reversed(names))
    world.passes(2)
    assert acme.receipts() == [(second, "DELIVRD"), (first, "DELIVRD")]
    told = [event.upstream_id for event in world.store.events if event.upstream_id]
    assert told == [b"SAR-***-0-2-1", b"SAR-***-1-2-1", b"SAR-***-1-2-1", b"SAR-***-0-2-1"]
    world.passes(2)
    world.check()
    assert not on_its_way(world)


def test_a_text_with_the_national_number_of_its_carriers_country_is_deleted() -> None:
    world = World(settings(acme=OWNED, a={"region": "GB"}))
    a = world.carrier()
    a.delivers(build_sm(Command.DELIVER_SM, 0, address_field(2, 1, b"07700900123"), FROM, TEXT, Fields()))
    world.commits()
    assert erase(world).texts == 1
    assert len(world.account().mailbox) == 0 and b"7700900123" not in stored(world)


def test_what_a_hold_is_about_stays_and_nothing_else() -> None:
    zeta = {"system_id": "zeta", "password_hash": settings().accounts[0].password_hash, "networks": "any"}
    for kept, left in (
        (Kept(frozenset(), "acme", 0, inf, 1), ("acme", 2)),  # an account
        (Kept(frozenset({TO}), "acme", 0, inf, 2), ("acme", 2)),  # the number, within an account
        (Kept(frozenset({FROM[2:-1]}), "zeta", 0, inf, 3), ("zeta", 2)),  # the other number
        (Kept(frozenset({TO}), "", 0, 1.0, 4), ("", 0)),  # another time
        (Kept(frozenset({OTHER}), "", 0, inf, 5), ("", 0)),  # another person
    ):
        world = World(settings(more=[zeta]))
        world.customer().submits(TEXT, TEXT)
        world.customer("zeta").submits(TEXT, TEXT)
        world.commits()
        done: list[Found] = []
        world.relay.erase_person([TO], None, done.append, acts=True, held=(kept,))
        world.passes(5.0, step=0.1)
        (found,) = done
        name, many = left
        assert (found.kept, found.messages) == (many, 4 - many)
        assert found.holds == ({kept.hold} if many else set()) and len(found.records) == 4
        assert [world.account(one).queued for one in ("acme", "zeta")] == [
            many * (one == name) for one in ("acme", "zeta")
        ]
        # When the hold is over, what is left goes by the records' ids.
        world.relay.erase_records(found.records, done.append)
        world.passes(5.0, step=0.1)
        assert done[-1].messages == many and world.account("acme").queued == world.account("zeta").queued == 0
        clean(world)
        world.check()


def test_an_erasure_that_breaks_off_says_so_and_the_next_one_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    acme = world.customer()
    acme.submits(TEXT)
    world.commits()

    def breaks(_self: Erasing, _kind: object) -> Iterator[int]:
        yield 0
        raise KeyError

    done: list[Found] = []
    with monkeypatch.context() as broken:
        broken.setattr(Erasing, "_cold", breaks)
        world.relay.erase_person([TO], None, done.append, acts=True)
        world.passes(5.0, step=0.1)
    assert [found.complete for found in done] == [False]
    world.relay.erase_person([TO], None, done.append, acts=True)
    world.passes(5.0, step=0.1)
    assert [found.complete for found in done] == [False, True]
    clean(world)


@pytest.mark.parametrize("acts", [False, True])
def test_what_no_node_holds_is_found_and_taken_out(acts: bool) -> None:
    """Of a node that is gone: a message that waits, one that a carrier has, one that it may have, a text and a receipt; and the
    same of another person, which stays."""
    world = World(settings(acme=OWNED))
    acme = world.customer()
    a = world.carrier()
    for to in (TO, OTHER) * 3:
        acme.submits(TEXT, to=to)
    world.commits()
    # The first of each has its receipt, a carrier has the second, and may have the third.
    a.answers(b"up-0", b"up-1", b"up-2", b"up-3")
    world.commits()
    acme.leaves()
    a.reports(b"up-0", b"up-1")
    for of in (TO, OTHER):
        a.delivers(build_sm(Command.DELIVER_SM, 0, address_field(1, 1, of), FROM, TEXT, Fields()))
    world.commits()
    a.cut()
    world.commits()
    late = world.customer()
    for to in (TO, OTHER):
        late.submits(TEXT, to=to)
    late.leaves()
    world.commits()
    world.store.taken_over(convert(list(world.store.blocks), lambda: world.wall))
    world.restarts()
    before = dict(world.store.nobodys)
    found = erase(world, acts=acts)
    assert found.messages and found.waiting and found.receipts and found.texts, found
    if not acts:
        assert found.counts() == erase(world, acts=False).counts()
        return
    left = b"".join(row.data for row in world.store.nobodys.values()) + stored(world)
    assert TO not in left and OTHER in left
    assert len(before) > 4 and not any(erase(world).counts().values())
    world.check()
