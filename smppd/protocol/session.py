"""One SMPP connection as a state machine without I/O: bytes and the time go in, PDUs to handle and bytes to send come out.

Rules, for both roles (SMPP 3.4 section 2.2 and 2.3):
  1. ``_TRANSITIONS`` says which state follows which, ``_ALLOWED`` which request may be received in which state. A request
     out of place is answered ESME_RINVBNDSTS, an unknown one by generic_nack ESME_RINVCMDID; the session lives.
  2. Framing that can't be right ends the session at once, with no answer: the peer is not speaking SMPP.
  3. At most ``window`` messages of the peer are unanswered; what comes behind them waits unread, and so do control PDUs,
     alert_notifications and responses to nothing over their rate, an unbind behind unanswered messages, and what follows a
     bind until decided. ``blocked`` says so: stop reading, and call ``receive(b"")`` to go on. No deadline runs meanwhile.
  4. Requests of our own wait in ``outstanding`` until answered or until the response timer runs out.
  5. CLOSED is sticky. Every method takes ``now`` (monotonic seconds); nothing here reads a clock.
"""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import Any, Final, NamedTuple

from smppd.protocol.allowance import Allowance
from smppd.protocol.timers import Timers as Timers
from smppd.protocol.wire import HEADER, Command, Splitter, Status, pdu, refusal, with_sequence

_REST: Final = Struct(">III")
_SEQUENCE: Final = Struct(">I")
_LAST_SEQUENCE: Final = 0x7FFFFFFF
NACKS: Final = 100  # generic_nacks kept until somebody has looked at them (``Session.nacks``)


class Role(Enum):
    """Which end we are: the SMSC towards a customer, the ESME towards a carrier."""

    SMSC = "smsc"
    ESME = "esme"


class SessionState(Enum):
    """Session states of SMPP 3.4 section 2.2; BINDING and UNBINDING are the waits for the answer."""

    OPEN = "open"
    BINDING = "binding"
    BOUND_TX = "bound_tx"
    BOUND_RX = "bound_rx"
    BOUND_TRX = "bound_trx"
    UNBINDING = "unbinding"
    CLOSED = "closed"


_BOUND: Final = (SessionState.BOUND_TRX, SessionState.BOUND_TX, SessionState.BOUND_RX)
# Where all frames of a chunk are cut at once: nothing in them changes how the next ones are judged.
_STREAMING: Final = (*_BOUND, SessionState.UNBINDING)
_TRANSITIONS: Final[dict[SessionState, frozenset[SessionState]]] = {
    SessionState.OPEN: frozenset((SessionState.BINDING, SessionState.CLOSED)),
    SessionState.BINDING: frozenset((*_BOUND, SessionState.OPEN, SessionState.CLOSED)),
    **{state: frozenset((SessionState.UNBINDING, SessionState.CLOSED)) for state in _BOUND},
    SessionState.UNBINDING: frozenset((SessionState.CLOSED,)),
    SessionState.CLOSED: frozenset(),
}
BIND_STATES: Final = {
    int(Command.BIND_TRANSMITTER): SessionState.BOUND_TX,
    int(Command.BIND_RECEIVER): SessionState.BOUND_RX,
    int(Command.BIND_TRANSCEIVER): SessionState.BOUND_TRX,
}
_COMMON: Final = frozenset((Command.ENQUIRE_LINK, Command.UNBIND))
_SENDING: Final = frozenset(
    (Command.SUBMIT_SM, Command.DATA_SM, Command.SUBMIT_MULTI, Command.QUERY_SM, Command.CANCEL_SM, Command.REPLACE_SM)
)
_DELIVERING: Final = frozenset((Command.DELIVER_SM, Command.DATA_SM, Command.ALERT_NOTIFICATION))
_NONE: Final[frozenset[Command]] = frozenset()
_ALLOWED: Final[dict[Role, dict[SessionState, frozenset[Command]]]] = {
    Role.SMSC: {
        SessionState.OPEN: frozenset(BIND_STATES),  # type: ignore[arg-type]
        SessionState.BINDING: _NONE,
        SessionState.BOUND_TX: _COMMON | _SENDING,
        SessionState.BOUND_RX: _COMMON,
        SessionState.BOUND_TRX: _COMMON | _SENDING,
        SessionState.UNBINDING: _COMMON,
        SessionState.CLOSED: _NONE,
    },
    Role.ESME: {
        SessionState.OPEN: frozenset((Command.OUTBIND,)),
        SessionState.BINDING: _NONE,
        # A carrier that is given a pair may bring receipts on either session of it.
        SessionState.BOUND_TX: _COMMON | _DELIVERING,
        SessionState.BOUND_RX: _COMMON | _DELIVERING,
        SessionState.BOUND_TRX: _COMMON | _DELIVERING,
        SessionState.UNBINDING: _COMMON,
        SessionState.CLOSED: _NONE,
    },
}
_MESSAGES: Final = frozenset((Command.SUBMIT_SM, Command.DATA_SM, Command.SUBMIT_MULTI, Command.DELIVER_SM))
_CONTROL: Final = frozenset((Command.ENQUIRE_LINK, Command.QUERY_SM, Command.CANCEL_SM, Command.REPLACE_SM))
_REQUESTS: Final = frozenset(int(c) for c in Command if not c & 0x80000000)
_RESPONSES: Final = frozenset(int(c) for c in Command if c & 0x80000000)


class Nack(NamedTuple):
    """A generic_nack of the peer's. ``command``: the request of ours that it is about, 0 where there is none."""

    command: int
    status: int
    sequence: int


class Outstanding:
    """One request of ours that waits for its response."""

    __slots__ = ("command", "sent", "token")

    def __init__(self, command: int, token: Any, sent: float) -> None:
        self.command = command
        self.token = token
        self.sent = sent


class Received:
    """What one call of ``receive`` brought, in the order of arrival within each list.

    ``messages``: frames of submit_sm, data_sm, submit_multi or deliver_sm that are now owed an answer (``answered``).
    ``answers``: (token, command, status, frame) of our own requests. ``others``: (command, frame) of what is left: binds,
    query_sm, cancel_sm, replace_sm, alert_notification, outbind.
    """

    __slots__ = ("answers", "messages", "others")

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.answers: list[tuple[Any, int, int, bytes]] = []
        self.others: list[tuple[int, bytes]] = []


class Session:
    """See the module. ``out`` collects what to send; ``close_reason`` is set once the connection has to end; ``nacks``
    collects what the peer said by generic_nack, for the log, and is emptied by who has told it. ``messages_received``,
    ``answers_received``: of the peer's messages, and of its answers to what we asked, so far."""

    __slots__ = (
        "_bad",
        "_bad_since",
        "_control",
        "_enquired",
        "_held",
        "_last_received",
        "_latest",
        "_late",
        "_opened",
        "_partial_since",
        "_plain",
        "_sequence",
        "_splitter",
        "_stray",
        "answers_received",
        "blocked",
        "close_reason",
        "garbage",
        "messages_received",
        "nacks",
        "out",
        "outstanding",
        "outstanding_limit",
        "role",
        "state",
        "timers",
        "unanswered",
        "unknown_responses",
        "window",
    )

    def __init__(
        self, role: Role, timers: Timers, now: float, *, window: int = 10, outstanding_limit: int = 10
    ) -> None:
        self.role = role
        self.timers = timers
        self.state = SessionState.OPEN
        self.window = window
        self.outstanding_limit = outstanding_limit
        self.outstanding: dict[int, Outstanding] = {}
        self._late: dict[int, Outstanding] = {}
        self.unanswered = 0
        self.out: list[bytes] = []
        self.blocked = False
        self.garbage = False
        self._plain: bytes | None = None
        self.close_reason: str | None = None
        self.unknown_responses = 0
        self.messages_received = 0
        self.answers_received = 0
        self._latest = b""
        self.nacks: list[Nack] = []
        self._splitter = Splitter(timers.max_pdu_unbound if role is Role.SMSC else timers.max_pdu)
        self._held: list[bytes] = []
        self._sequence = 0
        self._opened = now
        self._last_received = now
        self._partial_since: float | None = None
        self._enquired: float | None = None
        self._control = Allowance(timers.control_burst, now)
        self._stray = Allowance(timers.stray_burst, now)
        self._bad = 0
        self._bad_since = now

    def __repr__(self) -> str:
        return f"<Session {self.role.value} {self.state.value}>"

    @property
    def bound(self) -> bool:
        """Whether a bind stands."""
        return self.state in _BOUND

    @property
    def can_receive(self) -> bool:
        """Whether deliver_sm may go to the peer (SMSC role)."""
        return self.state is SessionState.BOUND_TRX or self.state is SessionState.BOUND_RX

    @property
    def can_send(self) -> bool:
        """Whether submit_sm may go to the peer (ESME role)."""
        return self.state is SessionState.BOUND_TRX or self.state is SessionState.BOUND_TX

    @property
    def opened_at(self) -> float:
        """When the connection began, in monotonic seconds."""
        return self._opened

    @property
    def heard_at(self) -> float:
        """When the peer was heard last, in monotonic seconds."""
        return self._last_received

    @property
    def latest_command(self) -> int:
        """The command_id of the latest PDU that was handled; 0 before the first."""
        return int.from_bytes(self._latest, "big")

    @property
    def room(self) -> int:
        """How many more requests of ours the window takes now."""
        return self.outstanding_limit - len(self.outstanding)

    def _enter(self, state: SessionState) -> None:
        if state not in _TRANSITIONS[self.state]:
            raise AssertionError(f"no transition from {self.state.value} to {state.value}")
        self.state = state
        plain = Command.SUBMIT_SM if self.role is Role.SMSC else Command.DELIVER_SM
        self._plain = plain.to_bytes(4, "big") if plain in _ALLOWED[self.role][state] else None
        if state in _BOUND:
            self._splitter.limit = self.timers.max_pdu

    def close(self, reason: str) -> None:
        """Ends the session; the first reason stands."""
        if self.state is not SessionState.CLOSED:
            self._enter(SessionState.CLOSED)
        if self.close_reason is None:
            self.close_reason = reason
        self._held = []
        self._late.clear()

    # -- receiving -----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> Received:
        """Takes bytes from the peer (none, to go on with what waits) and sorts the PDUs that may be handled now."""
        got = Received()
        if self.state is SessionState.CLOSED:
            return got
        resumed = self.blocked
        if data or resumed:
            # While we did not read, the peer was not silent.
            self._last_received = now
            self._enquired = None
        splitter = self._splitter
        held, self._held = self._held, []
        streaming = self.state in _STREAMING
        if streaming:
            frames = held + splitter.feed(data) if held else splitter.feed(data)
        else:
            splitter.feed(data, 0)
            frames = held or self._next(got)
        progress = resumed or bool(frames)
        self.blocked = False
        message = got.messages.append
        # By far the most frequent request, where it is allowed: the loop's short way, counted in one go.
        plain = self._plain
        room = self.window - self.unanswered
        unpack = _REST.unpack_from
        position = taken = 0
        while position < len(frames):
            raw = frames[position]
            if raw[4:8] == plain and taken < room:
                taken += 1
                position += 1
                message(raw)
                continue
            command, status, sequence = unpack(raw, 4)
            if command & 0x80000000:
                handled = self._response(command, status, sequence, raw, got, now)
            else:
                self.unanswered += taken
                taken = 0
                handled = self._request(command, sequence, raw, got, now)
                room = self.window - self.unanswered
            if not handled:
                self._hold(frames, position)
                break
            position += 1
            if self.close_reason is not None:
                self.unanswered += taken
                self._count(got, raw)
                return got
            if not streaming:
                self._latest = raw[4:8]
                frames = self._next(got)
                position = 0
        self.unanswered += taken
        # Once a chunk, for whoever looks at the session.
        if position:
            self._count(got, frames[position - 1])
        if splitter.fault is not None:
            self.garbage = self.state is SessionState.OPEN
            self.close(f"framing: {splitter.fault}")
        elif not splitter.pending:
            self._partial_since = None
        else:
            if not streaming and self._waits(got):
                self.blocked = True
            if progress or self._partial_since is None:
                # Dribbled octets do not renew the deadline of a PDU; finishing one, or our own holding back, does.
                self._partial_since = now
        return got

    def _count(self, got: Received, latest: bytes) -> None:
        self.messages_received += len(got.messages)
        self.answers_received += len(got.answers)
        self._latest = latest[4:8]

    def _waits(self, got: Received) -> bool:
        """Whether a bind is being decided, the peer's by us or the answer to ours by our caller."""
        return self.state is SessionState.BINDING and (self.role is Role.SMSC or bool(got.answers))

    def _next(self, got: Received) -> list[bytes]:
        """Without a bind each frame is judged under the state and limits that the one before it left."""
        return [] if self._waits(got) else self._splitter.feed(b"", 1)

    def _hold(self, frames: list[bytes], position: int) -> None:
        self._held = frames[position:] if position else frames
        self.blocked = True

    def _response(self, command: int, status: int, sequence: int, raw: bytes, got: Received, now: float) -> bool:
        """Handles one response; False: it is none of ours, and has to wait like any PDU over the rate of such."""
        waiting = self.outstanding if sequence in self.outstanding else self._late
        entry = waiting.get(sequence)
        if entry is not None and command != 0x80000000 and command & 0x7FFFFFFF != entry.command:
            entry = None
        # An answer after our timer is found in ``_late``; what has no entry answers nothing that we asked.
        if entry is None and not self._stray_token(now):
            return False
        if command == 0x80000000 and len(self.nacks) < NACKS:
            self.nacks.append(Nack(0 if entry is None else entry.command, status, sequence))
        if entry is None:
            self.unknown_responses += 1
            if command not in _RESPONSES:
                self.out.append(pdu(Command.GENERIC_NACK, Status.RINVCMDID, sequence))
            return True
        del waiting[sequence]
        if entry.command not in _COMMON:
            got.answers.append((entry.token, command, status or (Status.RSYSERR if command == 0x80000000 else 0), raw))
        elif entry.command == Command.UNBIND:
            self.close("unbound")
        return True

    def _request(self, command: int, sequence: int, raw: bytes, got: Received, now: float) -> bool:
        """Handles one request; False: it has to wait."""
        if command not in _REQUESTS:
            if not self._control_token(now):
                return False
            self.out.append(pdu(Command.GENERIC_NACK, Status.RINVCMDID, sequence))
            return True
        if command not in _ALLOWED[self.role][self.state]:
            if not self._control_token(now):
                return False
            if command != Command.ALERT_NOTIFICATION and command != Command.OUTBIND:
                status = Status.RALYBND if self._rebind(command) else Status.RINVBNDSTS
                self.out.append(refusal(command, status, sequence))
            return True
        if command in _MESSAGES:
            if self.unanswered >= self.window:
                return False
            self.unanswered += 1
            got.messages.append(raw)
        elif command == Command.UNBIND:
            if self.unanswered:
                return False
            self.out.append(HEADER.pack(16, Command.UNBIND_RESP, 0, sequence))
            self.close("unbound by the peer")
        elif command in BIND_STATES:
            self._enter(SessionState.BINDING)
            got.others.append((command, raw))
        else:
            if not (self._control_token(now) if command in _CONTROL else self._stray_token(now)):
                return False
            if command == Command.ENQUIRE_LINK:
                self.out.append(HEADER.pack(16, Command.ENQUIRE_LINK_RESP, 0, sequence))
            else:
                got.others.append((command, raw))
        return True

    def _rebind(self, command: int) -> bool:
        return self.role is Role.SMSC and self.state in _BOUND and command in BIND_STATES

    def _control_token(self, now: float) -> bool:
        return self._control.take(self.timers.control_rate, self.timers.control_burst, now)

    def _stray_token(self, now: float) -> bool:
        rate = self.timers.stray_rate
        return self._stray.take(rate, self.timers.stray_burst, now) if rate else self._control_token(now)

    # -- answering and asking ------------------------------------------------------------------------------------------

    def answered(self, count: int = 1) -> None:
        """``count`` messages of the peer got their response: the window opens again; call ``receive(b"")`` if blocked."""
        self.unanswered -= count

    def bad_body(self, now: float) -> None:
        """Counts a PDU with a bad body; more than ``bad_bodies`` within a minute end the session."""
        if now - self._bad_since > 60.0:
            self._bad, self._bad_since = 0, now
        self._bad += 1
        most = self.timers.bad_bodies
        if most is not None and self._bad > most:
            self.close("too many PDUs with a bad body")

    def accept_bind(self, command: int, *, window: int, outstanding_limit: int) -> None:
        """The peer's bind stands (SMSC role); its windows from now on. What waited behind it: ``receive(b"")``."""
        self._enter(BIND_STATES[command])
        self.window = window
        self.outstanding_limit = outstanding_limit

    def refuse_bind(self) -> None:
        """The peer's bind was refused: it may try again (``receive(b"")``) until the bind timer runs out."""
        self._enter(SessionState.OPEN)

    def request(self, frame: bytes, token: Any, now: float) -> int:
        """Sends a request of ours; its sequence number is set here. Its answer comes back with ``token``."""
        sequence = self._sequence + 1 if self._sequence < _LAST_SEQUENCE else 1
        while sequence in self.outstanding:  # after the numbers began anew, or a request of long ago would be forgotten
            sequence = sequence + 1 if sequence < _LAST_SEQUENCE else 1
        self._sequence = sequence
        if self._late:
            self._late.pop(sequence, None)
        self.outstanding[sequence] = Outstanding(_SEQUENCE.unpack_from(frame, 4)[0], token, now)
        self.out.append(with_sequence(frame, sequence))
        return sequence

    def bind(self, frame: bytes, token: Any, now: float) -> None:
        """Sends our bind (ESME role)."""
        self._enter(SessionState.BINDING)
        self.request(frame, token, now)

    def bound_as(self, command: int) -> None:
        """Our bind ``command`` was accepted (ESME role). What waited behind the answer: ``receive(b"")``."""
        self._enter(BIND_STATES[command])

    def unbind(self, now: float) -> None:
        """Asks the peer to end the session; closes at once where no bind stands."""
        if self.state in _BOUND:
            self._enter(SessionState.UNBINDING)
            self.request(pdu(Command.UNBIND, 0, 0), None, now)
        elif self.state is not SessionState.UNBINDING:
            self.close("closed before a bind")

    def take(self) -> bytes:
        """All bytes to send now, in one piece."""
        out = self.out
        if not out:
            return b""
        self.out = []
        return out[0] if len(out) == 1 else b"".join(out)

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> list[Any]:
        """Applies all deadlines; call about once a second. Returns tokens of requests whose response timer ran out."""
        if self.state is SessionState.CLOSED:
            return []
        timers = self.timers
        early = self.state is SessionState.OPEN or self.state is SessionState.BINDING
        if early and self.role is Role.SMSC and now - self._opened > timers.bind:
            self.close("no bind in time")
            return []
        if self._partial_since is not None and now - self._partial_since > timers.pdu and not self.blocked:
            self.close("an unfinished PDU")
            return []
        expired: list[Any] = []
        limit = now - timers.response
        # Insertion order is the order of sending, so the first young one ends the search.
        while self.outstanding:
            sequence, entry = next(iter(self.outstanding.items()))
            if entry.sent > limit:
                break
            del self.outstanding[sequence]
            if entry.command == Command.UNBIND:
                self.close("unbind not answered")
                continue
            # An answer after the timer still tells what became of it.
            self._late[sequence] = entry
            if len(self._late) > self.outstanding_limit:
                del self._late[next(iter(self._late))]
            if entry.command != Command.ENQUIRE_LINK:
                expired.append(entry.token)
            elif self.role is Role.ESME and self._last_received <= entry.sent:
                # A dead carrier is to be left soon; a customer may stay silent until ``inactivity``.
                self.close("enquire_link not answered")
            else:
                self._enquired = None
        if self.state in _BOUND and not self.blocked:
            silent = now - self._last_received
            if silent > timers.inactivity:
                self.close("silent")
            elif silent > timers.enquire_link and self._enquired is None:
                self._enquired = now
                self.request(pdu(Command.ENQUIRE_LINK, 0, 0), None, now)
        return expired

    def abandon(self) -> list[Any]:
        """The connection is gone: the tokens of all requests that will have no answer, in the order of sending."""
        tokens = [e.token for e in self.outstanding.values() if e.token is not None]
        self.outstanding.clear()
        self._held = []
        self.close("connection lost")
        return tokens
