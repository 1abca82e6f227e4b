"""The audit trail: edits, deletions, reorders and roll-backs show; two writers share it; nothing personal gets in."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from smppd.audit.trail import FREE_TEXT, ITEMS, VALUE_CHARACTERS, AuditTrail, current_actor
from smppd.vault.kek import VaultError
from tests.vault.rows import NOON, some

KEY = some("audit")


def trail(path: Path, key: bytes | None = KEY) -> AuditTrail:
    return AuditTrail(path / "audit.db", key, clock=lambda: NOON)


def fill(path: Path, count: int = 5) -> None:
    with trail(path) as writer:
        for number in range(1, count + 1):
            assert writer.append("bind", "acme", {"address": "192.0.2.7", "number": number}, "ok") == number


def tamper(path: Path, statement: str) -> None:
    database = sqlite3.connect(path / "audit.db", isolation_level=None)
    database.executescript(statement)
    database.close()


def test_entries_come_back(tmp_path: Path) -> None:
    with trail(tmp_path) as writer:
        assert writer.head() == (0, bytes(32))
        assert writer.verify().ok
        writer.append("key", "alice", {"action": "init", "count": 4}, "done", source="ssh 192.0.2.1")
        writer.append("reveal", "bob", {"record": "0123456789abcdef"}, "refused")
        first, second = writer.entries()
        assert (first.id, first.at_ms, first.event, first.who, first.source) == (
            1,
            NOON * 1000,
            "key",
            "alice",
            "ssh 192.0.2.1",
        )
        assert (first.what, first.result) == ({"action": "init", "count": 4}, "done")
        assert writer.head() == (2, second.hash)
        assert json.loads(second.as_json())["what"] == {"record": "0123456789abcdef"}
        assert [entry.id for entry in writer.entries(events=("reveal",))] == [2]
        assert [entry.id for entry in writer.entries(who="alice")] == [1]
        assert list(writer.entries(since_ms=NOON * 1000 + 1)) == []
        assert list(writer.entries(until_ms=NOON * 1000)) == []
        assert len(list(writer.entries(since_ms=NOON * 1000, until_ms=NOON * 1000 + 1))) == 2


def test_file_is_private_and_synced(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        fill(tmp_path)
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())
    with trail(tmp_path) as writer:
        assert writer._database.execute("PRAGMA synchronous").fetchone() == (2,)
        assert writer._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert "***" in repr(writer)


def test_numbers_control_characters_and_lengths_are_tamed(tmp_path: Path) -> None:
    with trail(tmp_path) as writer:
        what: dict[str, str | int] = {"subject": "+44 7700 900123", "long": "x" * 10_000, "line": "a\nb\ud800"}
        writer.append("erase", "alice\r\n", what, "done for +447700900123")
        writer.append("config", "alice", {f"k{number}": number for number in range(100)}, "done")
        first, second = writer.entries()
        assert first.what["subject"] == "+44770***0123"
        assert first.result == "done for +44770***0123"
        assert len(str(first.what["long"])) == VALUE_CHARACTERS
        assert first.what["line"] == "a\ufffdb\ufffd"
        assert first.who == "alice\ufffd\ufffd"
        assert len(second.what) == ITEMS and second.what["clipped"] == 100 - ITEMS + 1
        assert writer.verify().ok


EDITS = [
    "UPDATE entries SET result = 'refused' WHERE id = 3",
    "UPDATE entries SET what = '{}' WHERE id = 3",
    "UPDATE entries SET who = 'mallory' WHERE id = 3",
    "UPDATE entries SET source = 'x' WHERE id = 3",
    "UPDATE entries SET event = 'x' WHERE id = 3",
    "UPDATE entries SET at_ms = at_ms + 1 WHERE id = 3",
    "UPDATE entries SET hash = zeroblob(32) WHERE id = 3",
    "DELETE FROM entries WHERE id = 3",
    "UPDATE entries SET id = 99 WHERE id = 3; UPDATE entries SET id = 3 WHERE id = 4; "
    "UPDATE entries SET id = 4 WHERE id = 99",
    "DELETE FROM entries WHERE id = 3; UPDATE entries SET id = 3 WHERE id = 4; UPDATE entries SET id = 4 WHERE id = 5",
]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("key", [KEY, None])
def test_edits_deletions_and_reorders_show(tmp_path: Path, edit: str, key: bytes | None) -> None:
    fill(tmp_path)
    with trail(tmp_path, key) as reader:
        assert reader.verify().ok
    tamper(tmp_path, edit)
    with trail(tmp_path, key) as reader:
        verdict = reader.verify()
    assert (verdict.ok, verdict.first_bad, verdict.entries, verdict.keyed) == (False, 3, 2, key is not None)


@pytest.mark.parametrize(
    "edit",
    ["DELETE FROM entries WHERE id > 3", "DELETE FROM head", "DELETE FROM entries", "UPDATE head SET id = 9"],
)
@pytest.mark.parametrize("key", [KEY, None])
def test_cut_end_shows(tmp_path: Path, edit: str, key: bytes | None) -> None:
    fill(tmp_path)
    tamper(tmp_path, edit)
    with trail(tmp_path, key) as reader:
        verdict = reader.verify()
    assert not verdict.ok and verdict.first_bad is not None


def test_nothing_is_appended_after_a_cut(tmp_path: Path) -> None:
    fill(tmp_path)
    tamper(tmp_path, "DELETE FROM entries WHERE id = 5")
    with trail(tmp_path) as writer, pytest.raises(VaultError, match="audit verify"):
        writer.append("bind", "acme", {}, "ok")


def test_forged_trail_passes_the_plain_chain_but_not_the_keyed_one(tmp_path: Path) -> None:
    with AuditTrail(tmp_path / "audit.db", some("guessed"), clock=lambda: NOON) as forger:
        forger.append("bind", "acme", {}, "ok")
    with trail(tmp_path, None) as reader:
        assert reader.verify().ok
    with trail(tmp_path) as reader:
        verdict = reader.verify()
        assert (verdict.ok, verdict.first_bad) == (False, 1)
        assert "key" in verdict.reason


def test_forged_head_shows(tmp_path: Path) -> None:
    fill(tmp_path)
    tamper(
        tmp_path,
        "DELETE FROM entries WHERE id = 5; UPDATE head SET id = 4, hash = (SELECT hash FROM entries WHERE id = 4), "
        "mac = (SELECT mac FROM entries WHERE id = 4)",
    )
    with trail(tmp_path, None) as reader:
        assert reader.verify().ok  # nobody can tell without the key or a checkpoint
    with trail(tmp_path) as reader:
        assert not reader.verify().ok


def test_roll_back_shows_against_a_checkpoint(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with trail(tmp_path) as writer:
        older = writer.head()
        content = (tmp_path / "audit.db").read_bytes()
        writer.append("reveal", "mallory", {}, "ok")
        newest = writer.head()
        assert writer.verify(older).ok and writer.verify(newest).ok and writer.verify((0, bytes(32))).ok
        assert writer.verify((2, some("x"))).first_bad == 2
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "audit.db").write_bytes(content)
    with trail(tmp_path) as reader:
        reader.append("bind", "acme", {}, "ok")
        assert reader.verify().ok
        assert not reader.verify(newest).ok
        assert not reader.verify((9, newest[1])).ok


def test_daemon_and_command_append_at_once(tmp_path: Path) -> None:
    failures: list[VaultError] = []

    def write(who: str) -> Callable[[], None]:
        def run() -> None:
            try:
                with trail(tmp_path) as writer:
                    for _ in range(20):
                        writer.append("bind", who, {}, "ok")
            except VaultError as error:
                failures.append(error)

        return run

    threads = [threading.Thread(target=write(who)) for who in ("daemon", "command", "another")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with trail(tmp_path) as reader:
        assert reader.verify().entries == 60  # so no thread died of anything else
        assert reader.verify().ok


def test_one_trail_serves_several_threads_while_it_is_read(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with trail(tmp_path) as writer:
        seen = []
        for entry in writer.entries():
            seen.append(entry.id)
            if len(seen) == 1:
                writer.append("bind", "acme", {}, "ok")
        assert seen[:3] == [1, 2, 3]
        assert writer.verify().ok


def test_without_the_key_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="cannot be opened"):
        trail(tmp_path, None)
    assert not list(tmp_path.iterdir())
    fill(tmp_path)
    with trail(tmp_path, None) as reader, pytest.raises(VaultError, match="without its key"):
        reader.append("bind", "acme", {}, "ok")


def test_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "audit.db").write_bytes(b"not a database at all" * 50)
    with pytest.raises(VaultError, match="audit trail cannot be opened"):
        trail(tmp_path)


@pytest.mark.parametrize("key", [KEY, None])
def test_a_trail_of_a_newer_smppd_is_not_opened(tmp_path: Path, key: bytes | None) -> None:
    fill(tmp_path)
    tamper(tmp_path, "PRAGMA user_version = 99")
    with pytest.raises(VaultError, match=r"written by a newer smppd \(schema 99"):
        trail(tmp_path, key)


def test_a_full_disk_is_told_as_that(tmp_path: Path) -> None:
    fill(tmp_path)
    with trail(tmp_path) as full:
        pages = full._database.execute("PRAGMA page_count").fetchone()[0]
        full._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(VaultError, match="cannot be written: database or disk is full"):
            for _ in range(100):
                full.append("search", "alice", {"note": "x" * 200}, "done")
        full._database.execute(f"PRAGMA max_page_count = {pages + 100}")
        full.append("search", "alice", {}, "done")


def passwd(monkeypatch: pytest.MonkeyPatch, real: int, effective: int) -> None:
    names = {0: "root", 1001: "alice", 1002: "bob"}
    monkeypatch.setattr("smppd.audit.trail.os.getuid", lambda: real)
    monkeypatch.setattr("smppd.audit.trail.os.geteuid", lambda: effective)
    monkeypatch.setattr("smppd.audit.trail._user", lambda uid: names.get(uid, f"uid {uid}"))


@pytest.mark.parametrize(
    ("login", "real", "effective", "environ", "who"),
    [
        ("1001", 1001, 1001, {}, "alice"),
        ("1001", 0, 0, {}, "alice (as root)"),
        ("1001", 1002, 0, {}, "alice (as bob, root)"),
        ("4294967295", 1001, 0, {}, "alice (as root)"),
        ("4294967295", 0, 0, {"SUDO_UID": "1001"}, "root (claimed: alice)"),
        ("", 0, 0, {"SUDO_USER": "mallory", "USER": "mallory", "LOGNAME": "mallory"}, "root"),
        ("nonsense", 987_654, 987_654, {"SUDO_UID": "-1"}, "uid 987654"),
        ("1001", 0, 0, {"SUDO_UID": "1002"}, "alice (as root) (claimed: bob)"),
        ("1001", 0, 0, {"SUDO_UID": "1001"}, "alice (as root)"),
    ],
)
def test_who_acts_is_what_the_kernel_knows(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    login: str,
    real: int,
    effective: int,
    environ: dict[str, str],
    who: str,
) -> None:
    passwd(monkeypatch, real, effective)
    (tmp_path / "loginuid").write_text(login)
    assert current_actor(environ, tmp_path / "loginuid").who == who


def test_where_from_is_host_and_terminal_and_the_rest_is_claimed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("smppd.audit.trail.platform.node", lambda: "db1")
    monkeypatch.setattr("smppd.audit.trail.os.ttyname", lambda _fd: "/dev/pts/3")
    none = tmp_path / "none"
    assert current_actor({}, none).source == "db1, /dev/pts/3"
    claimed = {"SSH_CONNECTION": "192.0.2.9 50000 192.0.2.1 22", "SSH_CLIENT": "x", "HOSTNAME": "elsewhere"}
    assert current_actor(claimed, none).source == "db1, /dev/pts/3 (claimed: ssh 192.0.2.9)"


def test_a_second_trail_in_this_process_does_not_unlock_the_first(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    with AuditTrail(path, KEY) as first:
        first.append("one", "test", {}, "done")
        AuditTrail(path, KEY).close()
        # Another process comes and goes, as commands do: it must not take itself for the last and remove the log.
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sqlite3; d = sqlite3.connect({str(path)!r}); d.execute('SELECT * FROM entries')",
            ],
            check=True,
        )
        first.append("two", "test", {}, "done")
        assert (tmp_path / "audit.db-wal").exists()
    with AuditTrail(path, None) as after:
        assert [entry.event for entry in after.entries()] == ["one", "two"]


def test_what_people_write_holds_no_number(tmp_path: Path) -> None:
    """Whoever writes the entry: the trail outlives what is known of the number."""
    number = "447700900123"
    with trail(tmp_path) as writer:
        for key in FREE_TEXT:
            for form in (number, "07700 900 123", "\uff14" * 12, "4\x007\x007\x000\x000\x009", "4\n4\n7\n7\n0\n0"):
                writer.append("reveal", "alice", {key: f"about {form}", "ids": "0123456789012345"}, "done")
        for entry in writer.entries():
            assert not any(c.isdecimal() for key in FREE_TEXT for c in str(entry.what.get(key, "")))
            assert entry.what["ids"] == "0123456789012345", "ids and counts are no numbers"
    assert number.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_the_witness_is_told_of_each_entry_and_stops_who_cannot_tell_it(tmp_path: Path) -> None:
    told: list[tuple[int, bytes]] = []
    with AuditTrail(tmp_path / "audit.db", KEY, witness=lambda number, digest: told.append((number, digest))) as writer:
        writer.append("key", "alice", {}, "done")
        writer.append("key", "alice", {}, "done")
        assert told == [(1, writer.hash_of(1)), (2, writer.hash_of(2))] and writer.hash_of(3) is None
        assert writer.events() == ["key"]

    def fails(_number: int, _digest: bytes) -> None:
        raise VaultError("no")

    with AuditTrail(tmp_path / "audit.db", KEY, witness=fails) as writer, pytest.raises(VaultError, match="no"):
        writer.append("reveal", "alice", {}, "done")


def test_pages_of_the_newest(tmp_path: Path) -> None:
    with trail(tmp_path) as writer:
        assert writer.newest(1 << 53, 3, 100) == ([], 0)
        for number in range(1, 11):
            writer.append("bind" if number % 2 else "key", "alice (as root)" if number < 6 else "bob", {}, "ok")
        seen: list[int] = []
        before = 1 << 53
        while before:
            page, before = writer.newest(before, 3, 100)
            seen += [entry.id for entry in page]
        assert seen == list(range(10, 0, -1))
        assert [one.id for one in writer.newest(1 << 53, 50, 100, events=("key",), who="alice")[0]] == [4, 2]
        assert [one.id for one in writer.newest(1 << 53, 50, 100, who="alice (as root)")[0]] == [5, 4, 3, 2, 1]
        page, more = writer.newest(1 << 53, 50, 4, who="alice")
        assert (page, more) == ([], 7), "what may be looked at on one page was; it goes on there"
        assert [one.id for one in writer.newest(more, 50, 4, who="alice")[0]] == [5, 4, 3]
        assert writer.newest(1 << 53, 50, 100, since_ms=NOON * 1000 + 1)[0] == []
