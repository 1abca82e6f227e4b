"""`make bench-micro`: CPU time of a message in the relay alone, in process: no sockets, TLS, SQLite or other processes.

Chunks of messages go the whole way from a customer's bytes to its acknowledgement of the receipt: frames, session, 20 rules,
sealing, dispatch, the carrier's answer and receipt, mailbox. Each measurement is a process of its own; the ways compared
take turns, and of each the best round counts, which other work on the machine disturbs least: for A/B of a few per cent.

    python -m bench.micro                      compiled beside interpreted
    python -m bench.micro --tree ../other      this checkout beside another one
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
PHASES: Final = ("submit", "answer", "receipt", "acknowledge", "tick")
CHUNK: Final = 50  # messages: the window of a bind of `make bench`
RULES: Final = 20


@dataclass(frozen=True)
class Way:
    """One way to run: a checkout, compiled or not."""

    name: str
    tree: Path
    compiled: bool


class Rows(dict[bytes, bytes]):
    """`vault.keys.Rows` in memory."""

    def put_new(self, scope: bytes, blob: bytes) -> bytes:
        return self.setdefault(scope, blob)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(item for item in self.items() if item[0].startswith(prefix)))

    def delete(self, scope: bytes) -> None:
        self.pop(scope, None)

    def replace_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self.update(pairs)


class MemoryStore:
    """A store that is always free and keeps nothing; packing the batch is part of what is measured."""

    def __init__(self, batch: type[Any]) -> None:
        self._make = batch
        self.batch: Any = batch()
        self.availability: Any = None
        self.takes = True
        self.sink: Any = None
        self.segment = 0

    def commit(self) -> None:
        """What was collected is durable at once."""
        if done := self.batch:
            self.batch = self._make()
            b"".join(done.records), b"".join(done.accepts + done.marks), b"".join(done.events)
            self.sink.batch_committed(done)

    def kick(self) -> None:
        pass

    def nudge(self) -> None:
        pass

    def watch(self) -> None:
        pass

    def page(self, kind: int, owner: str, after: int, limit: int, then: Callable[[list[Any]], None]) -> None:
        then([])

    def walk(self, kind: int, after: Any, limit: int, then: Callable[[list[Any], Any], None]) -> None:
        then([], None)

    def find(self, kind: int, owner: str, keys: list[bytes], then: Callable[[list[Any]], None]) -> None:
        then([])

    def expired(self, kind: int, now: int, limit: int, then: Callable[[list[Any]], None]) -> None:
        then([])

    def claim(
        self, kind: int, owner: str, ids: list[int] | None, limit: int, then: Callable[[list[Any]], None]
    ) -> None:
        then([])

    def peek(self, kind: int, owner: str, after: int, limit: int, then: Callable[[list[Any]], None]) -> None:
        then([])

    def unheld(self, then: Callable[[dict[tuple[int, str], int]], None]) -> None:
        then({})

    def count(self, kind: int, then: Callable[[dict[str, int]], None]) -> None:
        then({})

    def counts(self) -> dict[tuple[int, str], int]:
        return {}

    def replay(self) -> Iterator[tuple[int, bytes]]:
        return iter(())

    def highest_id(self) -> int:
        return 0

    def opt_outs(self) -> Iterator[Any]:
        return iter(())

    def doubts(self) -> int:
        return 0

    def meta(self, name: str, default: int, damaged: int | None = None) -> int:
        return default

    def begin_counter(self, counter: str, damaged: int) -> None:
        self.counted = 0

    def reserve(self, counter: str, count: int) -> int:
        self.counted += count
        return self.counted - count

    @property
    def unfiled(self) -> int:
        return 0

    @property
    def damaged(self) -> int:
        return 0

    def look_at_damaged(self) -> None:
        pass

    def tidy(self, then: Callable[[bool], None]) -> None:
        then(True)

    def open(self, sink: Any, tenant: Any, new_id: Callable[[], int]) -> None:
        self.sink = sink
        tenant.begin(1)

    def tick(self, now: float) -> None:
        pass


class End:
    """A customer or a link to a carrier: a real session, and what it sent, cut into frames."""

    def __init__(self, session: Any, account: Any, splitter: Any) -> None:
        self.session, self.account = session, account
        self.version = 0x34
        self.address = b"127.0.0.1"
        self._cut = splitter
        self._out: list[bytes] = []

    def flush(self) -> None:
        self._out.append(self.session.take())

    def frames(self, command: int) -> list[bytes]:
        """The frames sent since last asked, of one command."""
        sent, self._out = self._cut.feed(b"".join(self._out)), []
        wanted = command.to_bytes(4, "big")
        return [frame for frame in sent if frame[4:8] == wanted]


class World:
    """A relay between one customer and one carrier, and the bytes they send."""

    def __init__(self) -> None:
        # Here and not above: which tree and which form is imported is decided by then.
        from bench.config import rules
        from smppd.config import Settings
        from smppd.ids import Ids
        from smppd.metrics import Metrics
        from smppd.policy.pipeline import pipelines
        from smppd.protocol import wire
        from smppd.protocol.session import Role, Session, Timers
        from smppd.relay.relay import Relay
        from smppd.store.api import Batch
        from smppd.vault.kek import Kek
        from smppd.vault.keys import KeyRing

        self.wire: Any = wire
        self.store = MemoryStore(Batch)
        settings = Settings.model_validate(_settings(rules(RULES)))
        ring = KeyRing(Kek([(1, "2026-01-01T00:00:00Z", os.urandom(32))]), Rows())
        self.relay: Any = Relay(
            settings, self.store, ring, Metrics(), pipelines=pipelines(settings), ids=Ids(time.time, 0, 0),
            wall=time.time, now=time.monotonic, later=lambda _seconds, _function: None, random=Random(1), broken=print,
        )  # fmt: skip
        self.relay.begin()
        account = self.relay.account("bench")
        self.upstream = self.relay.upstream("smsc")
        now = time.monotonic()
        login, wide = b"x\0y\0\0\x34\0\0\0", {"window": 1000, "outstanding_limit": 1000}
        command = wire.Command.BIND_TRANSCEIVER
        customer = Session(Role.SMSC, Timers(), now)
        customer.receive(wire.pdu(command, 0, 1, login), now)
        customer.accept_bind(command, **wide)
        carrier = Session(Role.ESME, Timers(), now, **wide)
        carrier.bind(wire.pdu(command, 0, 0, login), None, now)
        carrier.take()
        carrier.receive(wire.pdu(wire.Command.BIND_TRANSCEIVER_RESP, 0, 1, b"x\0"), now)
        carrier.bound_as(command)
        self.customer = End(customer, account, wire.Splitter(1 << 20))
        self.link = End(carrier, account, wire.Splitter(1 << 20))
        self.relay.customer_bound(self.customer, now)
        self.relay.carrier_bound(self.upstream, self.link, now)
        self._numbers = iter(range(1, 1 << 30))

    def _submits(self) -> bytes:
        frames = []
        for n in range(CHUNK):
            number = next(self._numbers)
            text = b"Your parcel %09d will arrive today between 10 and 12. Reply to change it. Thank you." % number
            body = b"\0\1\1447700900123\0\1\1447700900%03d\0\0\0\0\0\0\1\0\0\0" % (n % 1000)
            frames.append(self.wire.pdu(4, 0, number, body + bytes([len(text)]) + text))
        return b"".join(frames)

    def _receipt(self, name: bytes, to: bytes) -> bytes:
        text = (
            b"id:%s sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:DELIVRD err:000 text:Your" % name
        )
        body = b"\0\1\1" + to + b"\0\1\1447700900123\0\4\0\0\0\0\0\0\0\0" + bytes([len(text)]) + text
        tags = self.wire.tlv(0x001E, name + b"\0") + self.wire.tlv(0x0427, b"\2")
        frame: bytes = self.wire.pdu(5, 0, next(self._numbers), body + tags)
        return frame

    def round(self) -> dict[str, float]:
        """One chunk all the way: CPU seconds of each phase. RuntimeError when a message got lost on it."""
        relay, wire, now = self.relay, self.wire, time.monotonic()
        spent: dict[str, float] = {}

        def phase(name: str, end: End, data: bytes) -> None:
            began = time.process_time()
            got = end.session.receive(data, now)
            if end is self.customer:
                relay.customer_sent(end, got.answers, got.messages, got.others, now)
            else:
                relay.carrier_sent(self.upstream, end, got.answers, got.messages, now)
            end.flush()
            relay.flush()
            self.store.commit()
            spent[name] = time.process_time() - began

        def number(frame: bytes) -> int:
            return int.from_bytes(frame[12:16], "big")

        phase("submit", self.customer, self._submits())
        sent = self.link.frames(4)
        names = [b"%d" % next(self._numbers) for _ in sent]
        answers = (wire.id_response(4, number(f), name) for f, name in zip(sent, names, strict=True))
        phase("answer", self.link, b"".join(answers))
        numbers = (wire.Sm(f).destination_digits for f in sent)
        reports = b"".join(map(self._receipt, names, numbers))
        phase("receipt", self.link, reports)
        mails = self.customer.frames(5)
        acks = b"".join(wire.id_response(5, number(frame), b"") for frame in mails)
        phase("acknowledge", self.customer, acks)
        began = time.process_time()
        relay.tick(now)
        spent["tick"] = time.process_time() - began
        if not len(sent) == len(mails) == CHUNK:
            raise RuntimeError(f"of {CHUNK} messages {len(sent)} were sent and {len(mails)} reported")
        return spent


def _settings(rules: list[dict[str, Any]]) -> dict[str, Any]:
    """As `bench.config.document`, without what only a daemon needs."""
    return {
        "listeners": [{"address": "127.0.0.1:0"}],
        "accounts": [
            {
                "system_id": "bench",
                "password_hash": "$argon2id$v=19$m=19456,t=2,p=1$" + "A" * 22 + "$" + "A" * 43,
                "networks": ["127.0.0.0/8"],
                "window": 1000,
                "throughput": "1000000/s",
                "burst": 2_000_000,
                "receipts": {"window": 1000},
                "policies": ["house"],
            }
        ],
        "upstreams": [
            {
                "name": "smsc",
                "address": "127.0.0.1:2775",
                "system_id": "gateway",
                "password": {"env": "NOT_USED"},
                "window": 1000,
            }
        ],
        "routes": [{"upstreams": ["smsc"]}],
        "policies": {"house": rules},
        "store": {"path": "var"},
        "keys": {"file": "kek"},
    }


def measure(rounds: int) -> dict[str, Any]:
    """The best of each phase over `rounds` chunks, in microseconds a message; and whether it ran compiled."""
    from smppd import native

    world = World()
    for _ in range(5):
        world.round()
    gc.collect()
    gc.freeze()
    found = [world.round() for _ in range(rounds)]
    return {name: min(one[name] for one in found) * 1e6 / CHUNK for name in PHASES} | {"compiled": native.compiled}


def child(way: Way, rounds: int) -> dict[str, Any]:
    """`measure` in a process of its own. RuntimeError when it fails or does not run the way it should."""
    environ = os.environ | {"SMPPD_INTERPRETED": "" if way.compiled else "1", "PYTHONPATH": str(way.tree)}
    # Each checkout by its own form of this file: what the relay is asked by changes with it.
    command = [sys.executable, "-P", str(way.tree / "bench" / "micro.py"), "--child", "--rounds", str(rounds)]
    done = subprocess.run(command, cwd=way.tree, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{way.name}: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found.pop("compiled") is not way.compiled:
        raise RuntimeError(f"{way.name}: the compiled modules are not of these sources (make native)")
    return found


def table(ways: Sequence[Way], results: dict[str, list[dict[str, float]]]) -> Iterable[str]:
    """Best of all and median of the processes' bests, a line for each way."""
    yield (
        f"{'us a message':24}" + "".join(f"{name:>13}" for name in PHASES) + f"{'total':>10}{'median':>10}{'ratio':>8}"
    )
    first = None
    for way in ways:
        runs = results[way.name]
        best = {name: min(run[name] for run in runs) for name in PHASES}
        total = sum(best.values())
        first = first or total
        middle = median(sum(run.values()) for run in runs)
        cells = "".join(f"{best[name]:13.2f}" for name in PHASES)
        yield f"{way.name:24}{cells}{total:10.2f}{middle:10.2f}{total / first:8.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="processes for each way (default 7)")
    parser.add_argument("--rounds", type=int, default=150, metavar="N", help="chunks in each process (default 150)")
    parser.add_argument("--tree", type=Path, action="append", default=[], help="another checkout to compare with")
    parser.add_argument("--only", choices=("compiled", "interpreted"), help="run only this form")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        print(json.dumps(measure(args.rounds)))
        return 0
    forms = [form for form in ("interpreted", "compiled") if args.only in (None, form)]
    trees = [ROOT, *(tree.resolve() for tree in args.tree)]
    ways = [
        Way(f"{tree.name} {form}" if len(trees) > 1 else form, tree, form == "compiled")
        for tree in trees
        for form in forms
    ]
    results: dict[str, list[dict[str, float]]] = {way.name: [] for way in ways}
    try:
        for _ in range(args.runs):
            for way in ways:
                results[way.name].append(child(way, args.rounds))
    except RuntimeError as error:
        print(f"bench-micro: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(ways, results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
