"""What a purge does about holds: before it destroys a period key it lets every hold gather what that key opens; what is held it
leaves; and when a hold has ended it lets go of what the hold kept, so that what is over retention dies then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Final, NamedTuple

from smppd.audit.trail import Actor, AuditTrail
from smppd.events import AuditEvent
from smppd.pacing import breathing
from smppd.records.capture import Capture
from smppd.records.due import DueKey, add_spans
from smppd.records.holds import Hold, HoldError, Holds, HoldState
from smppd.store.log import Extent, PurgeRows, Records
from smppd.vault.kek import blob_info
from smppd.vault.keys import hold_scope

_DAEMON: Final = Actor("smppd", "")
_MANY: Final = 1000
"""Held rows that are let go of in one transaction."""
_JOINED: Final = 60_000 << 22
"""Ids that are no further apart than this, a minute, are swept as one stretch."""
_FRESH: Final = 60.0
"""Seconds for which what a hold has gathered counts as all of it, though its mark is behind (`capture.YOUNG`)."""
_BEING_MADE: Final = 600.0
"""Seconds for which a key without a document may be that of a hold that is being added."""


class Wanting(NamedTuple):
    """A hold that has to look at all rows up to one before a key may go."""

    hold: Hold
    upto: int


class Keeper:
    """The holds of a store as its purge sees them. For one thread. Methods raise StoreError, and VaultError where a hold
    cannot be read: then nobody knows what is held, and nothing may be destroyed."""

    def __init__(
        self,
        holds: Holds,
        records: Records,
        *,
        trail: AuditTrail | None = None,
        actor: Actor = _DAEMON,
    ) -> None:
        """holds, records: closed with this."""
        self._holds = holds
        self._records = records
        self._trail = trail
        self._actor = actor
        self._wanting: list[Wanting] = []
        self._capture: Capture | None = None
        self._gathered: dict[int, tuple[int, float]] = {}
        """Hold -> the row up to which it has looked just now, and when (monotonic)."""
        self._told: set[int] = set()

    def close(self) -> None:
        """Closes what it was given."""
        self._holds.close()
        self._records.close()

    # -- a look --------------------------------------------------------------------------------------------------------

    def expire(self, now: float) -> int:
        """Ends the holds whose time is over; how many. The trail is told first."""
        over = [one for one in self._holds.active() if one.ends <= now]
        for hold in over:
            action = "not agreed to" if hold.state is HoldState.PENDING else "expired"
            self._tell({"action": action, "hold": hold.number, "authority": hold.authority}, "ended")
            try:
                self._holds.end(hold.number, HoldState.EXPIRED, now)
            except HoldError:
                continue  # released meanwhile, or agreed to
        return len(over)

    def known(self, scopes: Iterable[bytes], now: float) -> frozenset[bytes] | None:
        """The scopes of all holds' keys, for `PurgeRows.destroy_keys`; None while there is one of which there is no document
        yet: a hold is being added. One that stays so was not added; its key goes."""
        living = self._holds.scopes()
        found = set()
        for scope in scopes:
            if not scope.startswith(b"hold/"):
                continue
            if scope not in living:
                wrapped = self._holds.rows.wrapped(scope)
                if wrapped is None:
                    continue
                if self._over(scope) or blob_info(wrapped).created + _BEING_MADE < now:
                    self._holds.rows.destroy_key(scope)  # or it was killed when it had ended
                    continue
                return None
            found.add(scope)
        return frozenset(found)

    def _over(self, scope: bytes) -> bool:
        number = scope.rpartition(b"/")[2]
        hold = self._holds.get(int(number)) if number.isdigit() else None
        return hold is not None and not hold.lives

    def ready(self, due: Sequence[DueKey], listed: Sequence[Extent]) -> list[DueKey]:
        """Those of the due keys of which no hold has anything to gather any more. For the others `gather` is to be called.
        listed: the extents of the whole log."""
        living = self._holds.active()
        self._capture, self._wanting = None, []
        if not living or not due:
            return list(due)
        self._capture = Capture(self._holds, self._records)
        reached = {}
        for hold in living:
            self._holds.make_key(hold)
            upto, at = self._gathered.get(hold.number, (0, 0.0))
            fresh = upto if monotonic() - at < _FRESH else 0
            reached[hold.number] = max(self._capture.reached(hold.number), fresh)
        ready, needed = [], dict.fromkeys(reached, 0)
        for key in due:
            start, end = key.period.start, key.period.end
            last = max((one.last for one in listed if one.touches(start, end)), default=0)
            behind = [one for one in living if one.concerns(key.account, start, end) and reached[one.number] < last]
            for hold in behind:
                needed[hold.number] = max(needed[hold.number], last)
            if not behind:
                ready.append(key)
        self._wanting = [Wanting(one, needed[one.number]) for one in living if needed[one.number]]
        if not self._wanting:
            self._capture = None
        return ready

    # -- steps ---------------------------------------------------------------------------------------------------------

    @property
    def wanting(self) -> bool:
        """Whether there is something to gather before more keys may go."""
        return bool(self._wanting)

    def gather(self) -> bool:
        """A little of it; False when all is gathered now."""
        if self._wanting and self._capture is not None:
            hold, upto = self._wanting[0]
            with breathing():
                more = self._capture.step(hold, upto)
            if not more:
                self._gathered[hold.number] = (upto, monotonic())
                self._wanting.pop(0)
                self._tell_damaged(hold, self._capture)
        if not self._wanting:
            self._capture = None  # and with it the keys it knew
        return bool(self._wanting)

    def kept(self, low: int, high: int) -> set[int]:
        """The ids of held records from one id to another."""
        return self._holds.rows.within(low, high)

    def let_go(self, rows: PurgeRows) -> bool:
        """Lets go of a little of what ended holds have kept; False when nothing is left of them. What is to be swept is written
        down before anything is taken away."""
        living = {one.number for one in self._holds.active()}
        ended = next((one for one in self._holds.rows.holds() if one not in living), None)
        if ended is None:
            return False
        if self._holds.rows.wrapped(hold_scope(ended)) is not None:
            if self._holds.get(ended) is None:
                return False  # it is being added
            self._holds.rows.destroy_key(hold_scope(ended))
        page = self._holds.rows.page(ended, 0, _MANY)
        if page:
            if not add_spans(rows, _spans([row.record for row in page])):
                return True
            self._holds.rows.remove(ended, [row.record for row in page])
        else:
            self._holds.rows.forget(ended)
            self._holds.released(ended)
        return True

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _tell_damaged(self, hold: Hold, capture: Capture) -> None:
        if capture.damaged and hold.number not in self._told:
            self._told.add(hold.number)
            self._tell({"action": "gathered", "hold": hold.number, "damaged": len(capture.damaged)}, "some do not open")

    def _tell(self, what: dict[str, str | int], result: str) -> None:
        if self._trail is not None:
            self._trail.append(AuditEvent.HOLD, self._actor.who, what, result, source=self._actor.source)


def _spans(records: Sequence[int]) -> list[list[int]]:
    """The stretches of rows in which these records stand, ids rising: a row is begun before its records' ids are drawn, so a
    sweep from the first id on finds it (`PurgeRows.stretch`)."""
    spans: list[list[int]] = []
    for record in records:
        if spans and record - spans[-1][1] <= _JOINED:
            spans[-1][1] = record
        else:
            spans.append([record, record])
    return spans
