"""What the tests of the embedded store share."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from smppd.store.sqlite import store
from smppd.store.sqlite.files import connect
from tests.store.builder import Statements


class Noting:
    """A connection that notes what it is asked to execute."""

    def __init__(self, db: sqlite3.Connection, told: list[str]) -> None:
        self._db = db
        self._told = told

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        self._told.append(sql.split(" ")[0])
        return self._db.execute(sql, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    """Of stores that are opened after this."""
    told = Statements()

    def noting(path: Path, kind: str, *, writer: bool) -> Any:
        return Noting(connect(path, kind, writer=writer), told.setdefault(kind, []))

    monkeypatch.setattr(store, "connect", noting)
    return told
