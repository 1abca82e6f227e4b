"""Checks binds by name, network, client certificate and password. Every refusal has the same answer.

A peer must not learn from code or time whether a name exists, however busy the daemon is. So each refusal has the same status
and goes out a whole number of `limits.refusal_floor` after the bind came; and whether a password is checked depends on where a
bind comes from, never on its name: from an address that could bind as anybody at all, an unknown name is checked against the
hashes of some account, in the same queue, and refused whatever comes out. From any other address nothing is checked.
"""

from __future__ import annotations

import hmac
import math
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b, sha256
from ipaddress import ip_address
from typing import Any, Final, Protocol

from cryptography import x509

from smppd.config import Account, ClientCertificate, Limits, PasswordHash
from smppd.net.limits import BindGuard, BindHold, Networks
from smppd.passwords import password_matches
from smppd.protocol.wire import Status

WORKERS: Final = 2
_NICENESS: Final = 10


class Outcome(StrEnum):
    """How a bind fared: for metrics and the audit, never for the peer."""

    OK = "ok"
    UNKNOWN_ID = "unknown_id"
    WRONG_PASSWORD = "wrong_password"
    WRONG_NETWORK = "wrong_network"
    NO_CERTIFICATE = "no_certificate"
    SUSPENDED = "suspended"
    BANNED = BindHold.BANNED
    DELAYED = BindHold.DELAYED
    BUSY = "busy"
    ERROR = "error"


# Outcomes that a guesser causes. The others say nothing about who the peer is.
_FAILURES: Final = frozenset(
    {Outcome.UNKNOWN_ID, Outcome.WRONG_PASSWORD, Outcome.WRONG_NETWORK, Outcome.NO_CERTIFICATE}
)
_HELD: Final = frozenset({Outcome.BANNED, Outcome.DELAYED})


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a bind."""

    account: Account | None
    """Who it is; None when refused."""
    status: int
    """command_status for the peer: ESME_ROK or ESME_RBINDFAIL (SMPP 3.4 section 5.1.3)."""
    reason: Outcome
    ban_began: bool = False
    """This refusal was the one too many of its address, or of this name from there."""


Done = Callable[[Decision], None]


class Verifier(Protocol):
    """Checks a password against an account's hashes, and does not hold up the reactor."""

    def verify(self, hashes: tuple[PasswordHash, ...], password: bytes, done: Callable[[bool | None], None]) -> None:
        """`done`, in the reactor's thread: whether one of the hashes is of this password, None when it broke."""


class BindCheck:
    """A bind that is being checked. Its repr shows nothing of the password."""

    __slots__ = ("account", "arrived", "done", "hashes", "left", "outcome", "password", "peer", "system_id", "timer")

    def __init__(self, system_id: bytes, password: bytes, peer: str, arrived: float, done: Done) -> None:
        self.system_id = system_id
        self.password = password
        self.peer = peer
        self.arrived = arrived
        self.done: Done | None = done
        self.account: Account | None = None
        self.outcome: Outcome | None = None
        """What is known already; a password may be looked at all the same."""
        self.hashes: tuple[PasswordHash, ...] = ()
        """What the password is looked at with; none: it is not looked at."""
        self.timer: Any = None  # IDelayedCall
        self.left: Callable[[], None] | None = None
        """While it waits for its password to be checked: tells that its peer has gone."""

    def __repr__(self) -> str:
        return f"<Check from {self.peer}>"

    def cancel(self) -> None:
        """The peer has gone: `done` is not called. A password that is being checked still counts as an attempt."""
        self.done, self.password = None, b""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()
        left, self.left = self.left, None
        if left is not None:
            left()


class Authenticator:
    """Decides binds. At most `limits.max_pending_auth` passwords wait, `WORKERS` are checked at a time."""

    def __init__(
        self, accounts: Iterable[Account], limits: Limits, guard: BindGuard, verifier: Verifier, clock: Any
    ) -> None:
        """`clock`: IReactorTime, monotonic as Twisted's reactors are."""
        self._guard = guard
        self._verifier = verifier
        self._clock = clock
        self._queue: deque[BindCheck] = deque()
        self._waiting = 0  # of the queue, those with a password to check
        self._running = 0
        self._usual = 0.0  # seconds a check takes, smoothed
        self._cache_key = b""
        self._cache: dict[bytes, tuple[bytes, ...]] = {}
        self._accounts: dict[bytes, Account] = {}
        self._order: list[Account] = []
        self._open = False  # an account binds from anywhere
        self._known = Networks()
        self._name_key = secrets.token_bytes(32)
        self._limits = limits
        self.reload(accounts, limits)

    def reload(self, accounts: Iterable[Account], limits: Limits) -> None:
        """New accounts and limits; remembered passwords are forgotten."""
        self._order = list(accounts)
        self._accounts = {account.system_id.encode("ascii"): account for account in self._order}
        self._open = any(account.networks == "any" for account in self._order)
        self._known = Networks.of(self._order)
        self._limits = limits
        self._guard.reload(limits)
        self._cache_key = secrets.token_bytes(32)
        self._cache.clear()

    def check(self, system_id: bytes, password: bytes, peer: str, certificate: bytes | None, done: Done) -> BindCheck:
        """Decides one bind. `done` is called once, and never from within this call. `certificate`: the peer's, DER."""
        check = BindCheck(system_id, password, peer, self._clock.seconds(), done)
        check.account = self._accounts.get(system_id)
        check.outcome = self._without_password(check, certificate)
        if check.outcome is None and self._remembered(check):
            check.timer = self._clock.callLater(0, self._accept, check)
            return check
        if check.outcome not in _HELD and (self._open or self._known.has(peer)):
            if self._waiting >= self._limits.max_pending_auth:
                check.outcome = Outcome.BUSY
            else:
                self._waiting += 1
                check.hashes = self._hashes(check)
                check.left = self._left
        if not check.hashes:
            check.password = b""
        # A bind without a password check waits in the queue too, so that it takes as long as one with a wrong password.
        most = self._limits.max_pending_auth + self._limits.unbound
        if len(self._queue) >= most:
            self._forget_who_left()
        if len(self._queue) < most:
            self._queue.append(check)
            self._advance()
        else:
            if check.left is not None:
                check.hashes, check.left, check.password = (), None, b""
                self._waiting -= 1
            check.outcome = check.outcome or Outcome.BUSY
            self._refuse(check)
        return check

    def _forget_who_left(self) -> None:
        """Takes peers that have gone out of the queue. Peers that wait are connected, so their number is bounded. The number
        of those that bound and left is not."""
        gone = [check for check in self._queue if check.done is None]
        self._queue = deque(check for check in self._queue if check.done is not None)
        for check in gone:
            if check.outcome is not None:
                self._refuse(check)  # counts all the same

    def _left(self) -> None:
        """A peer has gone whose password waits. Its place is free at once: otherwise peers that bind and leave could fill
        all places."""
        self._waiting -= 1

    def name_for_log(self, system_id: bytes) -> tuple[str, str]:
        """A name that was tried, as a field of the log: `account` where it is one, else `name_hash` with a keyed hash of it,
        for a password lands in this field by mistake. The key lives as long as the process."""
        account = self._accounts.get(system_id)
        if account is not None:
            return "account", account.system_id
        return "name_hash", blake2b(system_id, key=self._name_key, digest_size=6).hexdigest()

    # -- what needs no password ------------------------------------------------------------------------------------

    def _without_password(self, check: BindCheck, certificate: bytes | None) -> Outcome | None:
        held = self._guard.hold_of(check.system_id, check.peer, check.arrived)
        if held is not None:
            return Outcome(held)
        account = check.account
        if account is None:
            return Outcome.UNKNOWN_ID
        if account.networks != "any" and not within(check.peer, account.networks):
            return Outcome.WRONG_NETWORK
        if account.client_certificate is not None and not certificate_matches(account.client_certificate, certificate):
            return Outcome.NO_CERTIFICATE
        return Outcome.SUSPENDED if account.suspended else None

    def _hashes(self, check: BindCheck) -> tuple[PasswordHash, ...]:
        if check.account is not None:
            return check.account.password_hash
        # A name always leads to the same account, so that trying it again tells nothing. Each account is taken equally
        # often.
        digest = blake2b(check.system_id, key=self._name_key, digest_size=8, person=b"stand-in").digest()
        return self._order[int.from_bytes(digest) % len(self._order)].password_hash

    # -- passwords -------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        while self._queue and self._running < WORKERS:
            check = self._queue.popleft()
            if not check.hashes:
                self._refuse(check, as_if=self._usual)
                continue
            if check.done is None:
                continue
            check.left = None
            self._waiting -= 1
            # Asked again: the failures of other binds may have brought a ban while this one waited.
            held = self._guard.hold_of(check.system_id, check.peer, self._clock.seconds())
            if held is not None:
                check.outcome = Outcome(held)
                self._refuse(check, as_if=self._usual)
            else:
                self._verify(check)

    def _verify(self, check: BindCheck) -> None:
        began, hashes = self._clock.seconds(), check.hashes

        def verified(right: bool | None) -> None:
            self._running -= 1
            took = self._clock.seconds() - began
            self._usual = took if not self._usual else 0.9 * self._usual + 0.1 * took
            self._verified(check, right)
            self._advance()

        self._running += 1
        self._verifier.verify(hashes, check.password, verified)

    def _verified(self, check: BindCheck, right: bool | None) -> None:
        if right is None:
            check.outcome = Outcome.ERROR
        elif check.outcome is Outcome.SUSPENDED and not right:
            check.outcome = (
                Outcome.WRONG_PASSWORD
            )  # otherwise the passwords of a suspended account could be tried for ever
        if check.outcome is not None:
            self._refuse(check)
            return
        account = check.account = self._accounts.get(check.system_id)
        if account is None or account.password_hash != check.hashes:
            check.outcome = Outcome.ERROR  # reloaded meanwhile: the next attempt meets the new settings
            self._refuse(check)
        elif right:
            self._remember(check)
            self._accept(check)
        else:
            check.outcome = Outcome.WRONG_PASSWORD
            self._refuse(check)

    def _digest(self, check: BindCheck) -> bytes:
        return blake2b(
            len(check.system_id).to_bytes(2) + check.system_id + check.password, key=self._cache_key
        ).digest()

    def _remembered(self, check: BindCheck) -> bool:
        known = self._cache.get(check.system_id)
        if known is None:
            return False
        digest = self._digest(check)
        return any(hmac.compare_digest(digest, other) for other in known)

    def _remember(self, check: BindCheck) -> None:
        known, digest = self._cache.get(check.system_id, ()), self._digest(check)
        if digest not in known:
            self._cache[check.system_id] = (digest, *known)[:2]  # an account may have two hashes, and so two passwords

    # -- answers ---------------------------------------------------------------------------------------------------

    def _accept(self, check: BindCheck) -> None:
        check.timer = None
        self._guard.succeeded(check.system_id, check.peer, self._clock.seconds())
        account = self._accounts.get(check.system_id)
        if account is None:  # reloaded within this turn of the reactor
            check.outcome = Outcome.ERROR
            self._refuse(check)
            return
        self._say(check, Decision(account, Status.ROK, Outcome.OK))

    def _refuse(self, check: BindCheck, as_if: float = 0.0) -> None:
        """Refuses a bind: answers at the next multiple of the floor that is at least `as_if` seconds away."""
        assert check.outcome is not None
        now, floor = self._clock.seconds(), self._limits.refusal_floor
        ban = check.outcome in _FAILURES and self._guard.failed(check.system_id, check.peer, now)
        decision = Decision(None, Status.RBINDFAIL, check.outcome, ban)
        check.password = b""
        if check.done is None:
            return
        elapsed = now - check.arrived
        multiples = max(1, math.ceil((elapsed + as_if) / floor)) if floor else 0
        check.timer = self._clock.callLater(max(0.0, multiples * floor - elapsed), self._say, check, decision)

    def _say(self, check: BindCheck, decision: Decision) -> None:
        done, check.done, check.timer, check.password = check.done, None, None, b""
        if done is not None:
            done(decision)


def within(peer: str, networks: Iterable[Any]) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in networks)


def certificate_matches(wanted: ClientCertificate, certificate: bytes | None) -> bool:
    """Whether a verified client certificate (DER) bears the configured fingerprint, common name or DNS name."""
    if certificate is None:
        return False
    if wanted.fingerprint is not None:
        return hmac.compare_digest(sha256(certificate).hexdigest(), wanted.fingerprint)
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        names = [name.value for name in parsed.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        try:
            alternatives = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names += alternatives.value.get_values_for_type(x509.DNSName)
        except x509.ExtensionNotFound:
            pass
    except ValueError:  # an unusual certificate: OpenSSL takes it, this parser does not
        return False
    return wanted.name is not None and wanted.name.lower() in (str(name).lower() for name in names)


# -- Argon2id ------------------------------------------------------------------------------------------------------


class ArgonPool:
    """`Verifier` on a few threads that yield to everything else on the machine."""

    def __init__(self, reactor: Any, workers: int = WORKERS) -> None:
        """`reactor`: IReactorFromThreads."""
        self._reactor = reactor
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="password", initializer=_yield_to_others)

    def verify(self, hashes: tuple[PasswordHash, ...], password: bytes, done: Callable[[bool | None], None]) -> None:
        """See `Verifier`."""
        future = self._threads.submit(password_matches, hashes, password)
        future.add_done_callback(lambda future: self._reactor.callFromThread(_finished, future, done))

    def stop(self) -> None:
        """Drops what waits; a check under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _finished(future: Future[bool], done: Callable[[bool | None], None]) -> None:
    if not future.cancelled():
        done(None if future.exception() is not None else future.result())


def _yield_to_others() -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
    except OSError:
        pass  # not allowed here: they compete on equal terms
