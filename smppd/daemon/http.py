"""The daemon's own HTTP port: `/metrics`, `/healthz`, `/readyz` and `/status`, on loopback unless the operator says otherwise.

It reads and never changes anything. Answers hold names of accounts and upstreams, counts and states; never a number, a
body or a secret. Each connection carries one request and lives `LIFETIME` at most, and of `CONNECTIONS` the oldest gives way
to the next: first one that has asked nothing yet, so that who only connects keeps nobody out. `HEALTH` places are for health
checks: everything else leaves them free. Who asks by a name that is not ours (`Host`) is refused: a page in a browser reads
nothing here, although a name of its own was made to lead here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from smppd.config import Http
from smppd.config.hosts import Hosts
from smppd.daemon.worker import Worker
from smppd.metrics import Metrics
from smppd.narrow_http import NarrowChannel, NarrowFactory, NarrowRequest

CONNECTIONS: Final = 64
"""Connections at one time; for one more the oldest is cut."""
HEALTH: Final = 16
"""Of these, places that only /healthz and /readyz take."""
IDLE: Final = 10.0
"""Seconds of silence after which a connection is closed."""
LIFETIME: Final = 30.0
"""Seconds from connecting to the end, whatever is still going on then."""
MAX_BODY: Final = 4096
"""Octets of a request's body that are read and thrown away; nothing here takes a body."""

STATUS_SHARE: Final = 10
"""Percent of the reactor's time that /status may take: it looks at every account, and whoever asks in a loop waits."""
_TURN: Final = 0.002
"""Seconds of waiting that are not worth a timer."""

_OK: Final = "ok"
_DEGRADED: Final = "degraded"
_FAILED: Final = "failed"
_TEXT: Final = b"text/plain; charset=utf-8"
_JSON: Final = b"application/json"

_log = logging.getLogger(__name__)


class Health(NamedTuple):
    """How the daemon is. `ready`: it serves customers, and `/readyz` answers 200. `alive`: the reactor and the store's
    writer work, and `/healthz` answers 200; if not, a restart helps. `checks`: name of a check -> `ok`, `degraded` or
    `failed`, which may be followed by `: ` and words for the operator, such as `{"store": "ok", "upstreams": "degraded:
    carrier-a is down"}`.
    """

    ready: bool
    alive: bool
    checks: dict[str, str]

    @property
    def degraded(self) -> bool:
        """Ready, but an operator should look at something."""
        return self.ready and any(judgement(text) == _DEGRADED for text in self.checks.values())


def assess(checks: Mapping[str, str], *, alive: bool) -> Health:
    """The health that follows from checks: ready when alive and none of them failed."""
    failed = any(judgement(text) == _FAILED for text in checks.values())
    return Health(alive and not failed, alive, dict(checks))


def judgement(check: str) -> str:
    """`ok`, `degraded` or `failed`: what a check begins with. Anything else counts as failed."""
    word = check.partition(":")[0].strip()
    return word if word in (_OK, _DEGRADED) else _FAILED


class HttpServer:
    """Answers on `settings.address` from the registry and the two functions, which are called on the reactor thread.

    An error in one of them is answered 500, logged and counted as `smppd_internal_errors_total{where="http"}`.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Http,
        metrics: Metrics,
        health: Callable[[], Health],
        status: Callable[[], dict[str, object]],
        refresh: Callable[[], None],
        worker: Worker,
    ) -> None:
        """`status` gives what JSON can say; `smppd status` shows it. `refresh` sets the gauges, for a scrape."""
        self._reactor = reactor
        self._settings = settings
        self._series = metrics
        self._check = health
        self._state = status
        self._refresh = refresh
        self._worker = worker
        self._port: Any = None
        self._names: Final = Hosts((*settings.hosts, settings.host))
        self._factory = _Factory(reactor, self._answer, IDLE)
        # Media type -> who waits for the scrape under way.
        self._scrapes: dict[str, list[_Request]] = {}
        self._asking: list[_Request] = []  # for the status
        self._pause: Any = None  # IDelayedCall: the next look
        self._routes: Final[dict[bytes, Callable[[_Request], None]]] = {
            b"/metrics": self._metrics,
            b"/healthz": self._healthz,
            b"/readyz": self._readyz,
            b"/status": self._status,
        }

    def start(self) -> int:
        """Listens; the port, which matters when the settings say 0. twisted.internet.error.CannotListenError."""
        self._port = self._reactor.listenTCP(
            self._settings.port, self._factory, backlog=CONNECTIONS, interface=self._settings.host
        )
        return int(self._port.getHost().port)

    def stop(self) -> Deferred[None]:
        """Closes the port and every connection. Fires when the port is free."""
        port, self._port = self._port, None
        for channel in list(self._factory.channels):
            channel.cut()
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.cancel()
        stopping: Deferred[None] = succeed(None) if port is None else maybeDeferred(port.stopListening)
        return stopping

    # -- requests ------------------------------------------------------------------------------------------------------

    def _answer(self, request: _Request) -> None:
        refusal = self._foreign(request)
        if refusal:
            request.respond(refusal, b"not a name of this server; see http.hosts\n")
            return
        if request.method not in (b"GET", b"HEAD"):
            request.respond(405, b"only GET and HEAD\n", allow=b"GET, HEAD")
            return
        answer = self._routes.get(request.path)
        if answer is None:
            request.respond(404, b"/metrics /healthz /readyz /status\n")
            return
        if request.path not in _HEALTH_PATHS and self._factory.busy() > CONNECTIONS - HEALTH:
            request.respond(503, b"too many requests at one time\n")
            return
        try:
            answer(request)
        except Exception:  # noqa: BLE001  the edge: whatever it is, the operator gets an answer and the daemon goes on
            self._failed(request)

    def _foreign(self, request: _Request) -> int:
        """The status with which a request for another host is refused; 0 where it is for us (RFC 9110 section 7.2)."""
        named = request.requestHeaders.getRawHeaders(b"host") or []
        if not named and request.clientproto == b"HTTP/1.0":
            return 0  # no browser asks so, and simple health checks do
        if len(named) != 1:
            return 400
        asked: Any = request  # the base class has no types
        local = str(getattr(asked.getHost(), "host", ""))  # the address it was reached at
        return self._names.refusal(named[0].decode("latin-1"), local)

    def _failed(self, request: _Request) -> None:
        self._series.errors.labels("http").inc()
        _log.exception("request failed")
        request.respond(500, b"internal error; see the log\n")

    def _health(self) -> Health:
        health = self._check()
        # Set here, so that a scrape is never older than what /readyz says.
        self._series.ready.set(health.ready)
        return health

    def _healthz(self, request: _Request) -> None:
        if self._health().alive:
            request.respond(200, b"ok\n")
        else:
            request.respond(503, b"not alive\n")

    def _readyz(self, request: _Request) -> None:
        health = self._health()
        state = ("degraded" if health.degraded else "ready") if health.ready else "not ready"
        body = {"ready": health.ready, "state": state, "checks": health.checks}
        request.respond(200 if health.ready else 503, _json(body), _JSON)

    def _status(self, request: _Request) -> None:
        self._asking.append(request)
        if self._pause is None:
            self._tell_status()

    def _tell_status(self) -> None:
        """Answers all who wait for the status by one look."""
        self._pause = None
        asking, self._asking = [one for one in self._asking if not one.gone], []
        if not asking:
            return
        began = self._reactor.seconds()
        try:
            body = _lines(self._state())
        except Exception:  # noqa: BLE001  the edge, as in `_answer`
            self._series.errors.labels("http").inc()
            _log.exception("request failed")
            for request in asking:
                request.respond(500, b"internal error; see the log\n")
        else:
            for request in asking:
                request.respond(200, body, _JSON)
        pause = (self._reactor.seconds() - began) * (100 / STATUS_SHARE - 1)
        if pause > _TURN:
            self._pause = self._reactor.callLater(pause, self._tell_status)

    # -- metrics -------------------------------------------------------------------------------------------------------

    def _metrics(self, request: _Request) -> None:
        kind = _media_type(request.getHeader("accept") or "")
        self._health()
        waiting = self._scrapes.setdefault(kind, [])
        waiting.append(request)
        if len(waiting) == 1:
            self._refresh()
            # A thousand accounts are some 30,000 lines and a quarter of a second: too long to hold messages up for.
            self._worker.run(
                "metrics",
                lambda: _FORMATS[kind](self._series.registry),
                lambda body, error: self._scraped(kind, body, error),
            )

    def _scraped(self, kind: str, body: bytes | None, error: Exception | None) -> None:
        if error is not None:
            self._series.errors.labels("http").inc()
            _log.error("metrics could not be written", exc_info=error)
        for request in self._scrapes.pop(kind):
            if body is None:
                request.respond(500, b"internal error; see the log\n")
            else:
                request.respond(200, body, kind.encode())


_HEALTH_PATHS: Final = frozenset((b"/healthz", b"/readyz"))


def _json(value: dict[str, object]) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"


def _lines(value: dict[str, object]) -> bytes:
    """JSON with a line for each account and the like: what indents everything takes six times as long."""
    parts = []
    for name, one in value.items():
        if isinstance(one, list) and one:
            text = "[\n  " + ",\n  ".join(json.dumps(item, allow_nan=False) for item in one) + "\n ]"
        else:
            text = json.dumps(one, allow_nan=False)
        parts.append(f" {json.dumps(name)}: {text}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


_FORMATS: Final[dict[str, Callable[[Any], bytes]]] = {
    exposition.CONTENT_TYPE_PLAIN_0_0_4: exposition.generate_latest,
    openmetrics.CONTENT_TYPE_LATEST: openmetrics.generate_latest,
}


def _media_type(accept: str) -> str:
    """The exposition format for an Accept header: OpenMetrics 1.0.0 for who asks for it, else Prometheus text 0.0.4.

    Ours are the only two answers: a version or an escaping that the header names is not repeated in the answer.
    """
    for item in accept.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        refused = any(part.replace(" ", "") in ("q=0", "q=0.0") for part in parameters)
        if name.lower() == "application/openmetrics-text" and not refused:
            return openmetrics.CONTENT_TYPE_LATEST
    return exposition.CONTENT_TYPE_PLAIN_0_0_4


# -- the protocol ------------------------------------------------------------------------------------------------------


class _Request(NarrowRequest):
    """One request; its body is thrown away."""

    max_body = MAX_BODY

    def respond(self, code: int, body: bytes, kind: bytes = _TEXT, *, allow: bytes | None = None) -> None:
        """Sends the answer, once; HEAD gets its headers only. Nothing when the peer went away."""
        if self.gone or self.finished:
            return
        out: Any = self  # the base class has no types
        self.set_status(code)
        headers = {
            b"content-type": kind,
            b"content-length": b"%d" % len(body),
            b"cache-control": b"no-store",
            b"x-content-type-options": b"nosniff",
        }
        for name, value in headers.items():
            out.setHeader(name, value)
        if allow is not None:
            out.setHeader(b"allow", allow)
        out.write(body)
        out.finish()


class _Channel(NarrowChannel):
    """One connection for one request."""

    requestFactory = _Request
    asked = False
    """A request is here."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.wait(LIFETIME)

    def request_is_here(self) -> None:
        """Its connection gives way last."""
        self.asked = True

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Scrapes are seconds apart, and a connection kept open is a place taken."""
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        return False


class _Factory(NarrowFactory[_Channel]):
    """Connections up to `CONNECTIONS`, the oldest giving way."""

    protocol = _Channel  # type: ignore[assignment]  # HTTP/1.1 alone: no negotiation

    def buildProtocol(self, addr: Any) -> Any:
        if len(self.channels) >= CONNECTIONS:
            next((one for one in self.channels if not one.asked), next(iter(self.channels))).cut()
        return super().buildProtocol(addr)

    def busy(self) -> int:
        """Connections whose request is here, the one being answered included."""
        return sum(one.asked for one in self.channels)
