"""A carrier's content that once ended the daemon and every start after it, and the command for what is set aside."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from itertools import repeat

from tests.e2e.harness import PASSWORD, Gateway, Upstream, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step

NUMBER = b"\1\x01447700900123\0"
SENDER = b"\1\x01447700900001\0"


def poisoned(message_id: bytes) -> bytes:
    """A receipt without `id:` in its text and with 200 digits behind `err:`; its TLV names the message."""
    text = b"sub:001 dlvrd:001 stat:DELIVRD err:" + b"9" * 200 + b" text:"
    tlvs = struct.pack(">HH", 0x1E, len(message_id) + 1) + message_id + b"\0" + struct.pack(">HHB", 0x427, 1, 2)
    return b"\0" + NUMBER + SENDER + b"\4\0\0\0\0\0\0\0\0" + bytes((len(text),)) + text + tlvs


def receipts(probe: Probe, count: int) -> Iterator[bytes]:
    """The texts of so many receipts, acknowledged."""
    for _ in range(count):
        got = probe.read()
        assert got[4:8] == b"\0\0\0\5"
        probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
        yield got[got.index(b"id:") :]


def submitted(probe: Probe, *texts: bytes) -> list[bytes]:
    ids = []
    for text in texts:
        answer = probe.ask(0x04, submit_body(text, registered=1))
        assert status(answer) == 0
        ids.append(answer[16:-1])
    return ids


def test_a_receipt_that_cannot_be_written_anew_ends_nothing(make_gateway: Callable[..., Gateway]) -> None:
    # One id for two messages: the first lies in a row at once, as any does when its receipt comes after some minutes.
    with (
        RawSmsc(repeat(Step()), ids=lambda _number: b"same-1") as smsc,
        make_gateway([Upstream(smsc.port)]) as gateway,
    ):
        gateway.damage = True
        with Probe(gateway.plain_port) as probe, Probe(gateway.plain_port) as other:
            assert probe.bind("acme", PASSWORD, 0x02) == 0
            assert other.bind("acme", PASSWORD, 0x02) == 0
            ids = submitted(probe, b"first", b"second")
            smsc.wait(lambda: len(smsc.submits()) == 2)
            wait_for("both taken", lambda: gateway.metric("smppd_messages_submitted_total") == 2)
            for _ in range(2):
                smsc.deliver(poisoned(b"same-1"))
            smsc.wait(lambda: len(smsc.responses()) == 2)
            assert [one[8:12] for one in smsc.responses()] == [bytes(4)] * 2, "what is durable is acknowledged"
            ids += submitted(other, b"third")
        assert gateway.process is not None and gateway.process.poll() is None
        gateway.kill()
        gateway.start()
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD, 0x09) == 0
            texts = list(receipts(probe, 1))
            assert all(b"stat:DELIVRD" in text for text in texts)
            assert any(text.startswith(b"id:" + one) for text in texts for one in ids)
            submitted(probe, b"fourth")
        assert gateway.terminate() == 0
        assert "447700900" not in gateway.log_text()
        gateway.start()


def test_what_is_set_aside_is_listed_shown_and_removed(make_gateway: Callable[..., Gateway]) -> None:
    with RawSmsc() as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        gateway.damage = True
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD, 0x02) == 0
            submitted(probe, b"first", b"second")
        assert gateway.terminate() == 0
        db = sqlite3.connect(gateway.directory / "store" / "data.db", isolation_level=None)
        last = db.execute("SELECT max(seq) FROM spool").fetchone()[0]
        db.execute("UPDATE spool SET data = x'00010203' WHERE seq = ?", (last,))
        db.execute("INSERT OR REPLACE INTO meta VALUES ('short_id', 'no number')")
        db.close()
        gateway.start()
        assert gateway.metric("smppd_damaged_items") == 2
        assert gateway.metric("smppd_items_set_aside_total", place="store") == 2
        assert '"stored and does not open"' in gateway.log_text()
        shown = gateway.command("status")
        assert "2 damaged set aside" in shown.stdout
        for running in (True, False):
            listed = gateway.command("damaged", "list", "--json")
            assert listed.returncode == 0, listed.stderr
            found = {item["kind"]: item for item in json.loads(listed.stdout)["items"]}
            assert set(found) == {"block", "meta"}
            if running:
                assert gateway.terminate() == 0
        block = str(found["block"]["number"])
        refused = gateway.command("damaged", "show", block, "--reason", "quality", "--reveal")
        assert refused.returncode == 2 and "--note" in refused.stderr
        shown = gateway.command("damaged", "show", block, "--reason", "quality")
        assert shown.returncode == 0 and "altered" in shown.stdout
        meta = str(found["meta"]["number"])
        shown = gateway.command("damaged", "show", meta, "--reason", "quality", "--reveal", "--note", "ticket 4711")
        assert b"no number".hex() in shown.stdout
        assert gateway.command("damaged", "show", "99", "--reason", "quality").returncode == 1
        gateway.start()
        assert gateway.command("damaged", "remove", block).returncode == 2, "nobody can be asked"
        assert gateway.command("damaged", "remove", "99", block, "--yes").returncode == 1
        assert gateway.command("damaged", "remove", block, meta, "--yes").stdout == "Removed 2 items.\n"
        assert json.loads(gateway.command("damaged", "list", "--json").stdout) == {"items": []}
        trail = gateway.command("audit", "show").stdout
        assert "damaged" in trail and "action=remove" in trail and "reveal" in trail and "note=ticket 4711" in trail
