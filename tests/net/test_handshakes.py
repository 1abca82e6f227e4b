"""Whose handshake is made next: rates, the share of time, fairness; by a clock of the test's own."""

from __future__ import annotations

import ipaddress
import itertools
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from smppd.config import Limits
from smppd.net.handshakes import KNOWN_MORE, Handshakes
from smppd.net.limits import Networks


class Peer:
    """A connection whose handshake costs `cost` seconds, a dear one ten times as much."""

    def __init__(self, room: Room, peer: str, dear: bool = False) -> None:
        self.room = room
        self.peer = peer
        self.dear = dear

    def shake(self) -> None:
        self.room.made.append((round(self.room.clock.seconds(), 6), self.peer))
        self.room.clock.rightNow += self.room.cost * (10 if self.dear else 1)


class Room:
    def __init__(self, *known: str, cost: float = 0.0, **limits: object) -> None:
        self.clock = Clock()
        self.cost = cost
        self.made: list[tuple[float, str]] = []
        self.waited = 0
        networks = Networks(ipaddress.ip_network(one) for one in known)
        self.queue = Handshakes(self.clock, Limits.model_validate(limits), networks)
        self.queue.on_wait = self._waits

    def _waits(self) -> None:
        self.waited += 1

    def come(self, *peers: str, dear: bool = False) -> list[Peer]:
        made = [Peer(self, peer, dear) for peer in peers]
        for one in made:
            self.queue.request_turn(one)
        return made

    def run(self, seconds: float, step: float = 0.001) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def peers(self) -> list[str]:
        return [peer for _, peer in self.made]


def test_what_a_handshake_takes_after_its_turn_delays_the_next() -> None:
    # A HelloRetryRequest is cheap, and the answer to it dear.
    room = Room(handshake_share=10)
    (first,) = room.come("192.0.2.1")
    room.queue.charge_time(first, 0.004)
    room.come("198.51.100.1")
    assert room.waited == 1
    room.run(0.1)
    assert room.peers() == ["192.0.2.1", "198.51.100.1"] and 0.036 <= room.made[1][0] < 0.040


def test_more_time_spent_while_one_waits_puts_it_off() -> None:
    room = Room(handshake_share=10, cost=0.001)
    first, _ = room.come("192.0.2.1", "198.51.100.1")
    room.queue.charge_time(first, 0.002)
    room.run(0.1)
    assert 0.028 <= room.made[1][0] < 0.031


def test_one_alone_is_made_at_once() -> None:
    room = Room(cost=0.002)
    room.come("192.0.2.1")
    assert room.made == [(0.0, "192.0.2.1")] and room.waited == 0
    room.run(1.0)
    room.come("192.0.2.1")
    assert len(room.made) == 2 and not len(room.queue) and not room.clock.getDelayedCalls()


def test_all_together_take_their_share_of_the_time_and_no_more() -> None:
    room = Room(cost=0.002, handshake_share=20, unbound=2000)
    room.come(*(f"10.{number // 250}.{number % 250}.1" for number in range(1000)))
    room.run(1.0)
    busy = len(room.made) * room.cost
    assert 0.15 <= busy / room.clock.seconds() <= 0.21
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(room.made)]
    assert min(gaps) >= 0.0099, "others are served between any two"


def test_dear_ones_have_a_tenth_of_the_share() -> None:
    room = Room(cost=0.0002, handshake_share=10, unbound=2000)
    room.come(*(f"10.{number}.0.1" for number in range(100)), dear=True)
    room.run(4.0)
    assert 0.009 <= len(room.made) * 0.002 / 4.0 <= 0.011
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(room.made)]
    assert min(gaps) >= 0.199


def test_nobody_else_waits_for_a_dear_one_longer_than_the_share_asks() -> None:
    room = Room(cost=0.0002, handshake_share=10)
    room.come(*["10.0.0.1"] * 8, *["10.0.0.2"] * 8, dear=True)
    room.run(0.0195, step=0.0005)  # the first dear one, and the pause of the share
    assert room.peers() == ["10.0.0.1"] and room.waited == 15
    room.come("192.0.2.1")
    room.run(0.004, step=0.0005)
    room.come("10.0.0.1")
    assert room.peers() == ["10.0.0.1", "192.0.2.1", "10.0.0.1"] and room.waited == 15, "at once, from its address too"


def test_dear_ones_get_their_turn_however_many_others_come() -> None:
    room = Room(cost=0.0002, handshake_share=10, unbound=2000)
    room.come("192.0.2.1", "192.0.2.1", "192.0.2.1", dear=True)
    for number in range(1000):
        room.come(f"10.{number % 250}.0.1")
        room.run(0.001)
    assert room.peers().count("192.0.2.1") == 3


def test_what_a_dear_one_takes_later_delays_dear_ones_more() -> None:
    room = Room(handshake_share=10)
    (first,) = room.come("192.0.2.1", dear=True)
    room.queue.charge_time(first, 0.001)
    room.come("192.0.2.1")
    room.come("192.0.2.2", dear=True)
    room.run(0.2)
    assert [round(at, 3) for at, _ in room.made[1:]] == [0.009, 0.099]


def test_an_address_and_a_network_have_a_rate_and_a_burst() -> None:
    room = Room(
        handshakes_per_address="2/s",
        handshakes_per_address_burst=3,
        handshakes_per_network="4/s",
        handshakes_per_network_burst=5,
    )
    room.come(*["192.0.2.1"] * 20, *["192.0.2.2"] * 20, *["2001:db8:0:100::1"] * 20, "198.51.100.1")
    room.run(0.1)
    assert Counter(room.peers()) == {"192.0.2.1": 3, "192.0.2.2": 2, "2001:db8:0:100::1": 3, "198.51.100.1": 1}
    room.run(3.0)
    counts = Counter(room.peers())
    assert counts["192.0.2.1"] + counts["192.0.2.2"] in (16, 17)
    assert counts["2001:db8:0:100::1"] in (8, 9)
    room.run(30.0, step=0.01)
    assert len(room.made) == 61 and not room.clock.getDelayedCalls()


def test_a_network_of_ipv6_is_its_56() -> None:
    room = Room(handshakes_per_network="1/s", handshakes_per_network_burst=4)
    room.come(*(f"2001:db8:0:1{number:02x}::1" for number in range(64)), "2001:db8:0:200::1")
    room.run(0.1)
    assert len(room.made) == 5 and "2001:db8:0:200::1" in room.peers()


def test_accounts_networks_have_more_and_every_second_turn() -> None:
    room = Room("192.0.2.0/24", cost=0.002, handshakes_per_network="10/s", handshakes_per_network_burst=10)
    strangers = [f"10.0.{number}.{host}" for number in range(100) for host in (1, 2, 3)]
    room.come(*strangers, *["192.0.2.7"] * 40)
    room.run(0.5)
    assert room.peers().count("192.0.2.7") in range(len(room.made) // 2 - 2, len(room.made) // 2 + 2)
    room.run(1.0)
    assert room.peers().count("192.0.2.7") == 10 * KNOWN_MORE


def test_networks_take_turns_however_many_wait_of_one() -> None:
    room = Room(cost=0.002, handshake_share=20)
    room.come(*["10.0.0.1"] * 16, *["10.0.0.2"] * 16, *["10.0.0.3"] * 16, "198.51.100.1", "203.0.113.1")
    room.run(0.05)
    assert {"198.51.100.1", "203.0.113.1"} <= set(room.peers()[:6])
    assert len(set(room.peers()[:6])) == 5, "and in a network its addresses"


def test_who_leaves_costs_nothing() -> None:
    room = Room(handshakes_per_address="1/s", handshakes_per_address_burst=1)
    peers = room.come(*["192.0.2.1"] * 5)
    for one in peers[1:]:
        room.queue.leave(one)
        room.queue.leave(one)
    assert len(room.queue) == 0
    room.run(3.0)
    assert len(room.made) == 1
    room.come("192.0.2.1")
    assert len(room.made) == 2, "no token was taken for them"


def test_tables_are_bounded() -> None:
    clock = Clock()
    room = Room()
    room.queue = Handshakes(clock, Limits(), Networks(), table_max=10)
    room.come(*(f"10.{number}.0.1" for number in range(100)))
    assert len(room.queue._addresses) == len(room.queue._networks) == 10


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1", "10.0.0.1"]),
            st.sampled_from(["come", "come dear", "leave", "wait", "long"]),
        ),
        max_size=60,
    ),
    st.floats(0, 0.01),
)
@settings(deadline=None, max_examples=100)
def test_everybody_is_made_once_or_has_left(steps: list[tuple[str, str]], cost: float) -> None:
    room = Room("192.0.2.0/24", cost=cost, handshakes_per_address="5/s", handshakes_per_address_burst=2)
    waiting: list[Peer] = []
    came = left = 0
    for peer, step in steps:
        if step in ("come", "come dear"):
            waiting += room.come(peer, dear=step == "come dear")
            came += 1
        elif step == "leave" and waiting:
            before = len(room.queue)
            room.queue.leave(waiting.pop(0))
            left += before - len(room.queue)
        else:
            room.run(0.5 if step == "long" else 0.02, step=0.01)
    for _ in range(60):  # a dear one of a tenth of a second is followed by a pause of ten
        room.run(15.0, step=0.05)
        if not room.clock.getDelayedCalls():
            break
    assert len(room.made) == came - left
    assert len(room.queue) == 0 and not room.queue._usual and not room.queue._dear and not room.clock.getDelayedCalls()
