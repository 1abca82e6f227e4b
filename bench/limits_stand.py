"""A relay on a real store without sockets, and a reactor of its own that measures each of its turns.

Peers are sessions without connections. A turn is what the reactor does before it looks at its sockets again: one chunk of a
peer, one timer, one word of the store. Its length is its CPU time on this thread, so that other work on the machine does not
count, and neither does what the store's thread does beside it.
"""

from __future__ import annotations

import ctypes
import gc
import heapq
import queue
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

from smppd.config import Settings
from smppd.daemon import garbage
from smppd.ids import Ids
from smppd.metrics import Metrics
from smppd.policy.pipeline import pipelines
from smppd.protocol.session import Role, Session, Timers
from smppd.protocol.wire import Command, Splitter, id_response, pdu, refusal
from smppd.relay.relay import Relay, Routing
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing

TICK: Final = 0.1
_HASH: Final = "$argon2id$v=19$m=19456,t=2,p=1$" + "A" * 22 + "$" + "A" * 43
_LOGIN: Final = b"x\0y\0\0\x34\0\0\0"
_PATIENT: Final = Timers(control_burst=1e6, enquire_link=1e9, inactivity=1e9, response=1e9)


def configuration(directory: Path, accounts: int = 1, **sections: Any) -> Settings:
    """Accounts bench-0 and so on, with no rate, towards upstreams a and b. ``account`` and ``upstream`` add to each."""
    more, way = sections.pop("account", {}), sections.pop("upstream", {})
    account = {"password_hash": _HASH, "networks": ["127.0.0.0/8"], "window": 1000, "throughput": None}
    account |= {"receipts": {"window": 1000}, **more}
    upstream = {
        "address": "127.0.0.1:2775",
        "system_id": "gateway",
        "password": {"env": "NOT_USED"},
        "window": 1000,
        **way,
    }
    return Settings.model_validate(
        {
            "listeners": [{"address": "127.0.0.1:0"}],
            "accounts": [
                account | {"system_id": f"bench-{n}"} | ({"numbers": [f"1555{n:07d}"]} if "numbers" in account else {})
                for n in range(accounts)
            ],
            "upstreams": [upstream | {"name": name} for name in "ab"],
            "routes": [{"upstreams": ["a", "b"]}],
            "store": {"path": str(directory), "reserve": 0} | sections.pop("store", {}),
            "keys": {"file": "kek"},
            **sections,
        }
    )


class Peer:
    """A customer or a link to a carrier. ``frames``: what it was sent, unless ``deaf``; ``heard``: how many."""

    def __init__(self, stand: Stand, session: Session, account: Any, upstream: Any) -> None:
        self.stand, self.session, self.account, self.upstream = stand, session, account, upstream
        self.version = 0x34
        self.address = b"127.0.0.1"
        self.frames: list[bytes] = []
        self.deaf = False
        self.heard = 0
        self._cut = Splitter(1 << 20)

    def flush(self) -> None:
        """`relay.state.model.Peer`."""
        if self.session.out:
            frames = self._cut.feed(self.session.take())
            self.heard += len(frames)
            if not self.deaf:
                self.frames.extend(frames)
        if self.session.blocked and self.session.unanswered < self.session.window:
            self.work(b"")

    def work(self, data: bytes) -> None:
        """Bytes of this peer, as its connection hands them on."""
        relay, now = self.stand.relay, time.monotonic()
        got = self.session.receive(data, now)
        if self.upstream is not None:
            relay.carrier_sent(self.upstream, self, got.answers, got.messages, now)
        else:
            relay.customer_sent(self, got.answers, got.messages, got.others, now)
        self.flush()
        relay.flush()

    def taken(self, command: int) -> list[bytes]:
        """The frames of one command that came since last asked; the others are forgotten."""
        wanted = command.to_bytes(4, "big")
        frames, self.frames = [frame for frame in self.frames if frame[4:8] == wanted], []
        return frames

    def leave(self) -> None:
        """The connection is gone."""
        now = time.monotonic()
        if self.upstream is not None:
            self.stand.relay.carrier_left(self.upstream, self, self.session.abandon(), now)
        else:
            self.stand.relay.customer_left(self, self.session.abandon(), now)


class Stand:
    """See the module. ``longest``: the longest turn since ``reset``, in seconds; ``turns``: how many there were. ``ahead``:
    seconds that the clock on the wall is ahead. ``names``: some ids that carriers gave. ``clock``: what measures
    turns."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.longest = 0.0
        self.turns = 0
        self.ahead = 0.0
        self.clock: Callable[[], float] = time.thread_time
        self.names: list[bytes] = []
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._soon: list[Callable[[], None]] = []
        self._tie = count()
        self._numbers = count(2)
        self._ticked = time.monotonic()
        self.store = SqliteStore(
            settings.store.directory, notify=self._calls.put, later=self._later, soon=self._soon.append, wall=self.wall
        )
        ring = KeyRing(Kek([(1, "2026-01-01T00:00:00Z", bytes(32))]), self.store.keys)
        self.store.use(ring)
        self.metrics = Metrics()
        ids = Ids(self.wall, 0, 0)
        self.relay = Relay(
            settings, self.store, ring, self.metrics, pipelines=pipelines(settings), ids=ids, wall=self.wall,
            now=time.monotonic, later=self._later, random=Random(1), broken=self._broken,
        )  # fmt: skip
        self.relay.begin()
        garbage.begin()

    def reload(self) -> None:
        """The configuration is taken anew."""
        self.relay.take_configuration(self.settings, Routing.of(self.settings), pipelines(self.settings))

    def wall(self) -> float:
        """Epoch seconds."""
        return time.time() + self.ahead

    def _broken(self, reason: str) -> None:
        raise RuntimeError(f"the store failed: {reason}")

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._tie), function))

    # -- turns ---------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Measures anew."""
        self.longest, self.turns = 0.0, 0

    def turn(self, function: Callable[[], object]) -> None:
        """One turn, and what was asked for at its end, each measured."""
        began = self.clock()
        function()
        spent = self.clock() - began
        self.turns += 1
        self.longest = max(self.longest, spent)
        while self._soon:
            some, self._soon[:] = self._soon[:], []
            for call in some:
                self.turn(call)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """The reactor runs, with ticks, for so long or ``until`` it is so; whether it came to be."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if until is not None and until():
                return True
            if now - self._ticked >= TICK:
                self._ticked = now
                self.turn(lambda: self.relay.tick(time.monotonic()))
                self.turn(garbage.look)
            while self._timers and self._timers[0][0] <= time.monotonic():
                self.turn(heapq.heappop(self._timers)[2])
            wait = min(self._ticked + TICK, self._timers[0][0] if self._timers else end, end) - time.monotonic()
            try:
                call = self._calls.get(timeout=max(0.0, min(wait, 0.02)))
            except queue.Empty:
                continue
            self.turn(call)
        return until is None or until()

    def settle(self, seconds: float = 60.0) -> None:
        """Runs until nothing is to be committed any more. RuntimeError after ``seconds``."""
        if not self.run(seconds, lambda: not self.store.busy and not self.relay.desk.behind):
            raise RuntimeError("the store does not come to rest")

    # -- peers ---------------------------------------------------------------------------------------------------------

    def customer(self, number: int = 0, window: int = 1000) -> Peer:
        """A bind of an account."""
        session = Session(Role.SMSC, _PATIENT, time.monotonic())
        session.receive(pdu(Command.BIND_TRANSCEIVER, 0, 1, _LOGIN), time.monotonic())
        session.accept_bind(Command.BIND_TRANSCEIVER, window=window, outstanding_limit=window)
        peer = Peer(self, session, self.relay.context.accounts[f"bench-{number}"], None)
        self.turn(lambda: self.relay.customer_bound(peer, time.monotonic()))
        return peer

    def link(self, name: str = "a", window: int = 1000) -> Peer:
        """A bind to a carrier."""
        session = Session(Role.ESME, _PATIENT, time.monotonic(), window=1000, outstanding_limit=window)
        session.bind(pdu(Command.BIND_TRANSCEIVER, 0, 0, _LOGIN), None, time.monotonic())
        session.take()
        session.receive(pdu(Command.BIND_TRANSCEIVER_RESP, 0, 1, b"x\0"), time.monotonic())
        session.bound_as(Command.BIND_TRANSCEIVER)
        peer = Peer(self, session, None, self.relay.context.upstreams[name])
        self.turn(lambda: self.relay.carrier_bound(peer.upstream, peer, time.monotonic()))
        return peer

    def numbered(self, frame: bytes) -> bytes:
        """A frame under the next sequence number."""
        return frame[:12] + next(self._numbers).to_bytes(4, "big") + frame[16:]

    def sends(self, peer: Peer, *frames: bytes, chunk: int = 64 << 10) -> None:
        """A peer sends requests, as many in a turn as one read of a socket brings."""
        data = b"".join(map(self.numbered, frames))
        for at in range(0, len(data), chunk):
            self.turn(lambda at=at: peer.work(data[at : at + chunk]))  # type: ignore[misc]

    def pours(self, peer: Peer, frames: list[bytes], window: int = 1000) -> None:
        """A peer sends many requests, never more than its window unanswered."""
        for at in range(0, len(frames), window):
            self.sends(peer, *frames[at : at + window])
            self.settle()
            peer.frames.clear()

    def answers(self, link: Peer, status: int = 0, most: int = 1 << 30) -> list[bytes]:
        """A carrier answers what it was sent; the ids it gave."""
        frames = link.taken(Command.SUBMIT_SM)[:most]
        names = [b"%016x" % next(self._numbers) for _ in frames]
        made = [
            refusal(Command.SUBMIT_SM, status, int.from_bytes(f[12:16], "big"))
            if status
            else id_response(Command.SUBMIT_SM, int.from_bytes(f[12:16], "big"), name)
            for f, name in zip(frames, names, strict=True)
        ]
        self.turn(lambda: link.work(b"".join(made)))
        return names

    def takes(self, peer: Peer, status: int = 0) -> int:
        """A customer answers the mail it was sent; how many."""
        mails = peer.taken(Command.DELIVER_SM)
        made = b"".join(pdu(Command.DELIVER_SM_RESP, status, int.from_bytes(f[12:16], "big"), b"\0") for f in mails)
        self.turn(lambda: peer.work(made))
        return len(mails)

    # -- memory --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the store."""
        self.store.close()


def memory() -> int:
    """Octets of this process in memory, without what could be given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _status("RssAnon")


def forget_peak() -> None:
    """From now on `peak` tells of what comes."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most octets of this process in memory since `forget_peak`, without those of files."""
    return _status("VmHWM") - _status("RssFile") - _status("RssShmem")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc says nothing of this process's memory")
