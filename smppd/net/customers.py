"""The customers' side: a ``CustomerLink`` joins a pipe, a session and the relay; ``Customers`` knows them all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from smppd import config
from smppd.metrics import Metrics
from smppd.net.auth import Authenticator, Check, Decision
from smppd.net.transport import Pipe
from smppd.protocol.operations import BINDS, Bind, bind_response, read_bind
from smppd.protocol.session import Role, Session, Timers
from smppd.protocol.wire import BodyError, Command, Status, refusal
from smppd.relay.model import Account
from smppd.relay.relay import Relay

log = logging.getLogger("smppd.customers")
SYSTEM_ID: Final = b"smppd"
_MODES: Final = {
    int(Command.BIND_TRANSMITTER): "transmitter",
    int(Command.BIND_RECEIVER): "receiver",
    int(Command.BIND_TRANSCEIVER): "transceiver",
}
# Interface versions up to 3.3 are written 0x00 to 0x33 (SMPP 3.4 section 5.2.4).
_VERSIONS: Final = ((0x33, "3.3"), (0x34, "3.4"), (0x50, "5.0"))


def version_name(version: int) -> str | None:
    """The version behind interface_version, None for one that nobody defined."""
    if version <= 0x33:
        return "3.3"
    return next((name for number, name in _VERSIONS if number == version), None)


def timers(limits: config.Limits) -> Timers:
    """The deadlines of a customer's session."""
    return Timers(
        bind=limits.bind,
        pdu=limits.pdu,
        enquire_link=limits.enquire_link,
        inactivity=limits.inactivity,
        response=limits.response,
        max_pdu=limits.max_pdu,
        max_pdu_unbound=limits.max_pdu_unbound,
        control_rate=limits.control_rate,
        control_burst=limits.control_burst,
        bad_bodies=limits.bad_bodies,
    )


class Customers:
    """All customer connections. ``heard(event, fields)`` is told of binds for the audit trail."""

    def __init__(
        self,
        relay: Relay,
        authenticator: Authenticator,
        metrics: Metrics,
        limits: config.Limits,
        now: Callable[[], float],
        heard: Callable[[str, dict[str, str]], None],
    ) -> None:
        self.relay = relay
        self.authenticator = authenticator
        self.metrics = metrics
        self.limits = limits
        self.now = now
        self.heard = heard
        self.links: set[CustomerLink] = set()
        self.draining = False

    def handler(self, pipe: Pipe) -> CustomerLink:
        """The handler of a new connection."""
        return CustomerLink(self, pipe)

    def tick(self, now: float) -> None:
        """Once a second: everybody's deadlines."""
        for link in list(self.links):
            link.sweep(now)

    def unbind_all(self) -> None:
        """Asks every customer to go."""
        self.draining = True
        for link in list(self.links):
            link.unbind()


class CustomerLink:
    """One connection of a customer: ``transport.Handler`` to the pipe, ``relay.model.Customer`` to the relay."""

    __slots__ = ("_check", "_customers", "_pipe", "_up", "account", "address", "session", "version")

    account: Account

    def __init__(self, customers: Customers, pipe: Pipe) -> None:
        self._customers = customers
        self._pipe = pipe
        self._check: Check | None = None
        self._up = False
        self.version = 0x34
        self.address = pipe.peer.encode()
        self.session = Session(Role.SMSC, timers(customers.limits), customers.now())
        customers.links.add(self)

    def __repr__(self) -> str:
        return f"<CustomerLink {self._pipe.peer} {self.session.state.value}>"

    # -- transport.Handler ---------------------------------------------------------------------------------------------

    def connected(self, pipe: Pipe) -> None:
        """The pipe is open."""
        pipe.on_drained = self._drained

    def received(self, data: bytes) -> None:
        """Bytes from the customer. An error here is ours: it ends this session only, and is counted."""
        try:
            self._work(data)
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    def lost(self, reason: str) -> None:
        """The connection is gone."""
        customers = self._customers
        customers.links.discard(self)
        if self._check is not None:
            self._check.cancel()
            self._check = None
        tokens = self.session.abandon()
        if self._up:
            self._up = False
            log.info(
                "session ended",
                extra={"fields": {"account": self.account.name, "peer": self._pipe.peer, "reason": reason}},
            )
            customers.relay.customer_down(self, tokens, customers.now())

    # -- work ----------------------------------------------------------------------------------------------------------

    def _work(self, data: bytes) -> None:
        customers = self._customers
        now = customers.now()
        session = self.session
        got = session.receive(data, now)
        if got.answers:
            customers.relay.mailroom.answered(self, got.answers, now)
        if got.messages:
            customers.relay.submitted(self, got.messages, now)
        if got.others:
            self._others(got.others, now)
        self._settle()
        customers.relay.context.flush()

    def _broken(self) -> None:
        log.exception("error in a customer's session", extra={"fields": {"peer": self._pipe.peer}})
        self._customers.metrics.errors.labels("customer").inc()
        self.session.close("internal error")
        self._pipe.abort("internal error")

    def _others(self, others: list[tuple[int, bytes]], now: float) -> None:
        rest = []
        for command, raw in others:
            if command in BINDS:
                self._bind(raw, now)
            else:
                rest.append((command, raw))
        if rest:
            self._customers.relay.enquiries.take(self, rest, now)

    def _settle(self) -> None:
        """Writes what is to be said, and lets the pipe follow the session: pause, resume, close."""
        session = self.session
        pipe = self._pipe
        if session.out:
            pipe.write(session.take())
        if session.close_reason is not None:
            if session.garbage:
                self._customers.metrics.garbage.inc()
            pipe.close(session.close_reason.partition(":")[0])
        elif session.blocked or self._check is not None:
            pipe.pause()
        elif pipe.paused and not pipe.choked:
            pipe.resume()

    def flush(self) -> None:
        """Something was put into ``session.out``."""
        session = self.session
        if session.out:
            self._pipe.write(session.take())
        if session.blocked and session.unanswered < session.window:
            # What was held back may go on; it may block again at once.
            self.received(b"")
        elif session.close_reason is not None:
            self._settle()

    def _drained(self) -> None:
        self.received(b"")

    def sweep(self, now: float) -> None:
        """Deadlines."""
        try:
            expired = self.session.sweep(now)
            if expired and self._up:
                self._customers.relay.mailroom.unanswered(self.account, expired, now, wait=True)
            if self.session.blocked:
                self._work(b"")
            self._settle()
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    def unbind(self) -> None:
        """Asks the customer to go."""
        self.session.unbind(self._customers.now())
        self._settle()

    # -- binding -------------------------------------------------------------------------------------------------------

    def _bind(self, raw: bytes, now: float) -> None:
        try:
            bind = read_bind(raw)
        except BodyError as error:
            self.session.refuse_bind()
            self.session.bad_body(now)
            command = int.from_bytes(raw[4:8], "big")
            self.session.out.append(refusal(command, error.status, int.from_bytes(raw[12:16], "big")))
            return
        self._check = self._customers.authenticator.check(
            bind.system_id, bind.password, self._pipe.peer, self._pipe.certificate, lambda d: self._decided(bind, d)
        )

    def _decided(self, bind: Bind, decision: Decision) -> None:
        self._check = None
        try:
            self._answer_bind(bind, decision)
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    def _answer_bind(self, bind: Bind, decision: Decision) -> None:
        customers = self._customers
        now = customers.now()
        reason, status = str(decision.reason), decision.status
        account = customers.relay.context.accounts.get(decision.account.system_id) if decision.account else None
        if account is not None and not status:
            status, reason = self._allowed(account, bind)
        if account is None or status:
            status = status or Status.RBINDFAIL
            customers.metrics.binds_refused.labels(reason).inc()
            fields = {"peer": self._pipe.peer, "reason": reason}
            log.warning("bind refused", extra={"fields": fields})
            customers.heard("bind refused", fields)
            self.session.refuse_bind()
            self.session.out.append(bind_response(bind, status, SYSTEM_ID, 0x34))
        else:
            self.account = account
            self.version = bind.version
            settings = account.settings
            self.session.accept_bind(bind.command, window=settings.window, outstanding_limit=settings.receipts.window)
            self._up = True
            self._pipe.mark_bound()
            mode = _MODES[bind.command]
            customers.metrics.binds.labels(account.name, mode).inc()
            fields = {
                "account": account.name,
                "peer": self._pipe.peer,
                "mode": mode,
                "tls": self._pipe.tls_version or "",
            }
            log.info("bind accepted", extra={"fields": fields})
            customers.heard("bind accepted", fields)
            self.session.out.append(bind_response(bind, 0, SYSTEM_ID, min(max(bind.version, 0x33), 0x50)))
            self._settle()
            customers.relay.customer_up(self, now)
        self._work(b"")

    def _allowed(self, account: Account, bind: Bind) -> tuple[int, str]:
        """What speaks against this bind of a customer who is who he says."""
        settings = account.settings
        if self._customers.draining or account.closed:
            return Status.RBINDFAIL, "draining"
        version = version_name(bind.version)
        if version is None or version not in settings.interface_versions:
            return Status.RBINDFAIL, "version"
        if _MODES[bind.command] not in settings.binds:
            return Status.RBINDFAIL, "mode"
        if len(account.sessions) >= settings.max_binds:
            if settings.when_full != "evict_oldest":
                return Status.RALYBND, "too many binds"
            oldest: Any = account.sessions[0]
            oldest.evict()
        return Status.ROK, ""

    def evict(self) -> None:
        """Makes room for a newer bind of the same account."""
        self.session.close("evicted by a newer bind")
        self._pipe.abort("evicted")


__all__ = ["CustomerLink", "Customers", "timers", "version_name"]
