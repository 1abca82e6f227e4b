"""Opening the store's files: versions that are known, and files that are nobody else's."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from smppd.store.files import StoreError, connect


@pytest.mark.parametrize("kind", ["data", "keys"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_of_a_newer_smppd_is_not_opened(tmp_path: Path, kind: str, read_only: bool) -> None:
    path = tmp_path / f"{kind}.db"
    connect(path, kind).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match=r"written by a newer smppd \(schema 99"):
        connect(path, kind, read_only=read_only)


def test_a_file_that_others_can_read_is_taken_from_them_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.db"
    first = connect(path, "keys")
    for one in tmp_path.iterdir():
        one.chmod(0o644)
    with caplog.at_level(logging.WARNING, "smppd.store"):
        connect(path, "keys").close()
    first.close()
    assert {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {0o600}
    assert [record.getMessage() for record in caplog.records] == ["store file was open to others"] * 3
    caplog.clear()
    connect(path, "keys").close()
    assert not caplog.records
