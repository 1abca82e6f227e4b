"""An installation moves into a database and back, killed before each time: what was on its way goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from tests import forked
from tests.e2e.harness import PASSWORD, Gateway, Upstream, new_database, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step, receipt_body

NUMBER = b"\1\x01447700900123\0"
SENDER = b"\1\x01447700900001\0"
WHY = ("--reason", "law", "--note", "order 12/26")
ORDER = ("--authority", "District Court", "--reference", "Order 12/26", "--expires", "2030-01-01")
HELD, PLAIN = b"447700900123", b"447700900124"
AT_ONCE = Step(then=(lambda message_id: receipt_body(NUMBER, SENDER, message_id),))


def _submit(gateway: Gateway, count: int, to: bytes = HELD) -> list[str]:
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD, 0x02) == 0
        answers = [probe.ask(0x04, submit_body(b"canary %d" % number, to, registered=1)) for number in range(count)]
        assert not any(map(status, answers))
        return [answer[16:-1].decode() for answer in answers]


def _receipts(gateway: Gateway, count: int) -> list[str]:
    """The ids of so many receipts that a customer takes, in their order."""
    found = []
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD, 0x01) == 0
        for _ in range(count):
            got = probe.read()
            assert got[4:8] == b"\0\0\0\5"
            probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
            found.append(got[got.index(b"id:") + 3 :].split(b" ")[0].decode())
    return found


def _said(gateway: Gateway, *words: str) -> Any:
    done = gateway.command(*words, "--json")
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return json.loads(done.stdout)


def _shown(gateway: Gateway) -> dict[str, Any]:
    """What the commands show of a store, where no daemon runs."""
    found = {
        number: _said(gateway, "log", "search", "+" + number.decode(), *WHY)["records"] for number in (HELD, PLAIN)
    }
    shown = {str(number): records for number, records in found.items()}
    shown["hold"] = _said(gateway, "hold", "show", "1")
    shown["damaged"] = _said(gateway, "damaged", "list")
    shown["opt-outs"] = gateway.command("optout", "export").stdout
    assert _said(gateway, "log", "verify")["ok"] and _said(gateway, "audit", "verify")["ok"]
    return shown


def _moved(gateway: Gateway, target: Path) -> None:
    """Copies the store that the gateway has to that of another configuration, and has the gateway use it."""
    before, source = _shown(gateway), gateway.config_file
    told = _said(gateway, "store", "copy", "--to-config", str(target))
    assert not told["faults"] and told["tables"]["log"]["rows"] and told["tables"]["journal"]["rows"]
    refused = forked.run(["run", "--config", str(source)])
    assert refused.returncode == 1 and "which is the store now" in refused.stderr, refused.stderr
    refused = gateway.command("purge")
    assert refused.returncode and "which is the store now" in refused.stderr, refused.stderr
    gateway.config_file = target
    assert _shown(gateway) == before


def test_there_and_back_with_messages_on_their_way(make_gateway: Callable[..., Gateway]) -> None:
    store = {"path": "store", "hot": 2, "reserve": "16MiB"}
    with (
        RawSmsc(chain(repeat(AT_ONCE, 3), repeat(Step()))) as smsc,
        make_gateway([Upstream(smsc.port)], store=store) as gateway,
    ):
        here, there = gateway.config_file, gateway.directory / "there.yaml"
        gateway.config["store"] = store | {"url": new_database()}
        gateway.config_file = there
        gateway.write_config()
        gateway.config_file = here

        mail = _submit(gateway, 3)
        smsc.wait(lambda: len(smsc.responses()) >= 3)
        due = _submit(gateway, 4, PLAIN)
        smsc.wait(lambda: len(smsc.submits()) >= 7)
        assert gateway.command("hold", "add", "--number", "+" + HELD.decode(), *ORDER).returncode == 0
        assert gateway.command("optout", "add", "+447700900125", "--account", "acme").returncode == 0
        smsc.stop()
        queued = _submit(gateway, 5, PLAIN)
        gateway.kill()
        _moved(gateway, there)

        with RawSmsc(ids=lambda number: b"second-%d" % number, address=("127.0.0.1", smsc.port)) as second:
            gateway.start()
            second.wait(lambda: len(second.submits()) >= 5)
            for number in range(3, 5):  # receipts due of before
                second.deliver(receipt_body(b"\1\x01447700900124\0", SENDER, b"raw-%06d" % (number + 1)))
            wait_for("receipts", lambda: gateway.metric("smppd_receipts_total", outcome="matched") == 2)
            assert sorted(_receipts(gateway, 5)) == sorted(mail + due[:2])
            more = _submit(gateway, 2)
            second.wait(lambda: len(second.submits()) >= 7)
            second.stop()
            waiting = _submit(gateway, 3, PLAIN)
            gateway.kill()
        refused = gateway.command("store", "copy", "--to-config", str(here))
        assert refused.returncode == 1 and "which is the store now" in refused.stderr, refused.stderr
        gateway.config_file = here
        assert len(_said(gateway, "store", "shred", "--yes")["destroyed"]) >= 2
        gateway.config_file = there
        _moved(gateway, here)

        with RawSmsc(ids=lambda number: b"third-%d" % number, address=("127.0.0.1", smsc.port)) as third:
            gateway.start()
            third.wait(lambda: len(third.submits()) >= 3)
            for number in range(5, 7):
                third.deliver(receipt_body(b"\1\x01447700900124\0", SENDER, b"raw-%06d" % (number + 1)))
            for number in range(1, 8):
                third.deliver(receipt_body(NUMBER, SENDER, b"second-%d" % number))
            assert sorted(_receipts(gateway, 9)) == sorted(due[2:] + queued + more)
            for number in range(1, 4):
                third.deliver(receipt_body(NUMBER, SENDER, b"third-%d" % number))
            assert sorted(_receipts(gateway, 3)) == sorted(waiting)
            assert _said(gateway, "log", "verify")["ok"]
            assert gateway.command("hold", "release", "1").returncode == 0
