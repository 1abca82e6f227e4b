"""Whoever can write the store's files and has no key cannot change, cut, reorder or put back anything without `log verify` and
`audit verify` saying so, however often the daemon is started afterwards."""

from __future__ import annotations

import json
import sqlite3
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smppd.records.verify import row_digests
from smppd.store import seals
from smppd.store.log import pack_purged
from smppd.vault.chain import chain
from smppd.vault.seal import digest_of, erase, erase_body, iter_records
from tests.cli.house import FILES, House


@pytest.fixture
def house(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("PASSWORD", "not-used")
    monkeypatch.setattr(seals, "RECORDS", 4)  # a seal every second row
    return House(tmp_path / "house", capsys)


# -- without a key -------------------------------------------------------------------------------------------------------


def row(place: int) -> str:
    """SQL for the id of a log row."""
    return f"(SELECT seq FROM log ORDER BY seq LIMIT 1 OFFSET {place})"


def octet(place: int, value: str) -> str:
    """SQL that changes one octet of the events of a row."""
    kept = f"substr(events, 1, {place}) || x'{value}' || substr(events, {place + 2})"
    return f"UPDATE log SET events = CAST({kept} AS BLOB) WHERE seq = {row(3)}"


NEWEST = "(SELECT max(number) FROM seals)"
EDITS = {
    "a fate": octet(16, "08"),
    "an error code": octet(20, "ff"),
    "no events": f"UPDATE log SET events = x'' WHERE seq = {row(3)}",
    "a row at the start": f"DELETE FROM log WHERE seq = {row(0)}",
    "rows at the start": f"DELETE FROM log WHERE seq <= {row(4)}",
    "a row in the middle": f"DELETE FROM log WHERE seq = {row(5)}",
    "rows in the middle": f"DELETE FROM log WHERE seq BETWEEN {row(3)} AND {row(8)}",
    "the last row": "DELETE FROM log WHERE seq = (SELECT max(seq) FROM log)",
    "rows at the end": f"DELETE FROM log WHERE seq >= {row(7)}",
    "all rows": "DELETE FROM log",
    "all rows and checkpoints": "DELETE FROM log; DELETE FROM seals",
    "rows at the end with their checkpoints": f"DELETE FROM seals WHERE seq >= {row(7)};"
    f" DELETE FROM log WHERE seq >= {row(7)}",
    "all checkpoints": "DELETE FROM seals",
    "the first checkpoint": "DELETE FROM seals WHERE number = 1",
    "a checkpoint": "DELETE FROM seals WHERE number = 3",
    "some checkpoints": "DELETE FROM seals WHERE number IN (2, 4, 5)",
    "the last checkpoint": f"DELETE FROM seals WHERE number = {NEWEST}",
    "the last two checkpoints": f"DELETE FROM seals WHERE number > {NEWEST} - 2",
    "rows that change places": "CREATE TEMP TABLE t AS SELECT * FROM log;"
    f" CREATE TEMP TABLE places AS SELECT {row(2)} AS a, {row(6)} AS b;"
    " UPDATE log SET (count, records, events, chain, secrets) ="
    " (SELECT count, records, events, chain, secrets FROM t, places WHERE t.seq ="
    " CASE log.seq WHEN a THEN b WHEN b THEN a ELSE log.seq END)",
    "a row put elsewhere": f"UPDATE log SET seq = {row(6)} + 1 WHERE seq = {row(2)}",
    "a row moved in time": f"UPDATE log SET seq = seq - 1 WHERE seq = {row(4)}",
    "a row that names other secrets": f"UPDATE log SET secrets = 77 WHERE seq = {row(4)}",
    "checkpoints that change places": "UPDATE seals SET number = -1 WHERE number = 2;"
    " UPDATE seals SET number = 2 WHERE number = 3; UPDATE seals SET number = 3 WHERE number = -1",
    "a forged checkpoint": "UPDATE seals SET signed = zeroblob(length(signed)) WHERE number = 2",
    "a checkpoint of another type": "UPDATE seals SET signed = 'text' WHERE number = 2",
    "a forged last checkpoint": f"UPDATE seals SET signed = zeroblob(length(signed)) WHERE number = {NEWEST}",
    "rows of another type": "UPDATE log SET chain = 'text', records = 17, events = 'x', count = 'y'",
    "a record purged by nobody": "INSERT INTO purged (seq, digests) SELECT seq, x'00000000' || zeroblob(32) FROM log LIMIT 1",
    "an anchor that no purge left": f"INSERT INTO meta SELECT 'anchor', chain FROM log WHERE seq = {row(2)};"
    f" INSERT INTO meta SELECT 'anchor row', {row(2)}; DELETE FROM log WHERE seq <= {row(2)}",
    "an anchor row alone": "INSERT INTO meta VALUES ('anchor row', 1 << 61)",
    "checkpoints cut behind an anchor row": "INSERT INTO meta VALUES ('anchor row', 1 << 61);"
    " DELETE FROM seals WHERE number < 4",
    "an anchor of another type": "INSERT INTO meta VALUES ('anchor', 'text')",
    "an added row": "INSERT INTO log SELECT seq + 1, count, records, events, chain, secrets FROM log"
    " ORDER BY seq DESC LIMIT 1",
}


@pytest.mark.parametrize("after_a_restart", [False, True])
@pytest.mark.parametrize("kind", EDITS)
def test_what_is_done_to_the_log_is_found(house: House, kind: str, after_a_restart: bool) -> None:
    house.day()
    house.day()
    house.sound()
    db = sqlite3.connect(house.store / "data.db", isolation_level=None)
    db.executescript(EDITS[kind])
    db.close()
    assert house.faults(), kind
    if after_a_restart:
        house.day()  # the daemon goes on, and signs what there is
        assert house.faults(), kind
        house.day()
        assert house.faults(), kind


def test_a_record_taken_out_as_if_by_a_purge_is_found(house: House) -> None:
    """The digest is public: only the purge's MAC tells whether a purge left it."""
    house.day()
    db = sqlite3.connect(house.store / "data.db", isolation_level=None)
    seq, block = db.execute("SELECT seq, records FROM log ORDER BY seq LIMIT 1").fetchone()
    gone = {place: digest_of(packed) for place, packed in enumerate(iter_records(block))}
    db.execute("UPDATE log SET records = x'' WHERE seq = ?", (seq,))
    db.execute("INSERT INTO purged (seq, digests) VALUES (?, ?)", (seq, pack_purged(gone)))
    db.close()
    assert any("by no purge" in fault for fault in house.faults())


@pytest.mark.parametrize("whole", [True, False])
def test_a_record_stripped_while_its_key_lives_is_found(house: House, whole: bool) -> None:
    house.day()
    db = sqlite3.connect(house.store / "data.db", isolation_level=None)
    seq, block = db.execute("SELECT seq, records FROM log ORDER BY seq LIMIT 1").fetchone()
    bare = b"".join((erase if whole else erase_body)(packed) for packed in iter_records(block))
    db.execute("UPDATE log SET records = ? WHERE seq = ?", (bare, seq))
    db.close()
    assert any("stripped" in fault for fault in house.faults())


def test_a_chain_computed_anew_without_the_key_is_found(house: House) -> None:
    """What passed before links were keyed: change a row, recompute every link after it, drop what was signed."""
    house.day()
    house.day()
    db = sqlite3.connect(house.store / "data.db", isolation_level=None)
    link = bytes(32)
    for number, (seq, count, records, events) in enumerate(
        db.execute("SELECT seq, count, records, events FROM log ORDER BY seq").fetchall()
    ):
        if number == 2:
            events = events[:16] + b"\x08" + events[17:]
        link = chain(link, row_digests(count, records, events, b""))
        db.execute("UPDATE log SET events = ?, chain = ? WHERE seq = ?", (events, link, seq))
    db.execute("DELETE FROM seals")
    db.execute("DELETE FROM checkpoints")
    db.close()
    house.edit("keys.db", "DELETE FROM state")
    assert house.faults() and house.audit_faults()
    house.day()
    assert house.faults() and house.audit_faults()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM state",
        "DELETE FROM state WHERE name = 'log'",
        "DELETE FROM state WHERE name = 'audit'",
        "UPDATE state SET value = zeroblob(length(value))",
        "UPDATE state SET value = 'text'",
        "DROP TABLE state",
        "PRAGMA user_version = 2",
    ],
)
def test_what_is_done_to_the_state_in_keys_db_is_found(house: House, statement: str) -> None:
    house.day()
    house.edit("keys.db", statement)
    if statement in ("DROP TABLE state", "PRAGMA user_version = 2"):  # told as an error: the file is no such store
        assert house.run("log", "verify")[0] != 0 and house.run("audit", "verify")[0] != 0
        return
    assert house.faults() and house.audit_faults()


EMPTIED = {
    "emptied": "DELETE FROM entries; DELETE FROM head",
    "entries emptied": "DELETE FROM entries",
    "cut": "DELETE FROM entries WHERE id > 2; UPDATE head SET id = 2, hash = (SELECT hash FROM entries WHERE id = 2)",
    "head cut too": "DELETE FROM entries WHERE id > 2; DELETE FROM head",
    "an entry out of the middle": "DELETE FROM entries WHERE id = 2",
    "edited": "UPDATE entries SET who = 'x' WHERE id = 2",
}


@pytest.mark.parametrize("kind", [*EMPTIED, "removed", "removed and begun again"])
def test_what_is_done_to_the_trail_is_found(house: House, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    house.day()
    house.look()
    if kind in EMPTIED:
        db = sqlite3.connect(house.store / "audit.db", isolation_level=None)
        db.executescript(EMPTIED[kind])
        db.close()
        assert house.faults() and house.audit_faults()
        return
    for ending in ("", "-wal", "-shm"):
        (house.store / f"audit.db{ending}").unlink(missing_ok=True)
    if kind == "removed":
        assert house.run("audit", "verify")[0] != 0 and house.run("log", "verify")[0] != 0
    else:
        house.day()
        assert house.faults() and house.audit_faults()
    caplog.clear()
    house.day()  # the start says it
    assert "not the one that was left" in caplog.text
    assert house.metrics.registry.get_sample_value("smppd_store_integrity_faults") > 0  # type: ignore[operator]
    (entry,) = [
        json.loads(line) for line in house.run("audit", "show", "--json", "--event", "integrity")[1].splitlines()
    ][-1:]
    assert "audit trail" in entry["what"]["fault1"]


# -- files put back ------------------------------------------------------------------------------------------------------


def history(house: House) -> list[str]:
    """Copies of the store at moments of its life."""
    names = []

    def keep(name: str) -> None:
        house.copy(name)
        names.append(name)

    keep("made")
    house.day()
    keep("first stop")
    house.look()
    keep("looked at")
    house.day()
    keep("second stop")
    return names


def test_files_put_back_singly_and_together_are_found(house: House) -> None:
    names = history(house)
    house.look()
    house.copy("now")
    note = house.run("audit", "show", "--heads")[1]
    (house.path / "note").write_text(f"# kept on another machine\n\n{note}")
    against = ("--against", str(house.path / "note"))
    for files in product([*names, "now"], repeat=3):
        if files[0] == "made":  # there was no data.db yet
            continue
        for path in house.store.iterdir():
            path.unlink()
        for file, name in zip(FILES, files, strict=True):
            house.put_back(name, file)
        data, keys, audit = ((*names, "now").index(name) for name in files)
        # All of one day, and none newer than what it tells the next of: this is all put back together, with a whole log.
        together = len({(place + 1) // 2 for place in (data, keys, audit)}) == 1 and data <= keys <= audit
        assert bool(house.faults()) != together, files
        if not together:
            assert house.audit_faults(), files
        for command in ("log", "audit"):
            assert (house.run(command, "verify", *against)[0] == 0) == (together and files[2] == "now"), (
                command,
                files,
            )


def test_what_the_daemon_writes_after_a_roll_back_does_not_hide_it(house: House) -> None:
    house.day()
    house.copy("old")
    house.day()
    house.put_back("old", "data.db")
    for _ in range(3):
        house.day()
        assert any("missing" in fault or "put back" in fault for fault in house.faults())


def test_a_log_cut_off_after_a_kill(house: House) -> None:
    """The last rows of a killed run are not sealed; whatever a seal covered is missed."""
    house.day()
    daemon = house.start()
    daemon.log.fill(9, 2)
    daemon.killed()
    house.sound()
    house.edit("data.db", "DELETE FROM seals WHERE number > (SELECT max(number) - 2 FROM seals)")
    house.edit("data.db", "DELETE FROM log WHERE seq > (SELECT max(seq) FROM seals)")
    assert house.faults() and house.audit_faults()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_octet_of_the_log_matters(house: House, data: st.DataObject) -> None:
    if not (house.path / "copies").exists():
        house.day()
        house.copy("good")
    house.put_back("good", *FILES)
    table, key, column = data.draw(
        st.sampled_from(
            [
                ("log", "seq", "records"),
                ("log", "seq", "events"),
                ("log", "seq", "chain"),
                ("seals", "number", "signed"),
            ]
        )
    )
    db = sqlite3.connect(house.store / "data.db", isolation_level=None)
    rows = db.execute(f"SELECT {key}, {column} FROM {table} WHERE length({column}) > 0").fetchall()
    row, octets = data.draw(st.sampled_from(rows))
    at = data.draw(st.integers(0, len(octets) - 1))
    changed = octets[:at] + bytes((octets[at] ^ data.draw(st.integers(1, 255)),)) + octets[at + 1 :]
    db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (changed, row))
    db.close()
    assert house.faults()
