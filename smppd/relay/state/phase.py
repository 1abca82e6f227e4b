"""The phases of a message. Each phase is the name of a list that the message stands in, and the table says which phase may
follow which.

`relay.state.phases` moves messages between the lists. No other code can, since ``Message.phase`` cannot be assigned.
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
    PINNED = 5
    """A part of a long message that waits for the one carrier to which another part went: ``UpstreamState.pinned_parts``."""
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


NAMES: Final = tuple(Phase)
"""The phases by their numbers."""

_P = Phase
FOLLOWS: Final = _table(
    (_P.STORING, (_P.HELD, _P.QUEUED, _P.ROW, _P.RELEASING, _P.DONE)),
    # After a start or out of a row: as the spool has it. To UNKNOWN also after a restore, where nobody knows.
    (_P.RESTORED, (_P.HELD, _P.QUEUED, _P.UNKNOWN, _P.SUBMITTED, _P.SHELVED, _P.DONE)),
    # Its message is whole, or its time is over.
    (_P.HELD, (_P.QUEUED, _P.DONE)),
    # To QUEUED: into another lane, since the routes have changed. To ROW: into another lane, where all older ones are rows. To
    # SUBMITTED, here and below: the carrier's answer to an earlier attempt came very late.
    (_P.QUEUED, (_P.QUEUED, _P.ROW, _P.PINNED, _P.RELEASING, _P.SUBMITTED, _P.DONE)),
    (_P.ROW, (_P.DONE,)),
    (_P.PINNED, (_P.QUEUED, _P.RELEASING, _P.SUBMITTED, _P.DONE)),
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


# Sets of phases: a bit for each, at its number. Written as numbers, so that compiled code has them as such; a test holds them
# against the names.
WAITING: Final = 0b0_0011_1110_1100
"""Phases in memory before a carrier has it: what ``Account.queued`` counts beside rows."""
RESERVING: Final = 0b0_0001_1100_0000
"""Phases in which it takes a place of its carrier: what ``UpstreamState.reserved`` counts."""
FILED: Final = 0b0_0000_0010_1100
"""Phases in which it is found by its addresses, and when its validity ends."""
RELEASED: Final = 0b0_0011_1100_0000
"""Phases that the spool knows as released: after a crash nobody can say whether it was sent."""
OUT: Final = 0b0_1111_0000_0000
"""Phases in which a carrier may have it, so that nobody can say that it was not delivered."""

IS_HELD: Final = 0b0_0000_0000_0100
IS_IN_LANE: Final = 0b0_0000_0001_1000
"""QUEUED and ROW."""
IS_RELEASING: Final = 0b0_0000_0100_0000
IS_SENT: Final = 0b0_0001_0000_0000
IS_ROW: Final = 0b0_0000_0001_0000
WITH_CARRIER: Final = 0b0_1100_0000_0000
"""Phases in which a carrier has it, and its receipt is waited for."""


def customer_state(phase: Phase) -> State:
    """What query_sm tells of a message that is still on its way."""
    return State.ACCEPTED if WITH_CARRIER >> phase & 1 else State.ENROUTE
