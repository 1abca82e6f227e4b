"""Binds decided: who passes, and that nobody can tell one refusal from another."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from smppd.config import Account, ClientCertificate, Limits, PasswordHash
from smppd.net.auth import (
    ArgonPool,
    Authenticator,
    BindCheck,
    Decision,
    Outcome,
    certificate_matches,
)
from smppd.net.limits import BindGuard
from smppd.protocol.wire import Status
from tests.net.pipes import Loop

A = "192.0.2.1"
HASH_TAIL = "$ZXhhbXBsZS1zYWx0LTAwMQ$7Gq1HCbTU2eXb0Hk8x3e3nV2yKcnF4rTq0D2mJ1xZfM"
HASH = "$argon2id$v=19$m=19456,t=2,p=1" + HASH_TAIL
HASH_2 = "$argon2id$v=19$m=19456,t=3,p=1" + HASH_TAIL
RIGHT, WRONG = b"right-horse", b"wrong-horse"


def account(**changes: Any) -> Account:
    values: dict[str, Any] = {"system_id": "acme", "password_hash": HASH, "networks": ["192.0.2.0/24"]}
    return Account.model_validate(values | changes)


class Hand:
    """A verifier that checks when told; each check takes the time the test gives it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, Callable[[bool | None], None]]] = []
        self.asked = 0

    def verify(self, hashes: tuple[PasswordHash, ...], password: bytes, done: Callable[[bool | None], None]) -> None:
        self.asked += 1
        self.waiting.append((password, done))

    def finish(self, broken: bool = False) -> None:
        password, done = self.waiting.pop(0)
        done(None if broken else password == RIGHT)


class Desk:
    """An authenticator with a clock; `answers` holds (time, decision) in order."""

    def __init__(self, *accounts: Account, **limits: Any) -> None:
        self.clock = Clock()
        self.hand = Hand()
        self.limits = Limits(**limits)
        self.guard = BindGuard(self.limits)
        self.auth = Authenticator(accounts or (account(),), self.limits, self.guard, self.hand, self.clock)
        self.answers: list[tuple[float, Decision]] = []

    def bind(
        self, name: bytes = b"acme", password: bytes = RIGHT, peer: str = A, certificate: bytes | None = None
    ) -> BindCheck:
        before = len(self.answers)
        check = self.auth.check(name, password, peer, certificate, self._note)
        assert len(self.answers) == before, "never from within the call"
        return check

    def _note(self, decision: Decision) -> None:
        self.answers.append((self.clock.seconds(), decision))

    def decide(self, *args: Any, took: float = 0.03, **kwargs: Any) -> tuple[float, Decision]:
        """One bind to its end: seconds until the answer, and the answer."""
        start = self.clock.seconds()
        self.bind(*args, **kwargs)
        if self.hand.waiting:
            self.clock.advance(took)
            self.hand.finish()
        while not self.answers:
            call: Any = self.clock.getDelayedCalls()[0]
            self.clock.advance(max(0.0, call.getTime() - self.clock.seconds()))
        when, decision = self.answers.pop()
        return round(when - start, 6), decision


def test_a_right_password_is_answered_at_once() -> None:
    desk = Desk()
    took, decision = desk.decide()
    assert took == 0.03
    assert (decision.status, decision.reason) == (Status.ROK, Outcome.OK)
    assert decision.account is not None and decision.account.system_id == "acme"


def test_a_verified_password_costs_no_second_check_until_reload() -> None:
    desk = Desk()
    desk.decide()
    took, decision = desk.decide(peer="192.0.2.99")
    assert (took, decision.reason, desk.hand.asked) == (0.0, Outcome.OK, 1)
    desk.decide(password=WRONG)
    assert desk.hand.asked == 2
    desk.auth.reload([account()], desk.limits)
    desk.decide()
    assert desk.hand.asked == 3


def test_nothing_remembered_contains_the_password() -> None:
    desk = Desk()
    desk.decide()
    assert RIGHT not in repr(desk.auth.__dict__).encode()
    check = desk.bind(password=WRONG)
    assert WRONG.decode() not in repr(check)
    desk.hand.finish()
    assert check.password == b""


CASES: list[tuple[Outcome, dict[str, Any]]] = [
    (Outcome.WRONG_PASSWORD, {"password": WRONG}),
    (Outcome.UNKNOWN_ID, {"name": b"nobody"}),
    (Outcome.UNKNOWN_ID, {"name": b"\xff\x00"}),
    (Outcome.WRONG_NETWORK, {"peer": "198.51.100.1"}),
    (Outcome.WRONG_NETWORK, {"peer": "2001:db8::1"}),
    (Outcome.WRONG_NETWORK, {"peer": "somewhere"}),
    (Outcome.NO_CERTIFICATE, {"name": b"mutual"}),
    (Outcome.SUSPENDED, {"name": b"asleep"}),
]
ACCOUNTS = (
    account(),
    account(system_id="mutual", client_certificate="ab" * 32),
    account(system_id="asleep", suspended=True),
)


@pytest.mark.parametrize(("outcome", "bind"), CASES)
def test_every_refusal_has_the_same_code_and_time(outcome: Outcome, bind: dict[str, Any]) -> None:
    desk = Desk(*ACCOUNTS)
    took, decision = desk.decide(**bind)
    assert decision == Decision(None, Status.RBINDFAIL, outcome)
    assert took == pytest.approx(1.0)
    # Where nobody may bind from nothing is looked at; everywhere else every name costs the same.
    assert desk.hand.asked == ("peer" not in bind)


@pytest.mark.parametrize(("took", "answered"), [(0.03, 1.0), (0.99, 1.0), (1.01, 2.0), (2.5, 3.0)])
def test_a_check_beyond_the_floor_waits_for_the_next_multiple(took: float, answered: float) -> None:
    assert Desk().decide(password=WRONG, took=took)[0] == pytest.approx(answered)


def test_without_a_floor_refusals_are_answered_at_once() -> None:
    assert Desk(refusal_floor=0).decide(name=b"nobody")[0] == 0.03
    assert Desk(refusal_floor=0).decide(peer="198.51.100.1")[0] == 0.0


@given(
    backlog=st.integers(0, 12),
    cost=st.floats(0.02, 0.9),
    case=st.sampled_from([c for c in CASES if c[0] is not Outcome.WRONG_PASSWORD]),
)
@settings(deadline=None, max_examples=60)
def test_under_load_an_unknown_name_takes_as_long_as_a_wrong_password(
    backlog: int, cost: float, case: tuple[Outcome, dict[str, Any]]
) -> None:
    """The check's cost is steady, two run at a time; the same backlog stands before both kinds of bind."""
    ends = (backlog // 2 + 1) * cost
    assume(abs(ends - round(ends)) > 1e-6)  # on a multiple of the floor, rounding of floats decides

    def measure(bind: dict[str, Any]) -> float:
        desk = Desk(*ACCOUNTS, id_failures=1000, address_failures=1000)
        desk.decide(password=WRONG, took=cost)  # so that the usual cost is known
        for _ in range(backlog):
            desk.bind(password=WRONG, peer="192.0.2.200")
        start = desk.clock.seconds()
        answered: list[float] = []
        desk.auth.check(
            bind.get("name", b"acme"),
            bind.get("password", RIGHT),
            bind.get("peer", A),
            None,
            lambda decision: answered.append(desk.clock.seconds() - start),
        )
        while not answered:
            running = len(desk.hand.waiting)
            desk.clock.advance(cost if running else 0.05)
            for _ in range(running):
                desk.hand.finish()
        return round(answered[0] / desk.limits.refusal_floor)

    assert measure(case[1]) == measure({"password": WRONG})


def test_the_queue_is_bounded_and_a_full_one_refuses_as_ever() -> None:
    desk = Desk(max_pending_auth=3)
    for _ in range(5):  # two run, three wait
        desk.bind()
    desk.bind()
    while desk.hand.waiting:
        desk.hand.finish()
    desk.clock.advance(1.0)
    assert [decision.reason for _, decision in desk.answers] == [Outcome.OK] * 5 + [Outcome.BUSY]
    assert desk.answers[-1][1].status == Status.RBINDFAIL
    assert desk.hand.asked == 5


def test_the_queue_of_refusals_is_bounded_too() -> None:
    desk = Desk(max_pending_auth=1, unbound=4, id_failures=1000, address_failures=1000)
    for _ in range(3):
        desk.bind(password=WRONG)
    for _ in range(20):
        desk.bind(name=b"nobody")
    assert len(desk.auth._queue) == 5
    desk.clock.advance(1.0)
    assert len(desk.answers) == 16


def test_two_hashes_live_while_a_password_is_rotated() -> None:
    both = account(password_hash=[HASH, HASH_2])
    seen: list[int] = []
    desk = Desk(both)
    original = desk.hand.verify

    def verify(hashes: tuple[PasswordHash, ...], password: bytes, done: Callable[[bool | None], None]) -> None:
        seen.append(len(hashes))
        original(hashes, password, done)

    desk.hand.verify = verify  # type: ignore[method-assign]
    desk.decide()
    assert seen == [2]


def test_repeated_failures_are_held_off_without_a_check() -> None:
    desk = Desk(id_failures=2)
    for _ in range(2):
        desk.decide(password=WRONG)
    asked = desk.hand.asked
    desk.guard.failed(b"acme", A, desk.clock.seconds())
    took, decision = desk.decide(password=RIGHT)
    assert (decision.reason, decision.status) == (Outcome.DELAYED, Status.RBINDFAIL)
    assert took == pytest.approx(1.0)
    assert desk.hand.asked == asked
    assert desk.decide(peer="192.0.2.2")[1].reason is Outcome.OK  # no lock of the name


def test_an_address_is_banned_for_failures_over_many_names() -> None:
    desk = Desk(address_failures=3)
    bans = [desk.decide(name=b"n%d" % i)[1].ban_began for i in range(3)]
    assert bans == [False, False, True]
    assert desk.decide()[1].reason is Outcome.BANNED
    assert desk.decide(peer="192.0.2.2")[1].reason is Outcome.OK


def test_a_burst_of_guesses_does_not_slip_past_the_guard() -> None:
    desk = Desk(id_failures=3)
    for _ in range(10):
        desk.bind(password=WRONG)
    while desk.hand.waiting:
        desk.hand.finish()
    assert desk.hand.asked <= 4  # those already running when the third failed
    desk.clock.advance(1.0)
    assert len(desk.answers) == 10


def test_refusals_that_are_no_guesses_are_not_counted() -> None:
    desk = Desk(account(suspended=True), id_failures=1, address_failures=2)
    for _ in range(5):
        assert desk.decide()[1].reason is Outcome.SUSPENDED


def test_a_cancelled_check_says_nothing_and_still_counts() -> None:
    desk = Desk(address_failures=3)
    queued, running = desk.bind(name=b"nobody"), desk.bind(password=WRONG)
    queued.cancel()
    running.cancel()
    desk.hand.finish()
    desk.hand.finish()
    desk.clock.advance(5.0)
    assert desk.answers == []
    assert desk.clock.getDelayedCalls() == []
    assert desk.guard.failed(b"third", A, desk.clock.seconds())


def test_a_cancelled_check_that_still_waits_costs_nothing() -> None:
    desk = Desk()
    checks = [desk.bind() for _ in range(4)]
    for check in checks[2:]:
        check.cancel()
    while desk.hand.waiting:
        desk.hand.finish()
    assert desk.hand.asked == 2


def test_a_broken_check_refuses_and_blames_nobody() -> None:
    desk = Desk(id_failures=1)
    desk.bind()
    desk.hand.finish(broken=True)
    desk.clock.advance(1.0)
    assert desk.answers.pop()[1].reason is Outcome.ERROR
    assert desk.decide()[1].reason is Outcome.OK


@pytest.mark.parametrize("accounts", [[], [account(password_hash=HASH_2)]])
def test_a_password_checked_against_replaced_settings_is_refused(accounts: list[Account]) -> None:
    desk = Desk()
    desk.bind()
    desk.auth.reload(accounts, desk.limits)
    desk.hand.finish()
    desk.clock.advance(1.0)
    assert desk.answers.pop()[1].reason is Outcome.ERROR
    assert not desk.auth._cache


def test_the_account_in_force_is_the_one_given() -> None:
    desk = Desk()
    desk.bind()
    desk.auth.reload([account(max_binds=9)], desk.limits)
    desk.hand.finish()
    decision = desk.answers.pop()[1]
    assert decision.account is not None and decision.account.max_binds == 9
    desk.bind()  # remembered, and gone before it is told
    desk.auth.reload([], desk.limits)
    desk.clock.advance(0)
    desk.clock.advance(1.0)
    assert desk.answers.pop()[1].reason is Outcome.ERROR


# -- certificates --------------------------------------------------------------------------------------------------


def test_a_certificate_is_known_by_fingerprint_or_name(certs: Path) -> None:
    parsed = x509.load_pem_x509_certificate((certs / "client.pem").read_bytes())
    der = parsed.public_bytes(serialization.Encoding.DER)
    right = sha256(der).hexdigest()
    assert certificate_matches(ClientCertificate(fingerprint=right), der)
    assert not certificate_matches(ClientCertificate(fingerprint="00" * 32), der)
    assert certificate_matches(ClientCertificate(name="Client.localhost"), der)
    assert not certificate_matches(ClientCertificate(name="localhost"), der)
    assert not certificate_matches(ClientCertificate(name="localhost"), None)
    assert not certificate_matches(ClientCertificate(name="localhost"), b"not a certificate")
    desk = Desk(account(client_certificate=right))
    assert desk.decide(certificate=der)[1].reason is Outcome.OK


# -- the real thing ------------------------------------------------------------------------------------------------


def hashed(password: bytes) -> PasswordHash:
    argon = Argon2id(salt=b"example-salt-001", length=32, iterations=2, lanes=1, memory_cost=19456)
    return account(password_hash=argon.derive_phc_encoded(password)).password_hash[0]


def test_argon2id_over_real_threads(loop: Loop) -> None:
    right = hashed(RIGHT)
    pool = ArgonPool(loop.reactor)
    auth = Authenticator(
        [account(password_hash=[hashed(b"older-horse"), right], networks="any")],
        Limits(refusal_floor=0.2),
        BindGuard(Limits()),
        pool,
        loop.reactor,
    )
    decisions: list[Decision] = []
    for password in (RIGHT, WRONG):
        auth.check(b"acme", password, A, None, decisions.append)
    loop.until(lambda: len(decisions) == 2)
    pool.stop()
    # Both are told after the floor; which of them first is nobody's business where checking takes longer than that.
    assert {decision.reason for decision in decisions} == {Outcome.OK, Outcome.WRONG_PASSWORD}


def test_peer_addresses_of_both_families_are_looked_for_in_networks() -> None:
    desk = Desk(account(networks=["2001:db8::/32", "192.0.2.0/24"]))
    for peer in ("2001:db8::1", A):
        ipaddress.ip_address(peer)
        assert desk.decide(peer=peer)[1].reason is Outcome.OK


# -- who exists ----------------------------------------------------------------------------------------------------

MANY = (
    account(),
    account(system_id="beta", password_hash=[HASH, HASH_2]),
    account(system_id="mutual", client_certificate="ab" * 32),
    account(system_id="asleep", suspended=True),
    account(system_id="elsewhere", networks=["203.0.113.0/24"]),
)


@given(
    existing=st.sampled_from([b"acme", b"mutual", b"asleep", b"elsewhere"]),
    cost=st.sampled_from([0.02, 0.15, 0.33, 0.7]),
    number=st.integers(1, 40),
    backlog=st.integers(0, 10),
    leavers=st.sets(st.integers(0, 39), max_size=6),
    limits=st.sampled_from([{}, {"id_failures": 1000, "address_failures": 1000}, {"max_pending_auth": 4}]),
)
@settings(deadline=None, max_examples=150)
def test_binds_at_once_tell_nothing_of_whether_the_name_exists(
    existing: bytes, cost: float, number: int, backlog: int, leavers: set[int], limits: dict[str, int]
) -> None:
    """Wrong passwords under a name: the same answers at the same moments, and the same work, as under a name of nobody."""

    def told(name: bytes) -> tuple[list[tuple[float, int]], int, bool]:
        desk = Desk(*MANY, **limits)
        for _ in range(backlog):
            desk.bind(name=b"acme", password=WRONG, peer="192.0.2.200")
        answers: list[tuple[float, int]] = []
        checks = [
            desk.auth.check(name, WRONG, A, None, lambda d: answers.append((round(desk.clock.seconds(), 6), d.status)))
            for _ in range(number)
        ]
        for place in leavers:
            if place < number:
                checks[place].cancel()
        for _ in range(400):
            running = len(desk.hand.waiting)
            if not running and not desk.clock.getDelayedCalls():
                break
            desk.clock.advance(cost if running else 0.05)
            for _ in range(running):
                desk.hand.finish()
        return answers, desk.hand.asked, desk.guard.banned(A, desk.clock.seconds())

    assert told(existing) == told(b"nobody") == told(b"somebody else")


@given(
    names=st.lists(st.binary(min_size=1, max_size=15), min_size=1, max_size=5),
    peer=st.sampled_from(["10.0.0.1", "::1", "x"]),
)
def test_from_where_nobody_may_bind_nothing_is_looked_at(names: list[bytes], peer: str) -> None:
    desk = Desk(*MANY)
    for name in [*names, b"acme"]:
        assert desk.decide(name=name, peer=peer)[0] == pytest.approx(1.0)
    assert desk.hand.asked == 0


def test_a_stand_in_never_lets_anybody_in() -> None:
    desk = Desk()
    took, decision = desk.decide(name=b"nobody", password=RIGHT)
    assert took == pytest.approx(1.0)
    assert (decision.account, decision.reason) == (None, Outcome.UNKNOWN_ID)
    for name in (b"asleep", b"mutual", b"elsewhere"):
        assert Desk(*MANY).decide(name=name, password=RIGHT)[1].account is None


def test_a_suspended_account_is_banned_for_like_any_other() -> None:
    desk = Desk(account(suspended=True), address_failures=3, id_failures=1000)
    assert [desk.decide(password=WRONG)[1].reason for _ in range(4)] == [Outcome.WRONG_PASSWORD] * 3 + [Outcome.BANNED]


def test_names_are_told_as_accounts_or_as_a_keyed_hash() -> None:
    desk, other = Desk(), Desk()
    assert desk.auth.name_for_log(b"acme") == ("account", "acme")
    field, told = desk.auth.name_for_log(b"hunter2hunter2")
    assert field == "name_hash" and len(told) == 12 and "hunter" not in told
    assert desk.auth.name_for_log(b"hunter2hunter2")[1] == told != desk.auth.name_for_log(b"hunter3hunter3")[1]
    assert other.auth.name_for_log(b"hunter2hunter2")[1] != told
