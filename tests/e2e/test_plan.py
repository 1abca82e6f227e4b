"""`smppd check --plan` on the running daemon: what it says, and what the reload then does; accounts in files of their own; and
carriers with several addresses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc

UNBIND = b"\0\0\0\6"


@pytest.fixture
def smsc() -> Iterator[RawSmsc]:
    """An SMSC of plain bytes."""
    with RawSmsc() as running:
        yield running


def planned(gateway: Gateway, code: int = 0) -> dict[str, Any]:
    done = gateway.command("check", "--plan", "--json")
    assert done.returncode == code, done.stdout + done.stderr
    plan = json.loads(done.stdout)["plan"]
    assert isinstance(plan, dict)
    return plan


def reloaded(gateway: Gateway, outcome: str = "done") -> None:
    before = gateway.metric("smppd_reloads_total", outcome=outcome)
    gateway.reload()
    wait_for("the reload", lambda: gateway.metric("smppd_reloads_total", outcome=outcome) > before)


def said(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    """The lines of the log about an event."""
    lines = [json.loads(line) for line in gateway.log_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def bound(gateway: Gateway, name: str, command: int = 9, *, tls: bool = False) -> Probe:
    probe = Probe(gateway.tls_port, gateway.certificates / "ca.pem") if tls else Probe(gateway.plain_port)
    assert probe.bind(name, PASSWORD, command) == 0
    return probe


def test_the_reload_does_what_the_plan_said(smsc: RawSmsc, make_gateway: Callable[..., Gateway]) -> None:
    with RawSmsc() as leaving:
        gateway = make_gateway(
            [Upstream(smsc.port), Upstream(leaving.port, name="old")],
            [account(), account("gone"), account("tight", max_binds=3), account("away")],
            routes=[
                {"accounts": "away", "upstreams": ["old"]},
                {"accounts": ["acme", "gone", "tight"], "upstreams": ["sim"]},
            ],
        )
        with gateway:
            stays, receiver = bound(gateway, "acme", tls=True), bound(gateway, "acme", 1)
            gone, away = bound(gateway, "gone"), bound(gateway, "away")
            tight = [bound(gateway, "tight") for _ in range(3)]
            leaving.stop()
            gateway.wait_links("old", 0)
            for number in range(3):
                assert status(away.ask(4, submit_body(b"waits %d" % number))) == 0

            config = gateway.config
            config["accounts"] = [
                account(binds=["transceiver"], window=7),
                account("tight", max_binds=1),
                account("away", networks=["127.0.0.0/8", "192.0.2.0/24"]),
                account("new"),
            ]
            config["upstreams"] = [{**config["upstreams"][0], "system_type": "vma", "throughput": "500/s"}]
            config["routes"] = [{"accounts": ["acme", "tight"], "upstreams": ["sim"]}]
            gateway.write_config()
            plan = planned(gateway)
            assert plan["faults"] == [] and len(plan["changes"]) >= 8
            assert {(one["account"], one["mode"], one["why"]) for one in plan["sessions"]} == {
                ("acme", "receiver", "the account may not bind as receiver"),
                ("gone", "transceiver", "the account is removed"),
                ("tight", "transceiver", "more than max_binds, which is 1"),
            }
            assert len(plan["sessions"]) == 4
            assert [(one["upstream"], one["links"], one["again"]) for one in plan["links"]] == [
                ("sim", 1, 1),
                ("old", 1, 0),
            ]
            assert plan["stranded"] == [
                {"account": "away", "upstreams": ["old"], "waiting": 3, "tried": 3, "routed": 0}
            ]
            assert plan["unrouted"] == ["away"]
            text = gateway.command("check", "--plan")
            assert text.returncode == 0 and "It would end 4 sessions" in text.stdout
            assert "away: 3 for old; of the oldest 3, 0 have another route, and 3 would wait" in text.stdout
            for probe in (stays, gone, *tight):
                assert status(probe.ask(4, submit_body(b"still here"))) == 0
            assert not said(gateway, "changed"), "a plan changes nothing"

            reloaded(gateway)
            for probe in (receiver, gone, tight[1], tight[2]):
                assert probe.read()[4:8] == UNBIND
            for probe in (stays, tight[0]):
                assert status(probe.ask(4, submit_body(b"still here"))) == 0
            wait_for("the links", lambda: gateway.metric("smppd_upstream_links", upstream="sim") == 1)
            assert [line["change"] for line in said(gateway, "changed")] == plan["changes"]
            ended = [(one["account"], one["peer"], one["reason"]) for one in said(gateway, "session ends by a reload")]
            assert sorted(ended) == sorted((one["account"], one["address"], one["why"]) for one in plan["sessions"])
            links = [
                {key: line[key] for key in ("upstream", "links", "again", "waiting", "why")}
                for line in said(gateway, "links of an upstream change")
            ][-len(plan["links"]) :]
            assert links == plan["links"]
            assert gateway.metric("smppd_config_info", hash=plan["hash"]) == 1
            assert plan["hash"] == sha256(gateway.config_file.read_bytes()).hexdigest()
            after = planned(gateway)
            assert after["in_force"] == plan["hash"] and after["changes"] == after["sessions"] == after["links"] == []
            for probe in (stays, receiver, gone, away, *tight):
                probe.socket.close()


def test_what_would_be_refused_is_said_before_and_shown_after(
    smsc: RawSmsc, make_gateway: Callable[..., Gateway]
) -> None:
    with make_gateway([Upstream(smsc.port)]) as gateway:
        assert gateway.metric("smppd_config_last_reload_successful") == 1
        loaded = gateway.metric("smppd_config_last_reload_success_timestamp_seconds")
        gateway.config["node"], gateway.config["drain"] = 3, "6s"
        gateway.write_config()
        plan = planned(gateway, 1)
        assert plan["restart"] == plan["faults"] == ["node changed: needs a restart"]
        assert "drain 5s -> 6s" in plan["changes"]
        text = gateway.command("check", "--plan")
        assert text.returncode == 1 and "A reload would be refused" in text.stdout
        reloaded(gateway, "refused")
        assert gateway.metric("smppd_config_last_reload_successful") == 0
        assert gateway.metric("smppd_config_last_reload_success_timestamp_seconds") == loaded
        config = json.loads(gateway.http("/status")[1])["config"]
        assert config["last_reload"]["result"] == "refused" and config["last_reload"]["faults"] == plan["faults"]
        assert config["hash"] == plan["in_force"]
        del gateway.config["node"]
        gateway.write_config()
        reloaded(gateway)
        assert gateway.metric("smppd_config_last_reload_successful") == 1
        assert gateway.metric("smppd_config_last_reload_success_timestamp_seconds") > loaded
        other = gateway.directory / "other.yaml"
        other.write_text(gateway.config_file.read_text())
        asked = gateway.command("check", "--plan", "--config", str(other))
        assert asked.returncode == 2 and "the daemon reads" in asked.stderr
    none = gateway.command("check", "--plan")
    assert none.returncode == 2 and "no smppd runs" in none.stderr


def test_accounts_in_files_of_their_own_come_with_a_reload(smsc: RawSmsc, make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway([Upstream(smsc.port)], include=["accounts.d/*.yaml"], watch_files="200ms")
    directory: Path = gateway.directory / "accounts.d"
    directory.mkdir()

    def put(name: str) -> None:
        (directory / f"{name}.yaml").write_text(yaml.safe_dump({"accounts": [account(name)]}))

    put("able")
    with gateway:
        bound(gateway, "able").socket.close()
        assert gateway.metric("smppd_config_files_changed") == 0
        put("bolt")
        wait_for("the difference", lambda: gateway.metric("smppd_config_files_changed") == 1)
        (directory / "broken.yaml").write_text("accounts: [{}]\n")
        check = gateway.command("check")
        assert (
            check.returncode == 1 and f"{directory}/broken.yaml:1:12: accounts[0].system_id: required" in check.stderr
        )
        reloaded(gateway, "refused")
        (directory / "broken.yaml").unlink()
        assert planned(gateway)["changes"] == ["account bolt added"]
        reloaded(gateway)
        bound(gateway, "bolt").socket.close()
        wait_for("no difference", lambda: gateway.metric("smppd_config_files_changed") == 0)


def test_a_carrier_s_next_address_serves_while_the_first_is_away(make_gateway: Callable[..., Gateway]) -> None:
    with RawSmsc() as first, RawSmsc(address=("127.0.0.2", first.port)) as second:
        settings = (
            ("address", [f"127.0.0.1:{first.port}", f"127.0.0.2:{first.port}"]),
            ("source_address", "127.0.0.5"),
        )
        gateway = make_gateway([Upstream(first.port, sessions=2, settings=settings)])
        with gateway, bound(gateway, "acme") as probe:
            assert (first.connections, second.connections) == (2, 0)
            assert first.peers == ["127.0.0.5"] * 2
            first.stop()
            wait_for("the next address", lambda: second.connections == 2)
            gateway.wait_links("sim", 2)
            assert status(probe.ask(4, submit_body(b"by the second"))) == 0
            second.wait(lambda: len(second.submits()) == 1)
            with RawSmsc(address=("127.0.0.1", first.port)) as again:
                second.cut()
                wait_for("the first again", lambda: again.connections == 2)
                gateway.wait_links("sim", 2)
                assert status(probe.ask(4, submit_body(b"by the first"))) == 0
                again.wait(lambda: len(again.submits()) == 1)
            gateway.wait_links("sim", 2)


def test_a_refused_bind_leads_to_the_next_address_too(make_gateway: Callable[..., Gateway]) -> None:
    with RawSmsc() as second:
        refusing = RawSmsc(address=("127.0.0.3", second.port))
        refusing.bind_status = 0x0D
        with refusing:
            settings = (("address", [f"127.0.0.3:{second.port}", f"localhost:{second.port}"]),)
            with make_gateway([Upstream(second.port, settings=settings)]) as gateway:
                assert refusing.connections == 1 and second.connections == 1
                lines = said(gateway, "upstream not connected")
                assert [(one["address"], one["next"]) for one in lines] == [
                    (f"127.0.0.3:{second.port}", f"localhost:{second.port}")
                ]
