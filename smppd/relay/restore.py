"""Makes messages and mail again out of what the store has of them. No other code does."""

from __future__ import annotations

from smppd.policy.content import part_of
from smppd.protocol.wire import Sm
from smppd.relay.context import Context
from smppd.relay.ledger.payload import StoredMessage, read_mail
from smppd.relay.state.model import Account, Lane, Mail, Message
from smppd.relay.state.phase import Phase
from smppd.store.api import ColdRow


def restored_message(
    context: Context, stored: StoredMessage, lane: Lane | None = None, phase: Phase = Phase.RESTORED
) -> Message:
    """A message read back, in no list yet. ``lane``: its own, where that is known. Raises what reading its frame raises."""
    if lane is None:
        name, _, route = stored.lane.partition("\n")
        lane = context.lane(context.account(name), route)
    sm = Sm(stored.frame)
    message = Message(stored.id, lane.account, lane, stored.frame, sm.registered, stored.expires, stored.shown, phase)
    message.reply_to = stored.reply_to
    message.reversed = sm.destination_field + (stored.reply_to or sm.source_field)
    message.duplicate = stored.duplicate
    message.tries = int(stored.duplicate)
    message.on_unknown = stored.on_unknown
    message.reported = stored.reported
    message.erased = stored.erased
    message.ours = stored.ours
    message.agreed = stored.agreed
    message.destination_hash = hash(sm.destination_digits)
    message.part = part_of(sm)
    message.stored = True
    if stored.upstream:
        message.upstream = context.upstream(stored.upstream)
    message.upstream_id = stored.upstream_id
    return message


def restored_row(context: Context, row: ColdRow, lane: Lane | None = None) -> Message:
    """A message read back from a row in which it waits for its carrier."""
    message = restored_message(context, StoredMessage(row.id, row.data), lane)
    message.cold = (row.kind, row.owner, row.key)
    return message


def restored_waiting(context: Context, row: ColdRow) -> Message:
    """A message read back from a row in which it waits for its receipt, and goes on waiting as that."""
    message = restored_message(context, StoredMessage(row.id, row.data), phase=Phase.SHELVED)
    message.cold = (row.kind, row.owner, row.key)
    message.upstream = context.upstream(row.owner)
    message.upstream_id = message.upstream_id or row.key
    return message


def restored_mail(account: Account, identity: int, payload: bytes) -> Mail:
    """Mail read back. Its frame is tried, as it goes to a customer as it is."""
    expires, about, _name, frame = read_mail(payload)
    Sm(frame)
    return Mail(identity, account, frame, about, expires)
