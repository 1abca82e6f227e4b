"""Connection counts and the guard over binds: limits, growth, bans, bounds of the tables."""

from __future__ import annotations

import ipaddress
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.config import Limits
from smppd.net.limits import (
    NAMES,
    TABLE_MAX,
    AdmissionRefusal,
    BindGuard,
    BindHold,
    BindRate,
    ConnectionLimits,
    Networks,
    address_key,
    network_key,
    normal_address,
)

A, B = "192.0.2.1", "192.0.2.2"


def test_each_limit_of_connections_is_named() -> None:
    limits = ConnectionLimits(Limits(connections=4, unbound=3, unbound_per_address=2))
    assert limits.admit(A) is None
    assert limits.admit(A) is None
    assert limits.admit(A) is AdmissionRefusal.UNBOUND_PER_ADDRESS
    assert limits.admit(B) is None
    assert limits.admit("192.0.2.3") is AdmissionRefusal.UNBOUND
    limits.bound(A)
    assert limits.admit("192.0.2.3") is None
    limits.bound(B)
    assert limits.admit(B) is AdmissionRefusal.CONNECTIONS
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
    assert (limits.connections, limits.unbound, limits._per_address, limits._bound) == (0, 0, {}, {})


def test_an_ipv6_peer_counts_by_its_64() -> None:
    assert address_key("2001:db8:1:2::5") == address_key("2001:db8:1:2:ffff::9")
    assert address_key("2001:db8:1:2::5") != address_key("2001:db8:1:3::5")
    assert address_key(A) == A
    assert normal_address("::ffff:192.0.2.1") == A
    assert normal_address("fe80::1%eth0") == "fe80::1"
    assert normal_address("nonsense") == address_key("nonsense") == "nonsense"
    assert address_key("not:an:address") == "not:an:address"


# -- when it is full -----------------------------------------------------------------------------------------------


class Guest:
    """A connection that notes that it was asked to leave."""

    def __init__(self, hall: Hall, peer: str) -> None:
        self.hall = hall
        self.peer = peer
        self.idle = False

    def evict(self) -> None:
        self.hall.here.remove(self)
        self.hall.evicted.append(self.peer)


class Hall:
    """The limits with those who are connected and not bound."""

    def __init__(self, *known: str, **limits: object) -> None:
        self.settings = Limits.model_validate(limits)
        self.limits = ConnectionLimits(self.settings, Networks(ipaddress.ip_network(one) for one in known))
        self.here: list[Guest] = []
        self.evicted: list[str] = []

    def come(self, peer: str) -> bool:
        guest = Guest(self, peer)
        if self.limits.admit(peer, guest) is not None:
            return False
        self.here.append(guest)
        assert len(self.here) == self.limits.unbound <= self.settings.unbound
        return True

    def bind(self, peer: str) -> bool:
        """Whether this one is still here to bind; then it is bound, and gone again."""
        guest = next((one for one in self.here if one.peer == peer), None)
        if guest is None:
            return False
        self.here.remove(guest)
        self.limits.bound(peer, guest)
        self.limits.gone(peer, True, guest)
        return True


def network_of(number: int) -> str:
    return f"10.{number // 250}.{number % 250}"


@pytest.mark.parametrize(
    "idle",
    [
        [f"198.51.100.{number % 64 + 1}" for number in range(512)],  # 64 addresses of one network
        [f"{network_of(number % 64)}.1" for number in range(512)],  # of 64 networks
        [f"{network_of(number)}.1" for number in range(512)],  # a network each
        [f"2001:db8:{number % 32:x}::1" for number in range(512)],
    ],
)
@pytest.mark.parametrize("known", [(), ("192.0.2.0/24",), ("0.0.0.0/0", "::/0")])
def test_idle_peers_keep_nobody_out_whatever_network_he_is_of(idle: list[str], known: tuple[str, ...]) -> None:
    hall = Hall(*known)
    for peer in idle:
        hall.come(peer)
    good = [f"192.0.2.{number}" for number in range(1, 31)] + [f"203.0.113.{number}" for number in range(1, 31)]
    for peer in (*good, "198.51.100.200"):
        assert hall.come(peer)
        # While he says his bind, those who were cut come again.
        for again in hall.evicted[-3:]:
            hall.come(again)
        assert hall.bind(peer), peer


def test_the_network_that_holds_most_gives_up_its_oldest() -> None:
    hall = Hall(unbound=6)
    for peer in ("192.0.2.1", "198.51.100.1", "198.51.100.2", "203.0.113.1", "198.51.100.1", "192.0.2.2"):
        assert hall.come(peer)
    for peer in ("10.0.0.1", "10.0.1.1", "10.0.2.1"):
        assert hall.come(peer)
    assert hall.evicted == ["198.51.100.1", "192.0.2.1", "198.51.100.2"]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3), st.booleans()), max_size=60), st.integers(1, 8))
@settings(deadline=None, max_examples=200)
def test_who_gives_way_is_found_as_by_looking_at_all(steps: list[tuple[int, int, bool]], unbound: int) -> None:
    hall = Hall(unbound=unbound, unbound_per_address=100)
    for network, host, leaves in steps:
        if leaves and hall.here:
            guest = hall.here.pop(host % len(hall.here))
            hall.limits.gone(guest.peer, False, guest)
            continue
        held: dict[str, list[Guest]] = {}
        for one in hall.here:
            held.setdefault(network_key(one.peer), []).append(one)
        wanted = []
        if len(hall.here) >= unbound:
            most = max(held.values(), key=lambda those: (len(those), -hall.here.index(those[0])))
            wanted = [(most[0], most[0].peer)]
        before = list(hall.here)
        assert hall.come(f"10.0.{network}.{host}")
        assert [(one, one.peer) for one in before if one not in hall.here] == wanted
    assert hall.limits.unbound == len(hall.here)


def test_who_gives_way_is_found_without_a_search() -> None:
    looked = {}
    for networks in (100, 3000):
        hall = Hall(unbound=networks, unbound_per_address=100)
        for n in range(networks):
            hall.come(f"10.{n >> 8}.{n & 255}.1")
        kept = hall.limits._kept[1]
        for name in list(kept):
            kept[name] = _Counted(kept[name])
        _Counted.asked = 0
        for n in range(50):
            assert hall.come(f"11.0.{n}.1")
        looked[networks] = _Counted.asked
        assert len(hall.limits._fullest[1]) <= 4 * networks + 65
    assert looked[3000] <= looked[100] + 50


class _Counted(dict[Any, int]):
    """The guests of a network; counts how often somebody asks how many they are."""

    asked = 0

    def __len__(self) -> int:
        _Counted.asked += 1
        return super().__len__()


def test_strangers_never_take_what_is_reserved_nor_accounts_more_than_there_is() -> None:
    hall = Hall("192.0.2.0/24", unbound=10, unbound_reserved=4, unbound_per_address=100)
    for number in range(20):
        hall.come(f"{network_of(number)}.1")
    assert len(hall.here) == 6 and len(hall.evicted) == 14
    for _ in range(4):
        assert hall.come("192.0.2.1")
    assert len(hall.here) == 10 and len(hall.evicted) == 14, "nobody had to go for them"
    hall.come("192.0.2.2")
    assert hall.evicted[-1] == "192.0.2.1", "their own network holds most"
    hall = Hall("192.0.2.0/24", unbound=10, unbound_reserved=4, unbound_per_address=100)
    for _ in range(10):
        hall.come("192.0.2.1")
    for number in range(20):
        assert hall.come(f"{network_of(number)}.1")
    assert [one.peer for one in hall.here].count("192.0.2.1") == 4


def test_an_address_that_is_full_gives_up_one_that_has_said_nothing() -> None:
    hall = Hall(unbound_per_address=3)
    assert all(hall.come("192.0.2.1") for _ in range(3)) and hall.come("192.0.2.2")
    hall.here[3].idle = True
    assert not hall.come("192.0.2.1"), "those at their binds keep their places"
    hall.here[1].idle = True
    kept = hall.here[0], hall.here[2]
    assert hall.come("192.0.2.1") and hall.evicted == ["192.0.2.1"]
    assert all(one in hall.here for one in kept)
    assert not hall.come("192.0.2.1")


def test_without_networks_of_accounts_nothing_is_reserved() -> None:
    hall = Hall(unbound=10, unbound_reserved=4)
    for number in range(10):
        hall.come(f"{network_of(number)}.1")
    assert hall.evicted == []


PEERS = ("192.0.2.1", "192.0.2.2", "198.51.100.1", "203.0.113.1", "2001:db8::1", "2001:db8:0:1::1", "nonsense")


@given(
    st.lists(st.tuples(st.sampled_from(["come", "come", "bound", "gone"]), st.sampled_from(PEERS)), max_size=80),
    st.integers(1, 6),
    st.integers(0, 8),
)
@settings(deadline=None, max_examples=200)
def test_counts_never_drift_when_some_give_way(steps: list[tuple[str, str]], unbound: int, reserved: int) -> None:
    hall = Hall("192.0.2.0/24", unbound=unbound, unbound_reserved=reserved, unbound_per_address=3, connections=9)
    bound: list[Guest] = []
    for step, peer in steps:
        mine = [one for one in hall.here if one.peer == peer]
        if step == "come":
            hall.come(peer)
        elif step == "bound" and mine:
            hall.here.remove(mine[0])
            bound.append(mine[0])
            hall.limits.bound(peer, mine[0])
        elif step == "gone" and mine:
            hall.here.remove(mine[0])
            hall.limits.gone(peer, False, mine[0])
        elif step == "gone" and bound:
            hall.limits.gone(bound[0].peer, True, bound.pop(0))
        assert hall.limits.connections == len(hall.here) + len(bound) <= 9
        assert hall.limits.unbound == len(hall.here) <= unbound
        assert hall.limits.strangers == sum(1 for one in hall.here if not one.peer.startswith("192.0.2."))
        assert all(hall.limits.serves(one.peer) for one in bound)
    for one in bound:
        hall.limits.gone(one.peer, True, one)
    for one in hall.here:
        hall.limits.gone(one.peer, False, one)
    limits = hall.limits
    assert (limits.connections, limits.unbound, limits.strangers) == (0, 0, 0)
    assert (limits._per_address, limits._bound, limits._kept, limits._where) == ({}, {}, ({}, {}), {})


@given(
    st.lists(st.ip_addresses().map(lambda address: (address, 1)) | st.tuples(st.ip_addresses(), st.integers(0, 128)))
)
def test_networks_are_found_as_the_standard_library_finds_them(pairs: list[tuple[ipaddress.IPv4Address, int]]) -> None:
    networks = [
        ipaddress.ip_network((str(address), min(bits, address.max_prefixlen)), strict=False) for address, bits in pairs
    ]
    known = Networks(networks)
    for address, _ in pairs:
        for near in (address, type(address)(int(address) ^ 1), type(address)(int(address) ^ 1 << 20)):
            wanted = any(near.version == network.version and near in network for network in networks)
            assert known.has(str(near)) is wanted
    assert not known.has("nonsense") and bool(known) is bool(networks)


def test_networks_of_peers() -> None:
    assert network_key("192.0.2.1") == network_key("192.0.2.250") != network_key("192.0.3.1")
    assert network_key("2001:db8:0:100::1") == network_key("2001:db8:0:1ff::2") != network_key("2001:db8:0:200::1")
    assert network_key("nonsense") == "nonsense" and network_key("not:an:address") == "not:an:address"


# -- the guard -----------------------------------------------------------------------------------------------------

LIMITS = Limits(address_failures=1000)


def fail(guard: BindGuard, times: int, now: float = 0.0, name: bytes = b"acme", peer: str = A) -> None:
    for _ in range(times):
        guard.failed(name, peer, now)


def test_five_failures_in_a_minute_delay_the_pair_and_nobody_else() -> None:
    guard = BindGuard(LIMITS)
    fail(guard, 4)
    assert guard.hold_of(b"acme", A, 0) is None
    fail(guard, 1)
    assert guard.hold_of(b"acme", A, 0.9) is BindHold.DELAYED
    assert guard.hold_of(b"acme", A, 1.0) is None
    assert guard.hold_of(b"acme", B, 0) is None  # the customer itself, from elsewhere
    assert guard.hold_of(b"other", A, 0) is None


def test_five_failures_spread_over_more_than_a_minute_do_not_delay() -> None:
    guard = BindGuard(LIMITS)
    for i in range(20):
        guard.failed(b"acme", A, i * 16.0)
        assert guard.hold_of(b"acme", A, i * 16.0) is None


def test_the_delay_doubles_to_five_minutes_and_is_forgotten_when_quiet() -> None:
    guard = BindGuard(LIMITS)
    fail(guard, 4)
    now, delays = 0.0, []
    for _ in range(11):
        guard.failed(b"acme", A, now)
        delay = 0.0
        while guard.hold_of(b"acme", A, now + delay):
            delay += 1.0
        delays.append(delay)
        now += delay
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    guard.failed(b"acme", A, now + 301)
    assert guard.hold_of(b"acme", A, now + 301) is None


def test_a_success_clears_its_pair_only() -> None:
    guard = BindGuard(Limits(address_failures=6))
    fail(guard, 5)
    guard.succeeded(b"acme", A)
    assert guard.hold_of(b"acme", A, 0) is None
    fail(guard, 1)
    assert guard.hold_of(b"acme", A, 0) is BindHold.BANNED


def test_twenty_failures_in_ten_minutes_ban_an_address_for_fifteen() -> None:
    guard = BindGuard(Limits())
    began = [guard.failed(b"name%d" % i, A, i * 30.0) for i in range(20)]
    assert began == [False] * 19 + [True]
    now = 19 * 30.0
    assert guard.hold_of(b"unrelated", A, now + 899) is BindHold.BANNED
    assert guard.hold_of(b"unrelated", B, now + 1) is None
    assert guard.hold_of(b"unrelated", A, now + 900) is None
    assert not guard.failed(b"more", A, now + 901)  # counts from anew


def test_slow_failures_of_an_address_never_ban_it() -> None:
    guard = BindGuard(Limits())
    assert not any(guard.failed(b"name%d" % i, A, i * 31.6) for i in range(100))


def test_tables_are_bounded_and_forget_the_one_seen_longest_ago() -> None:
    guard = BindGuard(Limits(address_failures=2), table_max=10)
    fail(guard, 2)
    assert guard.hold_of(b"x", A, 1) is BindHold.BANNED
    for i in range(9):
        guard.failed(b"n", f"198.51.100.{i}", 1)
    assert guard.hold_of(b"x", A, 1) is BindHold.BANNED
    guard.failed(b"n", "198.51.100.99", 1)
    assert guard.hold_of(b"x", A, 1) is None
    assert len(guard._pairs) <= 10 and len(guard._addresses) <= 10


def test_reload_keeps_what_is_known() -> None:
    guard = BindGuard(Limits(address_failures=2))
    fail(guard, 2)
    guard.reload(Limits())
    assert guard.hold_of(b"acme", A, 1) is BindHold.BANNED


@pytest.mark.parametrize("failures", [1, 2])
def test_smallest_limits(failures: int) -> None:
    guard = BindGuard(Limits(id_failures=failures, address_failures=100))
    fail(guard, failures)
    assert guard.hold_of(b"acme", A, 0.5) is BindHold.DELAYED


# -- bans ----------------------------------------------------------------------------------------------------------


def test_where_customers_are_served_one_name_s_failures_ban_that_name_there() -> None:
    guard = BindGuard(Limits())
    guard.succeeded(b"acme", A, 0.0)
    began = [guard.failed(b"beta", A, 1.0) for _ in range(20)]
    assert began == [False] * 19 + [True]
    assert guard.hold_of(b"beta", A, 800.0) is BindHold.BANNED
    assert guard.hold_of(b"acme", A, 2.0) is None and not guard.banned(A, 2.0)
    assert guard.hold_of(b"beta", B, 2.0) is None
    assert [(ban.address, ban.system_id) for ban in guard.bans(2.0)] == [(A, b"beta")]
    assert guard.hold_of(b"beta", A, 902.0) is None or guard.hold_of(b"beta", A, 902.0) is BindHold.DELAYED


@pytest.mark.parametrize("names", [NAMES - 1, NAMES])
def test_where_customers_are_served_many_names_ban_the_address_all_the_same(names: int) -> None:
    guard = BindGuard(Limits(id_failures=1000))
    guard.succeeded(b"acme", A, 0.0)
    for number in range(19):
        guard.failed(b"name%d" % (number % names), A, 1.0 + number)
    assert guard.failed(b"name%d" % (19 % names), A, 20.0) is (names == NAMES)
    assert guard.banned(A, 21.0) is (names == NAMES)


def test_a_bound_customer_counts_as_served_however_long_it_stands() -> None:
    standing = {A}
    guard = BindGuard(Limits(), serves=standing.__contains__)
    fail(guard, 20, now=1e6)
    assert not guard.banned(A, 1e6)
    standing.clear()
    fail(guard, 20, now=2e6)
    assert guard.banned(A, 2e6)


def test_a_good_bind_of_days_ago_does_not_count() -> None:
    guard = BindGuard(Limits())
    guard.succeeded(b"acme", A, 0.0)
    fail(guard, 20, now=86401.0, name=b"beta")
    assert guard.banned(A, 86402.0)


def test_bans_are_listed_and_lifted() -> None:
    guard = BindGuard(Limits())
    fail(guard, 20)
    fail(guard, 20, peer="2001:db8:1:2::5", now=10.0)
    assert [(ban.address, ban.system_id, ban.left) for ban in guard.bans(60.0)] == [
        (A, None, 840.0),
        ("2001:db8:1:2::/64", None, 850.0),
    ]
    assert guard.lift(B, 60.0) == 0
    assert guard.lift("2001:db8:1:2::99", 60.0) == 1 and not guard.banned("2001:db8:1:2::5", 60.0)
    assert guard.lift(A, 60.0) == 1 and guard.lift(A, 60.0) == 0
    assert guard.hold_of(b"acme", A, 0.5) is None, "its delays are over too"
    assert list(guard.bans(60.0)) == []
    fail(guard, 20, now=100.0)
    assert list(guard.bans(2000.0)) == [], "those that have ended are not listed"


def test_many_bans_are_counted_and_lifted_without_a_look_at_each_failure() -> None:
    guard = BindGuard(Limits(address_failures=2), table_max=1000)
    for n in range(100):
        for _ in range(2):
            guard.failed(b"n%d" % (n % 7), f"2001:db8:0:{n:x}::1", 10.0)
    assert guard.count(10.0) == (100, 0) and guard.count(1e6) == (0, 0)


def test_what_was_forgiven_is_forgotten_and_what_fails_then_counts_anew() -> None:
    guard = BindGuard(Limits(id_failures=2, address_failures=100))
    for _ in range(3):
        guard.failed(b"acme", A, 10.0)
    assert guard.hold_of(b"acme", A, 10.5) is BindHold.DELAYED
    guard.lift(A, 11.0)
    assert guard.hold_of(b"acme", A, 11.0) is None
    guard.failed(b"acme", A, 11.5)
    assert guard.hold_of(b"acme", A, 11.6) is None, "the first one"
    guard.failed(b"acme", A, 11.7)
    assert guard.hold_of(b"acme", A, 11.8) is BindHold.DELAYED


def test_binds_of_an_account_from_an_address_have_a_rate() -> None:
    rate = BindRate(Limits(account_binds=60))
    assert sum(rate.allows("acme", "192.0.2.7", 4, 0.0) for _ in range(1000)) == 60
    assert rate.allows("acme", "192.0.2.8", 4, 0.0) and rate.allows("beta", "192.0.2.7", 4, 0.0)
    assert sum(rate.allows("acme", "192.0.2.7", 4, 10.0) for _ in range(1000)) == 10
    assert sum(rate.allows("acme", "192.0.2.7", 4, 10_000.0) for _ in range(1000)) == 60
    rate.reload(Limits(account_binds=1))
    assert sum(rate.allows("acme", "192.0.2.7", 4, 20_000.0) for _ in range(1000)) == 8, (
        "its sessions may all come back"
    )


def test_addresses_of_one_network_share_a_bind_rate_and_the_table_is_bounded() -> None:
    rate = BindRate(Limits(account_binds=2), table_max=3)
    assert [rate.allows("acme", f"2001:db8::{number}", 1, 0.0) for number in range(3)] == [True, True, False]
    for number in range(10):
        rate.allows("acme", f"192.0.2.{number}", 1, 0.0)
    assert len(rate._pairs) == 3


def test_tables_of_offenders_take_the_memory_that_is_stated() -> None:
    size = 1000
    tracemalloc.start()
    try:
        guard, rate = BindGuard(Limits(), table_max=size), BindRate(Limits(), table_max=size)
        for n in range(2 * size):  # as many are forgotten
            peer = f"2001:db8:0:{n:x}::1"
            for k in range(9):
                guard.failed(b"name-%010d" % k, peer, 10.0 * k)
            for k in range(11):
                guard.failed(b"name%011d" % n, peer, 100.0 + k)
            guard.succeeded(b"acme", f"2001:db9:0:{n:x}::1", float(n))
            rate.allows("acme", peer, 4, float(n))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken * TABLE_MAX / size < 70e6, "with the buckets of handshakes, 80 MB (docs/operations.md)"
