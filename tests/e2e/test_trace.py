"""A trace of PDUs (`smppd act trace`) on the running daemon, over TLS: begun, exported, ended, killed, erased; nothing readable
on disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from smppd.control.client import ask
from smppd.control.wire import ControlError
from smppd.protocol.capture import blanked
from tests.cli.test_pcapng import Packet, blocks, packet
from tests.e2e.harness import PASSWORD, UPSTREAM_PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step
from tests.store.builder import files

TEXT = b"a text that nobody may find"
NUMBER = b"447700900123"
WHY = ("--reason", "support", "--note", "ticket")


def act(gateway: Gateway, target: str, **fields: Any) -> dict[str, Any]:
    request = {"v": 1, "do": "act", "act": "trace", "target": target, "reason": "slow answers", **fields}
    return ask(gateway.directory / "store", request)


def traces(gateway: Gateway) -> list[dict[str, Any]]:
    done = gateway.command("trace", "list", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["traces"]
    return found


def exported(gateway: Gateway, number: int, out: Path) -> list[Packet]:
    done = gateway.command("trace", "export", str(number), "--out", str(out), *WHY)
    assert done.returncode == 0, done.stderr
    return [packet(body) for kind, body in blocks(out.read_bytes()) if kind == 6]


def test_traced_exported_killed_and_erased(make_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    with (
        RawSmsc(repeat(Step())) as smsc,
        make_gateway([Upstream(smsc.port)], [account(), account("other")]) as gateway,
    ):
        assert act(gateway, "acme", **{"for": 300}) == {
            "v": 1,
            "said": "Trace 1 of account acme is on for 300 s; `smppd trace export` reads it.",
            "changed": True,
        }
        assert act(gateway, "acme")["changed"] is False
        assert act(gateway, "sim")["changed"] is True
        with pytest.raises(ControlError, match="no such session"):
            act(gateway, "nobody")
        ca = gateway.certificates / "ca.pem"
        with Probe(gateway.tls_port, ca) as probe, Probe(gateway.plain_port) as other:
            assert probe.bind("acme", "wrong") != 0
            assert probe.bind("acme", PASSWORD) == 0 and other.bind("other", PASSWORD) == 0
            assert status(other.ask(0x04, submit_body(b"of another", b"447700900456"))) == 0
            asked = [frame(0x04, 0, number, submit_body(TEXT, NUMBER)) for number in range(50, 60)]
            probe.send(b"".join(asked))
            answers = [probe.read() for _ in asked]
            assert gateway.metric("smppd_traces") == 2
            wait_for("all is at the carrier", lambda: gateway.metric("smppd_messages_submitted_total") == 11)
            assert "has ended" in act(gateway, "acme", stop=True)["said"]
            assert act(gateway, "acme", stop=True)["changed"] is False
            found = exported(gateway, 1, tmp_path / "acme.pcapng")
            heard = [one.data for one in found if one.ports[1] == 2775 and one.data]
            said = [one.data for one in found if one.ports[0] == 2775 and one.data]
            assert heard[-10:] == asked and said[-10:] == answers
            binds = [one for one in heard if one[4:8] == b"\0\0\0\x09"]
            assert len(binds) == 2 and all(one == blanked(one) and b"*****" in one for one in binds)
            assert b"447700900456" not in b"".join(heard), "another account's"
            # What a session says from now on, by its id.
            ids = [f"c{number}" for number in range(1, 9)]
            for one in ids:
                try:
                    act(gateway, one)
                except ControlError:
                    continue
                break
            assert status(probe.ask(0x15)) == 0
        carrier = [one for one in traces(gateway) if one.get("upstream") == "sim"]
        assert [one["state"] for one in carrier] == ["on"]
        # Killed, it is readable up to its last second.
        wait_for("a second has passed", lambda: sum(1 for _ in _pdus(gateway, 2, tmp_path)) >= 22)
        gateway.kill()
        store = gateway.directory / "store"
        stored = files(store) + files(store / "traces")
        assert not any(needle in stored for needle in (TEXT, NUMBER, b"of another", b"447700900456"))
        gateway.start()
        assert {one["state"] for one in traces(gateway)} == {"ended"}
        again = list(_pdus(gateway, 2, tmp_path))
        assert len([one for one in again if TEXT in one]) == 10
        assert b"of another" in b"".join(again)
        told = gateway.command("audit", "show", "--json").stdout + gateway.log_text()
        assert NUMBER.decode() not in told and PASSWORD not in told and UPSTREAM_PASSWORD not in told
        done = gateway.command("subject", "erase", "+447700900123", "--reason", "law", "--note", "asked", "--yes")
        assert done.returncode == 0, done.stderr
        assert traces(gateway) == [] and not list((gateway.directory / "store/traces").iterdir())


def _pdus(gateway: Gateway, number: int, directory: Path) -> list[bytes]:
    out = directory / "again.pcapng"
    out.unlink(missing_ok=True)
    return [one.data for one in exported(gateway, number, out) if one.data]


def test_destroyed_while_it_is_on_it_ends(make_gateway: Callable[..., Gateway]) -> None:
    with RawSmsc(repeat(Step())) as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        assert act(gateway, "acme")["changed"] is True
        done = gateway.command("trace", "delete", "1", "--reason", "a mistake")
        assert done.returncode == 0, done.stderr
        wait_for("it has ended", lambda: gateway.metric("smppd_traces") == 0)
        assert traces(gateway) == []
        with pytest.raises(ControlError, match="1 to 600"):
            act(gateway, "acme", **{"for": 601})
        done = gateway.command("act", "trace", "account:acme", "--for", "1s", "--reason", "again", "--note", "ticket")
        assert done.stdout == "Trace 2 of account acme is on for 1 s; `smppd trace export` reads it.\n", done.stderr
        wait_for("its time is over", lambda: gateway.metric("smppd_traces") == 0)
        assert [(one["state"], one["why"]) for one in traces(gateway)] == [("ended", "its time was over")]
