"""After a purge the disk is searched with all old keys in hand: whoever copied keys.db, the KEK and the sealed octets before
finds nothing left of what was purged, neither in a row nor in a free page, a write-ahead log, the trail or a later backup."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from itertools import repeat
from pathlib import Path

from smppd import config
from smppd.daemon.tidying import tidy
from smppd.ids import id_time
from smppd.records.retention import Purger
from smppd.store.opening import embedded
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.store.sqlite.log_rows import SqlitePurge
from smppd.vault.kek import load_kek
from smppd.vault.seal import iter_records
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step
from tests.store.journals import cores_of, rows_of

DAY = 86400.0
MESSAGES = 400
TO = b"447700900555"


def use(gateway: Gateway, smsc: RawSmsc, first: int) -> None:
    """Long messages without a receipt, so that nothing waits in the end."""
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD, 0x02) == 0
        for number in range(first, first + MESSAGES):
            text = (b"message %06d " % number) * 10
            assert status(probe.ask(0x04, submit_body(text[:140], TO))) == 0
    wait_for("the last submits", lambda: len(smsc.submits()) >= first + MESSAGES)


def spool_rows(store: Path) -> list[bytes]:
    with closing(sqlite3.connect(f"file:{store / 'data.db'}?mode=ro", uri=True)) as db:
        cold = [bytes(row[0]) for row in db.execute("SELECT data FROM cold")]
    return cold + [data for _, data in rows_of(store)] + [block.core for block in cores_of(store)]


def sealed(store: Path) -> tuple[list[bytes], list[bytes]]:
    """(pieces of what is sealed in the log, record secrets)."""
    with (
        closing(sqlite3.connect(f"file:{store / 'data.db'}?mode=ro", uri=True)) as data,
        closing(sqlite3.connect(f"file:{store / 'keys.db'}?mode=ro", uri=True)) as keys,
    ):
        pieces = []
        for (block,) in data.execute("SELECT records FROM log WHERE length(records) > 0"):
            for packed in iter_records(block):
                numbers = packed.index(b"acme") + len(b"acme")
                pieces += [packed[numbers : numbers + 32], packed[numbers + 48 : numbers + 80], packed[-96:-64]]
        secrets = []
        for (held,) in keys.execute("SELECT data FROM secrets"):
            secrets += [held[at : at + 32] for at in range(0, len(held), 32) if any(held[at : at + 32])]
    return pieces, secrets


def everything(*places: Path) -> dict[str, bytes]:
    """All octets of all files, read by another process (sqlite.org/howtocorrupt.html, section 2.2)."""
    found = {}
    for place in places:
        for path in sorted(place.rglob("*")):
            if path.is_file():
                found[str(path)] = subprocess.run(["cat", str(path)], check=True, stdout=subprocess.PIPE).stdout
    return found


def left(places: dict[str, bytes], needles: list[bytes]) -> list[str]:
    """Where any of them is: two octets are looked up before a whole one is compared, as there are thousands."""
    wanted: dict[bytes, list[bytes]] = {}
    for needle in needles:
        wanted.setdefault(needle[:8], []).append(needle)
    hits = []
    for name, octets in places.items():
        for head, whole in wanted.items():
            at = octets.find(head)
            while at >= 0:
                if any(octets.startswith(needle, at) for needle in whole):
                    hits.append(name)
                    break
                at = octets.find(head, at + 1)
    return hits


def test_no_octet_of_what_was_purged_is_left(make_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    retain = {"body": "1h", "numbers": "24h", "billing": "24h"}
    with (
        RawSmsc(repeat(Step())) as smsc,
        make_gateway([Upstream(smsc.port)], [account(retain=retain)]) as gateway,
    ):
        store = gateway.directory / "store"
        spool: list[bytes] = []
        for turn in range(3):
            use(gateway, smsc, turn * MESSAGES)
            spool += spool_rows(store)
            if turn == 1:
                gateway.finish()  # tidies the spool: its pages are freed with what stands in them
                gateway.start()
        gateway.finish()
        spool += spool_rows(store)
        pieces, secrets = sealed(store)
        old = tmp_path / "old"
        shutil.copytree(store, old)
        settings = config.load(gateway.config_file)
        kek = load_kek(settings.keys)
        rows = ReadOnlyKeys(old)
        blobs = [blob for scope, blob in rows.scan(b"") if scope.startswith((b"period/", b"segment/"))]
        opened = [
            kek.unwrap(scope, blob) for scope, blob in rows.scan(b"") if scope.startswith((b"period/", b"segment/"))
        ]
        rows.close()
        assert len(pieces) >= 3 * 3 * MESSAGES and len(secrets) >= 6 * MESSAGES and len(spool) > 20
        needles = pieces + secrets + opened + [blob[-40:] for blob in blobs]
        needles += [row[at : at + 32] for row in spool for at in range(12, len(row) - 32, 512)]
        assert left(everything(old), pieces[:50]) and left(everything(old), secrets[:50]), (
            "the search finds what is there"
        )

        assert tidy(embedded(store), kek) == ""
        with Purger(SqlitePurge(store), lambda: {"acme": settings.accounts[0].retain}, id_time) as purger:
            done = purger.run(time.time() + 3 * DAY)
        assert done.complete and done.keys >= 2 and done.records + done.parts >= 3 * MESSAGES
        gateway.command("backup", str(tmp_path / "backup"), "--keys-to", str(tmp_path / "backup-keys"))
        assert (tmp_path / "backup" / "data.db").exists()
        places = everything(store, tmp_path / "backup", tmp_path / "backup-keys")
        kinds = {"pieces": pieces, "secrets": secrets, "keys": opened, "wrapped": [blob[-40:] for blob in blobs]}
        kinds["spool"] = needles[sum(map(len, kinds.values())) :]
        hits = {kind: left(places, some) for kind, some in kinds.items()}
        assert hits == {kind: [] for kind in kinds}
        with closing(sqlite3.connect(store / "data.db")) as db:
            assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'scrubbed'").fetchone() == (0,)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
