"""Makes rows of the journal of a node that is gone, or of this one's own when it ends: everything that lives in it becomes a
row that nobody holds, and whoever claims one goes on with it as a restart of that node would have (`relay.adopting`).

What waits for a carrier becomes a QUEUE row, what waits for its receipt a WAITING row, mail and parked receipts rows of their
kinds. What was released, so that nobody knows whether it was sent, and parts that policy wants to see whole become INHERITED
rows of their lane. So does what cannot be read, under a name that is no lane's: whoever claims that sets it aside.

It runs in a thread beside the reactor and knows nothing of what is in memory here. It holds what lived in that journal at once,
which is what the other node had in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from smppd.pacing import breathe, breathing
from smppd.protocol.wire import Sm
from smppd.relay.ledger.joined import Joined, Thing
from smppd.relay.ledger.journal import Entry
from smppd.relay.ledger.ledger import waiting_row
from smppd.relay.ledger.payload import read_mail, read_parked, write_stored
from smppd.relay.state.phase import Phase
from smppd.store.api import ColdRow, Kind

KEPT: Final = 30 * 86400
"""Seconds until the row of what cannot be read ends by itself; it is claimed long before."""


def convert(blocks: Iterable[tuple[int, bytes]], wall: Callable[[], float]) -> Iterator[ColdRow]:
    """The rows of all that lives in a journal, (place, entries) each in the order of commitment (`store.nodes.Convert`).
    ``wall``: epoch seconds."""
    now = wall()
    joined = Joined(now)
    with breathing():
        for place, block in blocks:
            joined.block(place, block)
            breathe()
    living = joined.living
    while living:
        yield _row(living.pop(next(iter(living))), now)
    for key, fault in joined.unreadable.items():
        yield ColdRow(Kind.INHERITED, fault.kind, b"", key >> 1, int(now) + KEPT, fault.data, shared=True)


def _row(thing: Thing, now: float) -> ColdRow:
    stored = thing.message
    if stored is None:
        if thing.kind == Entry.MAIL:
            expires, _about, name, _frame = read_mail(thing.payload)
            return ColdRow(Kind.MAIL, name, b"", thing.id, expires, thing.payload, shared=True)
        expires, name, _frame = read_parked(thing.payload)
        return ColdRow(Kind.PARKED, name, b"", thing.id, expires, thing.payload, shared=True)
    was = thing.phase
    stored.submitted = was is Phase.SUBMITTED
    stored.released = was is Phase.READY
    stored.held = was is Phase.HELD
    data = write_stored(stored)
    if was is Phase.SUBMITTED:
        digits = Sm(stored.frame).destination_digits
        row = waiting_row(stored.upstream, stored.id, stored.upstream_id, digits, stored.expires, now, data)
        return row._replace(shared=True)
    kind = Kind.QUEUE if was is Phase.QUEUED else Kind.INHERITED
    return ColdRow(kind, stored.lane, b"", stored.id, stored.expires, data, shared=True)
