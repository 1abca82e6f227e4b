"""What people do with the record on a running daemon's store of PostgreSQL: hold, export, report, rotate; tamper."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from itertools import repeat

from smppd.store.postgres.connection import Connection, Server
from tests.e2e.harness import PASSWORD, Gateway, Upstream, new_database, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step

NUMBER = "+447700900123"
WHY = ("--reason", "law", "--note", "order 12/26")
ORDER = ("--authority", "District Court", "--reference", "Order 12/26", "--expires", "2030-01-01")


def test_hold_export_report_register_rotate_and_tamper(make_gateway: Callable[..., Gateway]) -> None:
    url = new_database()
    with (
        RawSmsc(repeat(Step())) as smsc,
        make_gateway([Upstream(smsc.port)], store={"path": "store", "url": url}) as gateway,
        closing(Connection(Server(url))) as db,
    ):

        def said(*words: str) -> str:
            done = gateway.command(*words)
            assert done.returncode == 0, (words, done.stdout, done.stderr)
            return done.stdout

        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD, 0x02) == 0
            for number in range(6):
                assert status(probe.ask(0x04, submit_body(b"canary %d" % number, b"447700900123"))) == 0
        wait_for("the last submits", lambda: len(smsc.submits()) >= 6)
        said("hold", "add", "--number", NUMBER, *ORDER)
        assert json.loads(said("hold", "show", "1", "--json"))["records"] == 6
        exported = json.loads(said("subject", "export", NUMBER, *WHY, "--json"))
        assert len(exported["records"]) == 6 and "canary 3" in json.dumps(exported)
        queued = gateway.command("subject", "erase", NUMBER, *WHY, "--yes", "--json")
        assert json.loads(queued.stdout)["erased"] == 0, queued.stderr
        said("hold", "release", "1")
        json.loads(said("purge", "--json"))
        assert json.loads(gateway.command("log", "search", NUMBER, *WHY, "--json").stdout)["records"] == []
        assert db.one("SELECT count(*) FROM held WHERE record > 0") == (0,)
        said("optout", "add", NUMBER, "--account", "acme")
        assert "447700900123" not in repr(db.all("SELECT * FROM opt_outs")) and db.one(
            "SELECT count(*) FROM opt_outs"
        ) == (1,)
        for report in ("processing", "processors", "retention"):
            json.loads(said("report", report, "--json"))
        said("keys", "rotate")
        assert json.loads(said("log", "verify", "--json"))["ok"]
        assert json.loads(said("audit", "verify", "--json"))["ok"]
        db.run(
            "UPDATE log SET events = events || '\\x00'::bytea WHERE seq = (SELECT min(seq) FROM log WHERE events <> '')"
        )
        told = gateway.command("log", "verify", "--json")
        assert told.returncode != 0 and not json.loads(told.stdout)["ok"]
