"""The HTTP port: what it answers, what it refuses, and that docs/metrics.md, the dashboard and the alerts name series
that exist. `python -m tests.daemon.test_http` writes the generated part of docs/metrics.md anew.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import exposition
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from smppd.config import Http
from smppd.daemon import http
from smppd.daemon.http import Health, HttpServer, assess
from smppd.daemon.worker import Worker
from smppd.metrics import Metrics
from tests.net.pipes import Loop

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/metrics.md"
FINE = {"store": "ok", "replay": "ok: 12 entries"}


class Daemon:
    """What stands behind the server."""

    def __init__(self, reactor: Any, aside: Any = None, hosts: tuple[str, ...] = ()) -> None:
        self.metrics = Metrics()
        self.health: Callable[[], Health] = lambda: assess(FINE, alive=True)
        self.state: Callable[[], dict[str, object]] = lambda: {"version": "1", "accounts": [{"name": "acme"}]}
        self.server = HttpServer(
            reactor,
            Http(address="127.0.0.1:0", hosts=hosts),
            self.metrics,
            lambda: self.health(),
            lambda: self.state(),
            self.refresh,
            aside or Worker(lambda function: reactor.callFromThread(function)),
        )

    def refresh(self) -> None:
        """The gauges are set when they are asked for."""
        self.metrics.hot.set(7)

    @property
    def errors(self) -> float | None:
        return self.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "http"})


class Memory:
    """A connection in memory, with a clock."""

    def __init__(self, daemon: Daemon | None = None) -> None:
        self.clock = Clock()
        self.daemon = daemon or Daemon(self.clock)
        self.factory = self.daemon.server._factory
        self.transport: Any = StringTransportWithDisconnection()  # type: ignore[no-untyped-call]
        self.channel: Any = self.factory.buildProtocol(None)
        assert self.channel is not None
        self.transport.protocol = self.channel
        self.channel.makeConnection(self.transport)

    def ask(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        self.channel.dataReceived(raw)
        return parsed(self.transport.value())

    @property
    def open(self) -> bool:
        return bool(self.transport.connected)


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in rest)
    return int(first.split()[1]), headers, body


def request(path: str, method: str = "GET", *more: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *more, "", ""]).encode()


def get(path: str, daemon: Daemon | None = None) -> tuple[int, bytes]:
    code, _, body = Memory(daemon).ask(request(path))
    return code, body


# -- health ------------------------------------------------------------------------------------------------------------


def test_alive() -> None:
    assert get("/healthz") == (200, b"ok\n")
    daemon = Daemon(Clock())
    daemon.health = lambda: assess(FINE, alive=False)
    assert get("/healthz", daemon) == (503, b"not alive\n")


@pytest.mark.parametrize(
    ("checks", "code", "state"),
    [
        (FINE, 200, "ready"),
        (FINE | {"upstreams": "degraded: carrier-a is down"}, 200, "degraded"),
        (FINE | {"store": "failed: full", "upstreams": "degraded"}, 503, "not ready"),
        (FINE | {"store": "what is this"}, 503, "not ready"),
        ({}, 200, "ready"),
    ],
)
def test_ready(checks: dict[str, str], code: int, state: str) -> None:
    daemon = Daemon(Clock())
    daemon.health = lambda: assess(checks, alive=True)
    found, body = get("/readyz", daemon)
    assert found == code
    assert json.loads(body) == {"ready": code == 200, "state": state, "checks": checks}
    assert daemon.metrics.registry.get_sample_value("smppd_ready") == (code == 200)


def test_who_is_not_alive_is_not_ready() -> None:
    assert assess(FINE, alive=False) == Health(False, False, FINE)


def test_a_status_that_takes_long_is_looked_at_once_for_all_who_wait() -> None:
    clock = Clock()
    daemon = Daemon(clock)
    looked = []

    def state() -> dict[str, object]:
        looked.append(clock.seconds())
        clock.rightNow += 0.01
        return {"accounts": [{"name": f"acct{n}"} for n in range(3)], "listeners": []}

    daemon.state = state
    asking = [Memory(daemon) for _ in range(5)]
    answers = [
        one.ask(request("/status")) if at == 0 else one.channel.dataReceived(request("/status"))
        for at, one in enumerate(asking)
    ]
    assert answers[0] is not None and answers[0][0] == 200
    assert json.loads(answers[0][2]) == {"accounts": [{"name": f"acct{n}"} for n in range(3)], "listeners": []}
    assert [one.transport.value() for one in asking[1:]] == [b""] * 4
    clock.advance(0.1)
    assert [parsed(one.transport.value())[0] for one in asking[1:]] == [200] * 4
    assert len(looked) == 2 and looked[1] - looked[0] >= 0.09, "a tenth of the time"


def test_a_status_that_fails_is_said_to_all_who_wait() -> None:
    clock = Clock()
    daemon = Daemon(clock)

    def state() -> dict[str, object]:
        clock.rightNow += 0.01
        raise ZeroDivisionError

    daemon.state = state
    asking = [Memory(daemon) for _ in range(3)]
    for one in asking:
        one.channel.dataReceived(request("/status"))
    clock.advance(1.0)
    assert [parsed(one.transport.value())[0] for one in asking] == [500] * 3
    assert daemon.errors == 2


def test_status() -> None:
    code, headers, body = Memory().ask(request("/status"))
    assert (code, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == {"version": "1", "accounts": [{"name": "acme"}]}


# -- HTTP --------------------------------------------------------------------------------------------------------------


def test_headers_and_one_request_a_connection() -> None:
    memory = Memory()
    code, headers, body = memory.ask(request("/healthz") + request("/healthz"))
    assert (code, body) == (200, b"ok\n")
    assert headers == {
        "connection": "close",
        "content-type": "text/plain; charset=utf-8",
        "content-length": "3",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    assert not memory.open and not memory.factory.channels


def test_head_has_the_headers_only() -> None:
    code, headers, body = Memory().ask(request("/status", "HEAD"))
    assert code == 200 and body == b"" and int(headers["content-length"]) > 10


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
def test_other_methods(method: str) -> None:
    code, headers, body = Memory().ask(request("/status?a=b", method))
    assert (code, headers["allow"]) == (405, "get, head") and b"accounts" not in body


@pytest.mark.parametrize(
    "path", ["/", "/metrics/", "//metrics", "/metrics%2f", "/../metrics", "*", "/readyz/x", "/STATUS"]
)
def test_unknown_paths(path: str) -> None:
    assert get(path)[0] == 404


def test_queries_and_old_versions_do_not_matter() -> None:
    assert get("/healthz?x=1&x=2")[0] == 200
    assert Memory().ask(b"GET /healthz HTTP/1.0\r\n\r\n")[0] == 200


def test_forms_and_cookies_are_not_read() -> None:
    form = "Content-Type: multipart/form-data; boundary=x"
    code, _, _ = Memory().ask(request("/status", "POST", form, "Content-Length: 3", "Cookie: a=b") + b"abc")
    assert code == 405


@pytest.mark.parametrize("how", ["Content-Length: 999999999", "Transfer-Encoding: chunked"])
def test_a_long_body_is_cut_off(how: str) -> None:
    memory = Memory()
    memory.channel.dataReceived(request("/status", "POST", how))
    chunk = b"x" * 3000
    for _ in range(2):
        assert memory.open
        memory.channel.dataReceived(b"bb8\r\n" + chunk + b"\r\n" if "chunked" in how else chunk)
    assert not memory.open and memory.transport.value() == b""


def test_long_and_many_headers_are_refused() -> None:
    memory = Memory()
    memory.channel.dataReceived(request("/healthz", "GET", "X: " + "y" * 20_000))
    assert not memory.open and b"ok" not in memory.transport.value()
    memory = Memory()
    assert memory.ask(request("/healthz", "GET", *(f"X{n}: y" for n in range(100))))[0] == 400
    assert memory.transport.value().count(b"HTTP/1.1") == 1


@settings(deadline=None, max_examples=100)
@given(
    st.one_of(
        st.binary(max_size=200), st.text(max_size=50).map(lambda t: request("/healthz", "GET", t.strip() or "a: b"))
    )
)
def test_noise_is_answered_or_closed(noise: bytes) -> None:
    memory = Memory()
    memory.channel.dataReceived(noise)
    memory.clock.advance(http.IDLE)
    memory.clock.advance(http.LIFETIME)
    assert not memory.open and not memory.factory.channels and not memory.clock.getDelayedCalls()
    assert memory.daemon.errors is None


def test_silence_and_dribble_end() -> None:
    memory = Memory()
    memory.clock.advance(http.IDLE - 0.1)
    still_open = memory.open
    memory.clock.advance(0.2)
    assert still_open and not memory.open
    slow = Memory()
    for number in range(6):
        slow.channel.dataReceived(b"GET / HTTP/1.1\r\n" if not number else b"X: y\r\n")
        slow.clock.advance(http.LIFETIME / 6)
    assert not slow.open


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/status", "/metrics"])
def test_an_error_is_answered_and_counted(path: str, caplog: pytest.LogCaptureFixture) -> None:
    daemon = Daemon(Clock())

    def broken() -> Any:
        raise ValueError("secret")

    daemon.health = daemon.state = broken
    code, body = get(path, daemon)
    assert code == 500 and b"secret" not in body and daemon.errors == 1
    assert [record.message for record in caplog.records] == ["request failed"]


def test_what_json_cannot_say_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    daemon = Daemon(Clock())
    daemon.state = lambda: {"x": float("nan")}
    assert get("/status", daemon)[0] == 500
    daemon.state = lambda: {"x": b"octets"}
    assert get("/status", daemon)[0] == 500


# -- over loopback -----------------------------------------------------------------------------------------------------


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.stop()


def exchange(port: int, raw: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(raw)
        return b"".join(iter(lambda: peer.recv(65536), b""))


def asked(loop: Loop, port: int, *raw: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    with ThreadPoolExecutor(len(raw)) as pool:
        futures = [pool.submit(exchange, port, one) for one in raw]
        loop.until(lambda: all(future.done() for future in futures))
    return [parsed(future.result()) for future in futures]


def test_metrics_in_both_formats(loop: Loop) -> None:
    daemon = Daemon(loop.reactor)
    daemon.metrics.accepted.labels("acme").inc(3)
    port = daemon.server.start()
    openmetrics = request(
        "/metrics", "GET", "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2"
    )
    plain, other, head = asked(loop, port, request("/metrics"), openmetrics, request("/metrics", "HEAD"))
    assert plain[1]["content-type"].startswith("text/plain; version=0.0.4")
    assert b'smppd_messages_accepted_total{account="acme"} 3.0' in plain[2] and b"smppd_ready 1.0" in plain[2]
    assert list(text_string_to_metric_families(plain[2].decode()))
    assert other[1]["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert other[2].endswith(b"# EOF\n")
    assert head[0] == 200 and head[2] == b"" and int(head[1]["content-length"]) > 1000
    stopped: list[object] = []
    daemon.server.stop().addCallback(stopped.append)
    loop.until(lambda: stopped)
    with pytest.raises(ConnectionRefusedError):
        exchange(port, b"")


def test_metrics_that_cannot_be_written(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def collect(self) -> Any:
            raise ValueError("secret")

        def describe(self) -> Any:
            return []

    daemon = Daemon(loop.reactor)
    daemon.metrics.registry.register(Broken())
    ((code, _, body),) = asked(loop, daemon.server.start(), request("/metrics"))
    assert code == 500 and b"secret" not in body and daemon.errors == 1
    assert [record.message for record in caplog.records] == ["metrics could not be written"]


class Held:
    """`Worker` whose work is done when the test says so."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def run(self, _name: str, work: Callable[[], Any], then: Callable[[Any, Any], None]) -> None:
        self.work.append(lambda: then(work(), None))


def test_scrapes_at_the_same_time_share_the_work() -> None:
    held = Held()
    daemon = Daemon(Clock(), held)
    first, second, gone = Memory(daemon), Memory(daemon), Memory(daemon)
    for memory in (first, second, gone):
        memory.channel.dataReceived(request("/metrics"))
    gone.transport.loseConnection()
    (work,) = held.work
    work()
    assert parsed(first.transport.value())[0] == parsed(second.transport.value())[0] == 200
    assert b"smppd_spool_memory_entries 7.0" in first.transport.value(), "gauges are set when they are asked for"
    assert gone.transport.value() == b""


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text ; version=9.9.9\t, x", True),
        ("application/openmetrics-text;q=0, text/plain", False),
        (";;;,,,", False),
    ],
)
def test_who_gets_openmetrics(accept: str, openmetrics: bool) -> None:
    assert http._media_type(accept).startswith("application/openmetrics-text; version=1.0.0") is openmetrics


def test_stopping_what_never_started() -> None:
    stopped: list[object] = []
    Daemon(Clock()).server.stop().addCallback(stopped.append)
    assert stopped == [None]


# -- what is written about the series ----------------------------------------------------------------------------------

BEGIN, END = "<!-- series: generated -->\n", "<!-- end of series -->\n"


def families() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Every series by the name Prometheus shows: type, labels, meaning."""
    found = {}
    for metric in vars(Metrics()).values():
        if hasattr(metric, "describe") and hasattr(metric, "_labelnames"):
            (family,) = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = (family.type, tuple(metric._labelnames), family.documentation)
    return found


def series_table() -> str:
    lines = ["| series | type | labels | meaning |", "|---|---|---|---|"]
    for name, (kind, labels, text) in sorted(families().items()):
        lines.append(f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels) or '-'} | {text} |")
    return "\n".join(lines) + "\n"


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bsmppd_[a-z0-9_]+", text))


def sample_names() -> set[str]:
    """Names that can stand in a query."""
    found = set()
    for name, (kind, _, _) in families().items():
        found |= {f"{name}{end}" for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return found


def test_the_page_of_series_is_current() -> None:
    between = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert between.strip() == series_table().strip(), "run: python -m tests.daemon.test_http"


def test_the_page_explains_every_label() -> None:
    text = PAGE.read_text("utf-8").partition(END)[2]
    labels = {label for _, labels, _ in families().values() for label in labels}
    assert not [label for label in labels if f"| `{label}` |" not in text]
    assert names_in(text) <= sample_names() | families().keys()


def test_alerts_ask_for_series_that_exist() -> None:
    rules = [
        rule
        for group in yaml.safe_load((ROOT / "docs/alerts.yml").read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]
    for rule in rules:
        check_query(rule["expr"])
    rules = [rule for rule in rules if "alert" in rule]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 10
    # Every one is explained for whom it wakes.
    page, runbooks = PAGE.read_text("utf-8"), (ROOT / "docs/runbooks.md").read_text("utf-8")
    for rule in rules:
        name = rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks.md#{name.lower()}")
        assert f"| `{name}` |" in page, name
        section = runbooks.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert all(f"**{word}" in section for word in ("Means**", "Look**")) and "do" in section.lower(), name
    headings = set(re.findall(r"^## (Smppd\w+)$", runbooks, re.M))
    assert headings == {rule["alert"] for rule in rules}, "a runbook of an alert that is not there"


def test_the_tests_of_the_alerts_have_the_daemons_series() -> None:
    known = families()
    for test in yaml.safe_load((ROOT / "tests/alerts.yml").read_text("utf-8"))["tests"]:
        for one in test["input_series"]:
            name, _, labels = one["series"].partition("{")
            given = set(re.findall(r"(\w+)=", labels)) - {"instance", "job", "le"}
            if name != "up" and not name.startswith("process_"):
                assert given == set(known[re.sub(r"_(bucket|count)$", "", name)][1]), one


def test_the_dashboard_asks_for_series_that_exist() -> None:
    board = json.loads((ROOT / "docs/grafana-dashboard.json").read_text("utf-8"))
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels:
        assert panel["targets"] and panel["title"]
        for target in panel["targets"]:
            check_query(target["expr"])


def process_names() -> set[str]:
    """The series of the process, as they are scraped."""
    text = exposition.generate_latest(Metrics().registry).decode()
    return set(re.findall(r"^(process_\w+) ", text, re.M))


def recorded() -> set[str]:
    """What the recording rules make."""
    groups = yaml.safe_load((ROOT / "docs/alerts.yml").read_text("utf-8"))["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def check_query(query: str) -> None:
    """As far as can be told without Prometheus: brackets close, series exist and have the labels that are asked for."""
    assert names_in(query) <= sample_names(), query
    assert set(re.findall(r"\bprocess_[a-z_]+", query)) <= process_names(), query
    assert set(re.findall(r"\bsmppd:[a-z0-9_:]+", query)) <= recorded(), query
    stack: list[str] = []
    for sign in re.sub(r'"[^"]*"', "", query):
        if sign in "([{":
            stack.append({"(": ")", "[": "]", "{": "}"}[sign])
        elif sign in ")]}":
            assert stack and stack.pop() == sign, query
    assert not stack, query
    known = families()
    for name, selector in re.findall(r"\b(smppd_[a-z0-9_]+)\{([^}]*)\}", query):
        family = name if name in known else re.sub(r"_(bucket|sum|count)$", "", name)
        for label in re.findall(r"(\w+)\s*[!=]~?\"|(\w+)=~", selector):
            assert (label[0] or label[1]) in {*known[family][1], "le", "instance", "job"}, query


if __name__ == "__main__":
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + series_table() + END + rest.partition(END)[2], "utf-8")
