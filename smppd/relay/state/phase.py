"""Where a message is on its way: each phase is a list with a name, and this table says which may follow which.

`relay.state.phases` moves messages between the lists. No other code can: ``Message.phase`` can be read only.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from smppd.message import State


class Phase(IntEnum):
    """The lists, and who stands in them."""

    STORING = 0
    """New: in the batch that accepts it, and in no list yet; or in the log alone, where policy refused it."""
    RESTORED = 1
    """Read back from the disk, and in no list yet."""
    HELD = 2
    """A part of a long message that policy wants to see whole (`relay.state.held`)."""
    QUEUED = 3
    """Waits in memory for its carrier: ``Lane.hot``, oldest first."""
    ROW = 4
    """Waits on disk for its carrier, or is in the batch that brings it there: counted by ``Lane.backlog``."""
    ASIDE = 5
    """A part of a long message that waits for one carrier alone, since another part went there: ``UpstreamState.aside``."""
    RELEASING = 6
    """Its release to a carrier is in a batch that is not durable yet: counted by ``Lane.leaving``."""
    READY = 7
    """May be sent, its release is durable: ``UpstreamState.ready``."""
    SENT = 8
    """Sent, and its answer is waited for: ``Session.outstanding`` of a link."""
    UNKNOWN = 9
    """Sent, and no answer came: ``UpstreamState.unknown``."""
    SUBMITTED = 10
    """Its carrier has it, and its receipt is waited for: ``UpstreamState.ids``."""
    SHELVED = 11
    """As SUBMITTED, as a cold row: counted by ``UpstreamState.cold_waiting``."""
    DONE = 12
    """Over: in no list."""


def _table(*pairs: tuple[Phase, tuple[Phase, ...]]) -> tuple[int, ...]:
    """For each phase, in order, a bit for each that may follow."""
    follows = dict(pairs)
    return tuple(sum(1 << after for after in follows[phase]) for phase in Phase)


_P = Phase
FOLLOWS: Final = _table(
    (_P.STORING, (_P.HELD, _P.QUEUED, _P.ROW, _P.RELEASING, _P.DONE)),
    # After a start or out of a row: as the spool has it. To UNKNOWN also after a restore, where nobody knows.
    (_P.RESTORED, (_P.HELD, _P.QUEUED, _P.UNKNOWN, _P.SUBMITTED, _P.SHELVED, _P.DONE)),
    # Its message is whole, or its time is over.
    (_P.HELD, (_P.QUEUED, _P.DONE)),
    # To QUEUED: into another lane, since the routes have changed. To SUBMITTED, here and below: the carrier's answer to an
    # earlier attempt came very late.
    (_P.QUEUED, (_P.QUEUED, _P.ASIDE, _P.RELEASING, _P.SUBMITTED, _P.DONE)),
    (_P.ROW, (_P.DONE,)),
    (_P.ASIDE, (_P.QUEUED, _P.RELEASING, _P.SUBMITTED, _P.DONE)),
    # Back to QUEUED: its carrier went away, pauses, or older ones were put back meanwhile.
    (_P.RELEASING, (_P.READY, _P.QUEUED, _P.SUBMITTED, _P.DONE)),
    (_P.READY, (_P.SENT, _P.QUEUED, _P.SUBMITTED, _P.DONE)),
    # Back to QUEUED: its carrier said "later".
    (_P.SENT, (_P.SUBMITTED, _P.UNKNOWN, _P.QUEUED, _P.DONE)),
    (_P.UNKNOWN, (_P.QUEUED, _P.SUBMITTED, _P.DONE)),
    (_P.SUBMITTED, (_P.SHELVED, _P.DONE)),
    (_P.SHELVED, (_P.DONE,)),
    (_P.DONE, ()),
)
"""For each phase the bits of those that may follow it."""


def _bits(*phases: Phase) -> int:
    return sum(1 << phase for phase in phases)


WAITING: Final = _bits(_P.HELD, _P.QUEUED, _P.ASIDE, _P.RELEASING, _P.READY, _P.SENT, _P.UNKNOWN)
"""Phases in memory before a carrier has it: what ``Account.queued`` counts beside rows."""
RESERVING: Final = _bits(_P.RELEASING, _P.READY, _P.SENT)
"""Phases in which it takes a place of its carrier: what ``UpstreamState.reserved`` counts."""
FILED: Final = _bits(_P.HELD, _P.QUEUED, _P.ASIDE)
"""Phases in which it is found by its addresses, and when its validity ends."""
RELEASED: Final = _bits(_P.RELEASING, _P.READY, _P.SENT, _P.UNKNOWN)
"""Phases that the spool knows as released: after a crash nobody can say whether it was sent."""
OUT: Final = _bits(_P.SENT, _P.UNKNOWN, _P.SUBMITTED, _P.SHELVED)
"""Phases in which a carrier may have it, so that nobody can say that it was not delivered."""


def customer_state(phase: Phase) -> State:
    """What query_sm tells of a message that is still on its way."""
    return State.ACCEPTED if phase in (Phase.SUBMITTED, Phase.SHELVED) else State.ENROUTE
