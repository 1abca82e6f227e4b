"""What a peer can make grow outside the relay, for `bench.limits`: connections with all they hold, bans, what waits for the
audit trail, and what waits for the index."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.config import make_certificate
from bench.edge_stand import Caller, EdgeStand
from bench.limits_stand import Stand, configuration, forget_peak, memory, peak
from bench.structures import Structure, fill_submitted, mobile, sends, submit, various
from smppd.config import Settings
from smppd.daemon import health
from smppd.daemon.answers import Listing
from smppd.daemon.control_requests import control_requests
from smppd.events import AuditEvent
from smppd.ids import id_time
from smppd.net import tls
from smppd.net.limits import BANS, TABLE_MAX
from smppd.protocol.wire import Command, pdu
from smppd.records import indexer
from smppd.records.segments import BUCKETS
from smppd.store.sqlite.log_rows import SqliteIndex

SESSIONS: Final = 9_990
"""Sessions; the last places of 10,000 connections are for those who come while it is full."""
ACCOUNTS: Final = 100
WINDOW: Final = 10
AHEAD: Final = 60
"""Messages that a customer sends at once: its window, and what waits behind that."""
PART: Final = 4096
"""Octets of a PDU whose rest does not come."""


@dataclass(frozen=True)
class EdgeStructure(Structure):
    """A structure of the customers' side. ``tls``: its listener speaks TLS."""

    tls: bool = False
    stand: Any = EdgeStand

    def settings(self, directory: Path) -> Settings:
        """The configuration it is filled under."""
        sections = dict(self.sections)
        if self.tls:
            certificate, key = make_certificate(directory)
            pair = {"certificate": str(certificate), "key": str(key)}
            sections["listeners"] = [{"address": "127.0.0.1:0", "tls": pair}]
        return configuration(directory, self.accounts, **sections)


# -- connections ---------------------------------------------------------------------------------------------------------


def _address(number: int) -> str:
    return f"127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def _numbered(frames: list[bytes]) -> bytes:
    return b"".join(frame[:12] + (n + 2).to_bytes(4, "big") + frame[16:] for n, frame in enumerate(frames))


def _connect(stand: EdgeStand, address: str, name: str) -> Caller:
    """A bound session."""
    before = len(stand.relay.context.accounts[name].sessions)
    caller = stand.caller(address)
    caller.shake()
    caller.bind(name)
    if not stand.run(5.0, lambda: len(stand.relay.context.accounts[name].sessions) > before):
        raise RuntimeError(f"no bind: {caller.pipe.detail}")
    return caller


def fill_connections(stand: EdgeStand, number: int = SESSIONS, accounts: int = ACCOUNTS) -> None:
    """Sessions, each with a window of mail unanswered, a window of messages that wait for a disk which answers nothing, more
    of them behind it, and a part of a PDU."""
    certificate = stand.settings.listeners[0].tls
    stand.client = tls.client_context(ca=certificate.certificate) if certificate is not None else None
    messages = _numbered(various(AHEAD)) + pdu(Command.SUBMIT_SM, 0, AHEAD + 2, bytes(2 * PART))[:PART]
    waiting = []
    for n in range(number):
        caller = _connect(stand, _address(n), f"bench-{n % accounts}")
        cipher = caller._tls.encrypt(messages) if caller._tls is not None else messages
        waiting.append((caller, cipher))
        caller.forget()
    link = stand.link()
    each = WINDOW * number // accounts
    for account in range(accounts):
        for at in range(0, each, 500):
            stand.sends(link, *[mobile(account, b"%d" % n) for n in range(at, min(each, at + 500))])
            stand.settle()
            link.frames.clear()
    stand.stalled = True
    while waiting:
        caller, cipher = waiting.pop()
        caller.wire.arrive(cipher)
        if len(waiting) % 100 == 0:
            stand.settle()


def comes_and_leaves(stand: EdgeStand) -> None:
    """A customer binds, says a little, and is gone."""
    caller = _connect(stand, "127.9.9.9", "bench-7")
    caller.sends(pdu(Command.ENQUIRE_LINK, 0, 2))
    stand.run(0.1)
    stand.turn(lambda: caller.wire.lose(ConnectionError()))
    stand.callers.pop()


def silent(seconds: float, ticks: int = 10) -> Any:
    """All sessions have been silent for so long: a tick of each tenth of them."""

    def act(stand: EdgeStand) -> None:
        for _ in range(ticks):
            stand.turn(lambda: stand.tick(seconds))
            stand.run(0.01)

    return act


def disk_again(stand: EdgeStand) -> None:
    """The disk takes what waited for it."""
    stand.stalled = False
    stand.settle(200.0)


def drain(stand: EdgeStand) -> None:
    """All customers are asked to go, and a moment later made to."""
    stand.turn(lambda: stand.customers.unbind_all())
    stand.run(0.3)
    stand.turn(lambda: stand.customers.unbind_all(at_once=True))
    stand.run(0.3)


def status(stand: EdgeStand) -> None:
    """`smppd status`, and what /readyz asks."""
    health.picture(stand.relay, stand.store, stand.door.ports, began=0.0, ready=True, draining=False)
    health.health(stand.settings, stand.relay, stand.store, stand.door.listeners, draining=False, over=False)


EDGE_TICKS: Final[dict[str, Any]] = {
    "sessions' tick": lambda stand: stand.customers.tick(time.monotonic()),
    "the door's part of a scrape": lambda stand: stand.door.gauges(),
    "the door's part of a reload": lambda stand: (
        stand.door.use(stand.settings),
        stand.customers.reload(stand.settings.limits),
    ),
    "smppd status": status,
}
PATIENT: Final = {
    "enquire_link": "1h",
    "inactivity": "2h",
    "response": "3h",
    "pdu": "4h",
    "connections": 10_000,
    "handshake_share": 100,
    "handshakes_per_address": "100000/s",
    "handshakes_per_network": "100000/s",
    "handshakes_per_address_burst": 100_000,
    "handshakes_per_network_burst": 100_000,
}


# -- bans ----------------------------------------------------------------------------------------------------------------


def _stranger(number: int) -> str:
    return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"


def fill_bans(stand: EdgeStand, number: int = TABLE_MAX) -> None:
    """Each table of who failed, came or shook hands: as many addresses, a failure short of their bans; of some the ban too."""
    guard, now = stand.door.guard, time.monotonic()
    limits = stand.settings.limits
    for n in range(number):
        peer = _stranger(n)
        for k in range(9):
            guard.failed(b"name-%010d" % k, peer, now)
        for _ in range(limits.address_failures - 10):
            guard.failed(b"name%011d" % n, peer, now)
        guard.succeeded(b"bench-0", f"2001:db9:{n >> 16:x}:{n & 0xFFFF:x}::1", now)
        stand.customers.bind_rate.allows("bench-0", peer, 4, now)
        for table, key in ((stand.door._handshakes._addresses, peer), (stand.door._handshakes._networks, "n" + peer)):
            stand.door._handshakes._bucket(table, key, 10.0, now)
    for n in range(number - min(BANS, number // 2), number):
        guard.failed(b"name-%010d" % (n % 9), _stranger(n), now)


def refused(address: str, name: str, password: bytes = b"wrong") -> Any:
    """A bind that is not taken; the answer is waited for."""

    def act(stand: EdgeStand) -> None:
        caller = stand.caller(address)
        caller.bind(name, password)
        heard: list[bytes] = []
        caller.wire.hears = heard.append
        stand.run(3.0, lambda: bool(heard) or caller.wire._ended)
        stand.turn(lambda: caller.wire.lose(ConnectionError()))
        stand.callers.pop()

    return act


def asked(what: str, **more: str) -> Any:
    """A request on the control socket, and its answer as it is written there."""

    def act(stand: EdgeStand) -> None:
        done = control_requests(stand.door, stand.audit, stand.relay.context.ring)[what]
        answers: list[Any] = []
        stand.turn(lambda: answers.append(done({"do": what, **more}, os.getuid())))
        if isinstance(answers[0], Listing):
            pieces = answers[0].pieces()
            while answers.pop() is not None:
                stand.turn(lambda: answers.append(next(pieces, None)))
        else:
            stand.turn(lambda: json.dumps(answers[0]).encode())

    return act


def shown_sessions(stand: EdgeStand) -> None:
    """`smppd show sessions` of all of them."""
    pieces: list[Any] = []
    views = (one._asdict() for one in stand.customers.views(None))
    stand.turn(lambda: pieces.append(Listing("sessions", views).pieces()))
    piece: list[Any] = [b""]
    while piece.pop() is not None:
        stand.turn(lambda: piece.append(next(pieces[0], None)))


# -- the audit trail -----------------------------------------------------------------------------------------------------


def fill_audit(stand: EdgeStand, number: int = 10_000) -> None:
    """The disk is full: what the daemon did, binds that were refused and binds that were accepted wait, each as many as may,
    and so does what is gathered before."""
    stand.trail.full = True
    now = time.monotonic()
    for n in range(1_100):
        stand.audit(AuditEvent.RELOAD, {"changes": f"{n} " + "x" * 1990})
    customers = stand.customers
    for _ in range(2):
        for n in range(1_100):
            customers.refusals.note("unknown_id", _stranger(n), now, ("name_hash", f"{n:012x}"))
        for n in range(number + 100):
            fields = {"account": "bench-0", "peer": _stranger(n), "mode": "transceiver", "tls": "TLSv1.3"}
            customers.accepted.note(fields, now)


def told(ahead: float) -> Any:
    """What was gathered of binds is told, when its time is over: as many ticks as that takes."""

    def act(stand: EdgeStand) -> None:
        for _ in range(200):
            stand.turn(lambda: stand.tick(ahead))

    return act


# -- the index -----------------------------------------------------------------------------------------------------------


def fill_log(stand: Stand, runs: int = 2 * indexer.FAN + 1, run: int = indexer.RUN) -> None:
    """Records that no index knows: enough for merges of all buckets, twice."""
    fill_submitted(stand, runs * run)


def fill_index(stand: Stand, run: int = indexer.RUN) -> int:
    """Half of it is indexed and merged; the octets that took when it took most."""
    rows = SqliteIndex(stand.settings.store.directory)
    database = rows.data.connection
    database.execute("PRAGMA synchronous = NORMAL")
    before = memory()
    forget_peak()
    work = indexer.Indexer(rows, id_time, run=run)
    merged = "SELECT count(*) FROM number_index WHERE level = 1"
    for _ in range(100_000):
        if not work.step() or database.execute(merged).fetchone()[0] >= BUCKETS // 2:
            break
    rows.close()
    return peak() - before


def beside_the_index(stand: Stand) -> None:
    """Messages come while the thread of the index works, and turns are measured by the clock on the wall."""
    stop = threading.Event()
    faults: list[str] = []
    directory = stand.settings.store.directory
    thread = indexer.IndexerThread(lambda: SqliteIndex(directory), id_time, stop, faults.append)
    stand.clock = time.perf_counter
    thread.start()
    try:
        for _ in range(400):
            sends(submit())(stand)
            stand.run(0.005)
    finally:
        stop.set()
        thread.join(10.0)
        stand.clock = time.thread_time
    if faults:
        raise RuntimeError(faults[0])


EDGE: Final = (
    EdgeStructure(
        "connections",
        "9,990 TLS sessions of 100 accounts: windows of messages and of mail full, 50 messages and a part of a PDU behind them",
        fill_connections,
        {
            "a customer binds and is gone": comes_and_leaves,
            "all silent for `enquire_link`": silent(3700.0),
            "the disk takes again": disk_again,
            "a tenth silent for `inactivity`": silent(7300.0, 1),
            "told to end": drain,
            "smppd show sessions": shown_sessions,
        },
        accounts=ACCOUNTS,
        tls=True,
        sections={
            "account": {"max_binds": 200, "window": WINDOW, "receipts": {"window": WINDOW}, "numbers": []},
            "limits": PATIENT,
        },
        once=(
            "all silent for `enquire_link`",
            "the disk takes again",
            "a tenth silent for `inactivity`",
            "told to end",
        ),
        ticks=EDGE_TICKS,
        stated=520_000_000,
    ),
    EdgeStructure(
        "bans",
        f"{TABLE_MAX:,} addresses a failure short of a ban, as many names, {BANS:,} bans; as many that may bind or shake hands",
        fill_bans,
        {
            "a bind is refused": refused(_stranger(TABLE_MAX // 2 - 1), "nobody"),
            "a bind with a wrong password": refused("127.0.0.9", "bench-0"),
            "who is banned connects": refused(_stranger(TABLE_MAX - 1), "nobody"),
            "a customer binds and is gone": comes_and_leaves,
            "smppd bans list": asked("bans list"),
            "smppd bans lift": asked("bans lift", address=_stranger(TABLE_MAX - 5)),
        },
        accounts=8,
        sections={"limits": {"refusal_floor": "100ms"}},
        ticks=EDGE_TICKS,
        stated=80_000_000,
    ),
    EdgeStructure(
        "audit",
        "a disk that is full: 1,000 entries of each kind wait for the trail, 10,000 accepted and 1,000 refused binds before it",
        fill_audit,
        {
            "a bind is refused": refused("127.0.0.9", "nobody"),
            "a customer binds and is gone": comes_and_leaves,
            "all that was gathered is told": told(120.0),
        },
        accounts=8,
        sections={"limits": {"refusal_floor": "100ms"}},
        once=("all that was gathered is told",),
        ticks=EDGE_TICKS | {"an entry": lambda stand: stand.audit(AuditEvent.RELOAD, {"changes": "none"})},
        stated=15_000_000,
    ),
    Structure(
        "index",
        f"an index that is {2 * indexer.FAN + 1} runs of {indexer.RUN:,} records behind, of which half are indexed",
        fill_index,
        {"submit_sm while it is indexed, by the clock": beside_the_index},
        prepare=fill_log,
        sections={"account": {"queue": 1_000_000}},
        stated=60_000_000,
    ),
)
