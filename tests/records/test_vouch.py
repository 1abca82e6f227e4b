"""A store on disk in which somebody without keys moves and changes records, secrets and rows, making every digest fit again: no
record is read as another's, or as anything but what it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smppd.records.lookup import Found, LogReader
from smppd.records.search import by_number
from smppd.store.log import pack_purged
from smppd.vault.chain import GENESIS
from smppd.vault.seal import Content, SealError, digest_of, erase, iter_records
from tests.store.builder import DAY, Builder
from tests.store.houses import HOUSES, House
from tests.vault.test_seal import reseal_digest

ONE, TWO = b"447700900123", b"447700900456"


Made = tuple[House, Builder, dict[int, object]]


@pytest.fixture(scope="module", params=sorted(HOUSES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A store of two accounts, two subjects, three contents and two periods, sealed as the daemon does it; row 5 erased."""
    house = HOUSES[request.param](tmp_path_factory.mktemp("vouch") / "store")
    builder = Builder(house, sealed=True)
    for number in range(8):
        builder.now += DAY / 3
        for account in ("acme", "globex"):
            for to in (ONE, TWO):
                content = (Content.ENCRYPT, Content.ENCRYPT, Content.HASH, Content.HIDE)[number % 4]
                builder.record(b"text %d" % number, destination=to, account=account, content=content)
        builder.commit()
    builder.close()
    seq, records = list(blocks(house).items())[5]
    put(house, seq, [erase(packed) for packed in records])
    true = {}
    with open_reader(house, builder) as reader:
        for record_id in builder.packed:
            found = reader.record(record_id)
            assert found is not None
            true[record_id] = shape(found)
    yield house, builder, true
    house.ends()


def open_reader(house: House, builder: Builder) -> LogReader:
    return LogReader(house.place.records(), builder.kek, builder.keys)


def shape(found: Found) -> object:
    """All that a reader is told of a record."""
    record = found.record
    return record.header, record.numbers, record.body, record.content_hash


def blocks(house: House) -> dict[int, list[bytes]]:
    return {seq: list(iter_records(block)) for seq, block in house.ask("SELECT seq, records FROM log ORDER BY seq")}


def put(house: House, seq: int, records: list[bytes]) -> None:
    house.edit("UPDATE log SET records = ? WHERE seq = ?", b"".join(records), seq)


Attack = Callable[[House], None]
"""What is done to what is stored."""


def swapped(a: tuple[int, int], b: tuple[int, int], *, secrets: bool = False) -> Attack:
    """Two records (row, place) change places, with their secrets or without."""

    def attack(house: House) -> None:
        rows = blocks(house)
        seqs = list(rows)
        (sa, pa), (sb, pb) = (seqs[a[0]], a[1]), (seqs[b[0]], b[1])
        rows[sa][pa], rows[sb][pb] = rows[sb][pb], rows[sa][pa]
        put(house, sa, rows[sa])
        put(house, sb, rows[sb])
        if secrets:
            with closing(house.place.records()) as records:
                names = {row.seq: row.secrets or row.seq for row in records.rows(0, 100)}
            na, nb = names[sa], names[sb]
            kept = dict(house.ask("SELECT seq, data FROM secrets"))
            held = {name: bytearray(kept[name]) for name in {na, nb}}
            x, y = slice(64 * pa, 64 * pa + 64), slice(64 * pb, 64 * pb + 64)
            held[na][x], held[nb][y] = held[nb][y], held[na][x]
            for name, data_ in held.items():
                house.edit("UPDATE secrets SET data = ? WHERE seq = ?", bytes(data_), name)

    return attack


def changed(row: int, change: Callable[[bytes], bytes]) -> Attack:
    """The first record of a row is altered, and its digest made to fit."""

    def attack(house: House) -> None:
        rows = blocks(house)
        seq = list(rows)[row]
        rows[seq][0] = reseal_digest(change(rows[seq][0]))
        put(house, seq, rows[seq])

    return attack


def sql(*statements: str) -> Attack:
    def attack(house: House) -> None:
        for statement in statements:
            house.edit(statement)

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
        f"UPDATE log SET records = (SELECT other.records FROM log AS other WHERE other.seq ="
        f" CASE log.seq WHEN {_row(2)} THEN {_row(3)} ELSE {_row(2)} END) WHERE seq IN ({_row(2)}, {_row(3)})"
    ),
    "a row named other secrets": sql(f"UPDATE log SET secrets = {_row(1)} WHERE seq = {_row(0)}"),
    "a record twice": sql(f"UPDATE log SET records = records || records, count = 2 * count WHERE seq = {_row(1)}"),
    "a record left out": sql(f"UPDATE log SET records = x'', count = 0 WHERE seq = {_row(1)}"),
    "a row of another time": sql(f"UPDATE log SET seq = seq + 1 WHERE seq = {_row(4)}"),
    "types": sql(f"UPDATE log SET records = 'text' WHERE seq = {_row(6)}"),
}


def purged_by_nobody(house: House) -> None:
    rows = blocks(house)
    seq = list(rows)[1]
    house.edit("INSERT INTO purged (seq, digests) VALUES (?, ?)", seq, pack_purged({0: bytes(32)}))
    put(house, seq, rows[seq][1:])


ATTACKS["records taken out by no purge"] = purged_by_nobody


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_read_as_what_it_is_not(made: Made, name: str) -> None:
    house, builder, true = made
    if name == "a row named other secrets" and house.journal != "spool":
        return  # none names any there
    with house.put_back():
        ATTACKS[name](house)
        told(house, builder, true)


def told(house: House, builder: Builder, true: dict[int, object]) -> None:
    refused = 0
    with open_reader(house, builder) as reader:
        for record_id, expected in true.items():
            try:
                found = reader.record(record_id)
            except SealError:
                refused += 1
                continue
            assert found is not None, "a record that vanished is told"
            assert shape(found) == expected
    assert 0 < refused <= 12, "only the rows that were touched, and the one behind"
    with open_reader(house, builder) as reader:
        for number in (ONE, TWO):
            for found in by_number(reader, [number]):
                assert shape(found) == true[found.record.header.record_id]
        assert reader.damaged


def test_an_untouched_store_is_read_whole(made: Made) -> None:
    house, builder, true = made
    with open_reader(house, builder) as reader:
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
    with open_reader(builder.house, builder) as reader:
        assert reader.record(ids[0]) is None
        assert all(reader.record(one) is not None for one in ids[2:])
