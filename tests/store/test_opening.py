"""The one place that opens a store: what an installation gives of the embedded one, and what is said of another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from smppd.config import Store
from smppd.store.api import OptOut, StoreError
from smppd.store.installation import TIDIED, Installation
from smppd.store.opening import embedded, embedded_schema, files_of, installed
from smppd.store.sqlite import tidy
from smppd.store.sqlite.files import SCHEMA_VERSION
from smppd.store.sqlite.installation import SqliteInstallation
from smppd.vault.keys import KeyRing
from tests.store.builder import Builder
from tests.vault.rows import kek

DATABASE = Store(path=Path("var"), url="postgresql://smppd@localhost/smppd")

READS: dict[str, Callable[[Installation], object]] = {
    "keys": lambda one: list(one.keys().scan(b"install/")),
    "records": lambda one: one.records().bounds(),
    "index": lambda one: one.index().indexed(),
    "purge": lambda one: one.purge().scopes(),
    "erasures": lambda one: one.erasures().erasures(),
    "states": lambda one: one.states().sealed(),
    "underway": lambda one: one.underway(KeyRing(kek(), one.read_only_keys())).blocks(0, 10),
    "damaged": lambda one: one.damaged(read_only=True).items(),
    "opt-outs": lambda one: one.opt_outs().count(),
}
"""What may find something that is not filed yet."""
OTHERS: dict[str, Callable[[Installation], object]] = {
    "read-only keys": lambda one: list(one.read_only_keys().scan(b"install/")),
    "waiting erasures": lambda one: one.waiting_erasures(),
    "documents": lambda one: one.documents().all("operator"),
    "held": lambda one: one.held().holds(),
    "consents": lambda one: one.consents().count(),
}


@pytest.fixture
def log(tmp_path: Path) -> Builder:
    built = Builder(tmp_path / "var")
    built.record()
    built.commit()
    return built


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(SqliteInstallation, "settled", lambda one: told.append(one.name))
    return told


@pytest.mark.parametrize("part", sorted(READS))
def test_whoever_reads_for_a_command_sees_what_was_acknowledged(log: Builder, part: str, settled: list[str]) -> None:
    READS[part](embedded(log.directory, settle=False))
    assert not settled, "the daemon waits for nothing"
    READS[part](embedded(log.directory))
    assert settled == [str(log.directory)]


@pytest.mark.parametrize("part", sorted(OTHERS))
def test_what_commands_write_themselves_is_there_at_once(log: Builder, part: str, settled: list[str]) -> None:
    OTHERS[part](embedded(log.directory))
    assert not settled


@pytest.mark.parametrize("part", sorted((READS | OTHERS).keys() - {"keys", "states", "index"}))
def test_where_there_is_no_store_it_is_said(tmp_path: Path, part: str) -> None:
    one = embedded(tmp_path / "var")
    with pytest.raises(StoreError, match=str(tmp_path / "var")):
        (READS | OTHERS)[part](one)


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
    one.opt_outs(read_only=False).write([entry], [])
    assert one.opt_outs().get(bytes(16)) == entry


def test_the_request_to_tidy_has_one_name() -> None:
    assert tidy.DONE == TIDIED


def test_a_store_of_another_back_end_is_no_directory_of_files() -> None:
    assert files_of(Store(path=Path("var")), "smppd backup") == Path("var")
    with pytest.raises(StoreError, match="`smppd backup` works on the files of the embedded store") as told:
        files_of(DATABASE, "smppd backup")
    assert "localhost" not in str(told.value)


def test_a_back_end_that_is_not_there_is_told() -> None:
    with pytest.raises(StoreError, match=r"store\.url: this version cannot open"):
        installed(DATABASE, 0, settle=True)


def test_the_schema_is_the_embedded_stores() -> None:
    assert embedded_schema() == SCHEMA_VERSION
