"""Fast peers for many messages: an SMSC and customers on asyncio, with framing of their own (struct, SMPP 3.4 section 3.2).

They keep a ledger of every message: acknowledged once, arrived once and unharmed, receipt once with the customer's id.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final

_HEADER: Final = struct.Struct(">IIII")
_DESTINATION: Final = b"\x01\x01447700900123\0"
_SOURCE: Final = b"\x01\x01447700900001\0"


def _frame(command: int, status: int, sequence: int, body: bytes = b"") -> bytes:
    return _HEADER.pack(16 + len(body), command, status, sequence) + body


class _Peer(asyncio.Protocol):
    """Cuts frames and writes answers of one chunk together."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.rest = b""
        self.out: list[bytes] = []
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        at, end = 0, len(data)
        while end - at >= 16:
            length, command, status, sequence = _HEADER.unpack_from(data, at)
            if at + length > end:
                break
            self.handle(command, status, sequence, data[at + 16 : at + length])
            at += length
        self.rest = data[at:]
        self.flush()

    def handle(self, command: int, status: int, sequence: int, body: bytes) -> None:
        """One PDU."""

    def flush(self) -> None:
        """Sends what was gathered."""
        if self.out and not self.gone:
            self.transport.write(b"".join(self.out))
            self.out.clear()

    def connection_lost(self, _error: Exception | None) -> None:
        self.gone = True


@dataclass(slots=True)
class Ledger:
    """What became of each message, by its number."""

    total: int
    sent: int = 0
    bodies: dict[bytes, int] = field(default_factory=dict)
    """submit_sm body -> message number; each body is unique."""
    arrived: Counter[int] = field(default_factory=Counter)
    strangers: int = 0
    """Bodies that reached the SMSC but were never sent in this form."""
    answers: Counter[int] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    ids: dict[bytes, int] = field(default_factory=dict)
    receipts: Counter[bytes] = field(default_factory=Counter)
    disagreeing: int = 0
    """Receipts whose text and TLV name different ids."""

    def faults(self) -> list[str]:
        """Everything that is not as promised, in words."""
        wrong = []
        if (count := len(self.answers)) != self.total or set(self.answers.values()) != {1}:
            wrong.append(f"{count} of {self.total} acknowledged, at most {max(self.answers.values(), default=0)} times")
        if set(self.statuses) != {0}:
            wrong.append(f"statuses {dict(self.statuses)}")
        if len(self.ids) != self.total:
            wrong.append(f"{len(self.ids)} different ids for {self.total} messages")
        if len(self.arrived) != self.total or set(self.arrived.values()) != {1}:
            wrong.append(f"{len(self.arrived)} reached the SMSC, at most {max(self.arrived.values(), default=0)} times")
        if self.strangers:
            wrong.append(f"{self.strangers} reached the SMSC changed")
        if unknown := self.receipts.keys() - self.ids.keys():
            wrong.append(f"{len(unknown)} receipts with an id never given")
        if missing := self.ids.keys() - self.receipts.keys():
            wrong.append(f"{len(missing)} receipts missing")
        if twice := sum(count > 1 for count in self.receipts.values()):
            wrong.append(f"{twice} receipts came more than once")
        if self.disagreeing:
            wrong.append(f"{self.disagreeing} receipts name two ids")
        return wrong

    @property
    def complete(self) -> bool:
        """All answered and all receipts here."""
        return len(self.answers) >= self.total and len(self.receipts) >= self.total


class SmscSession(_Peer):
    """The SMSC's side of one bind of the gateway. ``ids``: decimal, hexdec or early (receipt before the response)."""

    def __init__(self, smsc: BulkSmsc) -> None:
        super().__init__()
        self.smsc = smsc
        self.sequence = 0
        self.bound = False

    def handle(self, command: int, status: int, sequence: int, body: bytes) -> None:
        if command == 0x04:
            self.submit(sequence, body)
        elif command in (0x01, 0x02, 0x09):
            self.bound = True
            self.out.append(_frame(command | 1 << 31, 0, sequence, b"bulk\0"))
        elif command in (0x15, 0x06):
            self.out.append(_frame(command | 1 << 31, 0, sequence))

    def submit(self, sequence: int, body: bytes) -> None:
        smsc, ledger = self.smsc, self.smsc.ledger
        number = ledger.bodies.get(body)
        if number is None:
            ledger.strangers += 1
        else:
            ledger.arrived[number] += 1
        smsc.next_id += 1
        told = b"%x" % smsc.next_id if smsc.ids == "hexdec" else b"%d" % smsc.next_id
        answer = _frame(0x80000004, 0, sequence, told + b"\0")
        self.sequence += 1
        receipt = _frame(0x05, 0, self.sequence, _receipt(b"%d" % smsc.next_id))
        self.out += (receipt, answer) if smsc.ids == "early" else (answer, receipt)


def _receipt(message_id: bytes) -> bytes:
    text = (
        b"id:%b sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:DELIVRD err:000 text:" % message_id
    )
    tlvs = struct.pack(">HH", 0x1E, len(message_id) + 1) + message_id + b"\0" + struct.pack(">HHB", 0x427, 1, 2)
    return b"\0" + _DESTINATION + _SOURCE + b"\4\0\0\0\0\0\0\0\0" + bytes((len(text),)) + text + tlvs


class BulkSmsc:
    """Counts into a ledger."""

    def __init__(self, ledger: Ledger, ids: str) -> None:
        self.ledger = ledger
        self.ids = ids
        self.next_id = 0x1F00A0B0
        self.server: asyncio.Server | None = None
        self.sessions: list[SmscSession] = []

    async def start(self) -> int:
        """Listens; the port."""

        def session() -> SmscSession:
            self.sessions.append(SmscSession(self))
            return self.sessions[-1]

        self.server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Stops listening and closes."""
        assert self.server is not None
        self.server.close()
        for session in self.sessions:
            session.transport.abort()


class CustomerSession(_Peer):
    """One bind: keeps its window full from a shared queue."""

    def __init__(self, ledger: Ledger, queue: deque[tuple[int, bytes]], window: int) -> None:
        super().__init__()
        self.ledger = ledger
        self.queue = queue
        self.window = window
        self.waiting: dict[int, int] = {}
        self.sequence = 1
        self.bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.unbound: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def bind(self, system_id: str, password: str) -> None:
        """Sends bind_transceiver."""
        body = b"%b\0%b\0\0\x34\0\0\0" % (system_id.encode(), password.encode())
        self.transport.write(_frame(0x09, 0, 1, body))

    def fill(self) -> None:
        """Submits while the window has room."""
        while self.queue and len(self.waiting) < self.window:
            number, body = self.queue.popleft()
            self.sequence += 1
            self.waiting[self.sequence] = number
            self.ledger.sent += 1
            self.out.append(_frame(0x04, 0, self.sequence, body))
        self.flush()

    def handle(self, command: int, status: int, sequence: int, body: bytes) -> None:
        ledger = self.ledger
        if command == 0x80000004:
            number = self.waiting.pop(sequence)
            ledger.answers[number] += 1
            ledger.statuses[status] += 1
            if not status:
                ledger.ids[body.split(b"\0", 1)[0]] = number
            self.fill()
        elif command == 0x05:
            told = body.split(b"id:", 1)[1].split(b" ", 1)[0]
            ledger.receipts[told] += 1
            if struct.pack(">HH", 0x1E, len(told) + 1) + told + b"\0" not in body:
                ledger.disagreeing += 1
            self.out.append(_frame(0x80000005, 0, sequence, b"\0"))
        elif command == 0x80000009:
            self.bound.set_result(status)
        elif command == 0x15:
            self.out.append(_frame(0x80000015, 0, sequence))
        elif command == 0x80000006:
            self.unbound.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        for future in (self.bound, self.unbound):
            if not future.done():
                future.set_exception(error or ConnectionResetError("the gateway closed the connection"))
                future.exception()


def bodies(count: int) -> dict[bytes, int]:
    """``count`` different submit_sm bodies in mixed alphabets, lengths and carriages, all asking for a receipt."""
    result: dict[bytes, int] = {}
    for number in range(count):
        mark = b"%08d" % number
        kind = number % 7
        esm, coding, tlvs = 0, 0, b""
        if kind == 0:
            text = b"Message " + mark
        elif kind == 1:
            text = b"\x1b\x65 " + mark + b" \x00\x01\x02 [" + b"x" * (number % 120)
        elif kind == 2:
            text, coding = ("Сообщение " + mark.decode() + " 你好 📦").encode("utf-16-be"), 8
        elif kind == 3:
            text, coding = bytes(range(number % 100)) + mark, 4
        elif kind == 4:
            text, esm = bytes((5, 0, 3, number & 255, 2, number % 2 + 1)) + mark + b"long " * 28, 0x40
        elif kind == 5:
            text, payload = b"", mark + b"payload " * (20 + number % 60)
            tlvs = struct.pack(">HH", 0x424, len(payload)) + payload
        else:
            text = mark
            tlvs = struct.pack(">HH", 0x1400, 12) + b"110100000001" + struct.pack(">HH", 0x1401, 4) + b"\0\xff\0\1"
        fixed = bytes((esm, 0, 0)) + b"\0\0" + bytes((1, 0, coding, 0, len(text)))
        result[b"\0" + _SOURCE + _DESTINATION + fixed + text + tlvs] = number
    assert len(result) == count
    return result


async def customers(
    ledger: Ledger,
    port: int,
    context: ssl.SSLContext | None,
    binds: int,
    window: int,
    login: tuple[str, str],
    patience: float,
) -> float:
    """Sends the ledger's messages over so many binds and waits for the receipts; seconds it took."""
    loop = asyncio.get_running_loop()
    queue = deque((number, body) for body, number in ledger.bodies.items())
    sessions: list[CustomerSession] = []
    for _ in range(binds):
        _, session = await loop.create_connection(
            lambda: CustomerSession(ledger, queue, window),
            "127.0.0.1",
            port,
            ssl=context,
            server_hostname="localhost" if context else None,
        )
        session.bind(*login)
        assert await asyncio.wait_for(session.bound, 15) == 0, "a bind was refused"
        sessions.append(session)
    started = loop.time()
    for session in sessions:
        session.fill()
    news, seen = loop.time(), -1
    while not ledger.complete and loop.time() - news < patience and not any(each.gone for each in sessions):
        await asyncio.sleep(0.02)
        now = ledger.answers.total() + ledger.receipts.total()
        if now != seen:
            news, seen = loop.time(), now
    took = loop.time() - started
    # A duplicate would follow at once.
    await asyncio.sleep(0.5)
    for session in sessions:
        if not session.gone:
            session.transport.write(_frame(0x06, 0, 0x7FFF0000))
            await asyncio.wait_for(session.unbound, 10)
            session.transport.abort()
    return took
