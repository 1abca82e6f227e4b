"""What was destroyed is in no file of the server: neither in a table's, nor in its statistics, nor in the write-ahead log
that it keeps; nobody who reads is waited for, and a kill costs nothing."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smppd.store.api import StoreError
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.database import Database
from smppd.store.postgres.log_rows import PostgresPurge
from tests import postgres

ROWS = 400
PIECE = 32


@pytest.fixture
def server() -> Iterator[Server]:
    address = postgres.server().database()
    yield address
    postgres.server().drop(address)


def folder(address: Server) -> Path:
    with closing(Connection(address)) as db:
        row = db.one("SELECT oid FROM pg_database WHERE datname = current_database()")
    assert row is not None
    return postgres.server().data / "base" / str(row[0])


def left(place: Path, needles: list[bytes]) -> int:
    """How many eights of octets of them are in any file."""
    heads = {needle[at : at + 8] for needle in needles for at in range(0, PIECE, 8)}
    found = 0
    for path in place.iterdir():
        if path.is_file():
            octets = path.read_bytes()
            found += sum(octets[at : at + 8] in heads for at in range(len(octets) - 7))
    return found


def fill(db: Connection) -> tuple[dict[int, bytes], dict[bytes, bytes]]:
    """Secrets of one to a hundred records a row, and keys."""
    db.run("INSERT INTO nodes VALUES (0, 'test', 1)")
    secrets = {number << 22: os.urandom(2 * PIECE * random.choice((1, 1, 2, 5, 30, 100))) for number in range(1, ROWS)}
    keys = {b"period/acme/body/%d" % number: os.urandom(60) for number in range(ROWS)}
    for seq, data in secrets.items():
        db.run("INSERT INTO secrets VALUES (0, $1, $2)", (seq, data))
    for scope, wrapped in keys.items():
        db.run("INSERT INTO keys VALUES ($1, $2)", (scope, wrapped))
    return secrets, keys


def destroy(purge: PostgresPurge, secrets: dict[int, bytes], keys: dict[bytes, bytes]) -> list[bytes]:
    """A record's secrets, or a whole row's, here and there; some keys. What must not be found any more."""
    gone: list[bytes] = []
    changes = []
    for seq in random.sample(sorted(secrets), ROWS // 4):
        data = secrets[seq]
        at = random.randrange(len(data) // (2 * PIECE)) * 2 * PIECE
        whole = random.random() < 0.5
        after = bytes(len(data)) if whole else data[:at] + bytes(2 * PIECE) + data[at + 2 * PIECE :]
        gone += [data[one : one + PIECE] for one in range(0, len(data), PIECE) if not any(after[one : one + PIECE])]
        changes.append((seq, data, after))
    assert purge.replace_secrets(changes)
    dead = random.sample(sorted(keys), ROWS // 4)
    assert purge.destroy_keys(dead)
    return gone + [keys[scope][-PIECE:] for scope in dead]


def test_no_eight_octets_of_what_was_destroyed_are_left(server: Server) -> None:
    with closing(Connection(server)) as db, closing(PostgresPurge(server)) as purge:
        gone = destroy(purge, *fill(db))
        db.run("VACUUM")
        db.run("CHECKPOINT")
        place = folder(server)
        assert left(place, gone) > len(gone), "VACUUM alone leaves most of it where it was"
        assert purge.wipe() and purge.wipe()
        db.run("CHECKPOINT")
        assert left(place, gone) == 0
        sizes = "SELECT sum(pg_relation_size(oid))::bigint FROM pg_class WHERE relkind IN ('r', 't')"
        before = db.one(sizes)
        with purge.data.writing("secrets", "keys"):
            pass
        assert purge.wipe()
        assert before is not None and (db.one(sizes) or (0,))[0] <= before[0] + before[0] // 50, (
            "what was filled is given back"
        )


def test_a_server_that_recycles_no_log_has_nothing_in_it_after_a_checkpoint(server: Server) -> None:
    with closing(Connection(server)) as db, closing(PostgresPurge(server)) as purge:
        db.run("ALTER SYSTEM SET wal_recycle = off")
        db.one("SELECT pg_reload_conf()")
        try:
            gone = destroy(purge, *fill(db))
            place = postgres.server().data / "pg_wal"
            few = random.sample(gone, 60)
            assert any(needle in path.read_bytes() for path in place.iterdir() if path.is_file() for needle in few[:5])
            assert purge.wipe()
            for _ in range(2):
                db.one("SELECT pg_switch_wal()")
                db.run("CHECKPOINT")
            kept = [path.read_bytes() for path in place.iterdir() if path.is_file()]
            assert not any(needle in octets for octets in kept for needle in few)
        finally:
            db.run("ALTER SYSTEM RESET wal_recycle")
            db.one("SELECT pg_reload_conf()")


def test_statistics_have_no_values(server: Server) -> None:
    with closing(Connection(server)) as db:
        fill(db)
        db.run("ANALYZE")
        secret = db.all(
            "SELECT attrelid::regclass::text, attname::text FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
            " WHERE relnamespace = 'smppd'::regnamespace AND relkind = 'r' AND atttypid = 'bytea'::regtype"
            " AND attstattarget <> 0 AND NOT attisdropped"
        )
        known = {("keys", "scope"), ("facts", "value"), ("purged", "digests"), ("purged", "mac"), ("anchors", "chain")}
        known |= {("state", "value"), ("seals", "signed"), ("checkpoints", "signed"), ("leases", "facts")}
        assert {one for one in map(tuple, secret) if one[1] != "room"} == known, "what is none of a person, and no key"
        assert not db.all(
            "SELECT 1 FROM pg_stats WHERE schemaname = 'smppd' AND attname IN ('data', 'wrapped', 'sealed')"
        )


def test_somebody_who_reads_is_left_alone_and_it_is_done_later(server: Server) -> None:
    with (
        closing(Connection(server)) as db,
        closing(PostgresPurge(server)) as purge,
        closing(Connection(server)) as other,
    ):
        secrets, keys = fill(db)
        with other.snapshot():
            other.all("SELECT 1")
            gone = destroy(purge, secrets, keys)
            assert not purge.wipe()
        assert purge.wipe()
        db.run("CHECKPOINT")
        assert left(folder(server), gone) == 0


def test_only_one_wipes_at_a_time(server: Server) -> None:
    with closing(PostgresPurge(server)) as one, closing(PostgresPurge(server)) as other:
        with one.data.writing("keys"):
            pass
        with one._wiper._alone() as alone:
            assert alone and not other.wipe()
        assert other.wipe() and one.wipe()


def test_killed_while_it_fills(server: Server) -> None:
    with closing(Connection(server)) as db, closing(PostgresPurge(server)) as purge:
        gone = destroy(purge, *fill(db))
        with closing(PostgresPurge(server)) as dying:
            inserted = dying._wiper._insert

            def insert(values: tuple[object, ...]) -> None:
                with dying.data.connection.writing():
                    dying.data.one("SELECT fill_room($1, $2, $3, $4, $5::int[], $6)", values)
                    db.all(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE state = 'idle in transaction' AND datname = current_database()"
                    )
                    dying.data.one("SELECT 1")

            assert inserted is not None
            dying._wiper._insert = insert  # type: ignore[method-assign]
            with pytest.raises(StoreError):
                dying.wipe()
        assert purge.wipe()
        db.run("CHECKPOINT")
        assert left(folder(server), gone) == 0
        assert db.one("SELECT count(*) FROM keys WHERE node = -1") == (0,)


def test_who_writes_beside_the_relay_writes_alone_and_the_relay_waits_for_nobody(server: Server) -> None:
    entered, done = threading.Event(), threading.Event()

    def later() -> None:
        with closing(Database(server)) as other:
            entered.set()
            with other.writing():
                done.set()

    with closing(Database(server)) as one, closing(Connection(server)) as relay:
        thread = threading.Thread(target=later)
        with one.writing("keys"):
            one.run("DELETE FROM keys")
            thread.start()
            assert entered.wait(10) and not done.wait(0.2)
            relay.run("INSERT INTO keys VALUES ('a', 'b')")
            relay.all("SELECT put_keys(0, NULL, NULL, ARRAY['a'::bytea])")
        thread.join(10)
        assert done.is_set()
