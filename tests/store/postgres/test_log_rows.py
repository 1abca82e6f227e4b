"""Whoever reads a database hears of the store's errors and no others; several nodes have chains of their own in one log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smppd.store.api import StoreBusy, StoreError
from smppd.store.log import LAST_ID
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.installation import PostgresInstallation
from smppd.store.postgres.log_rows import PostgresIndex, PostgresPurge, PostgresRecords
from tests import postgres
from tests.store.sqlite.test_log_rows import CALLS, SEGMENT

PARTS = {"read only keys": "read_only_keys"}


@pytest.fixture
def server() -> Iterator[Server]:
    address = postgres.server().database()
    yield address
    postgres.server().drop(address)


def test_what_the_server_says_is_an_error_of_the_store(server: Server, tmp_path: Path) -> None:
    place = PostgresInstallation(server, tmp_path)
    parts = {name: getattr(place, PARTS.get(name, name))() for name in sorted({name for name, _ in CALLS})}
    for part in parts.values():
        if hasattr(part, "last_row"):
            part.last_row()  # it connects when it is asked
    with closing(Connection(server)) as db:
        names = [row[0] for row in db.all("SELECT tablename FROM pg_tables WHERE schemaname = 'smppd'")]
        for name in names:
            db.run(f"ALTER TABLE {name} RENAME TO gone_{name}")
    for name, call in CALLS:
        with pytest.raises(StoreError, match="undefined table"):
            list(call(parts[name]) or ())  # type: ignore[call-overload]
    for part in parts.values():
        part.close()


def test_nothing_is_opened_where_there_is_no_store(tmp_path: Path) -> None:
    address = postgres.server().database(schema=False)
    place = PostgresInstallation(address, tmp_path)
    try:
        assert not place.has_keys() and not place.has_log() and not place.keys_lost() and not place.was_used()
        for part in ("records", "index", "purge", "erasures", "documents", "held", "consents", "read_only_keys"):
            with pytest.raises(StoreError, match="no store here yet"):
                getattr(place, part)()
        with closing(place.states()) as states, pytest.raises(StoreError, match="no store here yet"):
            states.known()
        place.keys().close()
        assert not place.has_keys() and place.has_documents()
    finally:
        postgres.server().drop(address)


def test_who_waits_too_long_for_another_that_writes_is_told(server: Server) -> None:
    with closing(PostgresIndex(server)) as index, closing(PostgresPurge(server)) as other:
        index.data.run("SET lock_timeout = 50")
        with other.data.writing(), pytest.raises(StoreBusy):
            index.add({}, {0: 1}, [SEGMENT], [])
        index.add({}, {0: 1}, [SEGMENT], [])
        assert index.indexed() == 1


def test_the_log_of_several_nodes_is_one_and_each_has_a_chain(server: Server) -> None:
    """Rows of two nodes, one after another by their ids."""
    ids = [(number << 22) | (node << 16) for number in range(1, 5) for node in (3, 1)]
    with closing(Connection(server)) as db:
        for node in (1, 3):
            db.run("INSERT INTO nodes (node, name, epoch) VALUES ($1, 'n', 1)", (node,))
        for seq in ids:
            values = (seq >> 16 & 63, seq, b"%d" % seq, b"link %d" % seq)
            db.run("INSERT INTO log VALUES ($1, $2, 1, $3, '', $4)", values)
            db.run("INSERT INTO secrets VALUES ($1, $2, $3)", (values[0], seq, b"secret %d" % seq))
    rising = sorted(ids)
    ours = [seq for seq in rising if seq >> 16 & 63 == 3]
    with closing(PostgresRecords(server)) as records, closing(PostgresPurge(server)) as purge:
        assert records.bounds() == (rising[0], rising[-1])
        assert [row.seq for row in records.rows(0, 100)] == rising
        assert [row.seq for row in records.rows(rising[2], 2)] == rising[3:5]
        assert [seq for seq, _ in records.packed(rising[1], rising[5], 100)] == rising[2:6]
        assert [seq for seq, _ in records.before(rising[4], 2)] == rising[2:4]
        assert records.near(ours[1] + 5) == ours[1:3] and records.near(0) == []
        assert records.link_before(ours[1]) == b"link %d" % ours[0] and records.link_before(ours[0]) is None
        row = records.row(ours[2])
        assert row is not None and records.secrets(row) == b"secret %d" % ours[2]
        with pytest.raises(StoreError, match="several nodes"):
            records.outline()
        assert [one.seq for one in purge.stretch(rising[3], rising[5], 10, 1 << 20)[0]][-1] == rising[5]
        assert {seq for seq, _ in purge.kept_secrets([row], rising[0], rising[1])} == {ours[2], *rising[:2]}
        purge.data.run("UPDATE log SET records = '' WHERE seq <= $1", (rising[3],))  # nothing of them is kept any more
        purge.trim((rising[3], b"link %d" % rising[3]), rising[4], 0, 10)
        assert [one.seq for one in records.rows(0, 100)] == rising[4:]
        left = [seq for seq in ours if seq > rising[3]]
        assert records.link_before(left[0]) == b"link %d" % max(seq for seq in ours if seq <= rising[3])
    with closing(PostgresRecords(server, node=3)) as records:
        assert [row.seq for row in records.rows(0, 100)] == left
        outline = records.outline()
        assert (outline.lowest, outline.highest) == (left[0], left[-1]) and records.seals(0, LAST_ID, 9) == []
        assert outline.anchor_row == max(seq for seq in ours if seq <= rising[3])
