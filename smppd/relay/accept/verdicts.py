"""What policy changes of a message: its sender, its TLVs, how long it is worth delivering, what becomes of it when unknown."""

from __future__ import annotations

from smppd.message import Verdict
from smppd.protocol import times
from smppd.protocol.wire import Sm, address_field, splice
from smppd.relay.state.model import Message


def apply_verdict(message: Message, sm: Sm, verdict: Verdict, since: float) -> None:
    """Does to a message what policy asks. ``since``: epoch seconds from which ``expire_after`` counts."""
    source = None
    if verdict.source is not None:
        source = address_field(*verdict.source)
        message.reply_to = sm.source_field
    if verdict.on_unknown is not None:
        message.on_unknown = verdict.on_unknown
    validity = shorten_validity(message, sm, verdict, since)
    if source is not None or verdict.drop_tlvs or validity is not None:
        message.frame = splice(sm, source=source, drop=verdict.drop_tlvs, validity=validity)


def shorten_validity(message: Message, sm: Sm, verdict: Verdict, since: float) -> bytes | None:
    """Brings its end forward to what policy says. Returns the validity_period that ``sm`` has to say then, or the carrier
    would go on trying; None where it needs no other. A relative one and a data_sm's are rewritten when they leave anyway."""
    if verdict.expire_after is None:
        return None
    end = max(0, int(since + verdict.expire_after))
    if end >= message.expires:
        return None
    message.expires = end
    if sm.at_sm < 0 or times.is_relative(sm.validity):
        return None
    return times.write_absolute(end) if sm.validity else times.write_relative(verdict.expire_after)
