"""The daemon, its commands and the processes beside it on a store of PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import repeat

from tests.e2e.harness import PASSWORD, Gateway, Upstream, new_database, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step, receipt_body

NUMBER = b"\1\x01447700900123\0"
SENDER = b"\1\x01447700900001\0"
WORDS = ("--reason", "support", "--note", "ticket 17", "--json")
ERASE = ("subject", "erase", "+447700900123", "--reason", "law", "--note", "ticket 17", "--yes", "--json")


def _ids(gateway: Gateway, count: int) -> list[str]:
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD, 0x02) == 0
        answers = [probe.ask(0x04, submit_body(f"message {number}".encode(), registered=1)) for number in range(count)]
        assert not any(map(status, answers))
        return [answer[16:-1].decode() for answer in answers]


def _said(gateway: Gateway, *words: str, status: int = 0) -> dict[str, object]:
    done = gateway.command(*words)
    assert done.returncode == status, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_messages_live_through_kills_and_are_found_verified_and_erased(make_gateway: Callable[..., Gateway]) -> None:
    store = {"path": "store", "url": new_database()}
    steps = repeat(Step(then=(lambda message_id: receipt_body(NUMBER, SENDER, message_id),)))
    with RawSmsc(steps) as smsc, make_gateway([Upstream(smsc.port)], store=store) as gateway:
        told = gateway.command("check")
        assert told.returncode == 0 and "; the store is PostgreSQL at /" in told.stdout, told.stdout + told.stderr
        assert "`smppd backup` and `smppd keys shred` are not for it" in told.stdout
        ids = _ids(gateway, 5)
        smsc.wait(lambda: len(smsc.responses()) >= 5)
        gateway.kill()
        gateway.start()
        ids += _ids(gateway, 5)
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD, 0x01) == 0
            for _ in range(10):
                got = probe.read()
                assert got[4:8] == b"\0\0\0\5"
                probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
        wait_for("all receipts are taken", lambda: gateway.metric("smppd_mailbox", account="acme") == 0)
        found = _said(gateway, "log", "search", "+44 7700 900123", *WORDS)
        assert {one["id"] for one in found["records"]} == set(ids)  # type: ignore[attr-defined]
        assert _said(gateway, "log", "verify", "--json")["ok"] and _said(gateway, "audit", "verify", "--json")["ok"]
        assert not (gateway.directory / "store/data.db").exists() and (gateway.directory / "store/audit.db").exists()
        erased = _said(gateway, *ERASE)
        assert (erased["records"], erased["erased"], erased["complete"]) == (10, 10, True)
        assert _said(gateway, "log", "verify", "--json")["ok"]
        purged = gateway.command("purge")
        assert purged.returncode == 0, purged.stderr
        refused = gateway.command("backup", str(gateway.directory / "b"), "--keys-to", str(gateway.directory / "k"))
        assert refused.returncode == 1 and "the files of the embedded store" in refused.stderr
    assert PASSWORD not in gateway.log_text() and "900123" not in gateway.log_text()
