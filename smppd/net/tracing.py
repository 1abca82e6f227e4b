"""Traces on the reactor thread: what goes through some pipes is gathered, bounded, until somebody takes it to the disk.

A pipe that is not traced knows of none of this; one that is has a `PipeTap`, which is told of each chunk in both directions.
These are traces of PDUs (`smppd act trace`); OpenTelemetry is in `spans`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from smppd.net.transport import Pipe
from smppd.protocol import capture
from smppd.protocol.capture import Kind, PduCutter

log = logging.getLogger("smppd.trace")
OCTETS: Final = 64 << 20
"""Octets of one trace."""
PDUS: Final = 500_000
"""PDUs of one trace."""
SESSIONS: Final = 10_000
"""Connections of one trace."""
UNWRITTEN: Final = 8 << 20
"""Octets that may wait for the disk; more end the trace."""
BUG: Final = "an error; the daemon's log has it"
"""Why a trace ends by an error of ours."""


class Recording:
    """One trace while it is on: its taps, and what they have gathered. ``over(why)`` is called once, when it ends by itself."""

    def __init__(self, wall: Callable[[], float], over: Callable[[str], object], *, one_session: bool = False) -> None:
        """wall: epoch seconds. one_session: it ends with the connection that it began on."""
        self._wall = wall
        self._over = over
        self._one_session = one_session
        self._parts: list[bytes] = []
        self._waiting = 0
        self._taps: set[PipeTap] = set()
        self._ended = False
        self.sessions = self.pdus = self.octets = 0
        """How many connections, PDUs and octets (all that goes to the disk) it has so far."""

    def __repr__(self) -> str:
        return f"<Recording {self.sessions} sessions, {self.pdus} PDUs, {self.octets} octets>"

    def tap(self, pipe: Pipe, side: str, received: bytes = b"") -> None:
        """Takes a pipe in, unless it is in a trace already. side: `customer` or `carrier`. received: octets of it that were
        read before and belong in here, the beginning of a PDU for example."""
        if self._ended or pipe.tap is not None:
            return
        if self.sessions >= SESSIONS:
            self._end(f"{SESSIONS:,} connections")
            return
        self.sessions += 1
        tap = PipeTap(self, pipe, self.sessions)
        self._taps.add(tap)
        pipe.tap = tap
        host, _, port = pipe.local.rpartition(":")
        facts: dict[str, str | int] = {
            "side": side,
            "peer": pipe.peer,
            "peer_port": pipe.peer_port,
            "local": host.strip("[]"),
            "local_port": int(port) if port.isdigit() else 0,
            "tls": pipe.tls_version or "",
        }
        self.add(Kind.OPENED, tap.session, capture.opened(facts))
        if received:
            tap.received(received)

    def add(self, kind: Kind, session: int, data: bytes) -> None:
        """An entry; ends the trace when it is at a limit."""
        if self._ended:
            return
        packed = capture.pack(kind, session, int(self._wall() * 1_000_000), data)
        self._parts.append(packed)
        self._waiting += len(packed)
        self.octets += len(packed)
        if kind in (Kind.RECEIVED, Kind.SENT):
            self.pdus += 1
        if self.octets >= OCTETS:
            self._end(f"{OCTETS >> 20} MiB")
        elif self.pdus >= PDUS:
            self._end(f"{PDUS:,} PDUs")
        elif self._waiting > UNWRITTEN:
            self._end("the disk was too slow")

    @property
    def waiting(self) -> int:
        """Octets that were gathered and not taken."""
        return self._waiting

    def take(self) -> bytes:
        """What was gathered since the last call."""
        data = b"".join(self._parts)
        self._parts.clear()
        self._waiting = 0
        return data

    def left(self, tap: PipeTap, reason: str) -> None:
        """A traced connection has ended."""
        self.add(Kind.CLOSED, tap.session, reason.encode("utf-8", "replace")[:200])
        self._taps.discard(tap)
        if self._one_session:
            self._end("the session ended")

    def leave(self, pipe: Pipe) -> None:
        """A connection that is heard, if it is, belongs in here no longer."""
        tap = pipe.tap
        if isinstance(tap, PipeTap) and tap in self._taps:
            pipe.tap = None
            self.left(tap, "it binds for another account, and is heard no longer")

    def stop(self) -> None:
        """Takes all taps away; nothing more is gathered, and nobody is told."""
        self._ended = True
        for tap in self._taps:
            tap.pipe.tap = None
        self._taps.clear()

    def failed(self) -> None:
        """An error of ours: it ends the trace, and none of the sessions that it hears."""
        log.exception("error in a trace")
        self._end(BUG)

    def _end(self, why: str) -> None:
        if not self._ended:
            self.stop()
            self._over(why)


class PipeTap:
    """What a traced pipe tells (`transport.Tap`)."""

    __slots__ = ("_cutters", "_recording", "pipe", "session")

    def __init__(self, recording: Recording, pipe: Pipe, session: int) -> None:
        self._recording = recording
        self.pipe = pipe
        self.session = session
        self._cutters = {Kind.RECEIVED: PduCutter(), Kind.SENT: PduCutter()}

    def received(self, data: bytes) -> None:
        """Plain octets from the peer."""
        self._cut(Kind.RECEIVED, data)

    def sent(self, data: bytes) -> None:
        """Plain octets to the peer."""
        self._cut(Kind.SENT, data)

    def closed(self, reason: str) -> None:
        """The pipe has ended."""
        try:
            self._recording.left(self, reason)
        except Exception:  # noqa: BLE001  the edge: the session must not notice
            self._recording.failed()

    def _cut(self, kind: Kind, data: bytes) -> None:
        try:
            self._keep(kind, data)
        except Exception:  # noqa: BLE001  the edge: the session must not notice
            self._recording.failed()

    def _keep(self, kind: Kind, data: bytes) -> None:
        cutter, recording = self._cutters[kind], self._recording
        if cutter.is_broken():
            return
        for pdu in cutter.feed(data):
            recording.add(kind, self.session, pdu)
        if cutter.is_broken():
            recording.add(Kind.BROKEN, self.session, bytes((kind,)))
