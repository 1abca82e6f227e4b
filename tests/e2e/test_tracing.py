"""OpenTelemetry (`tracing`) of the running daemon: whole spans at a collector, nothing personal in them, a collector that goes
and comes back.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import pytest

from tests.e2e.children import Smsc
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, descendants, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step
from tests.ports import free_port
from tests.spans.collecting import PATH, Collector, attributes

TEXT = b"a secret word 998877"
NUMBER = b"447700900456"
CANARIES = (b"secret word", b"998877", NUMBER, b"7700900456", PASSWORD.encode(), b"sm5c-Pw1")


@pytest.fixture
def there() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def begins(gateway: Gateway, times: int = 1) -> None:
    wait_for("tracing", lambda: gateway.log_text().count("tracing begins") == times)


def send(gateway: Gateway, count: int, *, receipts: bool = True) -> list[str]:
    """The ids of messages that were accepted, and whose receipts were taken."""
    found: list[str] = []
    taken = 0
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        for number in range(count):
            body = submit_body(TEXT + b" %d" % number, NUMBER, registered=int(receipts))
            probe.send(frame(0x04, 0, 10 + number, body))
        while len(found) < count or (receipts and taken < count):
            got = probe.read()
            if got[4:8] == b"\0\0\0\5":
                taken += 1
                probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
            else:
                assert status(got) == 0
                found.append(got[16:-1].decode())
    return found


def test_whole_spans_over_tls_and_nothing_personal(
    make_gateway: Callable[..., Gateway], smsc: Smsc, certificates: Path
) -> None:
    with Collector(certificate=(certificates / "server.pem", certificates / "server.key")) as there:
        acme = account(receipts={"window": 50})
        tracing = {"otlp": there.url, "sample": 1.0, "ca": str(certificates / "ca.pem")}
        gateway = make_gateway([Upstream(smsc.port, tls=True)], [acme], tracing=tracing)
        _whole(gateway, there)


def _whole(gateway: Gateway, there: Collector) -> None:
    with gateway:
        begins(gateway)
        ids = send(gateway, 20)
        wait_for("the spans", lambda: len(there.spans()) >= 80)
        wait_for("the count", lambda: gateway.metric("smppd_tracing_spans_total") == 80)
        assert gateway.metric("smppd_tracing_dropped_total") == 0
    traces = there.traces()
    assert len(traces) == 20 and len(there.spans()) == 80
    for named in traces.values():
        assert named.keys() == {"message", "submit_sm sim", "receipt sim", "deliver_sm acme"}
        whole = named["message"]
        said = attributes(whole)
        assert said["smppd.account"] == "acme" and said["smppd.complete"] is True
        assert said["smppd.state"] in ("DELIVERED", "UNDELIVERABLE")
        submitted, receipt, delivered = (named[one] for one in ("submit_sm sim", "receipt sim", "deliver_sm acme"))
        assert whole.start_time_unix_nano == submitted.start_time_unix_nano
        assert submitted.end_time_unix_nano == receipt.start_time_unix_nano
        assert receipt.end_time_unix_nano == delivered.start_time_unix_nano
        assert delivered.end_time_unix_nano == whole.end_time_unix_nano
    assert {attributes(named["message"])["messaging.message.id"] for named in traces.values()} == set(ids)
    sent = b"".join(there.octets)
    assert [one for one in CANARIES if one in sent] == []
    assert b"secret" not in gateway.log_text().encode()


def test_a_collector_that_is_away_costs_nothing_and_gets_what_waited(make_gateway: Callable[..., Gateway]) -> None:
    port = free_port()
    tracing = {"otlp": f"http://127.0.0.1:{port}{PATH}", "sample": 1.0}
    with RawSmsc(repeat(Step())) as smsc, make_gateway([Upstream(smsc.port)], tracing=tracing) as gateway:
        begins(gateway)
        send(gateway, 5, receipts=False)
        wait_for("the warning", lambda: "traces do not go out" in gateway.log_text(), 30)
        assert "the collector cannot be reached" in gateway.log_text()
        send(gateway, 5, receipts=False)
        code, page = gateway.http("/readyz")
        assert code == 200 and "degraded" not in page and "tracing" not in json.loads(page)["checks"]
        with Collector(port) as there:
            wait_for("what waited", lambda: len(there.spans()) == 10, 30)
            wait_for("the calm", lambda: "traces go out again" in gateway.log_text())
            assert gateway.metric("smppd_tracing_failures_total") >= 1
            assert gateway.log_text().count("traces do not go out") == 1
            assert gateway.terminate() == 0
            assert len(there.traces()) == 10, "the end gives out what was followed"
            wholes = [one for one in there.spans() if one.name == "message"]
            assert [attributes(one)["smppd.complete"] for one in wholes] == [False] * 10


def test_kills_a_reload_and_what_is_refused(make_gateway: Callable[..., Gateway], there: Collector) -> None:
    with RawSmsc(repeat(Step())) as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        gateway.config["tracing"] = {"otlp": there.url, "sample": 1.0, "headers": {"file": "secrets/otlp"}}
        secret = gateway.directory / "secrets" / "otlp"
        secret.write_text("no header")
        secret.chmod(0o600)
        gateway.write_config()
        done = gateway.command("check")
        assert done.returncode == 1 and "tracing.headers: line 1 is no header" in done.stdout + done.stderr
        gateway.reload()
        wait_for("the refusal", lambda: "reload refused" in gateway.log_text())
        assert not there.asked
        secret.write_text("Authorization: Bearer t0p")
        gateway.reload()
        begins(gateway)
        send(gateway, 1, receipts=False)
        wait_for("a span", lambda: len(there.spans()) == 1)
        assert there.headers["authorization"] == "Bearer t0p" and "t0p" not in gateway.log_text()
        child = next(pid for pid in descendants(gateway.pid) if "smppd.spans.child" in _command(pid))
        os.kill(child, signal.SIGKILL)
        begins(gateway, 2)
        send(gateway, 1, receipts=False)
        wait_for("the span of the new one", lambda: len(there.spans()) == 2)
        del gateway.config["tracing"]
        gateway.write_config()
        gateway.reload()
        wait_for("its end", lambda: not any("smppd.spans.child" in _command(pid) for pid in descendants(gateway.pid)))
        assert len(there.spans()) == 3, "the open one was said to be incomplete, that of the killed process was not"


def test_the_daemon_alone_is_killed_and_its_tracing_ends(
    make_gateway: Callable[..., Gateway], there: Collector
) -> None:
    with RawSmsc(repeat(Step())) as smsc:
        gateway = make_gateway([Upstream(smsc.port)], tracing={"otlp": there.url, "sample": 1.0})
        gateway.start()
        begins(gateway)
        send(gateway, 3, receipts=False)
        assert gateway.installation.settled()  # what is not filed yet, the process has not read
        children = descendants(gateway.pid)
        os.kill(gateway.pid, signal.SIGKILL)
        wait_for("the incomplete ones", lambda: sum(one.name == "message" for one in there.spans()) == 3)
        wait_for("its end", lambda: not any("smppd.spans.child" in _command(pid) for pid in children))
        gateway.kill()


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode()
    except OSError:
        return ""
