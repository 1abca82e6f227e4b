"""A store on disk in which somebody without keys moves and changes records, secrets and rows, making every digest fit again: no
record is read as another's, or as anything but what it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from smppd.records.lookup import Found, LogReader
from smppd.records.search import by_number
from smppd.store.log import pack_purged
from smppd.store.sqlite.log_rows import SqliteRecords
from smppd.vault.chain import GENESIS
from smppd.vault.seal import Content, SealError, digest_of, erase, iter_records
from tests.store.builder import DAY, Builder
from tests.vault.test_seal import reseal_digest

ONE, TWO = b"447700900123", b"447700900456"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Builder, dict[int, object]]:
    """A store of two accounts, two subjects, three contents and two periods, sealed as the daemon does it; row 5 erased."""
    directory = tmp_path_factory.mktemp("vouch") / "store"
    builder = Builder(directory, sealed=True)
    for number in range(8):
        builder.now += DAY / 3
        for account in ("acme", "globex"):
            for to in (ONE, TWO):
                content = (Content.ENCRYPT, Content.ENCRYPT, Content.HASH, Content.HIDE)[number % 4]
                builder.record(b"text %d" % number, destination=to, account=account, content=content)
        builder.commit()
    builder.close()
    with closing(sqlite3.connect(directory / "data.db")) as db:
        seqs = [row[0] for row in db.execute("SELECT seq FROM log ORDER BY seq")]
        (block,) = db.execute("SELECT records FROM log WHERE seq = ?", (seqs[5],)).fetchone()
        erased = b"".join(erase(packed) for packed in iter_records(block))
        db.execute("UPDATE log SET records = ? WHERE seq = ?", (erased, seqs[5]))
        db.commit()
    true = {}
    with open_reader(directory, builder) as reader:
        for record_id in builder.packed:
            found = reader.record(record_id)
            assert found is not None
            true[record_id] = shape(found)
    return directory, builder, true


def open_reader(directory: Path, builder: Builder) -> LogReader:
    return LogReader(SqliteRecords(directory), builder.kek, builder.keys)


def shape(found: Found) -> object:
    """All that a reader is told of a record."""
    record = found.record
    return record.header, record.numbers, record.body, record.content_hash


def blocks(db: sqlite3.Connection) -> dict[int, list[bytes]]:
    return {seq: list(iter_records(block)) for seq, block in db.execute("SELECT seq, records FROM log ORDER BY seq")}


def put(db: sqlite3.Connection, seq: int, records: list[bytes]) -> None:
    db.execute("UPDATE log SET records = ? WHERE seq = ?", (b"".join(records), seq))


Attack = Callable[[sqlite3.Connection, sqlite3.Connection], None]
"""What is done to data.db and keys.db."""


def swapped(a: tuple[int, int], b: tuple[int, int], *, secrets: bool = False) -> Attack:
    """Two records (row, place) change places, with their secrets or without."""

    def attack(data: sqlite3.Connection, keys: sqlite3.Connection) -> None:
        rows = blocks(data)
        seqs = list(rows)
        (sa, pa), (sb, pb) = (seqs[a[0]], a[1]), (seqs[b[0]], b[1])
        rows[sa][pa], rows[sb][pb] = rows[sb][pb], rows[sa][pa]
        put(data, sa, rows[sa])
        put(data, sb, rows[sb])
        if secrets:
            names = dict(data.execute("SELECT seq, secrets FROM log"))
            na, nb = names[sa] or sa, names[sb] or sb
            query = "SELECT data FROM secrets WHERE seq = ?"
            held = {name: bytearray(keys.execute(query, (name,)).fetchone()[0]) for name in {na, nb}}
            x, y = slice(64 * pa, 64 * pa + 64), slice(64 * pb, 64 * pb + 64)
            held[na][x], held[nb][y] = held[nb][y], held[na][x]
            for name, data_ in held.items():
                keys.execute("UPDATE secrets SET data = ? WHERE seq = ?", (bytes(data_), name))

    return attack


def changed(row: int, change: Callable[[bytes], bytes]) -> Attack:
    """The first record of a row is altered, and its digest made to fit."""

    def attack(data: sqlite3.Connection, _keys: sqlite3.Connection) -> None:
        rows = blocks(data)
        seq = list(rows)[row]
        rows[seq][0] = reseal_digest(change(rows[seq][0]))
        put(data, seq, rows[seq])

    return attack


def sql(statement: str) -> Attack:
    def attack(data: sqlite3.Connection, _keys: sqlite3.Connection) -> None:
        data.executescript(statement)

    return attack


def _octet(at: int) -> Callable[[bytes], bytes]:
    return lambda packed: packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]


def _account(packed: bytes) -> bytes:
    return packed.replace(b"acme", b"axme", 1)


def _row(place: int) -> str:
    return f"(SELECT seq FROM log ORDER BY seq LIMIT 1 OFFSET {place})"


ATTACKS: dict[str, Attack] = {
    "accounts exchanged": swapped((0, 0), (0, 2)),
    "accounts exchanged, secrets too": swapped((0, 0), (0, 2), secrets=True),
    "subjects exchanged": swapped((1, 0), (1, 1)),
    "subjects exchanged, secrets too": swapped((1, 0), (1, 1), secrets=True),
    "periods exchanged": swapped((0, 0), (7, 0)),
    "periods exchanged, secrets too": swapped((0, 1), (4, 1), secrets=True),
    "hashed bodies exchanged": changed(2, lambda packed: packed[:-64] + bytes(32) + packed[-32:]),
    **{f"octet {at} of an erased record": changed(5, _octet(at)) for at in range(13, 45)},
    **{f"octet {at} of a record": changed(1, _octet(at)) for at in range(13, 45)},
    **{f"octet {at} of a record without a body": changed(3, _octet(at)) for at in range(13, 45)},
    "an erased record given to another account": changed(5, _account),
    "a record of another content mode": changed(2, lambda packed: packed[:13] + bytes([packed[13] & 1]) + packed[14:]),
    "rows exchanged": sql(
        f"CREATE TEMP TABLE t AS SELECT * FROM log; UPDATE log SET records = (SELECT records FROM t WHERE seq = {_row(3)})"
        f" WHERE seq = {_row(2)}; UPDATE log SET records = (SELECT t.records FROM t WHERE t.seq = {_row(2)})"
        f" WHERE seq = {_row(3)}"
    ),
    "a row named other secrets": sql(f"UPDATE log SET secrets = {_row(1)} WHERE seq = {_row(0)}"),
    "a record twice": sql(f"UPDATE log SET records = records || records, count = 2 * count WHERE seq = {_row(1)}"),
    "a record left out": sql(f"UPDATE log SET records = x'', count = 0 WHERE seq = {_row(1)}"),
    "a row of another time": sql(f"UPDATE log SET seq = seq + 1 WHERE seq = {_row(4)}"),
    "types": sql(f"UPDATE log SET records = 'text' WHERE seq = {_row(6)}"),
}


def purged_by_nobody(data: sqlite3.Connection, _keys: sqlite3.Connection) -> None:
    rows = blocks(data)
    seq = list(rows)[1]
    data.execute("INSERT INTO purged (seq, digests) VALUES (?, ?)", (seq, pack_purged({0: bytes(32)})))
    put(data, seq, rows[seq][1:])


ATTACKS["records taken out by no purge"] = purged_by_nobody


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_read_as_what_it_is_not(
    made: tuple[Path, Builder, dict[int, object]], tmp_path: Path, name: str
) -> None:
    directory, builder, true = made
    store = tmp_path / "store"
    store.mkdir()
    for file in directory.glob("*.db"):
        (store / file.name).write_bytes(file.read_bytes())
    with closing(sqlite3.connect(store / "data.db")) as data, closing(sqlite3.connect(store / "keys.db")) as keys:
        ATTACKS[name](data, keys)
        data.commit()
        keys.commit()
    refused = 0
    with open_reader(store, builder) as reader:
        for record_id, expected in true.items():
            try:
                found = reader.record(record_id)
            except SealError:
                refused += 1
                continue
            assert found is not None, "a record that vanished is told"
            assert shape(found) == expected
    assert 0 < refused <= 12, "only the rows that were touched, and the one behind"
    with open_reader(store, builder) as reader:
        for number in (ONE, TWO):
            for found in by_number(reader, [number]):
                assert shape(found) == true[found.record.header.record_id]
        assert reader.damaged


def test_an_untouched_store_is_read_whole(made: tuple[Path, Builder, dict[int, object]]) -> None:
    directory, builder, true = made
    with open_reader(directory, builder) as reader:
        for number in (ONE, TWO):
            got = {one.record.header.record_id for one in by_number(reader, [number])}
            assert len(got) == 14  # 7 rows of 2; the erased ones have no number any more
        assert not reader.damaged and len(true) == 32
        assert reader.record(12345) is None


def test_what_a_purge_leaves_is_read(tmp_path: Path) -> None:
    """The first row deleted, the anchor left: the row behind it continues the anchor."""
    builder = Builder(tmp_path / "store", sealed=True)
    ids = builder.fill(4, 2)
    builder.close()
    with closing(sqlite3.connect(tmp_path / "store/data.db")) as db:
        seq, link, block = db.execute("SELECT seq, chain, records FROM log ORDER BY seq LIMIT 1").fetchone()
        assert len(digest_of(next(iter_records(block)))) == len(GENESIS)
        db.execute("DELETE FROM log WHERE seq = ?", (seq,))
        db.execute("INSERT INTO meta VALUES ('anchor', ?)", (link,))
        db.commit()
    with open_reader(tmp_path / "store", builder) as reader:
        assert reader.record(ids[0]) is None
        assert all(reader.record(one) is not None for one in ids[2:])
