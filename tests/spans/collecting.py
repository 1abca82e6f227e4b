"""A collector of the tests' own: OTLP over HTTP, in a thread, which keeps what it was sent."""

from __future__ import annotations

import gzip
import ssl
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATH = "/v1/traces"


class Collector:
    """Listens on loopback. ``status``: what it answers with from now on."""

    def __init__(self, port: int = 0, certificate: tuple[Path, Path] | None = None) -> None:
        """certificate: (chain, key) for TLS."""
        self.status = 200
        self.answer = ExportTraceServiceResponse().SerializeToString()
        self.connections = 0
        self.headers: dict[str, str] = {}
        self.octets: list[bytes] = []
        """Of each request that was taken, as they are behind the compression."""
        self.asked = 0
        handler = type("Handler", (_Handler,), {"collector": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}{PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_rest: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def spans(self) -> list[Span]:
        """All spans so far."""
        found: list[Span] = []
        for octets in list(self.octets):
            for resource in ExportTraceServiceRequest.FromString(octets).resource_spans:
                for scope in resource.scope_spans:
                    found.extend(scope.spans)
        return found

    def resource(self) -> dict[str, Any]:
        """The attributes of the resource of the first request."""
        return attributes(ExportTraceServiceRequest.FromString(self.octets[0]).resource_spans[0].resource)

    def traces(self) -> dict[bytes, dict[str, Span]]:
        """trace id -> name -> span."""
        found: dict[bytes, dict[str, Span]] = {}
        for span in self.spans():
            found.setdefault(span.trace_id, {})[span.name] = span
        return found


def attributes(of: Any) -> dict[str, Any]:
    """The attributes of a span, an event or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


class _Handler(BaseHTTPRequestHandler):
    collector: Collector
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """A connection."""
        super().setup()
        self.collector.connections += 1

    def do_POST(self) -> None:
        """Takes a request."""
        collector = self.collector
        collector.asked += 1
        collector.headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if collector.status == 200 and self.path == PATH:
            collector.octets.append(gzip.decompress(body))
        self.send_response(collector.status)
        self.send_header("Location", "http://127.0.0.1:9/")
        self.send_header("Content-Length", str(len(collector.answer)))
        self.end_headers()
        with suppress(OSError):  # who asked may have heard enough
            self.wfile.write(collector.answer)

    def log_message(self, *_given: object) -> None:
        """Says nothing."""
