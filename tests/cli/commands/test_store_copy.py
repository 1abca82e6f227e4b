"""`smppd store copy`: into a database and back, killed and cut off on the way, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smppd.cli.main import main
from smppd.records.verify import row_digests
from smppd.store import copying
from smppd.store.api import StoreError
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.installation import PostgresInstallation
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.vault.chain import ChainKeys
from smppd.vault.keys import load_install
from tests import postgres
from tests.cli.house import House
from tests.cli.killed import killed_at, sampled, steps
from tests.store.builder import DAY
from tests.torture import earlier

NUMBER = "+447700900001"


class Pair(House):
    """An installation with a second configuration, which has its store in a database of its own."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(path, capsys)
        self.server: Server = postgres.server().database(schema=False)
        self.there = path / "there.yaml"
        text = (path / "smppd.yaml").read_text()
        url = postgres.server().url(self.server.name.rpartition(" ")[2])
        self.there.write_text(text.replace("store: {path: var}", f'store: {{path: var, url: "{url}"}}'))
        self.config = path / "smppd.yaml"

    def moved(self, *words: str, back: bool = False) -> tuple[int, str, str]:
        source, target = (self.there, self.config) if back else (self.config, self.there)
        return self.at(source, "store", "copy", *words, "--to-config", str(target))

    def at(self, config: Path, *words: str) -> tuple[int, str, str]:
        status = main([*words, "--config", str(config)])
        shown = self.capsys.readouterr()
        return status, shown.out, shown.err


@pytest.fixture
def pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Pair]:
    made = Pair(tmp_path, capsys)
    yield made
    postgres.server().drop(made.server)


def _known(pair: Pair, config: Path) -> object:
    """What the commands find of a store, whose log and trail have to be sound."""
    for words in (("log", "verify"), ("audit", "verify")):
        status, out, err = pair.at(config, *words, "--json")
        assert status == 0 and json.loads(out)["ok"], out + err
    found = pair.at(config, "log", "search", NUMBER, "--reason", "support", "--json")
    assert found[0] == 0, found
    return json.loads(found[1])["records"]


def _cleared(pair: Pair, back: bool) -> None:
    """Takes a copy back, and empties where it was."""
    source = pair.there if back else pair.config
    status, _, err = pair.moved("--undo", back=back)
    assert status == 0, err
    if back:
        assert pair.at(pair.config, "store", "shred", "--yes")[0] == 0
    else:
        _cleared_database(pair)
    assert pair.at(source, "log", "verify")[0] == 0


@pytest.mark.parametrize("back", [False, True])
def test_killed_at_any_step_it_goes_on(pair: Pair, back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PAGE", 3)
    pair.day()
    if back:
        assert pair.moved()[0] == 0 and pair.at(pair.config, "store", "shred", "--yes")[0] == 0
    source, target = (pair.there, pair.config) if back else (pair.config, pair.there)
    before = _known(pair, source)
    words = ["store", "copy", "--config", str(source), "--to-config", str(target), "--json"]
    count = steps(words)
    _cleared(pair, back)
    for step in sampled(count, 3, last=1):
        killed = killed_at(words, step)
        status, out, err = pair.moved("--json", back=back)
        assert status == 0 and not json.loads(out)["faults"], (step, killed, err)
        assert _known(pair, target) == before
        assert pair.at(source, "log", "verify")[0] == 2  # it is closed
        _cleared(pair, back)


def test_cut_off_by_its_user_it_says_how_to_go_on(pair: Pair) -> None:
    pair.day()
    words = ["store", "copy", "--config", str(pair.config), "--to-config", str(pair.there)]
    count = steps(words)
    assert count is not None
    _cleared(pair, False)
    assert killed_at(words, count // 2, signal.SIGINT)
    status, _, err = pair.at(pair.there, "log", "verify")
    assert status == 2 and "is not complete: `smppd store copy` goes on" in err
    with pytest.raises(StoreError, match="it is being copied to PostgreSQL"):
        pair.start()
    assert pair.at(pair.config, "log", "verify")[0] == 0
    assert pair.moved("--undo")[0] == 0
    assert pair.at(pair.config, "log", "verify")[0] == 0
    status, _, err = pair.moved()
    assert status == 1 and "that was undone: empty it" in err


def test_what_root_copies_is_the_daemons(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    given: set[str] = set()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, _user, _group: given.add(Path(path).name))
    pair.day()
    assert pair.moved()[0] == 0
    assert "copied.json" in given
    assert pair.at(pair.config, "store", "shred", "--yes")[0] == 0
    assert pair.moved(back=True)[0] == 0
    assert {"keys.db", "data.db", "copied.json", "lock"} <= given


def test_killed_while_it_is_taken_back_or_destroyed(pair: Pair) -> None:
    pair.day()
    undo = ["store", "copy", "--undo", "--config", str(pair.config), "--to-config", str(pair.there)]
    shred = ["store", "shred", "--yes", "--config", str(pair.config)]
    assert pair.moved()[0] == 0
    count = steps(undo)
    _cleared_database(pair)
    for step in sampled(count, 3, last=2):
        assert pair.moved()[0] == 0
        killed_at(undo, step)
        assert pair.moved("--undo")[0] == 0 or pair.at(pair.config, "log", "verify")[0] == 0
        assert pair.at(pair.there, "log", "verify")[0] == 2
        _cleared_database(pair)
    pair.sound()
    assert pair.moved()[0] == 0
    assert killed_at(shred, 30)
    assert pair.at(pair.config, "log", "verify")[0] == 2
    assert pair.at(pair.config, "store", "shred", "--yes")[0] == 0
    assert not list(pair.store.glob("*data.db*")) and not (pair.store / "copied.json").exists()
    assert json.loads(pair.at(pair.there, "log", "verify", "--json")[1])["ok"]


def _cleared_database(pair: Pair) -> None:
    with closing(Connection(pair.server)) as db:
        db.script("DROP SCHEMA smppd CASCADE")


def test_wrong_places_are_refused(pair: Pair, tmp_path: Path) -> None:
    def refused(text: str, status: int = 1, *words: str) -> None:
        found = pair.moved(*words)
        assert (found[0], text in found[2]) == (status, True), found

    pair.day()
    whole = pair.there.read_text()
    for old, new, text, status in (
        ("path: var", "path: elsewhere", "store.path has to be the same", 2),
        ("keys:", "node: 3\nkeys:", "node has to be the same", 2),
        ("keys/kek", "keys/other", "no such KEK file", 1),
    ):
        pair.there.write_text(whole.replace(old, new))
        refused(text, status)
    pair.there.write_text(pair.config.read_text())
    refused("one of the two configurations has store.url", 2)
    pair.there.write_text(whole)
    refused("--force goes with --undo", 2, "--force")
    refused("it was not copied anywhere", 1, "--undo")
    assert pair.at(pair.config, "store", "shred", "--yes")[0] == 1
    daemon = pair.start()
    refused("another smppd is using this store")
    daemon.stop()
    for config in (pair.config, pair.there):  # ids of node 0
        config.write_text(config.read_text() + "node: 3\n")
    refused("were made as node 0, and `node` is 3 here")
    for config in (pair.config, pair.there):
        config.write_text(config.read_text().replace("node: 3\n", ""))
    assert pair.at(pair.there, "keys", "init")[0] == 0
    refused("it is not empty, and no copy of")
    assert not (pair.store / "copied.json").exists()


def test_what_was_used_since_is_given_up_by_force_only(pair: Pair) -> None:
    pair.day()
    assert pair.moved()[0] == 0
    status, out, _ = pair.moved()
    assert status == 0 and "was copied to" in out
    with closing(Connection(pair.server)) as db:
        db.one("SELECT begin_node(0, 'another')")
    for words in (("check",), ("restore", "--from", "x")):
        status, out, err = pair.at(pair.config, *words)
        assert status == 1 and "which is the store now" in out + err
    assert "a daemon has worked on it since" in pair.moved("--undo")[2]
    assert "name its configuration with --to-config" in pair.at(pair.config, "store", "copy", "--undo")[2]
    assert pair.moved("--undo", "--force")[0] == 0
    assert "that was undone" in pair.at(pair.there, "log", "verify")[2]
    pair.sound()


def test_what_another_node_has_stays_in_the_database(pair: Pair) -> None:
    pair.day()
    assert pair.moved()[0] == 0 and pair.at(pair.config, "store", "shred", "--yes")[0] == 0
    with closing(Connection(pair.server)) as db:
        db.run("INSERT INTO cold VALUES (7, 'acme', '', 1, 1, 1, NULL, '')")
        assert "nodes have given up wait there" in pair.moved(back=True)[2]
        db.run("DELETE FROM cold WHERE kind = 7")
        db.run("INSERT INTO nodes VALUES (9, 'other', 1)")
        db.run("INSERT INTO journal VALUES (9, 9, 1, '')")
        assert "nodes 9 have messages on their way there too" in pair.moved(back=True)[2]
        with closing(PostgresInstallation(pair.server, pair.store, node=9).side()):
            place = PostgresInstallation(pair.server, pair.store, node=9).lock()
            assert "nodes are at work on it (9)" in pair.moved(back=True)[2]
            place.release()
        db.run("DELETE FROM journal WHERE node = 9")
    status, _, err = pair.moved(back=True)
    assert status == 0, err
    pair.sound()


def test_before_the_first_start_there_are_keys_alone(pair: Pair) -> None:
    assert pair.moved()[0] == 0
    assert pair.at(pair.config, "store", "shred", "--yes")[0] == 0
    assert pair.moved(back=True)[0] == 0
    pair.day()
    pair.sound()


def test_a_log_whose_oldest_rows_were_purged_is_sound_there_and_back(pair: Pair) -> None:
    for config in (pair.config, pair.there):
        text = config.read_text()
        config.write_text(
            text.replace("{body: 1d, numbers: 30d, billing: 60d}", "{body: 1d, numbers: 2d, billing: 3d}")
        )
    pair.day()
    pair.now += 28 * DAY
    pair.day()
    status, _, err = pair.run("purge")
    assert status == 0, err
    known = _known(pair, pair.config)
    with closing(sqlite3.connect(pair.store / "data.db")) as data:
        assert data.execute("SELECT count(*) FROM meta WHERE name LIKE 'anchor%'").fetchone() == (2,)
    status, out, err = pair.moved("--json")
    assert status == 0, err
    tables = json.loads(out)["tables"]
    assert tables["anchors"]["rows"] == 1 and tables["facts"]["rows"]
    assert _known(pair, pair.there) == known
    assert pair.at(pair.there, "purge")[0] == 0
    assert pair.at(pair.config, "store", "shred", "--yes")[0] == 0
    assert pair.moved(back=True)[0] == 0
    assert _known(pair, pair.config) == known
    assert pair.run("purge")[0] == 0
    pair.sound()


def test_faults_of_the_log_come_along_and_are_told(pair: Pair) -> None:
    pair.day()
    pair.edit("data.db", "UPDATE log SET events = events || x'00' WHERE seq = (SELECT min(seq) FROM log)")
    before = pair.faults()
    status, out, _ = pair.moved("--json")
    assert status == 0 and json.loads(out)["faults"] == before != []
    assert json.loads(pair.at(pair.there, "log", "verify", "--json")[1])["faults"] == before


def test_a_store_of_an_earlier_version_moves(pair: Pair) -> None:
    shutil.rmtree(pair.store)
    shutil.rmtree(pair.path / "keys")
    earlier.unpack(pair.path)
    (pair.path / "store").rename(pair.store)
    before = json.loads(pair.at(pair.config, "log", "verify", "--json")[1])
    status, out, err = pair.moved("--json")
    assert status == 0, err
    told = json.loads(out)
    assert told["faults"] == before["faults"] == [] and told["tables"]["cold"]["rows"]
    after = json.loads(pair.at(pair.there, "log", "verify", "--json")[1])
    assert after["ok"] and after["records"] == before["records"] > 0


def test_secrets_that_were_written_ahead_stay_in_their_place(pair: Pair) -> None:
    daemon = pair.start()
    record = daemon.log.fill(3, 2)[-1]
    daemon.killed()
    install = load_install(pair.kek, ReadOnlyKeys(pair.store))
    keys = ChainKeys(install.audit, install.checkpoint)
    with (
        closing(sqlite3.connect(pair.store / "data.db")) as data,
        closing(sqlite3.connect(pair.store / "keys.db")) as own,
    ):
        (before,) = data.execute("SELECT chain FROM log ORDER BY seq DESC LIMIT 1 OFFSET 1").fetchone()
        seq, count, packed, events = data.execute(
            "SELECT seq, count, records, events FROM log ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        slot = seq - (1 << 30)  # a row of another number
        own.execute("UPDATE secrets SET seq = ?, data = CAST(data || x'00' AS BLOB) WHERE seq = ?", (slot, seq))
        link = keys.link(before, seq, slot, list(row_digests(count, packed, events, b"")))
        data.execute("UPDATE log SET secrets = ?, chain = ? WHERE seq = ?", (slot, link, seq))
        own.commit()
        data.commit()
    shown = _shown(pair, pair.config, record)
    assert pair.moved()[0] == 0
    assert _shown(pair, pair.there, record) == shown
    with closing(Connection(pair.server)) as db:
        assert db.all("SELECT * FROM slots") == [(seq, slot)]
    assert pair.at(pair.config, "store", "shred", "--yes")[0] == 0
    assert pair.moved(back=True)[0] == 0
    assert _shown(pair, pair.config, record) == shown
    with closing(sqlite3.connect(pair.store / "data.db")) as data:
        assert data.execute("SELECT seq, secrets FROM log WHERE secrets IS NOT NULL").fetchall() == [(seq, slot)]


def _shown(pair: Pair, config: Path, record: int) -> object:
    assert json.loads(pair.at(config, "log", "verify", "--json")[1])["ok"]
    words = ("--reveal", "--reason", "law", "--note", "order 12/26", "--json")
    status, out, err = pair.at(config, "log", "show", f"{record:016x}", *words)
    assert status == 0, err
    return json.loads(out)
