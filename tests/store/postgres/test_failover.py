"""A primary dies and its synchronous replica takes over: nothing that was acknowledged is lost, and nothing is there twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from smppd.store.postgres import writer
from smppd.store.postgres.connection import Connection, Server
from tests import postgres
from tests.store.postgres.waiting import settles, until
from tests.store.stands import PostgresStand


def test_a_failover_to_a_synchronous_replica_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "AGAIN", 0.01)
    primary = postgres.Server(replicated=True)
    primary.database()
    replica = postgres.Server(primary=primary)
    both = Server(f"postgresql://{postgres.USER}@/test1?host={primary.folder},{replica.folder}")
    stand = PostgresStand(tmp_path, both)
    asked = Connection(primary.address())
    until(stand, lambda: asked.all("SELECT sync_state FROM pg_stat_replication") == [("sync",)])
    asked.close()
    acknowledged = []
    for number in range(20):
        stand.store.batch.accepts.append(b"<%d>" % number)
        stand.commits()
        acknowledged.append(b"<%d>" % number)
    for number in range(20, 23):  # no answer comes of these until the replica has taken over
        stand.store.batch.accepts.append(b"<%d>" % number)
        if number == 20:
            primary.kill()
        stand.store.kick()
        stand.turns()
    until(stand, lambda: not stand.store.takes)
    assert [word for word, _ in stand.sink.heard[:20]] == ["committed"] * 20
    replica.promote()
    settles(stand)
    stand.starts()
    stored = b"".join(block for _, block in stand.blocks)
    assert all(stored.count(one) == 1 for one in acknowledged) and len(stand.blocks) <= 23
    stand.ends()
    replica.remove()
    primary.remove()
