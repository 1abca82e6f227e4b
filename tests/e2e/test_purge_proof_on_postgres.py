"""The same on PostgreSQL: after a purge on the store of a daemon that ran, the database's files are searched for all that was
purged, with all old keys in hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from itertools import repeat
from pathlib import Path

import pytest

from smppd import config
from smppd.ids import id_time
from smppd.records.retention import Purger
from smppd.store.opening import installation
from smppd.store.postgres.connection import Connection, Server
from smppd.vault.kek import load_kek
from smppd.vault.seal import iter_records
from tests import postgres
from tests.e2e.harness import Gateway, Upstream, account, new_database
from tests.e2e.rawsmsc import RawSmsc, Step
from tests.e2e.test_purge_proof import DAY, left, use


def tables(db: Connection) -> dict[str, bytes]:
    """All octets of all files of the database."""
    db.run("CHECKPOINT")
    row = db.one("SELECT oid FROM pg_database WHERE datname = current_database()")
    assert row is not None
    folder: Path = postgres.server().data / "base" / str(row[0])
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def halves(octets: bytes) -> list[bytes]:
    return [octets[at : at + 32] for at in range(0, len(octets), 32) if any(octets[at : at + 32])]


def test_no_octet_of_what_was_purged_is_left(
    make_gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.e2e.test_purge_proof.MESSAGES", 120)
    retain = {"body": "1h", "numbers": "24h", "billing": "24h"}
    url = new_database()
    with (
        RawSmsc(repeat(Step())) as smsc,
        make_gateway([Upstream(smsc.port)], [account(retain=retain)], store={"path": "store", "url": url}) as gateway,
        closing(Connection(Server(url))) as db,
    ):
        use(gateway, smsc, 0)
        gateway.finish()
        secrets = [half for (data,) in db.all("SELECT data FROM secrets") for half in halves(data)]
        pieces = []
        for (block,) in db.all("SELECT records FROM log WHERE octet_length(records) > 0"):
            for packed in iter_records(block):
                numbers = packed.index(b"acme") + len(b"acme")
                pieces += [packed[numbers : numbers + 32], packed[numbers + 48 : numbers + 80], packed[-96:-64]]
        blobs = [(scope, wrapped) for scope, wrapped in db.all("SELECT scope, wrapped FROM keys")]
        settings = config.load(gateway.config_file)
        kek = load_kek(settings.keys)
        dying = [(scope, wrapped) for scope, wrapped in blobs if scope.startswith(b"period/")]
        keys = [wrapped[-40:] for _, wrapped in dying] + [kek.unwrap(scope, wrapped) for scope, wrapped in dying]
        assert len(secrets) >= 240 and len(pieces) >= 360 and len(dying) >= 2
        before = tables(db)
        assert left(before, secrets[:50]) and left(before, pieces[:50]) and left(before, [dying[0][1][-40:]])
        place = installation(settings)
        with Purger(place.purge(), lambda: {"acme": settings.accounts[0].retain}, id_time) as purger:
            done = purger.run(time.time() + 3 * DAY)
        assert done.complete and done.keys >= 2 and done.records + done.parts >= 120
        after = tables(db)
        kinds = {"secrets": secrets, "pieces": pieces, "keys": keys}
        assert {kind: left(after, some) for kind, some in kinds.items()} == {kind: [] for kind in kinds}
