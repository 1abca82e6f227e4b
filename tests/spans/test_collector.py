"""OTLP to a real server: what a span looks like there, over TLS with a CA of our own, and what is said when it is not taken."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smppd.config import Store
from smppd.message import Event, State
from smppd.spans import collector as module
from smppd.spans.collector import Collector, system_ca
from smppd.spans.job import Job
from smppd.spans.lives import Lives, Sampler, Span
from tests.e2e.conftest import certificates as certificates
from tests.ports import free_port
from tests.spans import collecting
from tests.spans.collecting import attributes

ONE = 0x0CA8A21246000001
T = 1_796_000_000_000


def job(url: str, **values: Any) -> Job:
    return Job(Store(path=Path()), url, (), "", 1.0, (), 7)._replace(**values)


def spans() -> list[Span]:
    lives = Lives(Sampler(1.0))
    lives.record(ONE, T, "acme", False)
    found = lives.event(Event(ONE, T + 20, State.SUBMITTED, False, 0, "carrier-a", b"447700900123"))
    found += lives.event(Event(ONE, T + 90, State.UNDELIVERABLE, False, 34, "carrier-a", b"447700900123"))
    return found + lives.event(Event(ONE, T + 95, State.RECEIPT_DONE))


@pytest.fixture
def there() -> Iterator[collecting.Collector]:
    with collecting.Collector() as collector:
        yield collector


def test_what_arrives(there: collecting.Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    sender = Collector(job(there.url, headers=(("Authorization", "Bearer t0p"),)))
    assert sender.send(spans()) == ""
    assert there.headers["authorization"] == "Bearer t0p" and there.headers["content-encoding"] == "gzip"
    assert there.resource().items() >= {"service.name": "smppd", "service.instance.id": "7"}.items()
    ((trace, named),) = there.traces().items()
    assert len(trace) == 16
    whole = named["message"]
    assert whole.parent_span_id == b"" and whole.start_time_unix_nano == T * 1_000_000
    assert whole.end_time_unix_nano == (T + 95) * 1_000_000 and whole.status.code == 2
    assert [event.name for event in whole.events] == ["submitted", "undeliverable", "receipt_done"]
    assert attributes(whole) == {
        "messaging.system": "smpp",
        "messaging.message.id": "0ca8a21246000001",
        "smppd.account": "acme",
        "smppd.direction": "MT",
        "smppd.state": "UNDELIVERABLE",
        "smppd.complete": True,
        "smppd.tries": 1,
        "smppd.upstream": "carrier-a",
        "smppd.error": 34,
        "error.type": "UNDELIVERABLE",
    }
    below = {name: span for name, span in named.items() if name != "message"}
    assert below.keys() == {"submit_sm carrier-a", "receipt carrier-a", "deliver_sm acme"}
    assert {span.parent_span_id for span in below.values()} == {whole.span_id}
    said = attributes(below["submit_sm carrier-a"])
    assert (said["messaging.operation.name"], said["messaging.operation.type"]) == ("submit_sm", "send")
    assert said["messaging.destination.name"] == "carrier-a"
    assert b"4477009" not in b"".join(there.octets)


def test_over_tls_with_a_ca_of_our_own(certificates: Path) -> None:
    pair = certificates / "server.pem", certificates / "server.key"
    with collecting.Collector(certificate=pair) as there:
        assert Collector(job(there.url, ca=str(certificates / "ca.pem"))).send(spans()) == ""
        assert len(there.spans()) == 4


def test_a_certificate_that_nobody_knows(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    pair = certificates / "server.pem", certificates / "server.key"
    with collecting.Collector(certificate=pair) as there:
        assert "certificate is not accepted" in Collector(job(there.url)).send(spans())
        assert there.spans() == [] and there.asked == 0


@pytest.mark.parametrize("status", [307, 401, 400, 404])
def test_an_answer_that_takes_nothing(there: collecting.Collector, status: int) -> None:
    there.status = status
    assert Collector(job(there.url)).send(spans()) == f"the collector answers with status {status}"
    assert there.asked == 1, "nothing is followed, and nothing of it is tried at once"


def test_a_connection_is_used_again_and_an_endless_answer_ends_it(there: collecting.Collector) -> None:
    sender = Collector(job(there.url))
    assert [sender.send(spans()) for _ in range(3)] == [""] * 3
    assert there.connections == 1
    there.answer = b"x" * (20 << 20)
    tracemalloc.start()
    try:
        assert sender.send(spans()) == ""
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    there.answer = b""
    assert sender.send(spans()) == "" and there.connections == 2
    assert len(there.octets) == 5


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    assert Collector(job(f"http://127.0.0.1:{free_port()}/")).send(spans()) == "the collector cannot be reached"


def test_the_system_s_cas_are_found() -> None:
    found = system_ca()
    assert found is None or Path(found).exists()
