"""Ships to a syslog server: RFC 5424 messages in frames with their length (octet counting), over TLS (RFC 5425), or over plain
TCP (RFC 6587) where that is allowed. UDP loses what it likes, and is not offered.

Syslog has no acknowledgement. What can be known is asked of the kernel: when the peer's TCP has acknowledged everything
(SIOCOUTQ); and, at an end in good order, of the peer: its own close_notify, which it sends after it has read all that stands
before ours (RFC 5425 section 4.4). The rest is for who calls: after a link that was cut it goes back over what may have been
lost (`daemon.shipper`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from smppd.audit.shipping import Line, ShippingError, iso
from smppd.events import AuditEvent

CONNECT: Final = 5.0
"""Seconds for a connection, and again for its TLS handshake."""
STALLED: Final = 30.0
"""Seconds in which the peer must take something of what waits."""
FAREWELL: Final = 1.0
"""Seconds for the peer's close_notify."""
SD_ID: Final = "smppd@32473"
"""Structured data: 32473 is the enterprise number for examples (RFC 5612), as smppd has none of its own."""

_FACILITIES: Final = (
    "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock"
    " local0 local1 local2 local3 local4 local5 local6 local7"
).split()
_ALERT, _WARNING, _NOTICE, _INFO = 1, 4, 5, 6
_SEVERITIES: Final[dict[str, int]] = {
    AuditEvent.INTEGRITY: _ALERT,
    AuditEvent.ENTRIES_DROPPED: _ALERT,
    AuditEvent.BIND_REFUSED: _WARNING,
    AuditEvent.BAN_BEGAN: _WARNING,
    AuditEvent.LOGIN_REFUSED: _WARNING,
    AuditEvent.DAMAGED: _WARNING,
    AuditEvent.RESTORE: _WARNING,
    AuditEvent.BIND_ACCEPTED: _INFO,
    AuditEvent.CHECKPOINT: _INFO,
    "seal": _INFO,
}
_PIECE: Final = 16 * 1024
_TURN: Final = 0.2
_BOM: Final = b"\xef\xbb\xbf"


class Sender(NamedTuple):
    """Who speaks. facility: its name; host, app_name: HOSTNAME and APP-NAME of RFC 5424."""

    facility: str
    host: str
    app_name: str
    process: int


def message(sender: Sender, line: Line, text: str) -> bytes:
    """One message of RFC 5424. Its time is that of the entry, its MSGID the kind, its MSG the line. text: see `Line.text`."""
    facts = line.facts
    event = facts["event"] if facts["kind"] == "audit" else "seal"
    priority = _FACILITIES.index(sender.facility) * 8 + _SEVERITIES.get(event, _NOTICE)
    number = facts["id"] if facts["kind"] == "audit" else facts["number"]
    head = (
        f"<{priority}>1 {iso(line.at_ms)} {_name(sender.host, 255)} {_name(sender.app_name, 48)} {sender.process}"
        f' {facts["kind"]} [{SD_ID} kind="{facts["kind"]}" id="{number}" event="{_parameter(event)}"] '
    )
    return head.encode("ascii") + body(text)


def body(text: str) -> bytes:
    """MSG: ASCII as it is, anything beyond as UTF-8 behind a byte order mark (RFC 5424 section 6.4)."""
    return text.encode("ascii") if text.isascii() else _BOM + text.encode("utf-8", "replace")


def frame(said: bytes) -> bytes:
    """SYSLOG-FRAME = MSG-LEN SP SYSLOG-MSG (RFC 5425 section 4.3)."""
    return b"%d %b" % (len(said), said)


def _name(text: str, most: int) -> str:
    """A PRINTUSASCII field; `-` for one that is not there."""
    return "".join(c if "!" <= c <= "~" else "_" for c in text[:most]) or "-"


def _parameter(text: str) -> str:
    """A PARAM-VALUE (RFC 5424 section 6.3.3)."""
    plain = "".join(c if " " <= c <= "~" else "_" for c in text)
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


class SyslogTarget:
    """See the module. For one thread."""

    name = "syslog"
    lossy = True
    """What `send` took may be lost with the link."""

    def __init__(
        self,
        address: tuple[str, int],
        sender: Sender,
        context: ssl.SSLContext | None,
        server_name: str,
        deadline: Callable[[], float] = lambda: float("inf"),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """context: None for plain TCP. server_name: what the certificate must name. deadline(): when to give up at the latest,
        in the time of `now`: monotonic seconds."""
        self._address = address
        self._sender = sender
        self._context = context
        self._server_name = server_name
        self._deadline = deadline
        self._now = now
        self._socket: socket.socket | None = None

    def __repr__(self) -> str:
        return f"<SyslogTarget {self._address[0]}:{self._address[1]}>"

    def use(self, context: ssl.SSLContext | None) -> None:
        """Takes another context for the next connection. Any thread."""
        self._context = context

    def send(self, lines: Sequence[Line]) -> None:
        """Sends lines; when it returns the peer's TCP has acknowledged them. Raises ShippingError, and then the link is cut."""
        frames = b"".join(frame(message(self._sender, line, line.text(self.name))) for line in lines)
        begun = False
        try:
            link = self._socket or self._connect()
            self._read(link)
            begun = True
            self._write(link, frames)
            self._settle(link)
        except (OSError, ValueError) as error:
            self._drop()
            refused = ShippingError(f"{self._where()}: {_said(error)}")
            refused.begun = begun
            raise refused from None

    def watch(self) -> None:
        """Looks whether the link still stands. Raises ShippingError if it was cut."""
        if self._socket is not None:
            try:
                self._read(self._socket)
            except (OSError, ValueError) as error:
                self._drop()
                raise ShippingError(f"{self._where()}: {_said(error)}") from None

    def finish(self) -> bool:
        """Ends the link in good order. True if the peer said that it has read all of it: plain TCP cannot say that."""
        link, self._socket = self._socket, None
        if link is None:
            return False
        try:
            if not isinstance(link, ssl.SSLSocket):
                return False
            until = min(self._deadline(), self._now() + FAREWELL)
            link.settimeout(max(0.01, until - self._now()))
            link.unwrap()
            return True
        except (OSError, ValueError):
            return False
        finally:
            with suppress(OSError):
                link.close()

    def close(self) -> None:
        """Cuts the link."""
        self._drop()

    # -- the link ------------------------------------------------------------------------------------------------------

    def _where(self) -> str:
        return f"syslog at {self._address[0]}:{self._address[1]}"

    def _connect(self) -> socket.socket:
        patience = max(0.05, min(CONNECT, self._deadline() - self._now()))
        link = socket.create_connection(self._address, patience)
        try:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALLED * 1000))
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                link = self._context.wrap_socket(link, server_hostname=self._server_name)
            link.settimeout(_TURN)
        except BaseException:
            link.close()
            raise
        self._socket = link
        return link

    def _drop(self) -> None:
        link, self._socket = self._socket, None
        if link is not None:
            with suppress(OSError):
                link.close()

    def _read(self, link: socket.socket) -> None:
        """A syslog server says nothing: what comes is the end of the link, or not meant for us."""
        link.settimeout(0.0)
        try:
            for _ in range(64):
                if not link.recv(_PIECE):
                    raise ConnectionResetError(errno.ECONNRESET, "the server closed the connection")
            raise ConnectionAbortedError(errno.ECONNABORTED, "the server talks, which is no syslog")
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        finally:
            link.settimeout(_TURN)

    def _write(self, link: socket.socket, data: bytes) -> None:
        view, moved = memoryview(data), self._now()
        while view:
            try:
                view = view[link.send(view[:_PIECE]) :]
                moved = self._now()
            except (TimeoutError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._patience(moved)

    def _settle(self, link: socket.socket) -> None:
        """Waits until the peer's TCP has acknowledged all."""
        left, moved, pause = _unacknowledged(link), self._now(), 0.0005
        while left:
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
            before, left = left, _unacknowledged(link)
            if left < before:
                moved = self._now()
            self._patience(moved)
        fault = link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if fault:
            raise OSError(fault, os.strerror(fault))
        # After a reset there is nothing left to acknowledge either.
        if link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED:
            raise ConnectionResetError(errno.ECONNRESET, "the server closed the connection")

    def _patience(self, moved: float) -> None:
        if self._now() > min(moved + STALLED, self._deadline()):
            raise TimeoutError(errno.ETIMEDOUT, "the server takes nothing")


_ESTABLISHED: Final = 1  # TCP_ESTABLISHED of linux/tcp_states.h


def _unacknowledged(link: socket.socket) -> int:
    """Octets that were written and that the peer's TCP has not acknowledged (SIOCOUTQ, tcp(7))."""
    return int(struct.unpack("i", fcntl.ioctl(link.fileno(), termios.TIOCOUTQ, bytes(4)))[0])


def _said(error: Exception) -> str:
    """The reason in the words of OpenSSL or the system: nothing that a peer wrote."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'broken'}"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__
