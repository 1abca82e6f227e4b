"""The real daemon in the recipient's night, its clock moved from outside: what is held survives kill -9 and leaves in order in
the morning."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc
from tests.torture.layer import Clock

NUMBER = b"12125550100"
MANY = 120

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the clock is moved by a preloaded library")


def texts(smsc: RawSmsc) -> list[bytes]:
    return [one[-5:] for one in smsc.submits()]


def test_a_night_with_a_kill(
    make_gateway: Callable[..., Gateway], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(tmp_path)
    for name, value in clock.environment().items():
        monkeypatch.setenv(name, value)
    there = ZoneInfo("America/New_York")
    evening = datetime.now(there).replace(hour=23, minute=0, second=0) + timedelta(days=1)
    morning = (evening + timedelta(days=1)).replace(hour=8)

    def shows(moment: datetime) -> None:
        clock.set(moment.timestamp() - time.time())

    shows(evening)
    customer = account(**{"class": "promotional"})
    with RawSmsc() as smsc, make_gateway([Upstream(smsc.port)], [customer]) as gateway:
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            for number in range(MANY):
                probe.send(frame(0x04, 0, 1000 + number, submit_body(b"%05d" % number, NUMBER)))
                assert status(probe.read()) == 0
        gateway.kill()
        gateway.start()
        assert gateway.metric("smppd_messages_held_for_hours", account="acme") == MANY
        shows(morning - timedelta(minutes=1))
        gateway.wait_links("sim", 1)
        wait_for("the jump is seen", lambda: "the clock was set" in gateway.log_text())
        assert gateway.ready() and gateway.metric("smppd_oldest_waiting_seconds", account="acme") == 0
        assert texts(smsc) == []
        shows(morning)
        wait_for("the morning", lambda: len(smsc.submits()) == MANY)
        assert texts(smsc) == [b"%05d" % number for number in range(MANY)]
        wait_for("the last answer", lambda: gateway.metric("smppd_messages_queued", account="acme") == 0)
        assert gateway.metric("smppd_messages_held_for_hours", account="acme") == 0
