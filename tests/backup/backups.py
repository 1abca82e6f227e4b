"""What the tests of backup and restore share: a store, and where its backups go."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from smppd.audit.trail import Actor, AuditTrail
from smppd.backup.manifest import Manifest
from smppd.backup.restore import Checked, verify
from smppd.backup.take import take
from smppd.ids import id_time
from smppd.relay.ledger.journal import Entry, mark
from smppd.store.api import ColdRow, Kind
from smppd.store.sqlite.keys import KeyStore
from smppd.vault.keys import load_install
from tests.store.builder import Builder

ACTOR = Actor("alice", "here")


class House:
    """A store in `store`, and where its backups go."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = Builder(path / "store", sealed=True)
        self.kek = self.log.kek
        rows = KeyStore(path / "store")
        self.install = load_install(self.kek, rows)
        rows.close()
        self.trail = AuditTrail(path / "store/audit.db", self.install.audit)
        self.trail.append("start", "smppd", {}, "done")

    def take(self, name: str = "1", **values: object) -> Manifest:
        arguments: dict[str, object] = {"now": self.log.now, "version": "0", "sign": self.install.checkpoint, **values}
        return take(self.path / "store", self.data(name), self.keys(name), **arguments)  # type: ignore[arg-type]

    def data(self, name: str = "1") -> Path:
        return self.path / f"data{name}"

    def keys(self, name: str = "1") -> Path:
        return self.path / f"keys{name}"

    def verify(self, name: str = "1", block: Callable[[bytes], object] = lambda _block: None) -> Checked:
        place = self.path / f"tried{name}{os.urandom(2).hex()}"
        place.mkdir()
        return verify(self.data(name), self.keys(name), place, self.kek, id_time, block=block)

    def close(self) -> None:
        self.trail.close()
        self.log.close()


def wait(house: House) -> tuple[int, int]:
    """One message in the spool, one in a cold row; their ids."""
    batch = house.log.store.batch
    hot, cold = house.log.record(), house.log.record()
    batch.accepts.append(mark(Entry.ACCEPT, hot, b"payload"))
    batch.put.append(ColdRow(Kind.QUEUE, "acme\ncarrier-a", b"", cold, 2**40, b"payload"))
    house.log.commit()
    return hot, cold


def edit(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


def flip(path: Path, at: int = -100) -> None:
    octets = bytearray(path.read_bytes())
    octets[at] ^= 1
    path.write_bytes(octets)
