"""The structures behind what waits: each beside a plain list that does the same slowly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from smppd.protocol.wire import Command, Sm, address_field, build_sm
from smppd.relay.state.living import Living
from smppd.relay.state.model import Account, Message
from smppd.relay.state.queues import AddressChains, Calendar, PinnedParts, Queue, Turns, addresses_key, key_of
from tests.relay.fakes import FROM, World
from tests.relay.fakes import settings as configuration

WORLD = World(configuration(more=[{**configuration().accounts[0].model_dump(include={"password_hash"}), "system_id": "z"
                                   , "networks": "any"}]))  # fmt: skip
ACCOUNTS = [WORLD.account("acme"), WORLD.account("z")]


def message(identity: int, *, expires: int = 5, to: bytes = b"447700900123", account: Account = ACCOUNTS[0]) -> Message:
    frame = build_sm(Command.SUBMIT_SM, 0, FROM, address_field(1, 1, to), b"x")
    lane = account.lanes.get("a") or WORLD.relay.context.lane(account, "a")
    made = Message(identity, account, lane, frame, 0, expires, b"%016x" % identity)
    sm = Sm(frame)
    made.reversed = sm.destination_field + sm.source_field
    return made


class QueueMachine(RuleBasedStateMachine):
    """Things are put in and taken out anywhere; a sorted list says what should be there."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Queue[Living] = Queue()
        self.model: dict[int, Living] = {}

    @rule(identity=st.integers(1, 60))
    def add(self, identity: int) -> None:
        if identity not in self.model:
            self.model[identity] = Living(identity, b"")
            self.queue.add(self.model[identity])

    @rule(identity=st.integers(1, 60))
    def remove(self, identity: int) -> None:
        thing = self.model.pop(identity, None)
        assert self.queue.remove(thing or Living(identity, b"")) is (thing is not None)

    @rule()
    def oldest(self) -> None:
        if self.model:
            assert self.queue.popleft() is self.model.pop(min(self.model))
        else:
            with pytest.raises(KeyError):
                self.queue.popleft()

    @invariant()
    def the_same(self) -> None:
        order = sorted(self.model)
        assert [thing.id for thing in self.queue] == order == self.queue.ids()
        assert len(self.queue) == len(order)
        first, last = self.queue.first(), self.queue.last()
        assert (first and first.id) == (order[0] if order else None)
        assert (last and last.id) == (order[-1] if order else None)
        for identity in range(1, 61):
            assert self.queue.get(identity) is self.model.get(identity)
        assert all(thing in self.queue for thing in self.model.values())
        assert Living(1, b"") not in self.queue


TestQueue: Any = QueueMachine.TestCase
TestQueue.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)


def test_rubbish_of_a_queue_and_a_calendar_is_cleared() -> None:
    queue: Queue[Living] = Queue()
    for identity in (1, 10_000):
        queue.add(Living(identity, b""))
    calendar: Calendar[Message] = Calendar()
    for identity in range(2, 9000):
        thing = Living(identity, b"")
        queue.add(thing)
        queue.remove(thing)
        one = message(identity, expires=identity)
        calendar.add(one)
        calendar.remove(one)
    assert len(queue._heap) <= 1002 and len(calendar._times) <= 1002
    assert queue.ids() == [1, 10_000] and len(calendar) == 0


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.integers(0, 8), max_size=40),
    st.sets(st.integers(0, 40)),
    st.integers(1, 6),
    st.integers(0, 10),
)
def test_a_calendar_gives_what_ended_in_portions(ends: list[int], out: set[int], most: int, wall: int) -> None:
    calendar: Calendar[Message] = Calendar()
    messages = [message(n + 1, expires=end) for n, end in enumerate(ends)]
    for one in messages:
        calendar.add(one)
    for n in out & set(range(len(messages))):
        calendar.remove(messages[n])
        calendar.remove(messages[n])
    due = {m.id for n, m in enumerate(messages) if n not in out and max(1, m.expires) <= wall}
    found: list[int] = []
    while some := calendar.take_ended(wall, most):
        assert len(some) <= most
        found += [m.expires for m in some]
        assert {m.id for m in some} <= due
        due -= {m.id for m in some}
    assert not due and [max(1, e) for e in found] == sorted(max(1, e) for e in found)
    assert all(m.due == 0 or m in calendar for m in messages)


def test_another_validity_is_another_place_in_the_calendar() -> None:
    calendar: Calendar[Message] = Calendar()
    one = message(1, expires=50)
    calendar.add(one)
    one.expires = 20
    calendar.add(one)
    assert calendar.take_ended(20, 10) == [one] and calendar.take_ended(99, 10) == [] and len(calendar) == 0


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 11)), max_size=60))
def test_the_waiting_are_found_by_their_addresses(steps: list[tuple[bool, int]]) -> None:
    index: AddressChains[Message] = AddressChains()
    messages = [message(n + 1, to=b"44770090010%d" % (n % 3)) for n in range(12)]
    inside: set[int] = set()
    for put, n in steps:
        (index.add if put else index.remove)(messages[n])
        (inside.add if put else inside.discard)(n)
        for last in range(3):
            key = addresses_key(b"447700900001", b"44770090010%d" % last)
            found: list[Message] = []
            at: Message | None = None
            while True:
                some, at = index.some(key, at, 2)
                found += some
                if at is None:
                    break
            assert sorted(m.id - 1 for m in found) == [i for i in sorted(inside) if i % 3 == last]
    for one in messages:
        index.remove(one)
    assert not index._first


def test_the_key_is_that_of_the_digits_as_the_sender_wrote_them() -> None:
    assert key_of(message(1)) == addresses_key(b"447700900001", b"447700900123")


def test_accounts_have_their_turns_and_each_its_order() -> None:
    turns: Turns[Message] = Turns()
    for n in range(6):
        turns.append("acme", message(n + 1))
    turns.append("z", message(7, account=ACCOUNTS[1]))

    def taken() -> int:
        first = turns.first()
        assert turns.remove(first.account.name, first)
        turns.skip()
        return first.id

    assert [m.id for m in turns.heads()] == [1, 7] and turns.accounts() == 2
    assert [taken() for _ in range(3)] == [1, 7, 2]
    eighth = message(8, account=ACCOUNTS[1])
    turns.append("z", eighth)
    assert turns.first().id == 8
    turns.skip()
    assert turns.first().id == 3
    fourth = turns.of("acme")[1]
    assert turns.remove("acme", fourth) and turns.remove("z", eighth)
    assert not turns.remove("acme", fourth) and not turns.remove("nobody", eighth)
    assert [m.id for m in turns] == [3, 5, 6] and len(turns) == 3 and turns.accounts() == 1
    for one in list(turns):
        assert turns.remove("acme", one)
    assert len(turns) == 0 and not turns.of("acme")
    with pytest.raises(IndexError):
        turns.first()


def test_parts_that_stand_aside_are_found_by_age_and_by_their_message() -> None:
    aside: PinnedParts[Message] = PinnedParts()
    parts = [message(n + 1) for n in range(6)]
    for n, one in enumerate(parts):
        one.part = (b"s", b"d", n % 2, 2, False)
    for one in reversed(parts):
        aside.add("acme", one)
    assert aside.first() is parts[0] and [m.id for m in aside] == [1, 2, 3, 4, 5, 6]
    (group,) = aside.groups(1)
    (other,) = aside.groups(1)
    assert {tuple(group.ids()), tuple(other.ids())} == {(1, 3, 5), (2, 4, 6)}, "each in turn"
    for one in parts:
        assert aside.remove("acme", one) and not aside.remove("acme", one)
    assert len(aside) == 0 and not aside.groups(9)
