"""Load for what is killed under it, and what has to be true afterwards.

Witnesses are the client's own record of ESME_ROK and of receipts, the SMSC's own record of frames, and at the end the events in
the store.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import repeat

from smppd.config import load
from smppd.message import Event, read_events
from smppd.store.opening import installation
from tests.e2e.harness import PASSWORD, Gateway, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step, receipt_body

WINDOW = 20
_SOURCE, _DESTINATION = b"\1\1447700900001\0", b"\1\1447700900123\0"


def _receipt(message_id: bytes) -> bytes:
    return receipt_body(_DESTINATION, _SOURCE, message_id)


class Smsc(RawSmsc):
    """Keeps which receipt went under which sequence number. What was not acknowledged comes again, as with any SMSC."""

    def __init__(self) -> None:
        self.reported: dict[int, bytes] = {}
        self._bodies: dict[int, bytes] = {}
        super().__init__(repeat(Step(then=(_receipt,))))

    def deliver(self, body: bytes) -> int:
        """See ``RawSmsc``."""
        sequence = super().deliver(body)
        self._bodies[sequence] = body
        self.reported[sequence] = body[body.index(b"id:") + 3 :].split(b" ")[0]
        return sequence

    def _handle(self, connection: socket.socket, whole: bytes) -> bool:
        goes_on = super()._handle(connection, whole)
        if int.from_bytes(whole[4:8]) in (1, 2, 9):
            taken = {int.from_bytes(one[12:16]) for one in self.responses() if status(one) == 0}
            for sequence in [one for one in self._bodies if one not in taken]:
                self.deliver(self._bodies.pop(sequence))
        return goes_on

    def texts(self) -> list[bytes]:
        """The text of each submit, in order."""
        return [one[one.index(b"message ") :][:14] for one in self.submits()]

    def handed_over(self) -> list[bytes]:
        """Its own id of each receipt that was acknowledged to it."""
        return [self.reported[int.from_bytes(one[12:16])] for one in self.responses() if status(one) == 0]


class Customer:
    """Submits numbered texts over one session after another, each as fast as its window allows, and keeps its own record."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.number = 0
        self.acknowledged: dict[bytes, bytes] = {}
        """Text of each message that got ESME_ROK -> its id."""
        self.receipts: Counter[bytes] = Counter()
        """id -> receipts acknowledged by us."""

    def run(self, seconds: float, kill: Callable[[], object]) -> None:
        """Submits until the session is cut. kill(): called ``seconds`` after the bind, beside it."""
        with Probe(self.port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            killer = threading.Timer(seconds, kill)
            killer.start()
            waiting: dict[int, bytes] = {}
            try:
                while True:
                    while len(waiting) < WINDOW:
                        self.number += 1
                        text = b"message %06d" % self.number
                        waiting[self.number] = text
                        probe.send(frame(0x04, 0, self.number, submit_body(text, registered=1)))
                    self._take(probe, waiting)
            except OSError:
                pass
            killer.join()

    def drain(self, done: threading.Event) -> None:
        """Only takes receipts, until ``done``."""
        with Probe(self.port, timeout=0.5) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            while not done.is_set():
                try:
                    self._take(probe, {})
                except TimeoutError:
                    continue

    def _take(self, probe: Probe, waiting: dict[int, bytes]) -> None:
        got = probe.read()
        sequence = int.from_bytes(got[12:16])
        if got[4:8] == b"\x80\0\0\4":
            text = waiting.pop(sequence)
            if status(got) == 0:
                self.acknowledged[text] = got[16:-1]
        elif got[4:8] == b"\0\0\0\5":
            message_id = got[got.index(b"id:") + 3 :].split(b" ")[0]
            self.receipts[message_id] += 1
            probe.send(frame(0x80000005, 0, sequence, b"\0"))


def events(gateway: Gateway) -> Iterator[Event]:
    """All that the log says of messages."""
    records = installation(load(gateway.config_file)).records()
    try:
        after = 0
        while rows := records.told(after, 500):
            for _, block in rows:
                yield from read_events(block)
            after = rows[-1][0]
    finally:
        records.close()


def settles(gateway: Gateway, smsc: Smsc, customer: Customer) -> None:
    """Waits until what was acknowledged has reached the SMSC and each of its receipts the customer."""
    wait_for("every message at the SMSC", lambda: set(customer.acknowledged) <= set(smsc.texts()))
    wait_for("every receipt at the customer", lambda: set(customer.acknowledged.values()) <= set(customer.receipts))
    wait_for("an empty queue", lambda: gateway.metric("smppd_messages_queued") == 0)
    wait_for("an empty mailbox", lambda: gateway.metric("smppd_mailbox") == 0)


def judge(gateway: Gateway, smsc: Smsc, customer: Customer) -> None:
    sent = smsc.texts()
    texts, told_of = Counter(sent), list(events(gateway))
    names = {event.upstream_id: b"%016x" % event.id for event in told_of if event.upstream_id}
    ours = {text: name.lower() for text, name in customer.acknowledged.items()}
    told = {name.lower() for name in customer.receipts}

    # The receipts that the SMSC may forget, those of messages included whose ESME_ROK died with the daemon. Where the
    # message's new name died as well it was sent again, and the receipt of that one tells its end.
    handed_over = smsc.handed_over()
    assert handed_over, "no receipts"
    for upstream_id in handed_over:
        name = ours.get(sent[int(upstream_id.removeprefix(b"raw-")) - 1]) or names.get(upstream_id)
        assert name is None or name in told, f"the receipt of {name!r} was acknowledged and lost"

    # One that is flagged may have gone once: nobody can tell. The reverse must not be.
    flagged = {b"%016x" % event.id for event in told_of if event.duplicate}
    for text, number in texts.items():
        assert number <= 2
        if number > 1 and text in ours:
            assert ours[text] in flagged, f"{text!r} went twice and is not flagged"
