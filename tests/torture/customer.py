"""The customer of the campaigns: submits at a steady rate over some binds, binds again whenever it is cut off, and writes
down each ESME_ROK with its id and each receipt. It never submits the same text twice, so what arrives twice is not its doing.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from tests.torture import smpp

_TICK: Final = 0.01
_RETRY: Final = 0.05
_DOUBTFUL: Final = 2.0
"""Seconds before the end of a session whose acknowledgements may not have arrived."""


@dataclass(slots=True)
class CustomerBook:
    """All that the customer saw. ``ids``: message id -> token, of each ESME_ROK."""

    sent: int = 0
    ids: dict[bytes, int] = field(default_factory=dict)
    ids_repeated: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    unasked: int = 0
    receipts: Counter[bytes] = field(default_factory=Counter)
    states: dict[bytes, bytes] = field(default_factory=dict)
    excused: set[bytes] = field(default_factory=set)
    """Receipts whose acknowledgement may not have arrived, since the session ended: they may come again."""
    waits: list[float] = field(default_factory=list)
    """Seconds from each submit to its answer."""


class Bind(smpp.Peer):
    """One session."""

    def __init__(self, customer: Customer) -> None:
        super().__init__()
        self.customer = customer
        self.bound = False
        self.waiting: dict[int, tuple[int, float]] = {}
        self.sequence = 1
        self.leaving = False
        self.left = asyncio.get_running_loop().create_future()
        self.taken: deque[tuple[float, bytes]] = deque(maxlen=1000)

    def leave(self) -> None:
        """Unbinds; ``left`` when that is over."""
        if not self.leaving and not self.gone:
            self.leaving, self.bound = True, False
            self.sequence += 1
            self.say(smpp.UNBIND, 0, self.sequence)
            self.flush()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(smpp.bind(self.customer.command, self.customer.system_id, self.customer.password))

    def submit(self, token: int) -> None:
        """Submits a message, with the next flush."""
        self.sequence += 1
        self.waiting[self.sequence] = token, time.monotonic()
        self.customer.book.sent += 1
        self.say(smpp.SUBMIT, 0, self.sequence, smpp.submit_body(token, self.customer.registered))

    def handle(self, command: int, status: int, sequence: int, body: bytes) -> None:
        book = self.customer.book
        if command in (smpp.SUBMIT | smpp.RESPONSE, smpp.NACK):
            found = self.waiting.pop(sequence, None)
            if found is None:
                book.unasked += 1
                return
            book.waits.append(time.monotonic() - found[1])
            if status:
                book.refused[status] += 1
                return
            told = body.split(b"\0", 1)[0]
            book.ids_repeated += told in book.ids
            book.ids[told] = found[0]
            self.customer.acknowledged += 1
        elif command == smpp.DELIVER:
            told, state = smpp.receipt_of(body)
            book.receipts[told] += 1
            book.states[told] = state
            self.taken.append((time.monotonic(), told))
            if self.leaving:
                book.excused.add(told)
            self.say(smpp.DELIVER | smpp.RESPONSE, 0, sequence, b"\0")
        elif command in (smpp.ENQUIRE, smpp.UNBIND):
            self.say(command | smpp.RESPONSE, 0, sequence)
        elif command == smpp.UNBIND | smpp.RESPONSE:
            self.taken.clear()
            self.transport.close()
        elif command in (0x80000001, 0x80000002, 0x80000009):
            self.bound = status == 0
            if status:
                self.cut()

    def connection_lost(self, _error: Exception | None) -> None:
        self.gone = True
        self.bound = False
        if not self.left.done():
            self.left.set_result(None)
        recent = time.monotonic() - _DOUBTFUL
        self.customer.book.excused.update(told for at, told in self.taken if at > recent)
        self.customer.book.unanswered += len(self.waiting)
        self.waiting.clear()


class Customer:
    """``rate`` messages a second while ``sending``, over ``binds`` sessions. Tokens count from ``first``. To be used in
    its event loop only, but for reading ``book``."""

    def __init__(
        self,
        port: int,
        password: str,
        *,
        system_id: str = "acme",
        rate: float = 1200.0,
        binds: int = 2,
        window: int = 100,
        command: int = smpp.BIND_TRANSCEIVER,
        registered: int = 1,
        first: int = 0,
        book: CustomerBook | None = None,
    ) -> None:
        """``book``: of several customers that are one account, or whose messages are judged together."""
        self.port = port
        self.password = password
        self.system_id = system_id
        self.rate = rate
        self.count = binds
        self.window = window
        self.command = command
        self.registered = registered
        self.book = book or CustomerBook()
        self.others: list[int] = []
        """Further ports: each new bind is tried at the next one, as behind a load balancer."""
        self.acknowledged = 0
        """How many of its own messages, where others have the book too."""
        self.sending = False
        self.limit: int | None = None
        self.next = first
        self.running = True
        self.binds: list[Bind] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to bind, and to send if ``sending``."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Cuts all sessions."""
        self.running = False
        if self._task is not None:
            await self._task
        for each in self.binds:
            each.cut()

    def moves(self, ports: list[int]) -> None:
        """Cuts all sessions, and binds at these ports from now on, in turn."""
        self.port, *self.others = ports
        for each in self.binds:
            each.cut()

    async def leaves(self, ports: list[int], seconds: float = 10.0) -> None:
        """Unbinds all sessions in order, and binds at these ports from then on, in turn. A session that has not ended after
        so long is cut."""
        self.port, *self.others = ports
        for each in self.binds:
            each.leave()
        if self.binds:
            await asyncio.wait([each.left for each in self.binds], timeout=seconds)
        for each in self.binds:
            if each.leaving:
                each.cut()

    @property
    def bound(self) -> int:
        """Sessions that stand."""
        return sum(each.bound for each in self.binds)

    async def _run(self) -> None:
        last = time.monotonic()
        tokens, tried, turn = 0.0, 0.0, 0
        loop = asyncio.get_running_loop()
        while self.running:
            now = time.monotonic()
            self.binds = [each for each in self.binds if not each.gone]
            if len(self.binds) < self.count and now - tried >= _RETRY:
                tried = now
                try:
                    _, made = await loop.create_connection(lambda: Bind(self), "127.0.0.1", self.port)
                    self.binds.append(made)
                except OSError:
                    pass
                self.others.append(self.port)
                self.port = self.others.pop(0)
            up = [each for each in self.binds if each.bound]
            # A pause is not made up for beyond a tenth of a second's worth.
            tokens = min(tokens + (now - last) * self.rate, self.rate / 10 + 1)
            last = now
            while self.sending and up and tokens >= 1.0 and (self.limit is None or self.next < self.limit):
                bind = next(
                    (b for k in range(len(up)) if len((b := up[(turn + k) % len(up)]).waiting) < self.window), None
                )
                if bind is None:
                    break
                turn += 1
                tokens -= 1.0
                bind.submit(self.next)
                self.next += 1
            for each in up:
                each.flush()
            await asyncio.sleep(_TICK)
