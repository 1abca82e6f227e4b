"""The zeros that free pages are overwritten with leave no octet of what stood there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from smppd.store.sqlite.log_rows import whole_pages


@pytest.mark.parametrize("size", [512, 4096, 8192, 65536])
@pytest.mark.parametrize("pages", [1, 2, 3, 16, 17, 63, 64])
def test_a_blob_fills_its_overflow_pages_to_their_end(tmp_path: Path, size: int, pages: int) -> None:
    path = tmp_path / "one.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA page_size = {size}")
    db.execute("PRAGMA secure_delete = OFF")
    db.execute("CREATE TABLE old (data BLOB)")
    db.execute("INSERT INTO old VALUES (?)", (b"old octets" * (size * (pages + 4) // 10),))
    db.execute("CREATE TABLE zeros (data BLOB)")
    db.execute("DROP TABLE old")
    free = db.execute("PRAGMA freelist_count").fetchone()[0]
    db.execute("PRAGMA secure_delete = ON")
    db.execute("INSERT INTO zeros VALUES (zeroblob(?))", (whole_pages(pages, size),))
    assert free - db.execute("PRAGMA freelist_count").fetchone()[0] == pages
    left = whole_pages(db.execute("PRAGMA freelist_count").fetchone()[0], size)
    db.execute("INSERT INTO zeros VALUES (zeroblob(?))", (left,))
    assert db.execute("PRAGMA freelist_count").fetchone()[0] == 0
    db.close()
    assert b"old octets" not in path.read_bytes()
