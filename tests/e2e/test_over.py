"""The real daemon, its wall clock moved from outside: what is over opens with no key; what it accepted is found and purged."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import repeat

import pytest

from smppd.config import load
from smppd.vault.kek import Kek, load_kek
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step, receipt_body
from tests.store.everykey import opened, raw, seen, wrapped_keys
from tests.torture.layer import Clock

BODY, NUMBER, SENDER = b"canary-91bd secret body", b"447700900987", b"447700900001"
HOUR = 3600.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the clock is moved by a preloaded library")


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    """One for the module: what is forked shares it."""
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture
def clock(moved: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of all that is started from here on."""
    moved.set(0.0)
    for name, value in moved.environment().items():
        monkeypatch.setenv(name, value)
    return moved


def receipt(message_id: bytes) -> bytes:
    return receipt_body(b"\1\1" + NUMBER + b"\0", b"\1\1" + SENDER + b"\0", message_id)


def sends(gateway: Gateway, count: int, *, receipts: bool = True) -> list[str]:
    """Messages with the secret, their receipts taken; their ids."""
    ids: list[str] = []
    taken = 0
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        for number in range(count):
            probe.send(frame(0x04, 0, 1000 + number, submit_body(BODY, NUMBER, SENDER, 1)))
            while len(ids) <= number:
                got = probe.read()
                if got[4:8] == b"\x80\0\0\4":
                    assert status(got) == 0
                    ids.append(got[16:-1].decode())
                else:
                    probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
                    taken += 1
        while receipts and taken < count:
            got = probe.read()
            probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
            taken += 1
    return ids


def searched(gateway: Gateway) -> list[str]:
    done = gateway.command("log", "search", "+" + NUMBER.decode(), "--reason", "support", "--json")
    return [one["id"] for one in json.loads(done.stdout)["records"]] if done.stdout else []


def kek_of(gateway: Gateway) -> Kek:
    return load_kek(load(gateway.config_file).keys)


@pytest.mark.parametrize("content", ["encrypt", "hash", "hide"])
def test_nothing_opens_after_all_is_over(content: str, make_gateway: Callable[..., Gateway], clock: Clock) -> None:
    customer = account(content=content, retain={"body": "1h", "numbers": "3h", "billing": "30d"})
    with RawSmsc(repeat(Step(then=(receipt,)))) as smsc, make_gateway([Upstream(smsc.port)], [customer]) as gateway:
        ids = sends(gateway, 3)
        assert sorted(searched(gateway)) == sorted(ids)
        store = gateway.directory / "store"
        segments = {key for scope, key in wrapped_keys(store).items() if scope.startswith(b"segment/")}
        gateway.finish()
        assert sorted(one.name for one in store.iterdir()) == [
            "audit.db",
            "data.db",
            "keys.db",
            "lock",
            "shipping-acts.json",
        ]
        assert not [key for key in segments if key in raw(store)]
        clock.set(60 * HOUR)
        purged = gateway.command("purge", "--json")
        assert purged.returncode == 0, purged.stderr
        assert json.loads(purged.stdout)["keys"]
        kek = kek_of(gateway)
        assert not seen([BODY, NUMBER, SENDER], b"".join(opened(store, store, kek)))
        backed = gateway.command("backup", str(gateway.directory / "b"), "--keys-to", str(gateway.directory / "k"))
        assert backed.returncode == 0, backed.stderr
        copies = gateway.directory / "b", gateway.directory / "k"
        assert not seen([BODY, NUMBER, SENDER], b"".join(opened(*copies, kek)))
        assert not seen([BODY, NUMBER, SENDER], raw(store, *copies))
        clock.set(0.0)


def test_a_purge_beside_the_daemon_empties_its_spool_and_keeps_what_waits(
    make_gateway: Callable[..., Gateway], clock: Clock
) -> None:
    steps = iter([Step(then=(receipt,)), Step(then=(receipt,)), Step(), *[Step(then=(receipt,))] * 50])
    with RawSmsc(steps) as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        sends(gateway, 2)
        sends(gateway, 1, receipts=False)
        wait_for("the third submit", lambda: len(smsc.submits()) == 3)
        wait_for("the receipts' end", lambda: gateway.metric("smppd_spool_memory_entries") == 1)
        store = gateway.directory / "store"
        before = {key for scope, key in wrapped_keys(store).items() if scope.startswith(b"segment/")}
        done = gateway.command("purge", "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["spool"] == "done", done.stderr
        left = wrapped_keys(store).values()
        assert not before & set(left), "every key there was is destroyed"
        assert gateway.metric("smppd_spool_memory_entries") == 1


@pytest.mark.parametrize("jumps", [(-72 * HOUR, 0.0), (5 * HOUR, 0.0)])
def test_what_was_accepted_under_a_wrong_clock_is_found(
    jumps: tuple[float, ...], make_gateway: Callable[..., Gateway], clock: Clock
) -> None:
    with RawSmsc(repeat(Step(then=(receipt,)))) as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        ids = sends(gateway, 1)
        gateway.finish()
        for jump in jumps:
            clock.set(jump)
            gateway.start()
            ids += sends(gateway, 2)
            assert searched(gateway) == ids[::-1]
            behind = gateway.metric("smppd_clock_behind_seconds")
            check = json.loads(gateway.http("/readyz")[1])["checks"]["clock"]
            wrong = jump < 0 or (jump == 0.0 and jumps[0] > 0)
            assert (behind > 3600) == check.startswith("degraded: the clock is") == wrong
            assert not wrong or "the clock is behind the newest message id" in gateway.log_text()
            assert gateway.ready()
            gateway.finish()
            assert searched(gateway) == ids[::-1]
        assert ids == sorted(ids) and len(set(ids)) == len(ids)


def test_a_clock_that_is_set_while_it_runs(make_gateway: Callable[..., Gateway], clock: Clock) -> None:
    with RawSmsc(repeat(Step(then=(receipt,)))) as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        ids = []
        for jump in (0.0, -72 * HOUR, 0.0, 5 * HOUR, 0.0):
            clock.set(jump)
            ids += sends(gateway, 1)
            assert searched(gateway) == ids[::-1]
        assert ids == sorted(ids)
        # The daemon looks at its clock once a second: jumps there and back in between leave nothing to see.
        clock.set(-HOUR)
        wait_for("the jump is said", lambda: "the clock was set" in gateway.log_text())
