"""What must not be taken for an attack: a life of runs, looks, purges and kills; and what is noted on another machine, against
which even who has all the keys is found."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from smppd.audit.trail import AuditTrail
from smppd.backup.take import take
from smppd.config import Retain
from smppd.daemon.integrity import NAMED
from smppd.events import AuditEvent
from smppd.ids import id_time
from smppd.message import State
from smppd.records.consistency import checkpoint_facts
from smppd.records.retention import Purger
from smppd.store import seals
from smppd.store.sqlite.log_rows import SqlitePurge
from smppd.store.sqlite.seals import write_state
from smppd.vault.chain import SealKind
from tests.cli.house import FILES, House
from tests.store.builder import DAY, Builder


@pytest.fixture
def house(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("PASSWORD", "not-used")
    monkeypatch.setattr(seals, "RECORDS", 4)  # a seal every second row
    return House(tmp_path / "house", capsys)


# -- what must not cry wolf ----------------------------------------------------------------------------------------------


def test_a_life_without_an_attack_is_sound(house: House, caplog: pytest.LogCaptureFixture) -> None:
    assert house.audit_faults() == []
    for _ in range(3):
        house.day()
        house.sound()
        house.look()
        house.sound()
    daemon = house.start()
    daemon.log.fill(5, 2)
    house.sound()  # beside the running daemon
    daemon.log.fill(1, 1)
    house.sound()
    daemon.stop()
    status, out, _ = house.run("log", "verify")
    assert status == 0 and "sealed to its end, a clean one" in out
    assert "not the one that was left" not in caplog.text
    assert house.metrics.registry.get_sample_value("smppd_store_integrity_faults") == 0.0


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4])
def test_a_kill_is_told_as_one(house: House, rows: int) -> None:
    house.day()
    daemon = house.start()
    daemon.log.fill(rows, 2)
    daemon.killed()
    house.sound()
    status, out, _ = house.run("log", "verify")
    assert status == 0 and "is the last;" in out and f"{rows % 2} rows behind it are not sealed" in out
    house.day()
    house.sound()
    (start,) = [json.loads(line) for line in house.run("audit", "show", "--json", "--event", "start")[1].splitlines()][
        -1:
    ]
    assert (start["what"]["last_end"], start["what"]["unsealed_rows"]) == ("not clean", rows % 2)


def test_a_kill_between_the_two_files_is_no_roll_back(house: House) -> None:
    """keys.db learns first which seal comes: here data.db never had it."""
    house.day()
    daemon = house.start()
    daemon.log.fill(1, 2)
    made = daemon.log.store.seals
    assert made is not None
    chain = daemon.log.store._chain
    assert chain is not None
    following = made.make(SealKind.RUNNING, chain.row, chain.digest)
    write_state(daemon.log.store._secrets, seals.LOG_STATE, following.state)
    daemon.killed()
    house.sound()
    house.day()
    house.sound()


def test_purges_leave_a_log_that_verifies(house: House) -> None:
    retain = {"acme": Retain(body=DAY, numbers=DAY, billing=2 * DAY)}
    for _ in range(6):
        daemon = house.start()
        for _ in range(3):
            daemon.log.record(body=DAY, numbers=DAY)
            daemon.log.event(1, State.DELIVERED)
            daemon.log.commit()
        trail = AuditTrail(house.store / "audit.db", daemon.log.install.audit)
        with (
            trail,
            Purger(
                SqlitePurge(house.store),
                lambda: retain,
                id_time,
                trail=trail,
                chain_keys=daemon.log.keys,
                dropped=daemon.log.ring.drop,
            ) as purger,
        ):
            purger.run(daemon.log.now)
        daemon.log.now += DAY
        daemon.stop()
        house.sound()
    assert house.value("data.db", "SELECT count(*) FROM meta WHERE name = 'anchor row'") == [(1,)]
    assert house.value("data.db", "SELECT min(number) > 1 FROM seals") == [(1,)]


def test_the_trail_names_the_newest_seal_while_the_log_grows(house: House) -> None:
    daemon = house.start()

    def named() -> list[int]:
        assert daemon.audit.drain()
        shown = house.run("audit", "show", "--json", "--event", "checkpoint")[1]
        return [json.loads(line)["what"]["checkpoint"] for line in shown.splitlines()]

    began = time.monotonic()
    daemon.integrity.tick(began + 2 * NAMED)
    assert named() == [], "nothing is new"
    daemon.log.fill(4, 2)
    daemon.integrity.tick(began + 1)
    assert named() == []
    daemon.integrity.tick(began + 2 * NAMED)
    daemon.integrity.tick(began + 4 * NAMED)
    assert named() == [daemon.log.store.sealed[0]], "and once is enough"
    house.copy("then")
    daemon.log.fill(4, 2)
    daemon.integrity.tick(began + 6 * NAMED)
    assert len(named()) == 2
    daemon.killed()
    house.put_back("then", "data.db", "keys.db")
    assert house.faults() and house.audit_faults()


def test_a_backup_restored_is_sound_and_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    # The daemon of this house tidies no spool, and the command would wait for it.
    monkeypatch.setattr("smppd.store.sqlite.installation.ask", lambda _directory, _seconds: True)
    house.day()
    daemon = house.start()
    daemon.log.fill(5, 2)
    backup = ("backup", str(house.path / "backup"), "--keys-to", str(house.path / "backup-keys"))
    assert house.run(*backup)[0] == 0
    daemon.log.fill(9, 2)  # seals that the backup does not know
    daemon.stop()
    house.day()
    place = ("--from", str(house.path / "backup"), "--keys-from", str(house.path / "backup-keys"))
    assert house.run("restore", *place, "--force")[0] == 0
    house.sound()
    house.day()
    house.look()
    house.sound()
    house.copy("after")
    house.day()
    house.put_back("after", "keys.db")
    assert house.faults() and house.audit_faults()


def test_seals_made_between_the_copies_of_a_backup_are_no_fault(house: House) -> None:
    house.day()
    daemon = house.start()
    daemon.log.fill(5, 2)
    grew: list[str] = []

    def meanwhile(what: str, _done: float) -> None:
        if "audit.db" in what and not grew:
            grew.append(what)
            daemon.log.fill(9, 2)
            daemon.audit(AuditEvent.CHECKPOINT, checkpoint_facts(daemon.log.store.sealed))
            assert daemon.audit.drain()

    take(
        house.store, house.path / "backup", house.path / "backup-keys",
        sign=daemon.log.install.checkpoint, now=time.time(), version="0", progress=meanwhile,
    )  # fmt: skip
    daemon.stop()
    place = ("--from", str(house.path / "backup"), "--keys-from", str(house.path / "backup-keys"))
    assert house.run("restore", *place, "--force")[0] == 0
    house.sound()
    house.day()
    house.sound()


def test_a_command_leaves_an_older_store_as_it_is(house: House) -> None:
    """The daemon that writes it may not have been restarted yet."""
    Builder(house.store, house.kek).close()
    house.edit(
        "data.db",
        "DROP TABLE seals",
        "DROP TABLE damaged",
        "ALTER TABLE purged DROP COLUMN mac",
        "PRAGMA user_version = 2",
    )
    house.look()
    assert house.value("data.db", "PRAGMA user_version") == [(2,)]


def test_a_store_of_an_older_version_is_taken_over(house: House) -> None:
    old = Builder(house.store, house.kek)
    old.now = house.now
    old.fill(4, 3)
    house.now = old.now
    old.close()
    house.edit(
        "data.db",
        "DROP TABLE seals",
        "DROP TABLE damaged",
        "ALTER TABLE purged DROP COLUMN mac",
        "PRAGMA user_version = 2",
    )
    house.edit("keys.db", "DROP TABLE state", "PRAGMA user_version = 2")
    house.sound()
    assert "no seals yet" in house.run("log", "verify")[1]
    house.day()
    house.sound()
    assert "first 4 rows are of an older version" in house.run("log", "verify")[1]
    house.copy("good")
    # Its old rows are covered by the first seal.
    house.edit("data.db", "DELETE FROM log WHERE seq = (SELECT min(seq) FROM log)")
    assert house.faults()


# -- with all the keys ---------------------------------------------------------------------------------------------------


def test_an_insider_with_all_keys_is_found_against_a_note(house: House) -> None:
    """He writes the whole history anew, signs it, and has every file agree with every other."""
    house.day()
    house.day()
    note = house.run("log", "verify", "--note")[1].splitlines()[-1]
    assert note.startswith("smppd-note ") and house.run("audit", "show", "--heads")[1].split()[2:] == note.split()[2:]
    (house.path / "note").write_text(note)
    for file in FILES:
        (house.store / file).unlink()
    house.run("keys", "init")
    house.day()
    house.day()
    house.sound()
    for command in ("log", "audit"):
        status, _, err = house.run(command, "verify", "--against", str(house.path / "note"))
        assert status == 1 and "noted 20" in err


def test_a_note_stays_good_while_the_store_lives_on(house: House) -> None:
    house.day()
    lines = []
    for _ in range(3):
        lines.append(house.run("audit", "verify", "--note")[1].splitlines()[-1])
        house.day()
        house.look()
    (house.path / "notes").write_text("\n".join(lines))
    status, out, _ = house.run("log", "verify", "--against", str(house.path / "notes"))
    assert status == 0 and "3 notes" in out
    status, out, _ = house.run("audit", "verify", "--against", str(house.path / "notes"))
    assert status == 0 and "3 notes" in out


@pytest.mark.parametrize("text", ["", "# nothing\n", "smppd-note", "smppd-note now audit 1:00", "x" * 100_000])
def test_a_file_without_notes_is_no_proof(house: House, text: str) -> None:
    (house.path / "note").write_text(text)
    for command in ("log", "audit"):
        status, out, err = house.run(command, "verify", "--against", str(house.path / "note"))
        assert status == 2 and "sound" not in out and "note" in err
        assert house.run(command, "verify", "--against", str(house.path / "missing"))[0] == 2
