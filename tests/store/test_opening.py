"""The one place that opens a store: what an installation gives of the embedded one, and what is said of another."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from smppd.config import SecretRef, Store
from smppd.store import tidy
from smppd.store.api import OptOut, StoreError
from smppd.store.installation import TIDIED, Installation
from smppd.store.opening import embedded, embedded_schema, files_of, installed
from smppd.store.sqlite.files import SCHEMA_VERSION
from smppd.store.sqlite.installation import SqliteInstallation
from smppd.vault.keys import KeyRing
from tests import postgres
from tests.store.builder import Builder
from tests.vault.rows import MemoryRows, kek

DATABASE = Store(path=Path("var"), url="postgresql://smppd@localhost/smppd")

Part = tuple[Callable[[Installation], Any], Callable[[Any], object]]
READS: dict[str, Part] = {
    "keys": (lambda one: one.keys(), lambda part: list(part.scan(b"install/"))),
    "records": (lambda one: one.records(), lambda part: part.bounds()),
    "index": (lambda one: one.index(), lambda part: part.indexed()),
    "purge": (lambda one: one.purge(), lambda part: part.scopes()),
    "erasures": (lambda one: one.erasures(), lambda part: part.erasures()),
    "states": (lambda one: one.states(), lambda part: part.last_row()),
    "underway": (lambda one: one.underway(KeyRing(kek(), MemoryRows())), lambda part: part.rows(None, 10)),
    "damaged": (lambda one: one.damaged(read_only=True), lambda part: part.items()),
    "opt-outs": (lambda one: one.opt_outs(), lambda part: part.count()),
}
"""What may find something that is not filed yet."""
OTHERS: dict[str, Part] = {
    "read-only keys": (lambda one: one.read_only_keys(), lambda part: list(part.scan(b"install/"))),
    "documents": (lambda one: one.documents(), lambda part: part.all("operator")),
    "held": (lambda one: one.held(), lambda part: part.holds()),
    "consents": (lambda one: one.consents(), lambda part: part.count()),
}


def ask(one: Installation, part: str) -> object:
    opens, asks = (READS | OTHERS)[part]
    with closing(opens(one)) as opened:
        return asks(opened)


@pytest.fixture
def log(tmp_path: Path) -> Builder:
    built = Builder(tmp_path / "var")
    built.record()
    built.commit()
    return built


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []

    def settled(one: SqliteInstallation) -> bool:
        told.append(one.name)
        return True

    monkeypatch.setattr(SqliteInstallation, "settled", settled)
    return told


@pytest.mark.parametrize("part", sorted(READS))
def test_whoever_reads_for_a_command_sees_what_was_acknowledged(log: Builder, part: str, settled: list[str]) -> None:
    ask(embedded(log.directory, settle=False), part)
    assert not settled, "the daemon waits for nothing"
    ask(embedded(log.directory), part)
    assert settled == [str(log.directory)]


@pytest.mark.parametrize("part", sorted(OTHERS))
def test_what_commands_write_themselves_is_there_at_once(log: Builder, part: str, settled: list[str]) -> None:
    ask(embedded(log.directory), part)
    assert not settled


@pytest.mark.parametrize("part", sorted((READS | OTHERS).keys() - {"keys", "states", "index"}))
def test_where_there_is_no_store_it_is_said(tmp_path: Path, part: str) -> None:
    one = embedded(tmp_path / "var")
    with pytest.raises(StoreError, match=str(tmp_path / "var")):
        ask(one, part)


def test_an_installation_says_what_there_is_of_it(tmp_path: Path) -> None:
    one = installed(Store(path=tmp_path / "var"), 0, settle=True)
    assert one.name == str(one.directory) == str(tmp_path / "var") and one.keys_name.endswith("var/keys.db")
    assert not (one.has_keys() or one.has_log() or one.has_documents() or one.was_used() or one.in_use())
    assert not one.keys_lost() and not one.being_shredded()
    one.check()
    assert not one.directory.exists(), "looking makes nothing"
    built = Builder(tmp_path / "var")
    assert one.has_keys() and one.has_log() and one.has_documents() and one.was_used() and one.in_use()
    with pytest.raises(StoreError, match="another smppd"):
        one.lock()
    built.store.close()
    assert not one.in_use()
    one.lock().release()
    one.leave_whole()
    assert not list(one.directory.glob("data.db-*"))
    (one.directory / "shredding").touch()
    assert one.being_shredded()
    for file in one.directory.glob("keys.db*"):
        file.unlink()
    assert "keys.db is missing" in one.keys_lost()


def test_opt_outs_are_written_where_no_daemon_runs(log: Builder) -> None:
    log.store.close()
    one = embedded(log.directory)
    entry = OptOut(bytes(16), "acme", "*", 1, "command")
    with closing(one.opt_outs(read_only=False)) as rows:
        rows.write([entry], [])
    with closing(one.opt_outs()) as rows:
        assert rows.get(bytes(16)) == entry


def test_the_request_to_tidy_has_one_name() -> None:
    assert tidy.DONE == TIDIED


def test_a_store_of_another_back_end_is_no_directory_of_files() -> None:
    assert files_of(Store(path=Path("var")), "smppd backup") == Path("var")
    with pytest.raises(StoreError, match="`smppd backup` works on the files of the embedded store") as told:
        files_of(DATABASE, "smppd backup")
    assert "localhost" not in str(told.value)


def test_without_its_driver_it_is_said_which_extra_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith("smppd.store.postgres.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'smppd\[postgres\]'"):
        installed(DATABASE, 0, settle=True)


@pytest.mark.parametrize(
    ("password", "fault"),
    [(b"hunter2", ""), (b"", "is empty"), (b"\xff\xfe", "it is no text"), (None, "is not set")],
)
def test_a_password_is_read_and_never_told(monkeypatch: pytest.MonkeyPatch, password: bytes | None, fault: str) -> None:
    monkeypatch.delenv("SMPPD_TEST_PASSWORD", raising=False)
    if password is not None:
        monkeypatch.setenv("SMPPD_TEST_PASSWORD", os.fsdecode(password))
    store = DATABASE.model_copy(update={"password": SecretRef(env="SMPPD_TEST_PASSWORD")})
    if fault:
        with pytest.raises(StoreError, match=f"store.password: .*{fault}"):
            installed(store, 0, settle=True)
        return
    one = installed(store, 7, settle=True)
    assert one.name == one.keys_name and "localhost" in one.name and "hunter2" not in one.name + repr(one)
    assert one.directory == Path("var")


def test_a_database_that_is_away_is_told_with_every_question(tmp_path: Path) -> None:
    one = installed(Store(path=tmp_path, url=f"postgresql://smppd@/smppd?host={tmp_path}"), 0, settle=True)
    for question in (
        one.has_keys,
        one.has_log,
        one.has_documents,
        one.check,
        one.in_use,
        one.lock,
        one.records,
        one.keys,
    ):
        with pytest.raises(StoreError, match="PostgreSQL at"):
            question()


@pytest.mark.parametrize("part", sorted(READS | OTHERS))
def test_a_database_gives_the_same_parts(part: str, tmp_path: Path) -> None:
    name = postgres.server().database().name.rpartition(" ")[2]
    one = installed(Store(path=tmp_path, url=postgres.server().url(name)), 0, settle=True)
    ask(one, part)
    assert not one.has_log() and not one.was_used() and not one.in_use() and not one.keys_lost()
    assert one.waiting_erasures() == []
    one.lock().release()


def test_the_schema_is_the_embedded_stores() -> None:
    assert embedded_schema() == SCHEMA_VERSION
