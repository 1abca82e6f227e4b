"""A collector that takes spans by OTLP over HTTP. The only file that knows OpenTelemetry, which is an extra."""

from __future__ import annotations

import io
import logging
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from requests.adapters import HTTPAdapter

from smppd import __version__
from smppd.spans.job import Job
from smppd.spans.lives import Kind, Span

TIMEOUT: Final = 5.0
"""Seconds for one request, and for those that repeat it at once."""
ANSWER: Final = 64 << 10
"""Octets of an answer that are read; nothing of it is used but its status."""
_KINDS: Final = {
    Kind.MESSAGE: SpanKind.INTERNAL,
    Kind.SUBMIT: SpanKind.PRODUCER,
    Kind.CARRIER: SpanKind.CLIENT,
    Kind.DELIVER: SpanKind.PRODUCER,
}
_OPERATIONS: Final = {Kind.SUBMIT: "send", Kind.CARRIER: "receive", Kind.DELIVER: "send"}
_MS: Final = 1_000_000


class _Adapter(HTTPAdapter):
    """Notes how the last request ended. An answer that sends us elsewhere is a failure: what is configured counts."""

    def __init__(self) -> None:
        super().__init__(max_retries=0)
        self.reason = ""

    def send(self, *given: Any, **more: Any) -> requests.Response:
        """See requests. Raises requests.RequestException."""
        try:
            response = super().send(*given, **more)
        except requests.exceptions.SSLError:
            self.reason = "the collector's certificate is not accepted, or it speaks no TLS"
            raise
        except requests.exceptions.Timeout:
            self.reason = "the collector does not answer in time"
            raise
        except requests.exceptions.RequestException:
            self.reason = "the collector cannot be reached"
            raise
        self.reason = f"the collector answers with status {response.status_code}"
        answer = response.raw.read(ANSWER, decode_content=False)
        if len(answer) == ANSWER:
            response.raw.close()  # with what is left of it the connection cannot be used again
        response.headers.pop("Content-Encoding", None)
        response.raw = io.BytesIO(answer)
        if 300 <= response.status_code < 400:
            response.close()
            raise requests.exceptions.InvalidURL(self.reason)
        return response


class Collector:
    """For one thread. Of the process's environment nothing counts: neither OTEL_ variables, which the process has not, nor
    proxies nor .netrc."""

    def __init__(self, job: Job) -> None:
        # What it logs names answers of the collector; what the daemon's log says is `send`'s.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False
        self._adapter = _Adapter()
        session = requests.Session()
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, self._adapter)
        self._exporter = OTLPSpanExporter(
            job.url,
            certificate_file=job.ca or system_ca(),
            headers=dict(job.headers),
            timeout=TIMEOUT,
            compression=Compression.Gzip,
            session=session,
        )
        self._resource = Resource(
            {"service.name": "smppd", "service.version": __version__, "service.instance.id": str(job.node)}
        )
        self._scope = InstrumentationScope("smppd", __version__)

    def send(self, spans: list[Span]) -> str:
        """Empty where the collector took them; else why not."""
        self._adapter.reason = ""
        try:
            done = self._exporter.export([self._made(span) for span in spans])
        except Exception as bug:  # noqa: BLE001  the library's edge: these spans are lost, and the next ones are not
            return f"an error in sending: {type(bug).__name__}"
        if done is SpanExportResult.SUCCESS:
            return ""
        return self._adapter.reason or "the collector takes nothing"

    def _made(self, span: Span) -> ReadableSpan:
        parent = _context(span.trace, span.parent) if span.parent else None
        notes = [Event(one.name.lower(), _error(one.error), one.at_ms * _MS) for one in span.notes]
        return ReadableSpan(
            name=name_of(span),
            context=_context(span.trace, span.span),
            parent=parent,
            resource=self._resource,
            attributes=attributes_of(span),
            events=notes,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
            start_time=span.start_ms * _MS,
            end_time=span.end_ms * _MS,
            instrumentation_scope=self._scope,
        )


def name_of(span: Span) -> str:
    """`submit_sm carrier-a`: the operation and where it goes (semantic conventions for messaging)."""
    if span.kind is Kind.MESSAGE:
        return "message"
    where = span.account if span.kind is Kind.DELIVER else span.upstream
    return f"{span.kind.value} {where}".rstrip()


def attributes_of(span: Span) -> Mapping[str, str | bool | int]:
    """What a span says of a message."""
    said: dict[str, str | bool | int] = {
        "messaging.system": "smpp",
        "messaging.message.id": f"{span.message:016x}",
        "smppd.account": span.account,
        "smppd.direction": "MO" if span.mo else "MT",
        "smppd.state": span.state,
    }
    if span.kind is not Kind.MESSAGE:
        said["messaging.operation.name"] = span.kind.value
        said["messaging.operation.type"] = _OPERATIONS[span.kind]
        said["messaging.destination.name"] = span.account if span.kind is Kind.DELIVER else span.upstream
    else:
        said["smppd.complete"] = span.complete
        said["smppd.tries"] = span.tries
    if span.upstream:
        said["smppd.upstream"] = span.upstream
    if span.failed:
        said["error.type"] = span.state
    return said | _error(span.error)


def _error(error: int) -> dict[str, int]:
    return {"smppd.error": error} if error else {}


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def system_ca() -> str | None:
    """Where the system keeps the CAs that it trusts, a file or a directory; None where OpenSSL does not know."""
    paths = ssl.get_default_verify_paths()
    found: Sequence[str | None] = (paths.cafile, paths.capath)
    return next((one for one in found if one), None)
