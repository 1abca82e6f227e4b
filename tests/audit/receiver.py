"""A syslog server for tests: RFC 5425 over TLS or plain TCP, which reads octet counting to the letter."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_MESSAGE = re.compile(
    rb"<(?P<priority>[0-9]{1,3})>1 (?P<time>[0-9T:.-]+Z) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<process>[!-~]{1,128})"
    rb' (?P<kind>[!-~]{1,32}) \[smppd@32473(?P<sd>(?: [a-z]+="(?:[^"\\\]]|\\["\\\]])*")*)\] (?P<text>.*)',
    re.S,
)


def parsed(message: bytes) -> dict[str, bytes]:
    """The fields of a message of RFC 5424."""
    match = _MESSAGE.fullmatch(message)
    assert match is not None, message[:200]
    return match.groupdict()


class Receiver:
    """Listens until it is closed. ``messages``: what came whole; ``broken``: connections that ended within a frame."""

    def __init__(
        self, certificates: Path | None = None, name: str = "server", port: int = 0, client_ca: bool = False
    ) -> None:
        self.messages: list[bytes] = []
        self.faults: list[str] = []
        self.broken = 0
        self.connections = 0
        self.pause = 0.0
        """Seconds between two reads."""
        self.cut_after: int | None = None
        """Octets after which a connection is reset."""
        self.answers = True
        """Whether it ends TLS in good order."""
        self._context: ssl.SSLContext | None = None
        if certificates is not None:
            context = self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
            if client_ca:
                context.load_verify_locations(certificates / "ca.pem")
                context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self._links: list[socket.socket] = []
        self._over = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything at once, as a kill does: what was not read is lost."""
        self._over = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        for thread in self._threads:
            thread.join(5)

    def reset(self) -> None:
        """Cuts all connections."""
        for link in self._links:
            with suppress(OSError):
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with suppress(OSError):
                socket.socket.shutdown(link, socket.SHUT_RDWR)
            with suppress(OSError):
                link.close()
        self._links.clear()

    def wait(self, count: int, seconds: float = 10.0) -> list[bytes]:
        """Waits for so many messages."""
        until = time.monotonic() + seconds
        while len(self.messages) < count:
            assert time.monotonic() < until, f"{len(self.messages)} of {count} messages came; {self.faults}"
            time.sleep(0.01)
        return self.messages

    def _accept(self) -> None:
        while not self._over:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(link,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, link: socket.socket) -> None:
        self.connections += 1
        try:
            if self._context is not None:
                link.settimeout(5)
                link = self._context.wrap_socket(link, server_side=True)
                link.settimeout(None)
        except (OSError, ValueError) as error:
            self.faults.append(f"handshake: {getattr(error, 'reason', error)}")
            link.close()
            return
        self._links.append(link)
        buffer, octets = b"", 0
        try:
            while data := link.recv(1024):
                octets += len(data)
                if self.cut_after is not None and octets >= self.cut_after:
                    self.cut_after = None
                    self.broken += 1
                    self.reset()
                    return
                buffer = self._frames(buffer + data)
                if self.pause:
                    time.sleep(self.pause)
            if isinstance(link, ssl.SSLSocket) and self.answers:
                link.unwrap()
        except (OSError, ValueError):
            pass
        finally:
            self.broken += bool(buffer)
            with suppress(OSError):
                link.close()

    def _frames(self, buffer: bytes) -> bytes:
        while buffer:
            match = re.match(rb"([1-9][0-9]{0,8}) ", buffer)
            if match is None:
                if not re.fullmatch(rb"[1-9][0-9]{0,8}", buffer):
                    self.faults.append(f"no frame: {buffer[:60]!r}")
                    raise ValueError
                return buffer
            end = match.end() + int(match[1])
            if len(buffer) < end:
                return buffer
            self.messages.append(buffer[match.end() : end])
            buffer = buffer[end:]
        return buffer
