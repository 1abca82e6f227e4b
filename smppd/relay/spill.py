"""Bounds the spool and memory. What has lived too long in one place of the spool is written anew, or becomes a cold row;
where memory is full, messages become cold rows too. The store says when a place is to be left (`store.api.Tenant`)."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import Final

from smppd.relay.context import Context
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.guard import SPILL
from smppd.relay.ledger.ledger import waiting_row
from smppd.relay.ledger.payload import write_message
from smppd.relay.receipts.parking import Parking
from smppd.relay.state.living import Living
from smppd.relay.state.model import Mail, Message, Parked
from smppd.relay.state.phase import Phase
from smppd.store.api import Renewed

# Where memory is full, so many messages of one carrier, and so many octets of all carriers, become rows in one step.
_MOST: Final = 1000
_OCTETS: Final = 8 << 20


class Spill:
    """See the module. Is the store's ``Tenant``."""

    def __init__(self, context: Context, mailroom: Mailroom, parking: Parking) -> None:
        self._context = context
        self._ledger = context.ledger
        self._mailroom = mailroom
        self._parking = parking

    # -- store.api.Tenant ----------------------------------------------------------------------------------------------

    def places(self) -> list[int]:
        """See ``store.api.Tenant``."""
        return self._ledger.places()

    def alive_in(self, place: int) -> int:
        """See ``store.api.Tenant``."""
        return self._ledger.alive_in(place)

    def opened(self) -> int:
        """See ``store.api.Tenant``."""
        return self._ledger.opened()

    def begin(self, place: int) -> None:
        """See ``store.api.Tenant``."""
        self._ledger.begin(place)

    def leave(self, place: int) -> None:
        """See ``store.api.Tenant``."""
        self._ledger.leave(place)

    def renew(self, place: int, most: int, octets: int, *, rows: bool) -> Renewed:
        """See ``store.api.Tenant``."""
        things = self._ledger.oldest_in(place, most, octets)
        before = self._ledger.alive_in(place)
        moved = weight = 0
        for thing in things:
            if not _is_stored(thing):
                continue  # its own batch decides: one that is refused is not to come back
            moved += 1
            weight += thing.weight
            try:
                if not (rows and self._to_row(thing)):
                    self._ledger.rewrite(thing)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._stuck(thing, error)
        return Renewed(moved, weight, moved == before)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def lighten(self) -> None:
        """Where memory holds more octets than it should, messages that wait for their receipts become rows at once. Those
        that were submitted first go first."""
        context = self._context
        excess = min(self._ledger.octets - context.hot_octets, _OCTETS)
        if excess <= 0:
            return
        for upstream in context.upstreams.values():
            some: list[Message] = []
            for message in islice(upstream.ids.values(), 2 * _MOST):
                if excess <= 0 or len(some) == _MOST:
                    break
                if message.phase is Phase.SUBMITTED:  # else it is becoming a row
                    some.append(message)
                    excess -= message.weight
            for message in some:
                self._shelve_one(message)
            if some:
                context.store.kick()

    def upstream_id_reused(self, message: Message) -> None:
        """The carrier gave the id of this message to another one. From now on this message is found among the rows, and a
        receipt's addresses say which of the two it means."""
        upstream = message.upstream
        if upstream is None or not message.awaits_receipt:
            return
        upstream.note_reused_id(message.upstream_id)
        upstream.displaced.setdefault(message.upstream_id, {})[message.id] = message
        if message.phase is Phase.SUBMITTED:
            self._shelve_one(message)

    def _to_row(self, thing: Living) -> bool:
        """Turns a thing that only waits into a row: a message that waits for its receipt, mail of somebody who is not there."""
        if isinstance(thing, Message) and thing.phase is Phase.SUBMITTED:
            self._shelve(thing)
            return True
        return isinstance(thing, Mail) and self._mailroom.shelve_mail(thing)

    def _shelve_one(self, message: Message) -> None:
        try:
            self._shelve(message)
        except Exception as error:  # noqa: BLE001  the item's edge
            self._stuck(message, error)

    def _shelve(self, message: Message) -> None:
        upstream = message.upstream
        assert upstream is not None
        wall, digits = self._context.wall(), message.destination_digits
        data = write_message(message)
        row = waiting_row(upstream.name, message.id, message.upstream_id, digits, message.expires, wall, data)
        self._ledger.shelve(message, row)
        self._context.phases.move(message, Phase.SHELVED)
        # Until the row is durable, and can be found, the message is found here.
        self._context.store.batch.then.append(partial(upstream.forget, message))

    def _stuck(self, thing: Living, error: Exception) -> None:
        """A thing could not be moved out of its place. It is set aside, or its place could never be left and each tick would
        try again."""
        guard = self._context.guard
        if isinstance(thing, Message):
            guard.set_message_aside(SPILL, error, thing)
        elif isinstance(thing, Mail):
            guard.set_mail_aside(SPILL, error, thing)
        elif isinstance(thing, Parked):
            self._parking.set_aside(thing, error, SPILL)
        self._ledger.close(thing)


def _is_stored(thing: Living) -> bool:
    """Whether the batch that opened it is durable."""
    return thing.stored if isinstance(thing, Message | Mail) else True
