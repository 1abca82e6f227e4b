"""The lives of sampled messages: records and events of the log in, spans out. No clock, no socket, nothing of OpenTelemetry.

A span names states, statuses, an account, an upstream and our own id of the message, and nothing else of it: no number, no
text, no id of a carrier. Its own ids follow from the message's id, so what is made twice is the same span.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from enum import Enum
from hashlib import blake2b
from typing import Final, NamedTuple

from smppd.message import FINAL_STATES, Event, State

OPEN_MOST: Final = 10_000
"""Messages that are followed at one time; then the oldest is given up."""
NOTES_MOST: Final = 32
"""Things that a message's span names at most."""
LINGER_MS: Final = 60_000
"""How long a message in its final state is followed: its customer may have asked for a receipt, which he then acknowledges."""
AGE_MS: Final = 3_600_000
"""How long a message is followed that comes to no end."""

_RANDOM: Final = 1 << 56  # of a trace id these bits are random (W3C Trace Context Level 2, 3.2.2.5)
_FAILED: Final = frozenset({State.EXPIRED, State.UNDELIVERABLE, State.UNKNOWN, State.REJECTED, State.REFUSED})
_OF_HANDSETS: Final = (State.OPTED_OUT, State.OPTED_IN)


class Kind(Enum):
    """What a span shows. Its value is the operation's name (semantic conventions for messaging)."""

    MESSAGE = "message"
    SUBMIT = "submit_sm"
    CARRIER = "receipt"
    DELIVER = "deliver_sm"


class Note(NamedTuple):
    """Something that happened at one moment of a message's life."""

    name: str
    at_ms: int
    error: int = 0


class Span(NamedTuple):
    """One span. trace, span, parent: ids, parent 0 for the message's own; start_ms, end_ms: epoch milliseconds; state: of the
    message at its end; error: an SMPP status or a network's code, 0 for none; tries: how often it was sent by then;
    complete: False where the message was followed no longer."""

    kind: Kind
    trace: int
    span: int
    parent: int
    start_ms: int
    end_ms: int
    message: int
    account: str
    mo: bool
    upstream: str
    state: str
    failed: bool
    error: int = 0
    tries: int = 0
    complete: bool = True
    notes: tuple[Note, ...] = ()


class Sampler:
    """Decides by the id alone, so that nothing is remembered and every process decides the same."""

    def __init__(self, share: float) -> None:
        """share: 0 < share <= 1."""
        self._least = round((1.0 - share) * _RANDOM)

    def trace(self, identity: int) -> int:
        """The trace id of a message that is sampled, 0 of another."""
        trace = trace_of(identity)
        return trace if trace % _RANDOM >= self._least else 0


def trace_of(identity: int) -> int:
    """The trace id that belongs to a message's id. Not under a key: the span names the message's id."""
    digest = blake2b(identity.to_bytes(8, "big"), digest_size=16, person=b"smppd trace").digest()
    return int.from_bytes(digest, "big") or 1


def span_of(trace: int, kind: Kind, number: int) -> int:
    """The id of a message's span; number: how many of its kind came before."""
    digest = blake2b(f"{trace:032x} {kind.value} {number}".encode(), digest_size=8, person=b"smppd span")
    return int.from_bytes(digest.digest(), "big") or 1


class _Stage(Enum):
    """Where a message is: on its way to the carrier, with the carrier, on its way to the customer."""

    SUBMITTING = Kind.SUBMIT
    CARRIED = Kind.CARRIER
    DELIVERING = Kind.DELIVER


class _Life:
    """A message that is followed."""

    __slots__ = (
        "accepted_ms", "account", "error", "final_ms", "identity", "last_ms", "made", "mo", "notes", "since_ms", "stage",
        "state", "trace", "tries", "upstream",
    )  # fmt: skip

    def __init__(self, trace: int, identity: int, accepted_ms: int, account: str, mo: bool) -> None:
        self.trace = trace
        self.identity = identity
        self.account = account
        self.mo = mo
        self.accepted_ms = self.since_ms = self.last_ms = accepted_ms
        self.stage = _Stage.DELIVERING if mo else _Stage.SUBMITTING
        self.state: State = State.STORED
        self.upstream = ""
        self.error = self.tries = self.made = 0
        self.final_ms: int | None = None
        self.notes: list[Note] = []

    def stage_ends(self, event: Event, state: State, *, failed: bool) -> Span:
        """The span of the stage that an event ends. The next begins with it."""
        kind: Kind = self.stage.value
        span = self._span(kind, self.since_ms, event.time, failed, event.error, state, event.upstream)
        self.made += 1
        self.since_ms = max(self.since_ms, event.time)
        return span

    def whole(self, *, complete: bool) -> Span:
        """The span of the message itself."""
        span = self._span(
            Kind.MESSAGE, self.accepted_ms, self.last_ms, self.state in _FAILED, self.error, self.state, self.upstream
        )
        return span._replace(
            span=span_of(self.trace, Kind.MESSAGE, 0), parent=0, complete=complete, notes=tuple(self.notes)
        )

    def _span(
        self, kind: Kind, start_ms: int, end_ms: int, failed: bool, error: int, state: State, upstream: str
    ) -> Span:
        return Span(
            kind,
            self.trace,
            span_of(self.trace, kind, self.made),
            span_of(self.trace, Kind.MESSAGE, 0),
            start_ms,
            max(start_ms, end_ms),  # the wall clock may have been set back
            self.identity,
            self.account,
            self.mo,
            upstream or self.upstream,
            state.name,
            failed,
            error,
            self.tries,
        )


class Lives:
    """See the module. For one thread. Each method gives the spans that are whole by then."""

    def __init__(self, sampler: Sampler, accounts: Collection[str] = ()) -> None:
        """accounts: only messages of these, empty for all."""
        self._sampler = sampler
        self._accounts = frozenset(accounts)
        self._open: OrderedDict[int, _Life] = OrderedDict()
        self.given_up = 0
        """Messages that were followed no longer since there were too many."""

    @property
    def open(self) -> int:
        """Messages that are followed now."""
        return len(self._open)

    def record(self, identity: int, accepted_ms: int, account: str, mo: bool) -> None:
        """A message is on record. mo: it came from a handset."""
        trace = self._sampler.trace(identity)
        if not trace or (self._accounts and account not in self._accounts):
            return
        self._open[identity] = _Life(trace, identity, accepted_ms, account, mo)
        if len(self._open) > OPEN_MOST:
            self._open.popitem(last=False)
            self.given_up += 1

    def event(self, event: Event) -> list[Span]:
        """Something happened to a message. One that is not followed gives nothing."""
        life = self._open.get(event.id)
        try:
            state = State(event.state)
        except ValueError:  # of a later version
            return []
        if life is None:
            return []
        life.last_ms = max(life.last_ms, event.time)
        if len(life.notes) < NOTES_MOST:
            life.notes.append(Note(state.name, event.time, event.error))
        if state in _OF_HANDSETS or (life.mo and state is State.ACCEPTED):
            return []
        spans = self._ended_stage(life, event, state)
        if state in (State.SKIPPED, State.REFUSED) or (
            state in (State.RECEIPT_DONE, State.RECEIPT_EXPIRED) and (life.mo or life.final_ms is not None)
        ):
            spans.append(self._close(event.id, complete=True))
        return spans

    def _ended_stage(self, life: _Life, event: Event, state: State) -> list[Span]:
        stage, spans = life.stage, list[Span]()
        if event.upstream:
            life.upstream = event.upstream
        if state is State.SUBMITTED:
            life.tries = max(life.tries, 1)  # it may be the late answer to what counted as unanswered
            if stage is _Stage.SUBMITTING:
                spans.append(life.stage_ends(event, state, failed=False))
                life.stage = _Stage.CARRIED
        elif state is State.UNANSWERED:
            life.tries = max(life.tries, 1)
            if stage is _Stage.SUBMITTING:
                spans.append(life.stage_ends(event, state, failed=True))
        elif state is State.RESENT:
            life.tries = max(life.tries, 1) + 1
            if stage is _Stage.SUBMITTING:
                life.since_ms = max(life.since_ms, event.time)
        elif state in FINAL_STATES or state is State.REFUSED:
            # Without an upstream it ended here, while it waited: no carrier has a part in it.
            if stage is _Stage.SUBMITTING and event.upstream:
                life.tries = max(life.tries, 1)
            if life.final_ms is None and (stage is _Stage.CARRIED or (stage is _Stage.SUBMITTING and event.upstream)):
                spans.append(life.stage_ends(event, state, failed=state in _FAILED))
            life.stage = _Stage.DELIVERING
            life.since_ms = max(life.since_ms, event.time)
            life.final_ms = event.time
        elif state in (State.RECEIPT_DONE, State.RECEIPT_EXPIRED):
            if stage is _Stage.DELIVERING:
                spans.append(life.stage_ends(event, state, failed=state is State.RECEIPT_EXPIRED)._replace(upstream=""))
            return spans
        if life.final_ms is None or state in FINAL_STATES or state is State.REFUSED:
            life.state = state
            life.error = event.error or life.error
        return spans

    def overdue(self, now_ms: int) -> list[Span]:
        """Messages of which no more is waited for. now_ms: epoch milliseconds, all before which was given to `event`."""
        ended = [
            (identity, life.final_ms is not None)
            for identity, life in self._open.items()
            if (life.final_ms is not None and now_ms - life.final_ms > LINGER_MS) or now_ms - life.accepted_ms > AGE_MS
        ]
        return [self._close(identity, complete=final) for identity, final in ended]

    def end(self) -> list[Span]:
        """Nothing is followed any more."""
        return [
            self._close(identity, complete=life.final_ms is not None) for identity, life in list(self._open.items())
        ]

    def _close(self, identity: int, *, complete: bool) -> Span:
        return self._open.pop(identity).whole(complete=complete)
