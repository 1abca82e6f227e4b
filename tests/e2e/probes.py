"""A plain socket with just enough SMPP, written out by hand: for what a well-behaved client would never do."""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path
from typing import Self


def frame(command: int, status: int, sequence: int, body: bytes = b"") -> bytes:
    """A PDU (SMPP 3.4 section 3.2)."""
    return struct.pack(">IIII", 16 + len(body), command, status, sequence) + body


def submit_body(
    text: bytes,
    destination: bytes = b"447700900123",
    source: bytes = b"447700900001",
    registered: int = 0,
    tlvs: bytes = b"",
) -> bytes:
    """The body of a plain submit_sm."""
    head = b"\0\1\1" + source + b"\0\1\1" + destination + b"\0\0\0\0\0\0"
    return head + bytes((registered, 0, 0, 0, len(text))) + text + tlvs


class Probe:
    """One connection; answers enquire_link by itself, nothing else."""

    def __init__(self, port: int, ca: Path | None = None, timeout: float = 10.0) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = plain
        if ca is not None:
            context = ssl.create_default_context(cafile=str(ca))
            self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self._rest = b""
        self._sequence = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(data)

    def read(self) -> bytes:
        """The next frame that is no enquire_link. ConnectionError when the connection ended, TimeoutError on silence."""
        while True:
            while len(self._rest) < 4 or len(self._rest) < int.from_bytes(self._rest[:4]):
                data = self.socket.recv(65536)
                if not data:
                    raise ConnectionError("closed")
                self._rest += data
            length = int.from_bytes(self._rest[:4])
            whole, self._rest = self._rest[:length], self._rest[length:]
            if whole[4:8] != b"\0\0\0\x15":
                return whole
            self.send(frame(0x80000015, 0, int.from_bytes(whole[12:16])))

    def ask(self, command: int, body: bytes = b"") -> bytes:
        """Sends a request and gives the next frame."""
        self._sequence += 1
        self.send(frame(command, 0, self._sequence, body))
        return self.read()

    def bind(self, system_id: str, password: str, command: int = 0x09) -> int:
        """Binds; the status."""
        return status(self.ask(command, system_id.encode() + b"\0" + password.encode() + b"\0\0\x34\0\0\0"))

    def closed(self) -> bool:
        """Whether the other side closes without having said anything more."""
        try:
            return self.socket.recv(65536) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


def status(whole: bytes) -> int:
    """command_status of a frame."""
    return int.from_bytes(whole[8:12])
