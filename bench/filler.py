"""Fills a store faster than a daemon could be fed: real sealed records with their events and index, or mail that waits.

Records are made by the relay's own recorder and committed by the store's own writer, so key material, digest chain, signed
checkpoints and the sorted indexes are those of a daemon; only sockets, policy and the spool (which is empty again once a
message is over) are left out. The daemon of that store must not run.

    python -m bench.filler CONFIG [--records N] [--mail N --account NAME] [--days-ago D] [--no-index]

prints one line of JSON: {"records": N, "mail": N, "seconds": S, "index_seconds": S}.
"""

from __future__ import annotations

import argparse
import gc
import json
import queue
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final

from bench.config import SYSTEM_ID
from smppd import config
from smppd.config import Settings
from smppd.ids import Ids, id_time
from smppd.message import State
from smppd.metrics import Metrics
from smppd.policy.pipeline import pipelines
from smppd.protocol import wire
from smppd.records.indexer import Indexer
from smppd.relay.record import Recorder
from smppd.relay.relay import Relay
from smppd.store.opening import installation
from smppd.store.postgres.connection import Server
from smppd.store.postgres.store import PostgresStore
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.chain import ChainKeys
from smppd.vault.keys import KeyRing, load_install, load_kek
from smppd.vault.seal import Direction

BATCH: Final = 200
"""Records in a commit: what one carries at full load."""
COMMON: Final = "447700900123"
"""A number that one of 999 messages goes to."""
RARE: Final = "447700900999"
"""A number that RARE_TIMES messages of each filling go to, spread evenly."""
RARE_TIMES: Final = 5
_LOCALHOST: Final = b"\x7f\0\0\1"
_WAIT: Final = 120.0
_TEXT: Final = b"Your parcel %09d will arrive today between 10 and 12. Reply to change it. Thank you, the %07d desk."


def _opened(
    settings: Settings, calls: queue.SimpleQueue[Callable[[], None]], wall: Callable[[], float]
) -> SqliteStore | PostgresStore:
    told: dict[str, Any] = {
        "notify": calls.put,
        "later": lambda _seconds, call: calls.put(call),
        "soon": calls.put,
        "wall": wall,
    }
    if settings.store.url is None:
        return SqliteStore(settings.store.directory, **told)
    return PostgresStore(Server(settings.store.url), node=settings.node, **told)


class Filler:
    """A store and a relay without sockets on it."""

    def __init__(self, settings: Settings, wall: Callable[[], float] = time.time) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        kek = load_kek(settings.keys)
        self.store = _opened(settings, self._calls, wall)
        install = load_install(kek, self.store.keys)
        ring = KeyRing(kek, self.store.keys)
        self.store.use(ring)
        self.store.chain_keys = ChainKeys(install.audit, install.checkpoint)
        ids = Ids(wall, settings.node, self.store.highest_id())
        self.relay = Relay(
            settings, self.store, ring, Metrics(), pipelines=pipelines(settings), ids=ids, wall=wall, now=time.monotonic,
            later=lambda _seconds, _function: None, random=Random(1), broken=self._broken,
        )  # fmt: skip
        self.relay.begin()
        self.recorder = Recorder(self.relay.context)
        self._numbers = iter(range(1 << 40))

    def _broken(self, reason: str) -> None:
        raise RuntimeError(f"the store failed: {reason}")

    def _settle(self) -> None:
        """Runs what waits for this thread, until the writer has all but the current batch: it seals while that commits."""
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            call()

    def commit(self) -> None:
        """A batch is ready: handed over once the one before it is durable."""
        self.store.kick()
        self._settle()
        while len(self.store.batch.records) + len(self.store.batch.mails) >= BATCH:
            self._calls.get(timeout=_WAIT)()

    def records(self, count: int, account: str) -> None:
        """So many messages of an account, submitted, delivered, and their receipts taken."""
        context = self.relay.context
        owner = context.account(account)
        rare = max(1, count // RARE_TIMES)
        for n in range(count):
            number = next(self._numbers)
            to = RARE.encode() if n % rare == rare // 2 else b"447700900%03d" % (number % 999)
            text = _TEXT % (number, number % 9_999_991)
            body = b"\0\1\1121255501%02d\0\1\1%s\0\0\0\0\0\0\1\0\0\0" % (number // 1000 % 100, to)
            identity = context.new_id()
            sm = wire.Sm(wire.pdu(wire.Command.SUBMIT_SM, 0, 1, body + bytes([len(text)]) + text))
            self.recorder.record(identity, owner, sm, Direction.MT, _LOCALHOST)
            context.append_event(identity, State.SUBMITTED, detail=b"bench-smsc\x00%010d" % number)
            for state in (State.UNANSWERED, State.DELIVERED, State.RECEIPT_DONE):
                context.append_event(identity, state)
            if len(self.store.batch.records) >= BATCH:
                self.commit()

    def mail(self, count: int, account: str) -> None:
        """So many receipts that wait for an account."""
        context = self.relay.context
        owner = context.account(account)
        for _ in range(count):
            number = next(self._numbers)
            text = (
                b"id:%016x sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:DELIVRD err:000 text:Your"
                % number
            )
            body = b"\0\1\1447700900%03d\0\1\1121255501%02d\0\4\0\0\0\0\0\0\0\0" % (number % 999, number // 1000 % 100)
            tags = wire.tlv(0x001E, b"%016x\0" % number) + wire.tlv(0x0427, b"\2")
            frame = wire.pdu(wire.Command.DELIVER_SM, 0, 1, body + bytes([len(text)]) + text + tags)
            self.relay.mailroom.post_mail(owner, frame, context.new_id())
            if len(self.store.batch.mails) >= BATCH:
                self.commit()

    def close(self) -> None:
        """Waits until everything is durable, and closes the store."""
        end = time.monotonic() + _WAIT
        self.store.kick()
        self._settle()
        while self.store.busy and time.monotonic() < end:
            self._calls.get(timeout=_WAIT)()
        self._settle()
        self.store.close()


def index(settings: Settings) -> None:
    """Builds the indexes over all that is in the log, as the daemon does in its idle time."""
    with closing(installation(settings, settle=False).index()) as rows:
        indexer = Indexer(rows, id_time)
        while indexer.step():
            pass


def fill(path: Path, args: Any) -> dict[str, float]:
    """What the command line asks for."""
    settings = config.load(path)
    shift = args.days_ago * 86400.0
    began = time.monotonic()
    filler = Filler(settings, lambda: time.time() - shift)
    gc.collect()
    gc.freeze()
    filler.records(args.records, args.account)
    filler.mail(args.mail, args.account)
    filler.close()
    filled = time.monotonic()
    if args.index:
        index(settings)
    return {
        "records": args.records,
        "mail": args.mail,
        "seconds": round(filled - began, 3),
        "index_seconds": round(time.monotonic() - filled, 3),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.filler", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--records", type=int, default=0, metavar="N")
    parser.add_argument("--mail", type=int, default=0, metavar="N")
    parser.add_argument("--account", default=SYSTEM_ID, metavar="NAME")
    parser.add_argument("--days-ago", type=float, default=0.0, metavar="D", help="let all of it have happened then")
    parser.add_argument("--no-index", dest="index", action="store_false")
    args = parser.parse_args(argv)
    print(json.dumps(fill(args.config, args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
