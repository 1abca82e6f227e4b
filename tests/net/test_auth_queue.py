"""The queue of passwords to check, and those who leave it."""

from __future__ import annotations

import pytest

from smppd.config import Limits
from smppd.net.auth import Outcome
from tests.net.test_auth import WRONG, A, Desk, account


def test_who_binds_and_leaves_takes_no_place_in_the_queue() -> None:
    desk = Desk(max_pending_auth=4, unbound=8, address_failures=1000, id_failures=1000)
    desk.bind(password=WRONG, peer="192.0.2.2")
    desk.bind(password=WRONG, peer="192.0.2.2")  # both are being checked
    for _ in range(200):
        desk.bind(password=WRONG, peer="192.0.2.3").cancel()
    desk.bind()
    while desk.hand.waiting:
        desk.hand.finish()
    assert [decision.reason for _, decision in desk.answers] == [Outcome.OK]
    assert desk.hand.asked == 3, "who has gone is not looked at"
    assert desk.auth._waiting == 0 and len(desk.auth._queue) == 0


@pytest.mark.parametrize("peer", [A, "198.51.100.1"])
def test_a_bind_that_finds_a_full_queue_is_refused_and_leaves_nothing_behind(peer: str) -> None:
    # More wait than connections are allowed: a reload with fewer of them.
    desk = Desk(max_pending_auth=4, unbound=8, address_failures=1000, id_failures=1000)
    for _ in range(2):
        desk.bind(password=WRONG)
    for _ in range(4):
        desk.bind(name=b"nobody", password=WRONG, peer=peer)
    desk.auth.reload([account()], Limits(max_pending_auth=2, unbound=1, address_failures=1000, id_failures=1000))
    for _ in range(3):
        desk.bind()
    while desk.hand.waiting:
        desk.hand.finish()
    desk.clock.advance(5.0)
    assert len(desk.answers) == 9 and desk.auth._waiting == 0
    desk.answers.clear()
    assert desk.decide()[1].reason is Outcome.OK


def test_guesses_of_who_left_are_counted_when_the_queue_is_cleared_of_them() -> None:
    desk = Desk(account(networks=["192.0.2.0/24"]), max_pending_auth=1, unbound=1, address_failures=3)
    desk.bind(password=WRONG)
    desk.bind(password=WRONG, peer="192.0.2.2")
    desk.bind(password=WRONG, peer="192.0.2.4")
    for _ in range(8):
        desk.bind(name=b"nobody", peer="198.51.100.1").cancel()
    assert desk.guard.banned("198.51.100.1", desk.clock.seconds())
