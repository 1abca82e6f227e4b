"""Changes a message as policy says: its sender, its TLVs, its validity, and what is done with it when nobody knows whether a
carrier has it."""

from __future__ import annotations

from smppd.message import Verdict
from smppd.protocol import times
from smppd.protocol.wire import Sm, address_field, splice
from smppd.relay.state.model import Message


def apply_verdict(message: Message, sm: Sm, verdict: Verdict, since: float) -> None:
    """Changes a message as the verdict says. ``since``: epoch seconds from which ``expire_after`` counts."""
    source = None
    if verdict.source is not None:
        source = address_field(*verdict.source)
        message.reply_to = sm.source_field
    if verdict.on_unknown is not None:
        message.on_unknown = verdict.on_unknown
    validity = shorten_validity(message, sm, verdict, since)
    if source is not None or verdict.drop_tlvs or verdict.set_tlvs or validity is not None:
        put = dict(verdict.set_tlvs) if verdict.set_tlvs else None
        message.frame = splice(sm, source=source, drop=verdict.drop_tlvs, validity=validity, put=put)


def shorten_validity(message: Message, sm: Sm, verdict: Verdict, since: float) -> bytes | None:
    """Shortens the validity of a message to what policy says. Returns the validity_period that ``sm`` needs then, since the
    carrier would go on trying otherwise; None where it needs no other one. A relative validity_period, and that of a
    data_sm, are written anew when the message is sent."""
    if verdict.expire_after is None:
        return None
    end = max(0, int(since + verdict.expire_after))
    if end >= message.expires:
        return None
    message.expires = end
    if sm.at_sm < 0 or times.is_relative(sm.validity):
        return None
    return times.write_absolute(end) if sm.validity else times.write_relative(verdict.expire_after)
