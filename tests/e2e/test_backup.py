"""A backup is taken under load, tried, and restored after the machine is lost: the log is whole, the mailbox goes on."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from itertools import repeat

from tests.e2e.harness import PASSWORD, Gateway, Upstream
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step, receipt_body

NUMBER = b"\1\x01447700900123\0"
SENDER = b"\1\x01447700900001\0"
AHEAD = 20


def _submit(probe: Probe, count: int, receipt: int) -> list[bytes]:
    """Ids of so many messages, a few in flight at a time."""
    ids: list[bytes] = []
    for number in range(count + AHEAD):
        if number < count:
            probe.send(frame(0x04, 0, number + 10, submit_body(b"message %d" % number, registered=receipt)))
        if number >= AHEAD:
            answer = probe.read()
            assert answer[4:8] == b"\x80\0\0\4" and status(answer) == 0
            ids.append(answer[16:-1])
    return ids


def test_a_backup_under_load_is_restored_elsewhere(make_gateway: Callable[..., Gateway]) -> None:
    step = Step(then=(lambda message_id: receipt_body(NUMBER, SENDER, message_id),))
    with RawSmsc(repeat(step)) as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        where = gateway.directory
        with Probe(gateway.plain_port) as probe, Probe(gateway.plain_port) as busy:
            assert probe.bind("acme", PASSWORD, 0x02) == 0
            assert busy.bind("acme", PASSWORD, 0x02) == 0
            ids = _submit(probe, 100, receipt=1)  # their receipts wait for a receiver: mail
            smsc.wait(lambda: len(smsc.responses()) >= 100)
            load: list[bytes] = []
            loader = threading.Thread(target=lambda: load.extend(_submit(busy, 2000, receipt=0)))
            loader.start()
            taken = [
                gateway.command("backup", str(where / f"b{n}"), "--keys-to", str(where / f"k{n}"), "--json")
                for n in range(2)
            ]
            loader.join(30)
            assert len(load) == 2000
        assert [one.returncode for one in taken] == [0, 0], taken[0].stderr + taken[1].stderr
        for n in range(2):
            tried = gateway.command(
                "backup", str(where / f"b{n}"), "--verify", "--keys-from", str(where / f"k{n}"), "--json"
            )
            assert tried.returncode == 0, tried.stderr
            found = json.loads(tried.stdout)
            assert found["sound"] and found["unreadable"] == 0 and found["on_the_way"]["mail"] == 100
        refused = gateway.command("restore", "--from", str(where / "b1"), "--keys-from", str(where / "k1"), "--force")
        assert refused.returncode == 1 and "another smppd" in refused.stderr

        gateway.kill()
        shutil.rmtree(where / "store")
        restored = gateway.command("restore", "--from", str(where / "b1"), "--keys-from", str(where / "k1"), "--json")
        assert restored.returncode == 0, restored.stderr
        assert json.loads(restored.stdout)["records"] >= 100
        gateway.start()
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD, 0x09) == 0
            texts: list[bytes] = []
            while len(texts) < 100:
                got = probe.read()
                assert got[4:8] == b"\0\0\0\5"
                probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
                texts.append(got[got.index(b"id:") + 3 :].split(b" ")[0])
            assert sorted(texts) == sorted(ids)
            assert status(probe.ask(0x04, submit_body(b"after the restore"))) == 0
        log = gateway.command("log", "verify")
        assert log.returncode == 0, log.stdout + log.stderr
        assert gateway.command("audit", "verify").returncode == 0
