"""What an operator sees of one session, a customer's or a carrier's. Nothing here changes a session."""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography import x509

from smppd.net.transport import Pipe
from smppd.protocol.session import Session, SessionState
from smppd.protocol.wire import command_name

_MARK: Final = 5.0
_SUBJECT: Final = 300
_STATES: Final = {
    SessionState.OPEN: "open",
    SessionState.BINDING: "open",
    SessionState.BOUND_TX: "bound",
    SessionState.BOUND_RX: "bound",
    SessionState.BOUND_TRX: "bound",
    SessionState.UNBINDING: "unbinding",
    SessionState.CLOSED: "unbinding",
}


class Meter:
    """How fast a number grows: it is looked at once a second, and every few seconds what it was is noted. So a rate is over the
    last 5 to 10 seconds, and nothing is done when the number grows."""

    __slots__ = ("_at", "_before", "_before_at", "_count")

    def __init__(self, now: float) -> None:
        """``now``: monotonic seconds, here and below."""
        self._before_at = self._at = now
        self._before = self._count = 0

    def look(self, count: int, now: float) -> None:
        """The number is ``count``."""
        if now - self._at >= _MARK:
            self._before_at, self._before = self._at, self._count
            self._at, self._count = now, count

    def rate(self, count: int, now: float) -> float:
        """How many a second, while the number is ``count``."""
        return (count - self._before) / max(now - self._before_at, 1.0)


class SessionView(NamedTuple):
    """A session; the fields have the names and units that they have in docs/control.md, except ``since``, which is in
    monotonic seconds."""

    id: str
    side: str
    name: str | None
    address: str
    tls: dict[str, str | None] | None
    mode: str | None
    version: str | None
    state: str
    since: float
    age: float
    window: int
    used: int
    outstanding_window: int
    outstanding: int
    rate: float
    messages: int
    last_pdu: str | None
    idle: float
    unsent: int


def view(
    number: str,
    side: str,
    name: str | None,
    pipe: Pipe,
    session: Session,
    meter: Meter,
    mode: str | None,
    version: str | None,
    now: float,
) -> SessionView:
    """``number``: its id. ``mode``, ``version``: None before a bind."""
    count = session.answers_received if side == "carrier" else session.messages_received
    latest = session.latest_command
    return SessionView(
        number,
        side,
        name,
        f"[{pipe.peer}]:{pipe.peer_port}" if ":" in pipe.peer else f"{pipe.peer}:{pipe.peer_port}",
        _tls(pipe),
        mode,
        version,
        _STATES[session.state],
        session.opened_at,
        round(now - session.opened_at, 1),
        session.window,
        session.unanswered,
        session.outstanding_limit,
        len(session.outstanding),
        round(meter.rate(count, now), 1),
        count,
        command_name(latest) if latest else None,
        round(max(0.0, now - session.heard_at), 1),
        pipe.unsent,
    )


def _tls(pipe: Pipe) -> dict[str, str | None] | None:
    if pipe.tls_version is None:
        return None
    return {"version": pipe.tls_version, "cipher": pipe.tls_cipher, "subject": _subject(pipe.certificate)}


def _subject(certificate: bytes | None) -> str | None:
    """The subject of a certificate (DER) as RFC 4514 writes it; None for none, or one that has no readable one."""
    if certificate is None:
        return None
    try:
        return x509.load_der_x509_certificate(certificate).subject.rfc4514_string()[:_SUBJECT]
    except ValueError:
        return None
