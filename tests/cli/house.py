"""An installation for tests of its integrity: runs of the daemon on its store without sockets, the commands, and an attacker's
hands on its files."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from smppd.cli.main import main
from smppd.daemon.integrity import Integrity
from smppd.ids import id_time
from smppd.metrics import Metrics
from smppd.store.opening import embedded
from smppd.vault.kek import load_kek
from tests.cli.installation import CONFIG, FileSource
from tests.store.builder import DAY, Builder

FILES = ("data.db", "keys.db", "audit.db")


class House:
    """An installation in a directory: runs of the daemon on its store, the commands, and an attacker's hands on its files."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self.store = path, path / "var"
        self.capsys = capsys
        path.mkdir(exist_ok=True)
        (path / "smppd.yaml").write_text(CONFIG)
        assert self.run("keys", "init")[0] == 0
        self.kek = load_kek(FileSource(path / "keys/kek"))
        self.now = time.time() - 30 * DAY
        self.metrics = Metrics()

    def run(self, *words: str) -> tuple[int, str, str]:
        status = main([*words, "--config", str(self.path / "smppd.yaml")])
        shown = self.capsys.readouterr()
        return status, shown.out, shown.err

    def start(self) -> Daemon:
        return Daemon(self)

    def day(self, rows: int = 5) -> None:
        """A run with a clean end."""
        daemon = self.start()
        daemon.log.fill(rows, 2)
        daemon.stop()

    def look(self) -> None:
        assert self.run("log", "search", "+447700900123", "--reason", "support")[0] in (0, 1)

    def faults(self) -> list[str]:
        """What `log verify` finds. Its exit status says the same."""
        status, out, _ = self.run("log", "verify", "--json")
        verdict = json.loads(out)
        assert verdict["ok"] == (status == 0) == (not verdict["faults"])
        return list(verdict["faults"])

    def audit_faults(self) -> list[str]:
        status, out, _ = self.run("audit", "verify", "--json")
        verdict = json.loads(out)
        assert verdict["ok"] == (status == 0)
        return list(verdict["faults"])

    def sound(self) -> None:
        assert (self.faults(), self.audit_faults()) == ([], [])

    # -- the attacker ------------------------------------------------------------------------------------------------

    def copy(self, name: str) -> None:
        """The files of this moment, as a thief of a backup has them."""
        shutil.copytree(self.store, self.path / "copies" / name)

    def put_back(self, name: str, *files: str) -> None:
        for file in files:
            for ending in ("", "-wal", "-shm"):
                (self.store / (file + ending)).unlink(missing_ok=True)
                old = self.path / "copies" / name / (file + ending)
                if old.exists():
                    shutil.copy(old, self.store / (file + ending))
        if "data.db" in files:
            # From the journal's files the rows would only be filed again.
            for path in self.store.glob("journal-*"):
                path.unlink()
            for old in (self.path / "copies" / name).glob("journal-*"):
                shutil.copy(old, self.store / old.name)

    def edit(self, file: str, *statements: str) -> None:
        db = sqlite3.connect(self.store / file, isolation_level=None)
        for statement in statements:
            db.execute(statement)
        db.close()

    def value(self, file: str, query: str) -> object:
        db = sqlite3.connect(self.store / file)
        try:
            return db.execute(query).fetchall()
        finally:
            db.close()


class Daemon:
    """What the daemon does with store and trail, without its sockets."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.log = Builder(house.store, house.kek, prepare=self._prepare)
        self.log.now = max(house.now + 10, self.log.store.highest_id() and id_time(self.log.store.highest_id()) + 10)
        self.integrity.report_faults()
        self.integrity.note_start({})

    def _prepare(self, log: Builder) -> None:
        self.integrity = Integrity(embedded(self.house.store), log.install, log.store, self.house.metrics)
        self.audit = self.integrity.audit

    def stop(self) -> None:
        self.house.now = self.log.now
        self.integrity.close_store(0)
        self.log.closed = True

    def killed(self) -> None:
        """kill -9: the files as they are now, and nothing after."""
        self.house.now = self.log.now
        assert self.audit.drain()
        shutil.rmtree(self.house.path / "left", ignore_errors=True)
        shutil.copytree(self.house.store, self.house.path / "left")
        self.stop()
        for path in self.house.store.iterdir():
            path.unlink()
        for path in (self.house.path / "left").iterdir():
            shutil.copy(path, self.house.store / path.name)
