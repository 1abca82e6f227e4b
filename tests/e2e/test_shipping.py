"""The trail of the running daemon leaves the host: over kills, a server that goes and comes, and a reload."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

from smppd.audit.trail import AuditTrail
from smppd.vault.kek import load_kek
from smppd.vault.keys import load_install
from tests.audit.receiver import Receiver, parsed
from tests.cli.installation import FileSource
from tests.e2e.harness import PASSWORD, Gateway, Upstream, wait_for
from tests.e2e.probes import Probe
from tests.e2e.rawsmsc import RawSmsc, Step

KILLS = int(os.environ.get("SMPPD_KILLS", "3"))


def head(gateway: Gateway) -> int:
    """The newest entry of the trail."""
    with sqlite3.connect(f"file:{gateway.directory / 'store' / 'audit.db'}?mode=ro", uri=True) as db:
        number = int(db.execute("SELECT id FROM head").fetchone()[0])
    db.close()
    return number


def received(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(parsed(message)["text"]) for message in list(receiver.messages)]


def entries(lines: list[dict[str, Any]]) -> set[int]:
    return {line["id"] for line in lines if line["kind"] == "audit"}


def collected(path: Path, receiver: Receiver) -> Path:
    """What a collector has written."""
    path.write_bytes(b"".join(message + b"\n" for message in list(receiver.messages)))
    return path


class Writer(threading.Thread):
    """Another process than the daemon, as a command is one: it writes entries in a loop, whether the daemon runs or not."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(daemon=True)
        store = gateway.directory / "store"
        rows = gateway.installation.read_only_keys()
        install = load_install(load_kek(FileSource(gateway.directory / "keys" / "kek")), rows)
        rows.close()
        self._trail = AuditTrail(store / "audit.db", install.audit)
        self.over = False

    def run(self) -> None:
        while not self.over:
            self._trail.append("show", "alice", {"record": "0123456789abcdef"}, "done")
            time.sleep(0.005)
        self._trail.close()


def syslog(receiver: Receiver, certificates: Path) -> dict[str, Any]:
    """The settings of a target."""
    tls = {"ca": str(certificates / "ca.pem"), "server_name": "localhost"}
    return {"address": f"127.0.0.1:{receiver.port}", "tls": tls}


def test_kills_leave_no_gap(make_gateway: Callable[..., Gateway], certificates: Path, tmp_path: Path) -> None:
    rng = random.Random(20261130)
    with (
        RawSmsc(repeat(Step())) as smsc,
        Receiver(certificates) as receiver,
        make_gateway(
            [Upstream(smsc.port)],
            shipping={"file": {"path": "shipped.jsonl"}, "syslog": syslog(receiver, certificates)},
        ) as gateway,
    ):
        writer = Writer(gateway)
        writer.start()
        for number in range(KILLS):
            time.sleep(rng.uniform(0.3, 2.0))
            if number == 1:
                receiver.reset()
            gateway.kill()
            gateway.start()
        writer.over = True
        writer.join(10)
        gateway.finish()
        file = gateway.directory / "shipped.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        end = head(gateway)
        assert end > 200
        assert entries(lines) == set(range(1, end + 1)), "the stop itself is shipped too"
        wait_for("the end", lambda: entries(received(receiver)) >= set(range(1, end + 1)))
        assert entries(received(receiver)) == set(range(1, end + 1))
        assert not receiver.faults
        for name in (file, collected(tmp_path / "collected", receiver)):
            for command in ("audit", "log"):
                done = gateway.command(command, "verify", "--shipped", str(name), "--as-of", "0s")
                assert done.returncode == 0, done.stderr
                assert "What was shipped agrees with it" in done.stdout


def test_a_server_that_goes_and_comes_and_a_reload(
    make_gateway: Callable[..., Gateway], certificates: Path, tmp_path: Path
) -> None:
    with RawSmsc(repeat(Step())) as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        receiver = Receiver(certificates)
        gateway.config["shipping"] = {
            "file": {"path": "shipped.jsonl"},
            "syslog": syslog(receiver, certificates),
            "alarm_after": "1s",
        }
        gateway.write_config()
        gateway.reload()
        wait_for("the first lines", lambda: len(receiver.messages) > 2)
        receiver.close()
        before = received(receiver)
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD, 0x02) == 0
        wait_for("the alarm", lambda: "degraded: syslog is" in gateway.http("/readyz")[1])
        assert gateway.ready(), "degraded is no failure"
        assert gateway.metric("smppd_shipping_backlog", target="syslog") >= 1
        assert gateway.metric("smppd_shipping_failures_total", target="syslog") >= 1
        assert gateway.metric("smppd_shipping_backlog", target="file") == 0
        # A command writes an entry too, and the daemon ships it.
        gateway.command("log", "search", "+447700900123", "--reason", "support")
        with Receiver(certificates, port=receiver.port) as again:
            wait_for("the rest", lambda: entries(before + received(again)) >= set(range(1, head(gateway) + 1)))
            assert any(line.get("again") for line in received(again))
            assert any(line.get("event") == "search" for line in received(again))
            wait_for("the calm", lambda: "degraded" not in gateway.http("/readyz")[1])
            gateway.config["shipping"] = {}
            gateway.write_config()
            gateway.reload()
            wait_for("the reload", lambda: gateway.metric("smppd_reloads_total") == 2)
            wait_for("no target", lambda: 'smppd_shipping_backlog{target="syslog"}' not in gateway.http("/metrics")[1])
            end = gateway.log_text()
        assert end.count("the trail cannot be shipped, it waits in the store") == 1
        assert end.count("the trail is shipped again") == 1


def test_a_server_that_reads_nothing_delays_the_end_by_two_seconds_at_most(
    make_gateway: Callable[..., Gateway], certificates: Path
) -> None:
    with RawSmsc(repeat(Step())) as smsc, Receiver(certificates) as receiver:
        with make_gateway([Upstream(smsc.port)]) as gateway:
            gateway.config["shipping"] = {"syslog": syslog(receiver, certificates)}
            gateway.write_config()
            gateway.reload()
            wait_for("the first lines", lambda: len(receiver.messages) > 2)
            receiver.pause = 60.0
            with Probe(gateway.plain_port) as probe:
                assert probe.bind("acme", PASSWORD, 0x02) == 0
            time.sleep(0.5)
            began = time.monotonic()
            assert gateway.terminate() == 0
            assert time.monotonic() - began < 4.0
        receiver._threads.clear()
