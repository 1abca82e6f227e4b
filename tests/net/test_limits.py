"""Connection counts and the guard over binds: limits, growth, bans, bounds of the tables."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.config import Limits
from smppd.net.limits import BindGuard, ConnectionLimits, Full, Held, address_key, normal_address

A, B = "192.0.2.1", "192.0.2.2"


def test_each_limit_of_connections_is_named() -> None:
    limits = ConnectionLimits(Limits(connections=4, unbound=3, unbound_per_address=2))
    assert limits.admit(A) is None
    assert limits.admit(A) is None
    assert limits.admit(A) is Full.UNBOUND_PER_ADDRESS
    assert limits.admit(B) is None
    assert limits.admit("192.0.2.3") is Full.UNBOUND
    limits.bound(A)
    assert limits.admit("192.0.2.3") is None
    limits.bound(B)
    assert limits.admit(B) is Full.CONNECTIONS
    limits.gone(B, was_bound=True)
    assert limits.admit(B) is None


def test_a_bound_connection_frees_its_place_among_the_unbound_of_its_address() -> None:
    limits = ConnectionLimits(Limits(unbound_per_address=1))
    for _ in range(5):
        assert limits.admit(A) is None
        limits.bound(A)
    assert (limits.connections, limits.unbound) == (5, 0)


@given(st.lists(st.tuples(st.sampled_from(["admit", "bound", "gone"]), st.sampled_from([A, B, "2001:db8::1"]))))
@settings(deadline=None, max_examples=100)
def test_counts_never_drift(steps: list[tuple[str, str]]) -> None:
    limits = ConnectionLimits(Limits(connections=6, unbound=4, unbound_per_address=3))
    live: list[tuple[str, bool]] = []
    for step, peer in steps:
        if step == "admit":
            if limits.admit(peer) is None:
                live.append((peer, False))
        elif step == "bound" and (peer, False) in live:
            live[live.index((peer, False))] = (peer, True)
            limits.bound(peer)
        elif step == "gone" and live:
            limits.gone(*live.pop())
        assert limits.connections == len(live) <= 6
        assert limits.unbound == sum(1 for _, bound in live if not bound) <= 4
    for peer, bound in live:
        limits.gone(peer, bound)
    assert (limits.connections, limits.unbound, limits._per_address) == (0, 0, {})


def test_an_ipv6_peer_counts_by_its_64() -> None:
    assert address_key("2001:db8:1:2::5") == address_key("2001:db8:1:2:ffff::9")
    assert address_key("2001:db8:1:2::5") != address_key("2001:db8:1:3::5")
    assert address_key(A) == A
    assert normal_address("::ffff:192.0.2.1") == A
    assert normal_address("fe80::1%eth0") == "fe80::1"
    assert normal_address("nonsense") == address_key("nonsense") == "nonsense"
    assert address_key("not:an:address") == "not:an:address"


# -- the guard -----------------------------------------------------------------------------------------------------

LIMITS = Limits(address_failures=1000)


def fail(guard: BindGuard, times: int, now: float = 0.0, name: bytes = b"acme", peer: str = A) -> None:
    for _ in range(times):
        guard.failed(name, peer, now)


def test_five_failures_in_a_minute_delay_the_pair_and_nobody_else() -> None:
    guard = BindGuard(LIMITS)
    fail(guard, 4)
    assert guard.held(b"acme", A, 0) is None
    fail(guard, 1)
    assert guard.held(b"acme", A, 0.9) is Held.DELAYED
    assert guard.held(b"acme", A, 1.0) is None
    assert guard.held(b"acme", B, 0) is None  # the customer itself, from elsewhere
    assert guard.held(b"other", A, 0) is None


def test_five_failures_spread_over_more_than_a_minute_do_not_delay() -> None:
    guard = BindGuard(LIMITS)
    for i in range(20):
        guard.failed(b"acme", A, i * 16.0)
        assert guard.held(b"acme", A, i * 16.0) is None


def test_the_delay_doubles_to_five_minutes_and_is_forgotten_when_quiet() -> None:
    guard = BindGuard(LIMITS)
    fail(guard, 4)
    now, delays = 0.0, []
    for _ in range(11):
        guard.failed(b"acme", A, now)
        delay = 0.0
        while guard.held(b"acme", A, now + delay):
            delay += 1.0
        delays.append(delay)
        now += delay
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    guard.failed(b"acme", A, now + 301)
    assert guard.held(b"acme", A, now + 301) is None


def test_a_success_clears_its_pair_only() -> None:
    guard = BindGuard(Limits(address_failures=6))
    fail(guard, 5)
    guard.succeeded(b"acme", A)
    assert guard.held(b"acme", A, 0) is None
    fail(guard, 1)
    assert guard.held(b"acme", A, 0) is Held.BANNED


def test_twenty_failures_in_ten_minutes_ban_an_address_for_fifteen() -> None:
    guard = BindGuard(Limits())
    began = [guard.failed(b"name%d" % i, A, i * 30.0) for i in range(20)]
    assert began == [False] * 19 + [True]
    now = 19 * 30.0
    assert guard.held(b"unrelated", A, now + 899) is Held.BANNED
    assert guard.held(b"unrelated", B, now + 1) is None
    assert guard.held(b"unrelated", A, now + 900) is None
    assert not guard.failed(b"more", A, now + 901)  # counts from anew


def test_slow_failures_of_an_address_never_ban_it() -> None:
    guard = BindGuard(Limits())
    assert not any(guard.failed(b"name%d" % i, A, i * 31.6) for i in range(100))


def test_tables_are_bounded_and_forget_the_one_seen_longest_ago() -> None:
    guard = BindGuard(Limits(address_failures=2), table_max=10)
    fail(guard, 2)
    assert guard.held(b"x", A, 1) is Held.BANNED
    for i in range(9):
        guard.failed(b"n", f"198.51.100.{i}", 1)
    assert guard.held(b"x", A, 1) is Held.BANNED
    guard.failed(b"n", "198.51.100.99", 1)
    assert guard.held(b"x", A, 1) is None
    assert len(guard._pairs) <= 10 and len(guard._addresses) <= 10


def test_reload_keeps_what_is_known() -> None:
    guard = BindGuard(Limits(address_failures=2))
    fail(guard, 2)
    guard.reload(Limits())
    assert guard.held(b"acme", A, 1) is Held.BANNED


@pytest.mark.parametrize("failures", [1, 2])
def test_smallest_limits(failures: int) -> None:
    guard = BindGuard(Limits(id_failures=failures, address_failures=100))
    fail(guard, failures)
    assert guard.held(b"acme", A, 0.5) is Held.DELAYED
