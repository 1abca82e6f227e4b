"""Mends a carrier's PDU that is not as the specification wants it. It is read as far as possible, counted, and named in the
log."""

from __future__ import annotations

from smppd.protocol.lenient import Fault, delivered
from smppd.protocol.wire import Sm
from smppd.relay.context import Context
from smppd.relay.state.model import UpstreamState


def mend_delivered(context: Context, upstream: UpstreamState, raw: bytes, now: float) -> Sm:
    """Mends a deliver_sm or data_sm that ``Sm`` does not read; to refuse it would lose what it brings. The result is as the
    specification wants it. Raises ``wire.BodyError`` where nothing can be read."""
    fault = Fault.UNREADABLE
    try:
        whole, fault = delivered(raw, context.tlv_limit)
    finally:
        context.metrics.upstream_mended.labels(upstream.name, fault.value).inc()
        context.notices.note("PDU not to the letter", {"upstream": upstream.name, "fault": fault.value}, now)
    return Sm(whole)
