"""The key-encryption key is rotated beside the real daemon: nothing that it seals meanwhile is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import repeat

import pytest

from tests.e2e.harness import PASSWORD, Gateway, Upstream, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step

TO = b"447700900555"


def submit(gateway: Gateway) -> str:
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        answer = probe.ask(0x04, submit_body(b"hello", TO))
    assert status(answer) == 0
    return answer[16:-1].decode()


def searched(gateway: Gateway) -> list[str]:
    done = gateway.command("log", "search", "+" + TO.decode(), "--reason", "support", "--json")
    return [one["id"] for one in json.loads(done.stdout)["records"]]


@pytest.mark.parametrize("way", ["restart", "reload", "stopped"])
def test_old_versions_go_when_the_daemon_has_the_new_one(way: str, make_gateway: Callable[..., Gateway]) -> None:
    with RawSmsc(repeat(Step())) as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        ids = [submit(gateway)]
        assert gateway.command("keys", "rotate").returncode == 0
        for _ in range(2):
            early = gateway.command("keys", "rotate", "--retire")
            assert early.returncode == 1 and "the running daemon still wraps keys under version 1" in early.stderr
        assert gateway.command("purge").returncode == 0  # seals the spool anew, under the version the daemon has
        ids.append(submit(gateway))
        if way == "reload":
            gateway.reload()
            wait_for("the reload", lambda: '"event":"reloaded"' in gateway.log_text())
        else:
            gateway.finish()
        if way == "restart":
            gateway.start()
        done = gateway.command("keys", "rotate", "--retire")
        while "were still wrapped by an old version" in done.stderr:
            done = gateway.command("keys", "rotate", "--retire")
        assert done.returncode == 0, done.stderr
        if way == "stopped":
            gateway.start()
        ids.append(submit(gateway))
        gateway.kill()
        gateway.start()
        assert sorted(searched(gateway)) == sorted(ids)
        listed = json.loads(gateway.command("keys", "list", "--json").stdout)
        assert {one["kek_version"] for one in listed["keys"]} == {2} == {one["version"] for one in listed["kek"]}
