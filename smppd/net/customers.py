"""The customers' side: a ``CustomerLink`` joins a pipe, a session and the relay. ``Customers`` holds all of them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from smppd import config
from smppd.events import AuditEvent
from smppd.metrics import Metrics
from smppd.net.auth import Authenticator, BindCheck, Decision
from smppd.net.binds import NAMES_TOLD, REFUSALS, AcceptedBinds, Heard, RefusedBinds
from smppd.net.bound import BoundAccounts
from smppd.net.limits import BindRate
from smppd.net.sessions import Meter, SessionView, view
from smppd.net.standing import Shown, asks_the_same, surplus, unfit
from smppd.net.tracing import Recording
from smppd.net.transport import Pipe
from smppd.protocol.operations import Bind, bind_response, read_bind
from smppd.protocol.session import Role, Session, SessionState, Timers
from smppd.protocol.wire import BodyError, Command, Status, refusal, request_command, sequence_number
from smppd.relay.relay import Relay
from smppd.relay.state.model import Account

log = logging.getLogger("smppd.customers")
SYSTEM_ID: Final = b"smppd"
_MODES: Final = {
    int(Command.BIND_TRANSMITTER): "transmitter",
    int(Command.BIND_RECEIVER): "receiver",
    int(Command.BIND_TRANSCEIVER): "transceiver",
}
# Interface versions up to 3.3 are written 0x00 to 0x33 (SMPP 3.4 section 5.2.4).
_VERSIONS: Final = ((0x33, "3.3"), (0x34, "3.4"), (0x50, "5.0"))
TURNS: Final = 10
TURN_SECONDS: Final = 0.003
"""What something that is done to many sessions takes of one turn of the reactor; the next ones come in the next turn."""


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


class Ending(NamedTuple):
    """A session that a configuration would end, and why."""

    link: CustomerLink
    why: str


class Customers:
    """All customer connections."""

    def __init__(
        self,
        relay: Relay,
        authenticator: Authenticator,
        metrics: Metrics,
        limits: config.Limits,
        now: Callable[[], float],
        heard: Heard,
    ) -> None:
        self.relay = relay
        self.authenticator = authenticator
        self.metrics = metrics
        self.now = now
        self.heard = heard
        self.refusals = RefusedBinds(heard)
        self.accepted = AcceptedBinds(heard)
        self.bind_rate = BindRate(limits)
        self.bound = BoundAccounts()
        self.limits = limits
        self.timers = timers(limits)
        self.links: set[CustomerLink] = set()
        self._turns: tuple[set[CustomerLink], ...] = tuple(set() for _ in range(TURNS))
        self._made = self._turn = 0
        self._steps: deque[Callable[[], None]] = deque()
        self.draining = False
        self.traced: dict[str, Recording] = {}
        """By account: what hears its sessions (`net.tracing`)."""

    def handler(self, pipe: Pipe) -> CustomerLink:
        """The handler of a new connection."""
        self._made += 1
        link = CustomerLink(self, pipe, self._turns[self._made % TURNS], self._made)
        self.links.add(link)
        return link

    def reload(self, limits: config.Limits) -> None:
        """The limits have changed, and in the relay the accounts. Bound sessions take them over. Those that may not stand any
        more (`standing`) are unbound. It is done in steps, as everything that concerns many sessions."""
        self.limits = limits
        self.timers = timers(limits)
        self.bind_rate.reload(limits)
        self._each(self.links, CustomerLink.reload)
        for account in self._accounts():
            self._do(partial(self._end_surplus, account))

    def endings(self, wanted: Mapping[str, config.Account]) -> Iterator[Ending | None]:
        """The sessions that a reload would end: ``wanted`` are the accounts that it would bring. Once for each session there is
        an ending or None, so that whoever asks can give way to the reactor between two of them. Changes nothing."""
        for account in self._accounts():
            settings = wanted.get(account.name)
            fit: list[CustomerLink] = []
            for link in self._standing(account):
                why = link.unfit(settings)
                if why is None:
                    fit.append(link)
                yield None if why is None else Ending(link, why)
            if settings is not None:
                for link in surplus(fit, settings):
                    yield Ending(link, _too_many(settings))

    def _accounts(self) -> list[Account]:
        """The accounts that have sessions, by name."""
        return sorted({link.account for link in self.links if link.up}, key=lambda account: account.name)

    @staticmethod
    def _standing(account: Account) -> list[CustomerLink]:
        """The sessions of an account that stand and are not on their way out, the oldest first."""
        return [link for link in account.sessions if isinstance(link, CustomerLink) and link.stands]

    def _end_surplus(self, account: Account) -> None:
        settings = account.settings
        if not account.closed:
            for link in surplus(self._standing(account), settings):
                link.end(_too_many(settings))

    def _each(self, links: Iterable[CustomerLink], act: Callable[[CustomerLink], None]) -> None:
        """Does something to each of some sessions, in steps, after what is to be done to other sessions: each may send much
        then."""
        idle = not self._steps
        self._steps.extend(partial(act, link) for link in links)
        if idle:
            self._step()

    def _do(self, act: Callable[[], None]) -> None:
        """Does something when all that is to be done to sessions is done."""
        if self._steps:
            self._steps.append(act)
        else:
            act()

    def _step(self) -> None:
        until = self.now() + TURN_SECONDS
        while self._steps:
            self._steps.popleft()()
            if self._steps and self.now() >= until:
                self.relay.later(0.0, self._step)
                return

    def tick(self, now: float) -> None:
        """Call ten times a second: checks the deadlines of a tenth of the sessions, so that 10,000 sessions hold up nothing.
        While there is more to do than time, deadlines wait."""
        if not self._steps:
            self._turn = (self._turn + 1) % TURNS
            self._each(self._turns[self._turn], lambda link: link.sweep(now))
        self.refusals.tick(now)
        self.accepted.tick(now)

    def views(self, accounts: Container[str] | None) -> Iterator[SessionView]:
        """The sessions, in the order of connecting; of some accounts alone, or all (None). Each is made as it is asked for."""
        now = self.now()
        for link in sorted(self.links, key=lambda one: one.number):
            if accounts is None or link.name in accounts:
                yield link.view(now)

    def find(self, session: str) -> CustomerLink | None:
        """The connection of this id, `c17`."""
        return next((one for one in self.links if f"c{one.number}" == session), None)

    def evict_oldest(self, account: str, places: int) -> None:
        """Ends so many of an account's sessions, the oldest first: a newer bind at another node has their places. Only where
        the account's settings say that the oldest give way."""
        found = self.relay.account(account)
        if found is not None and found.settings.when_full == "evict_oldest":
            for oldest in self._standing(found)[:places]:
                oldest.evict()

    def trace(self, account: str, recording: Recording) -> None:
        """From now on a trace hears all sessions of an account, and each bind that names it, until ``traced`` has it no
        more."""
        self.traced[account] = recording
        for link in self.links:
            if link.is_of(account):
                link.trace(recording)

    def ban_began(self, peer: str, who: tuple[str, str]) -> None:
        """A ban of an address began, or of one name from an address; `smppd bans list` shows which."""
        fields = {"peer": peer, who[0]: who[1]}
        log.warning("ban began", extra={"fields": fields})
        self.heard(AuditEvent.BAN_BEGAN, fields)

    def flush_bind_notes(self) -> None:
        """Writes all binds that were gathered into the audit trail, before the daemon ends."""
        now = self.now()
        self.refusals.tick(now, every=True)
        self.accepted.tick(now, every=True)

    def meant(
        self, *, account: str | None = None, address: str | None = None, number: int | None = None
    ) -> list[CustomerLink]:
        """The connections of an account, those from an address, or the one of this number."""
        return [
            link
            for link in self.links
            if (account is not None and link.name == account)
            or (address is not None and link.peer == address)
            or (number is not None and link.number == number)
        ]

    def kick(self, links: Iterable[CustomerLink]) -> None:
        """Unbinds customers, in steps: each when its messages are answered, within the response timer. They may bind again."""
        self._each(links, CustomerLink.unbind)

    def unbind_all(self, *, at_once: bool = False) -> None:
        """Unbinds every customer: each when its messages are answered, or ``at_once``."""
        self.draining = True
        self._each(self.links, lambda link: link.unbind(at_once=at_once))


def _too_many(settings: config.Account) -> str:
    return f"more than max_binds, which is {settings.max_binds}"


class CustomerLink:
    """One connection of a customer: ``transport.Handler`` to the pipe, ``relay.state.model.CustomerPeer`` to the relay."""

    __slots__ = (
        "_allowed_by",
        "_check",
        "_customers",
        "_leave_by",
        "_meter",
        "_mode",
        "_over",
        "_pipe",
        "_up",
        "account",
        "address",
        "number",
        "session",
        "version",
        "_turn",
    )

    account: Account
    _allowed_by: config.Account
    """The settings of its account by which it was let stand at last."""

    def __init__(self, customers: Customers, pipe: Pipe, turn: set[CustomerLink], number: int) -> None:
        """`turn`: those that are swept together. `number`: of the connection, which no other one gets."""
        self._customers = customers
        self._pipe = pipe
        self._check: BindCheck | None = None
        self._up = False
        self._over = False
        self._leave_by: float | None = None  # set once the session is to be unbound
        self._mode: str | None = None
        self.number = number
        self.version = 0x34
        self.address = pipe.peer.encode()
        now = customers.now()
        self.session = Session(Role.SMSC, customers.timers, now)
        self._meter = Meter(now)
        self._turn = turn
        turn.add(self)

    def __repr__(self) -> str:
        return f"<CustomerLink {self._pipe.peer} {self.session.state.value}>"

    @property
    def up(self) -> bool:
        """Whether it has bound, and the relay knows it."""
        return self._up

    @property
    def stands(self) -> bool:
        """Whether it is bound and stays so, as far as we know."""
        return self._up and self._leave_by is None and self.session.state is not SessionState.CLOSED

    @property
    def mode(self) -> str:
        """Its bind operation; empty before a bind."""
        return self._mode or ""

    @property
    def receives(self) -> bool:
        """Whether its bind takes mail."""
        return self._mode not in (None, "transmitter")

    @property
    def tls_version(self) -> str:
        """The version of TLS that it speaks; empty where it speaks none."""
        return self._pipe.tls_version or ""

    def unfit(self, settings: config.Account | None) -> str | None:
        """Why it could not stand by these settings of its account (`standing.unfit`)."""
        if settings is not None and asks_the_same(settings, self._allowed_by):
            return None
        version = version_name(self.version) or ""
        return unfit(Shown(self._pipe.peer, self._pipe.certificate, self.mode, version), settings)

    @property
    def name(self) -> str | None:
        """Its account's name; None before a bind."""
        return None if self._mode is None else self.account.name

    @property
    def peer(self) -> str:
        """The address it comes from."""
        return self._pipe.peer

    def view(self, now: float) -> SessionView:
        """What an operator sees of it."""
        version = None if self._mode is None else version_name(self.version)
        return view(
            f"c{self.number}", "customer", self.name, self._pipe, self.session, self._meter, self._mode, version, now
        )

    # -- transport.Handler ---------------------------------------------------------------------------------------------

    def connected(self, pipe: Pipe) -> None:
        """The pipe is open."""
        pipe.on_drained = self._drained
        self._customers.metrics.connections.labels("customer", "accepted").inc()

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
        self._turn.discard(self)
        self._over = True
        self._cancel_check()
        tokens = self.session.abandon()
        if self._up:
            self._up = False
            customers.bound.left(self.account.name, receives=self.receives)
            log.info(
                "session ended",
                extra={"fields": {"account": self.account.name, "peer": self._pipe.peer, "reason": reason}},
            )
            try:
                customers.relay.customer_left(self, tokens, customers.now())
            except Exception:  # noqa: BLE001  the session's edge
                self._broken()

    # -- work ----------------------------------------------------------------------------------------------------------

    def _work(self, data: bytes) -> None:
        customers = self._customers
        now = customers.now()
        session = self.session
        again = True
        while again:
            got = session.receive(data, now)
            if session.nacks:
                customers.relay.peer_nacked("account", self.account.name if self._up else "", session, now)
            again = False
            if self._up:
                customers.relay.customer_sent(self, got.answers, got.messages, got.others, now)
            elif got.others:
                # A bind that cannot be read is answered here, and the PDUs behind it are handled.
                again = not self._bind(got.others[0][1], now)
            data = b""
        self._settle()
        customers.relay.flush()

    def is_of(self, account: str) -> bool:
        """Whether it is bound for this account."""
        return self._up and self.account.name == account

    @property
    def is_traced(self) -> bool:
        """Whether a trace hears it."""
        return self._pipe.tap is not None

    def trace(self, recording: Recording) -> None:
        """From now on a trace hears it."""
        recording.tap(self._pipe, "customer", self.session.unread)

    def _broken(self) -> None:
        log.exception("error in a customer's session", extra={"fields": {"peer": self._pipe.peer}})
        self._customers.metrics.errors.labels("customer").inc()
        self._over = True
        self._cancel_check()
        self.session.close("internal error")
        self._pipe.abort("internal error")

    def _settle(self) -> None:
        """Writes what the session has to send, and pauses, resumes or closes the pipe as the session needs it."""
        session = self.session
        pipe = self._pipe
        leaving = self._leave_by is not None and session.bound
        if leaving and not session.unanswered:
            session.unbind(self._customers.now())
            leaving = False
        if session.out:
            self._write()
        if session.close_reason is not None:
            self._end()
        elif session.blocked or leaving or self._check is not None:
            pipe.pause()
        elif pipe.paused:
            pipe.resume()

    def _write(self) -> None:
        self._pipe.write(self.session.take())
        if self._pipe.choked:
            # No mail is sent into a pipe that the customer does not read. Another session of the account may have room.
            self.session.outstanding_limit = 0

    def _end(self) -> None:
        """Closes the pipe when the session has ended, once."""
        if self._over:
            return
        self._over = True
        self._cancel_check()
        session = self.session
        if session.garbage:
            self._customers.metrics.garbage.inc()
        self._pipe.close((session.close_reason or "closed").partition(":")[0])

    def flush(self) -> None:
        """Sends what was put into ``session.out``. It is called while another peer is served, so an error here ends this
        session only."""
        try:
            session = self.session
            if session.out:
                self._write()
            if session.blocked and session.unanswered < session.window:
                # PDUs that were held back may be handled now; the session may block again at once.
                self._work(b"")
            elif session.close_reason is not None or self._leave_by is not None:
                self._settle()
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    def _drained(self) -> None:
        try:
            self._work(b"")
            if self._up and not self._pipe.choked:
                self._open_window()
                self._customers.relay.customer_writable(self, self._customers.now())
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    def _open_window(self) -> None:
        settings = self.account.settings
        self.session.window = settings.window
        self.session.outstanding_limit = 0 if self._pipe.choked else settings.deliver_window

    def sweep(self, now: float) -> None:
        """Deadlines."""
        try:
            session = self.session
            self._meter.look(session.messages_received, now)
            expired = session.sweep(now)
            if session.unknown_responses:
                self._customers.metrics.stray_responses.labels("customer").inc(session.unknown_responses)
                session.unknown_responses = 0
            if expired and self._up:
                self._customers.relay.customer_silent(self, expired, now)
            if session.blocked:
                self._work(b"")
            elif session.out or session.close_reason is not None:
                self._settle()
            if self._leave_by is not None and now >= self._leave_by:
                self.unbind(at_once=True)
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    def reload(self) -> None:
        """The settings behind this session may have changed."""
        try:
            self.session.timers = self._customers.timers
            if not self._up:
                return
            settings = self.account.settings
            why = self.unfit(None if self.account.closed else settings)
            if why is not None:
                self.end(why)
            else:
                self._allowed_by = settings
                self._open_window()
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    def end(self, why: str) -> None:
        """Unbinds it since a reload does not let it stand; the log says why."""
        if self._leave_by is None:
            fields = {"account": self.account.name, "peer": self._pipe.peer, "reason": why}
            log.info("session ends by a reload", extra={"fields": fields})
        self.unbind()

    def unbind(self, *, at_once: bool = False) -> None:
        """Unbinds the customer when it has all its answers, within the response timer. Nothing more is read from it until
        then. A connection without a bind is closed."""
        try:
            now = self._customers.now()
            session = self.session
            if self._leave_by is None:
                self._leave_by = now + session.timers.response
            if at_once or not session.bound:
                session.unbind(now)
            self._settle()
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    # -- binding -------------------------------------------------------------------------------------------------------

    def _bind(self, raw: bytes, now: float) -> bool:
        """Begins to look at a bind; False when it could not be read and is answered."""
        try:
            bind = read_bind(raw)
        except BodyError as error:
            self.session.refuse_bind()
            self.session.bad_body(now)
            self.session.out.append(refusal(request_command(raw), error.status, sequence_number(raw)))
            return False
        if self._customers.traced:
            recording = self._customers.traced.get(bind.system_id.decode("latin-1"))
            for one in self._customers.traced.values():
                if one is not recording:  # a bind before this one named another account, and was refused
                    one.leave(self._pipe)
            if recording is not None:
                recording.tap(self._pipe, "customer", raw + self.session.unread)
        self._check = self._customers.authenticator.check(
            bind.system_id, bind.password, self._pipe.peer, self._pipe.certificate, lambda d: self._decided(bind, d)
        )
        return True

    def _cancel_check(self) -> None:
        check, self._check = self._check, None
        if check is not None:
            check.cancel()

    def _decided(self, bind: Bind, decision: Decision) -> None:
        self._check = None
        try:
            if self.session.state is SessionState.BINDING:
                self._answer_bind(bind, decision)
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    def _answer_bind(self, bind: Bind, decision: Decision) -> None:
        customers = self._customers
        now = customers.now()
        reason, status = str(decision.reason), decision.status
        account = customers.relay.account(decision.account.system_id) if decision.account else None
        if account is not None and not status:
            status, reason = self._allowed(account, bind)
        if account is None or status:
            status = status or Status.RBINDFAIL
            customers.metrics.binds_refused.labels(reason).inc()
            who = customers.authenticator.name_for_log(bind.system_id)
            if who[0] == "account":
                customers.metrics.account_binds_refused.labels(who[1], reason).inc()
            customers.refusals.note(reason, self._pipe.peer, now, who)
            if decision.ban_began:
                customers.ban_began(self._pipe.peer, who)
            self.session.refuse_bind()
            self.session.out.append(bind_response(bind, status, SYSTEM_ID, 0x34))
        else:
            self.account = account
            self.version = bind.version
            settings = account.settings
            self.session.accept_bind(bind.command, window=settings.window, outstanding_limit=settings.deliver_window)
            self._up = True
            self._pipe.mark_bound()
            mode = self._mode = _MODES[bind.command]
            self._allowed_by = settings
            customers.bound.came(account.name, receives=self.receives)
            customers.metrics.binds.labels(account.name, mode).inc()
            fields = {
                "account": account.name,
                "peer": self._pipe.peer,
                "mode": mode,
                "tls": self._pipe.tls_version or "",
            }
            log.info("bind accepted", extra={"fields": fields})
            customers.accepted.note(fields, now)
            self.session.out.append(bind_response(bind, 0, SYSTEM_ID, min(max(bind.version, 0x33), 0x50)))
            self._settle()
            customers.relay.customer_bound(self, now)
        self._work(b"")

    def _allowed(self, account: Account, bind: Bind) -> tuple[int, str]:
        """The reason to refuse this bind of a customer whose name and password are right; None for none."""
        settings = account.settings
        if self._customers.draining:
            return Status.RBINDFAIL, "draining"
        if account.closed or settings.suspended:  # a reload came while the password was checked
            return Status.RBINDFAIL, "suspended"
        version = version_name(bind.version)
        if version is None or version not in settings.interface_versions:
            return Status.RBINDFAIL, "version"
        if settings.strict_fields and (len(bind.system_id) > 15 or len(bind.password) > 8):
            return Status.RBINDFAIL, "strict"
        if _MODES[bind.command] not in settings.binds:
            return Status.RBINDFAIL, "mode"
        # Sessions that have ended and whose connection is still closing hold no place.
        standing: list[Any] = [one for one in account.sessions if one.session.state is not SessionState.CLOSED]
        customers = self._customers
        over = len(standing) + customers.bound.elsewhere(account.name) - settings.max_binds + 1
        if over > 0 and settings.when_full != "evict_oldest":
            return Status.RALYBND, "too many binds"
        if not customers.bind_rate.allows(account.name, self._pipe.peer, settings.max_binds, customers.now()):
            return Status.RTHROTTLED, "bind rate"
        for oldest in standing[: max(0, over)]:
            oldest.evict()
        if over > len(standing):
            customers.bound.wanted(account.name, over - len(standing))
        return Status.ROK, ""

    def evict(self) -> None:
        """Makes room for a newer bind of the same account."""
        self._over = True
        self.session.close("evicted by a newer bind")
        self._pipe.abort("evicted")


__all__ = ["NAMES_TOLD", "REFUSALS", "CustomerLink", "Customers", "RefusedBinds", "timers", "version_name"]
