"""Stores of the version before, in the middle of its work: made by its own code, out of the history or kept as a file.

`python -m tests.torture.earlier` makes the file that `make test` opens. All that is in it is made up.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.e2e.children import ROOT
from tests.torture.customer import Customer, CustomerBook
from tests.torture.daemon import PASSWORD, Daemon, account
from tests.torture.disk import copy_store
from tests.torture.load import until
from tests.torture.peers import Peers
from tests.torture.plan import Options
from tests.torture.smsc import Receipt, Smsc, SmscBook, Step, Submit

COMMIT: Final = "3f1c812"
"""The last commit whose store has its spool in a table (schema 6)."""
KEPT: Final = Path(__file__).resolve().parent / "earlier.tar.xz"
_BOOKS: Final = "books.json"
_PARTS: Final = ("store", "keys")
_RATE: Final = 400.0
_AWAY: Final = 100_000_000
"""The first token of the customer who takes no receipts."""


@dataclass(slots=True)
class Earlier:
    """What was known when a store of the version before was left. ``ids``: id -> token, of each ESME_ROK; ``receipts``: how
    often each id was told about. ``submits``: token, id, whether it was answered, status; ``due``: token, id, body (hex) and
    whether it was acknowledged, of each receipt that the SMSC made. ``made``: epoch seconds."""

    made: float
    ids: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, int] = field(default_factory=dict)
    submits: list[tuple[int, str, bool, int]] = field(default_factory=list)
    due: list[tuple[int, str, str, bool]] = field(default_factory=list)
    sent: int = 0

    def customer(self, book: CustomerBook) -> None:
        """Fills a customer's book."""
        book.sent += self.sent
        book.ids.update({told.encode(): token for told, token in self.ids.items()})
        book.receipts.update(Counter({told.encode(): count for told, count in self.receipts.items()}))

    def smsc(self, smsc: Smsc) -> None:
        """Lets an SMSC go on where the one of then stood: it has receipts to send. Before it has met anybody."""
        smsc.take_over(
            [Submit(token, told.encode(), answered, status) for token, told, answered, status in self.submits]
        )
        for token, told, body, acknowledged in self.due:
            smsc.owe(Receipt(token, told.encode(), bytes.fromhex(body), int(acknowledged), acknowledged))

    def figures(self) -> dict[str, int]:
        """How much of what there is: acknowledged by the customer's book; of it not at the SMSC; not answered there; receipts
        that the SMSC has not sent; receipts that the customer has not got."""
        arrived = {token for token, *_ in self.submits}
        answered = {token for token, _, answered, _ in self.submits if answered}
        taken = {token for token, _, _, acknowledged in self.due if acknowledged}
        waiting = sum(token in taken and told not in self.receipts for told, token in self.ids.items())
        return {
            "taken_over": len(self.ids),
            "queued": sum(token not in arrived for token in self.ids.values()),
            "unanswered_at_smsc": len(arrived - answered),
            "receipts_due": sum(not acknowledged for *_, acknowledged in self.due),
            "mail_waiting": waiting,
        }


def tree(to: Path) -> Path | None:
    """The version before, unpacked; None where this is no clone with its history."""
    done = subprocess.run(
        ["git", "archive", "--format=tar", COMMIT, "smppd"], capture_output=True, cwd=ROOT, timeout=60, check=False
    )
    if done.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(to, filter="data")
    return to


def accounts(acknowledge: str) -> list[dict[str, Any]]:
    """A customer who is bound, and one whose receipts wait."""
    return [account("acme", acknowledge=acknowledge, unknown_after="1s"), account("away", unknown_after="1s")]


SECTIONS: Final[dict[str, Any]] = {"store": {"path": "store", "reserve": "1MiB", "hot": 60}, "drain": "1s"}
"""Few messages in memory, so that others wait as rows."""


def fill(directory: Path, source: Path, random: Random, acknowledge: str, messages: int, clean: bool) -> Earlier:
    """Has the smppd in ``source`` take about so many messages of each sort and leaves it: by a clean end or by a kill.
    ``directory`` gets store/, keys/ and what was known (`read`). StartFailure."""

    def script(submit: Submit, attempt: int) -> Step:
        if attempt == 0 and submit.token % 23 == 0:
            return Step(answers=0, receipt=None)  # of unknown fate for a while
        return Step(receipt=random.uniform(0.0, 0.3), delay=random.choice((0.0, 0.01)))

    place = directory / "earlier"
    place.mkdir(parents=True)
    with Peers(script) as peers:
        # Not ``short``: that would run this tree's own smppd.
        options = replace(Options(), source=source)
        daemon = Daemon(place, options, peers.smsc.port, accounts(acknowledge), upstream={"window": 50}, **SECTIONS)
        peers.at_end.append(daemon.kill)
        acme = Customer(daemon.plain_port, PASSWORD, rate=_RATE)
        away = Customer(daemon.plain_port, PASSWORD, system_id="away", rate=_RATE, binds=1, command=0x02, first=_AWAY)
        daemon.keys()
        daemon.launch()
        daemon.await_ready()
        daemon.wait_links("sim", 1)
        for each in (acme, away):
            each.limit = each.next + messages
            peers.add(each)
            each.sending = True
        books = acme.book, away.book

        def acknowledged() -> int:
            return sum(len(book.ids) for book in books)

        # What is acknowledged when the carrier has it waits longer where that says nothing.
        share = 1.0 if acknowledge == "stored" else 0.8
        until(lambda: acknowledged() >= 2 * messages * share, 30)
        # These have their receipts, those of `away` wait as mail; what comes now is due for long.
        until(lambda: peers.smsc.unsettled == 0, 10)
        peers.call(lambda: setattr(peers.smsc, "holding", True))
        for each in (acme, away):
            each.limit = each.next + messages
        until(lambda: acknowledged() >= 4 * messages * share, 30)
        if acknowledge == "stored":
            # The carrier is gone, and messages queue up, in memory and as rows.
            peers.wait(peers.smsc.stop())
            for each in (acme, away):
                each.limit = each.next + messages
            until(lambda: acknowledged() >= 6 * messages, 30)
        time.sleep(random.uniform(0.0, 0.2))
        if clean:
            daemon.terminate(20)
        else:
            daemon.kill9()
        time.sleep(0.1)
        left = Earlier(time.time())
        for book in books:
            left.ids.update({told.decode(): token for told, token in book.ids.items()})
            left.receipts.update({told.decode(): count for told, count in book.receipts.items()})
            left.sent += book.sent
        seen: SmscBook = peers.smsc.book
        left.submits = [(one.token, one.id.decode(), one.answered, one.status) for one in seen.submits]
        left.due = [(one.token, one.id.decode(), one.body.hex(), one.acknowledged) for one in seen.receipts]
    for part in _PARTS:
        copy_store(place / part, directory / part)
    (directory / _BOOKS).write_text(json.dumps([left.made, left.ids, left.receipts, left.submits, left.due, left.sent]))
    return left


def read(directory: Path) -> Earlier:
    """What was known of the store that `fill` left here."""
    made, ids, receipts, submits, due, sent = json.loads((directory / _BOOKS).read_text())
    return Earlier(made, ids, receipts, [tuple(one) for one in submits], [tuple(one) for one in due], sent)


def unpack(to: Path) -> Earlier:
    """Puts the store that is kept here into a directory."""
    with tarfile.open(KEPT) as archive:
        archive.extractall(to, filter="data")
    for folder in _PARTS:
        (to / folder).chmod(0o700)
    return read(to)


def put(directory: Path, daemon: Daemon) -> None:
    """Gives a daemon that has not run yet the store and the keys of the version before."""
    for part in _PARTS:
        copy_store(directory / part, daemon.directory / part)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Nothing of the machine, and no file that is made anew."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return None if entry.name.endswith("-shm") else entry


def main() -> None:
    """Makes the file that is kept."""
    with TemporaryDirectory() as scratch:
        source, made = Path(scratch, "source"), Path(scratch, "made")
        if tree(source) is None:
            raise SystemExit(f"commit {COMMIT} is not in this clone")
        left = fill(made, source, Random(1), "stored", 25, clean=False)
        with tarfile.open(KEPT, "w:xz") as archive:
            for name in (*_PARTS, _BOOKS):
                archive.add(made / name, name, filter=_plain)
    sys.stdout.write(f"{KEPT.name}: {KEPT.stat().st_size} octets, {left.figures()}\n")


if __name__ == "__main__":
    main()
