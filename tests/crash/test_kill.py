"""kill -9 at random moments under load: nothing acknowledged is lost, no receipt either, and each duplicate is flagged.

The short form: three kills for each way to acknowledge; SMPPD_KILLS makes it longer. Witnesses are the client's own
record of ESME_ROK and of receipts, the SMSC's own record of frames, and at the end the events in the store.
"""

from __future__ import annotations

import os
import random
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path

import pytest

from smppd.message import Event, read_events
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step, receipt_body
from tests.net.pipes import load_make

SEED = 20261122
KILLS = int(os.environ.get("SMPPD_KILLS", "3"))
WINDOW = 20
_SOURCE, _DESTINATION = b"\1\1447700900001\0", b"\1\1447700900123\0"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certs")
    load_make().make(directory, datetime.now(UTC))
    return directory


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

    def run(self, gateway: Gateway, seconds: float) -> None:
        """Submits until the daemon is killed, ``seconds`` after the bind."""
        with Probe(self.port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            killer = threading.Timer(seconds, gateway.kill)
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


def _events(directory: Path) -> Iterator[Event]:
    db = sqlite3.connect(f"file:{directory / 'data.db'}?mode=ro", uri=True)
    try:
        for (block,) in db.execute("SELECT events FROM log ORDER BY seq"):
            yield from read_events(block)
    finally:
        db.close()


@pytest.mark.parametrize("acknowledge", ["stored", "upstream"])
def test_nothing_acknowledged_is_lost(acknowledge: str, certificates: Path, tmp_path: Path) -> None:
    chance = random.Random(f"{SEED} {acknowledge}")
    with Smsc() as smsc:
        settings = account(acknowledge=acknowledge, unknown_after="1s", receipts={"window": 50, "retry": "1s"})
        gateway = Gateway(tmp_path / "gateway", certificates, [Upstream(smsc.port)], [settings])
        customer = Customer(gateway.plain_port)
        acknowledged = 0
        for _ in range(KILLS):
            gateway.start()
            customer.run(gateway, chance.uniform(0.05, 0.6))
            assert len(customer.acknowledged) > acknowledged, "no load"
            acknowledged = len(customer.acknowledged)
        with gateway:
            done = threading.Event()
            taking = threading.Thread(target=customer.drain, args=(done,))
            taking.start()
            try:
                _settles(gateway, smsc, customer)
            finally:
                done.set()
                taking.join()
        _judge(gateway, smsc, customer)


def _settles(gateway: Gateway, smsc: Smsc, customer: Customer) -> None:
    """Waits until what was acknowledged has reached the SMSC and each of its receipts the customer."""
    wait_for("every message at the SMSC", lambda: set(customer.acknowledged) <= set(smsc.texts()))
    wait_for("every receipt at the customer", lambda: set(customer.acknowledged.values()) <= set(customer.receipts))
    wait_for("an empty queue", lambda: gateway.metric("smppd_messages_queued") == 0)
    wait_for("an empty mailbox", lambda: gateway.metric("smppd_mailbox") == 0)


def _judge(gateway: Gateway, smsc: Smsc, customer: Customer) -> None:
    sent = smsc.texts()
    texts, events = Counter(sent), list(_events(gateway.directory / "store"))
    names = {event.upstream_id: b"%016x" % event.id for event in events if event.upstream_id}
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
    flagged = {b"%016x" % event.id for event in events if event.duplicate}
    for text, number in texts.items():
        assert number <= 2
        if number > 1 and text in ours:
            assert ours[text] in flagged, f"{text!r} went twice and is not flagged"
