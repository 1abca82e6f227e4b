"""The real daemon between two attacks on its files, a kill, and a customer that binds in a loop."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

from smppd.protocol.wire import Status
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step

MESSAGES = 5


def faults(gateway: Gateway, command: str) -> list[str]:
    done = gateway.command(command, "verify", "--json")
    verdict = json.loads(done.stdout)
    assert (done.returncode == 0) == (verdict["faults"] == []), done.stderr
    return list(verdict["faults"])


def send(gateway: Gateway) -> None:
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD, 0x02) == 0
        for number in range(MESSAGES):
            assert status(probe.ask(0x04, submit_body(f"message {number}".encode()))) == 0


def edit(path: Path, script: str) -> None:
    db = sqlite3.connect(path)
    db.executescript(script)
    db.close()


def test_a_kill_is_no_attack_and_attacks_are_found_after_it(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    with RawSmsc(repeat(Step())) as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        store = gateway.directory / "store"
        send(gateway)
        assert faults(gateway, "log") == [] == faults(gateway, "audit"), "beside the running daemon"
        gateway.kill()
        assert faults(gateway, "log") == [] == faults(gateway, "audit")
        assert "rows behind it are not sealed" in gateway.command("log", "verify").stdout
        gateway.start()
        send(gateway)
        gateway.finish()
        assert faults(gateway, "log") == [] == faults(gateway, "audit")
        assert "sealed to its end" in gateway.command("log", "verify").stdout
        note = tmp_path / "note"
        note.write_text(gateway.command("audit", "show", "--heads").stdout)
        good = tmp_path / "good"
        shutil.copytree(store, good, ignore=shutil.ignore_patterns("*.sock"))

        def restored() -> None:
            shutil.rmtree(store)
            shutil.copytree(good, store)

        edit(
            store / "data.db",
            "UPDATE log SET events = CAST(substr(events, 1, 16) || x'08' || substr(events, 18) AS BLOB)"
            " WHERE length(events) > 0",
        )
        assert faults(gateway, "log")
        restored()
        edit(
            store / "data.db",
            "DELETE FROM log WHERE seq > (SELECT min(seq) FROM log); DELETE FROM seals WHERE number > 1",
        )
        assert faults(gateway, "log") and faults(gateway, "audit")
        restored()
        edit(store / "audit.db", "DELETE FROM entries; DELETE FROM head")
        assert faults(gateway, "log") and faults(gateway, "audit")
        restored()
        assert gateway.command("log", "verify", "--against", str(note)).returncode == 0
        gateway.start()
        send(gateway)
        gateway.finish()
        assert gateway.command("log", "verify", "--against", str(note)).returncode == 0
        note.write_text(gateway.command("log", "verify", "--note").stdout.splitlines()[-1])
        restored()  # all of it, to one older moment
        assert faults(gateway, "log") == []
        assert gateway.command("log", "verify", "--against", str(note)).returncode == 1
        assert gateway.command("audit", "verify", "--against", str(note)).returncode == 1
        (store / "audit.db").unlink()
        gateway.start()
        assert gateway.metric("smppd_store_integrity_faults") > 0
        assert "not the one that was left" in gateway.log_text()


def test_a_bind_loop_leaves_a_few_entries(make_gateway: Callable[..., Gateway]) -> None:
    with (
        RawSmsc(repeat(Step())) as smsc,
        make_gateway([Upstream(smsc.port)], [account(max_binds=2)], limits={"refusal_floor": "0"}) as gateway,
    ):
        answers = []
        for _ in range(300):
            with Probe(gateway.plain_port) as probe:
                answers.append(probe.bind("acme", PASSWORD, 0x01))
                probe.ask(0x06) if not answers[-1] else None
        assert 60 <= answers.count(0) < 120 and set(answers) == {0, Status.RTHROTTLED}
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", "wrong", 0x01) == Status.RBINDFAIL
        gateway.finish()
        shown = gateway.command("audit", "show", "--json", "--event", "bind").stdout
        entries = [json.loads(line) for line in shown.splitlines()]
        accepted = [int(one["what"]["count"]) for one in entries if one["event"] == "bind accepted"]
        assert sum(accepted) == answers.count(0) and len(accepted) < 12 and len(shown) < 20_000
        refused = {one["what"]["reason"] for one in entries if one["event"] == "bind refused"}
        assert refused == {"bind rate", "wrong_password"}
        assert "ssh" not in shown and gateway.command("audit", "verify").returncode == 0
