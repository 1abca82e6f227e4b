"""The SMSC of the campaigns: scripted, and it writes down all that happened, so that what smppd says can be held against it.

It shares no code with smppd. Every submit_sm it received and answered, every receipt it sent and whether that was
acknowledged; a receipt that was not is sent again, as a carrier would, on whatever session there is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.torture import smpp

_WINDOW: Final = 200
_AGAIN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with one submit_sm. ``answers``: how many responses (0: none); ``delay`` before them; ``status`` in them,
    ``nack``: as generic_nack. ``receipt``: seconds after arrival, None for none; ``early``: before the response.
    ``receipts``: how many, ``state`` in them. ``shape`` makes the id in the receipt out of the one in the response.
    ``cut``: the link is cut "first" (nothing said), "answered" (after the response) or "receipted" (after the receipt was
    sent, before its acknowledgement is read); "deaf": it stays, and from here on nothing is read from it or said on it."""

    answers: int = 1
    delay: float = 0.0
    status: int = 0
    nack: bool = False
    receipt: float | None = 0.02
    early: bool = False
    receipts: int = 1
    state: bytes = b"DELIVRD"
    shape: Callable[[bytes], bytes] | None = None
    cut: str = ""


@dataclass(slots=True)
class Submit:
    """One submit_sm as it arrived. ``answered``: the response was handed to the connection."""

    token: int
    id: bytes
    answered: bool = False
    status: int = 0

    @property
    def kept(self) -> bool:
        """Whether the SMSC may deliver it: it took it, or never said that it did not."""
        return self.status == 0


@dataclass(slots=True)
class Receipt:
    """One receipt. ``sent``: how often; ``refused``: how often it was answered with an error."""

    token: int
    id: bytes
    body: bytes
    sent: int = 0
    acknowledged: bool = False
    refused: int = 0


@dataclass(slots=True)
class SmscBook:
    """All that the SMSC saw."""

    submits: list[Submit] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    harmed: int = 0
    binds: int = 0

    def arrived(self) -> dict[int, list[Submit]]:
        """Submits by token."""
        found: dict[int, list[Submit]] = {}
        for each in self.submits:
            found.setdefault(each.token, []).append(each)
        return found


class Session(smpp.Peer):
    """One bind of smppd."""

    def __init__(self, smsc: Smsc) -> None:
        super().__init__()
        self.smsc = smsc
        self.sequence = 0
        self.bound = False
        self.deaf = False
        self.out_there: dict[int, Receipt] = {}
        self.taken = 0
        """The turn in which it took its last receipt."""

    def say(self, command: int, status: int, sequence: int, body: bytes = b"") -> None:
        if not self.deaf:
            super().say(command, status, sequence, body)

    def fall_deaf(self) -> None:
        """The socket stays open, and that is all: what is behind it has gone."""
        self.flush()
        self.deaf = True
        self.transport.pause_reading()
        self._leave()

    def handle(self, command: int, status: int, sequence: int, body: bytes) -> None:
        if self.deaf:
            return
        if command == smpp.SUBMIT:
            self.smsc.take(self, sequence, body)
        elif command == smpp.DELIVER | smpp.RESPONSE:
            receipt = self.out_there.pop(sequence, None)
            if receipt is not None:
                self.smsc.settled(receipt, status)
        elif command in (1, 2, 9):
            refused = self.smsc.bind_status
            self.say(command | smpp.RESPONSE, refused, sequence, b"" if refused else b"torture\0")
            if not refused:
                self.bound = True
                self.smsc.book.binds += 1
                asyncio.get_running_loop().call_soon(self.smsc.pump)
        elif command in (smpp.ENQUIRE, smpp.UNBIND):
            self.say(command | smpp.RESPONSE, 0, sequence)
            if command == smpp.UNBIND:
                self.bound = False

    def deliver(self, receipt: Receipt) -> None:
        """Sends a receipt."""
        self.sequence += 1
        receipt.sent += 1
        self.out_there[self.sequence] = receipt
        self.say(smpp.DELIVER, 0, self.sequence, receipt.body)

    def connection_lost(self, _error: Exception | None) -> None:
        self.gone = True
        self.smsc.sessions.discard(self)
        self._leave()

    def _leave(self) -> None:
        self.bound = False
        # What was not acknowledged comes again, oldest first.
        self.smsc.waiting.extendleft(reversed(self.out_there.values()))
        self.out_there.clear()


class Smsc:
    """Listens on a free port of 127.0.0.1. ``script(submit, attempt)`` gives the step for the ``attempt``-th (0, 1, ..)
    arrival of a token. To be used in its event loop only."""

    def __init__(self, script: Callable[[Submit, int], Step] | None = None) -> None:
        self.script = script or (lambda _submit, _attempt: Step())
        self.book = SmscBook()
        self.sessions: set[Session] = set()
        self.waiting: deque[Receipt] = deque()
        self.bind_status = 0
        self.form: Callable[[bytes], bytes] | None = None
        """Makes the ids of its answers out of 16 hexadecimal digits."""
        self.holding = False
        """Whether it keeps receipts to itself; ``pump`` when that ends."""
        self.spread = False
        """Whether receipts take turns over all sessions, whichever their messages came over."""
        self.port = 0
        self.unsettled = 0
        """Receipts that smppd has not acknowledged."""
        self._turn = 0
        self._attempts: dict[int, int] = {}
        self._next = 0xA000000000000000
        self._server: asyncio.Server | None = None

    def another(self, number: int) -> Smsc:
        """Another SMSC with the same script and the same book, whose ids are others."""
        made = Smsc(self.script)
        made.book = self.book
        made._attempts = self._attempts
        made._next += number << 56
        return made

    def take_over(self, submits: list[Submit]) -> None:
        """Goes on as an earlier one that saw these. Before anybody has bound."""
        self.book.submits += submits
        for each in submits:
            self._attempts[each.token] = self._attempts.get(each.token, -1) + 1
            self._next = max(self._next, int(each.id, 16) + 1)

    def owe(self, receipt: Receipt) -> None:
        """Has made a receipt; one that is not acknowledged is sent when somebody binds. Before anybody has bound."""
        self.book.receipts.append(receipt)
        if not receipt.acknowledged:
            self.unsettled += 1
            self.waiting.append(receipt)

    async def start(self, port: int = 0) -> int:
        """Listens; the port."""

        def session() -> Session:
            made = Session(self)
            self.sessions.add(made)
            return made

        self._server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", port or self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self.port

    async def stop(self) -> None:
        """Listens no more and cuts all sessions; ``start`` comes back on the same port."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Cuts all sessions."""
        for each in list(self.sessions):
            each.cut()

    def take(self, session: Session, sequence: int, body: bytes) -> None:
        """A submit_sm."""
        token = smpp.token_of(body)
        if token < 0:
            self.book.harmed += 1
        name = b"%016X" % self._next
        submit = Submit(token, name if self.form is None else self.form(name))
        self._next += 1
        self.book.submits.append(submit)
        attempt = self._attempts[token] = self._attempts.get(token, -1) + 1
        step = self.script(submit, attempt)
        if step.cut == "first":
            session.cut()
            return
        if step.cut == "deaf":
            session.fall_deaf()
            return
        submit.status = 3 if step.nack and not step.status else step.status
        later = asyncio.get_running_loop().call_later
        if step.receipt is not None and submit.kept:
            told = step.shape(submit.id) if step.shape is not None else submit.id
            for _ in range(step.receipts):
                receipt = Receipt(token, submit.id, smpp.receipt_body(body, told, step.state))
                self.book.receipts.append(receipt)
                self.unsettled += 1
                if step.early:
                    session.deliver(receipt)
                else:
                    later(step.receipt, self._due, receipt, session if step.cut == "receipted" else None)
        if step.delay:
            later(step.delay, self._answer, session, sequence, submit, step)
        else:
            self._answer(session, sequence, submit, step)

    def _answer(self, session: Session, sequence: int, submit: Submit, step: Step) -> None:
        command = smpp.NACK if step.nack else smpp.SUBMIT | smpp.RESPONSE
        for _ in range(step.answers):
            session.say(command, submit.status, sequence, b"" if submit.status else submit.id + b"\0")
        if step.answers and not session.gone and not session.deaf:
            submit.answered = True
        if step.delay or step.cut == "answered":
            session.flush()
        if step.cut == "answered":
            # Written first: the other side is to read the answer, and then the end.
            session.gone = True
            session.transport.close()

    def _due(self, receipt: Receipt, cut: Session | None) -> None:
        self.waiting.append(receipt)
        self.pump()
        if cut is not None and not cut.gone:
            cut.gone = True
            cut.transport.close()

    def settled(self, receipt: Receipt, status: int) -> None:
        """smppd answered a receipt."""
        if status == 0:
            self.unsettled -= not receipt.acknowledged
            receipt.acknowledged = True
        else:
            receipt.refused += 1
            asyncio.get_running_loop().call_later(_AGAIN, self._due, receipt, None)
        self.pump()

    def pump(self) -> None:
        """Sends receipts that wait, as far as windows go."""
        if self.spread and not self.holding:
            self._pump_in_turn()
            return
        for session in list(self.sessions):
            if not session.bound or session.gone or self.holding:
                continue
            while self.waiting and len(session.out_there) < _WINDOW:
                session.deliver(self.waiting.popleft())
            session.flush()

    def _pump_in_turn(self) -> None:
        up = [each for each in self.sessions if each.bound and not each.gone and len(each.out_there) < _WINDOW]
        up.sort(key=lambda each: each.taken)
        used = set()
        while self.waiting and up:
            session = up.pop(0)
            session.deliver(self.waiting.popleft())
            self._turn += 1
            session.taken = self._turn
            used.add(session)
            if len(session.out_there) < _WINDOW:
                up.append(session)
        for session in used:
            session.flush()


def figures(book: SmscBook) -> dict[str, Any]:
    """The SMSC's side in numbers."""
    return {
        "smsc_submits": len(book.submits),
        "smsc_receipts": len(book.receipts),
        "smsc_receipts_resent": sum(each.sent > 1 for each in book.receipts),
    }
