"""An SMSC of plain bytes for tests: it answers submits by a script and keeps every frame exactly as it came.

It knows just enough SMPP to bind and to number its answers, in code of its own (SMPP 3.4 section 3.2), so that golden
files and broken peers do not depend on any library. One thread per connection, loopback only.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from types import TracebackType
from typing import Final, Self

_HEADER: Final = struct.Struct(">IIII")


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with one submit_sm (or data_sm). ``status`` answers; the rest is for bad days.

    ``delay`` seconds before the answer; ``times`` answers (0: none, 2: one repeated); ``cut`` drops the connection
    after that; ``then`` make deliver_sm bodies out of the message id, to send after the answer, ``first`` before it.
    """

    status: int = 0
    delay: float = 0.0
    times: int = 1
    cut: bool = False
    first: tuple[Callable[[bytes], bytes], ...] = ()
    then: tuple[Callable[[bytes], bytes], ...] = ()


def frame(command: int, status: int, sequence: int, body: bytes = b"") -> bytes:
    """A PDU."""
    return _HEADER.pack(16 + len(body), command, status, sequence) + body


def receipt_body(source: bytes, destination: bytes, message_id: bytes, state: bytes = b"DELIVRD") -> bytes:
    """The body of a deliver_sm receipt; addresses as (TON, NPI, digits NUL) octets of the deliver_sm."""
    text = (
        b"id:" + message_id + b" sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:" + state
    ) + b" err:000 text:"
    tlvs = struct.pack(">HH", 0x1E, len(message_id) + 1) + message_id + b"\0" + struct.pack(">HHB", 0x427, 1, 2)
    return b"\0" + source + destination + b"\4\0\0\0\0\0\0\0\0" + bytes((len(text),)) + text + tlvs


class RawSmsc:
    """Listens on a free port of 127.0.0.1, or at ``address``. ``script`` gives the step for each submit, in order of
    arrival."""

    def __init__(
        self,
        script: Iterator[Step] | None = None,
        ids: Callable[[int], bytes] | None = None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.script = script or repeat(Step())
        self.received: list[bytes] = []
        """Every frame, in order of arrival."""
        self.connections = 0
        self.bind_status = 0
        """What binds are answered."""
        self._ids = ids or (lambda number: f"raw-{number:06d}".encode())
        self._number = 0
        self._lock = threading.Condition()
        self._sockets: set[socket.socket] = set()
        self._bound: list[socket.socket] = []
        self._sequence = 0
        self._stopping = False
        self.peers: list[str] = []
        """Where each connection came from."""
        self._listening = socket.create_server(address)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops listening and drops all connections."""
        self._stopping = True
        # Closing alone would not wake the thread that accepts.
        _drop(self._listening)
        self.cut()

    def cut(self) -> None:
        """Drops all connections."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
            self._bound.clear()
        for each in sockets:
            _drop(each)

    def submits(self) -> list[bytes]:
        """submit_sm and data_sm frames so far."""
        with self._lock:
            return [each for each in self.received if each[4:8] in (b"\0\0\0\4", b"\0\0\1\3")]

    def responses(self) -> list[bytes]:
        """deliver_sm_resp frames so far."""
        with self._lock:
            return [each for each in self.received if each[4:8] == b"\x80\0\0\5"]

    def wait(self, done: Callable[[], bool], seconds: float = 20.0) -> None:
        """Waits until ``done``, looked at after each frame. AssertionError when the time is over."""
        deadline = time.monotonic() + seconds
        while not done():
            with self._lock:
                left = deadline - time.monotonic()
                assert left > 0, f"did not happen within {seconds:g} s; {len(self.received)} frames received"
                self._lock.wait(min(left, 0.2))

    def deliver(self, body: bytes) -> int:
        """Sends a deliver_sm on the first bound connection; its sequence number."""
        with self._lock:
            self._sequence += 1
            sequence, where = self._sequence, self._bound[0]
        where.sendall(frame(0x05, 0, sequence, body))
        return sequence

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._listening.accept()
            except OSError:
                return
            if self._stopping:
                connection.close()
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self.peers.append(peer[0])
                self._sockets.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            stream = connection.makefile("rb")
            while head := stream.read(4):
                whole = head + stream.read(int.from_bytes(head) - 4)
                with self._lock:
                    self.received.append(whole)
                    self._lock.notify_all()
                if not self._handle(connection, whole):
                    break
        except OSError:
            pass
        finally:
            with self._lock:
                self._sockets.discard(connection)
                if connection in self._bound:
                    self._bound.remove(connection)
            _drop(connection)

    def _handle(self, connection: socket.socket, whole: bytes) -> bool:
        _, command, _, sequence = _HEADER.unpack_from(whole)
        if command in (1, 2, 9):
            if self.bind_status:
                connection.sendall(frame(command | 1 << 31, self.bind_status, sequence))
                return True
            with self._lock:
                self._bound.append(connection)
            connection.sendall(frame(command | 1 << 31, 0, sequence, b"raw\0"))
        elif command in (0x15, 0x06):
            connection.sendall(frame(command | 1 << 31, 0, sequence))
            return bool(command == 0x15)
        elif command in (0x04, 0x103):
            return self._submit(connection, command, sequence)
        return True

    def _submit(self, connection: socket.socket, command: int, sequence: int) -> bool:
        step = next(self.script, Step())
        with self._lock:
            self._number += 1
            message_id = self._ids(self._number)
        for make in step.first:
            self.deliver(make(message_id))
        if step.delay:
            time.sleep(step.delay)
        answer = frame(command | 1 << 31, step.status, sequence, b"" if step.status else message_id + b"\0")
        for _ in range(step.times):
            connection.sendall(answer)
        for make in step.then:
            self.deliver(make(message_id))
        return not step.cut


def _drop(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()
