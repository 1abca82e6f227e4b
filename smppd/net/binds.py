"""Notes binds in the log and the audit trail. Equal binds are gathered into one entry with their number, so that a loop of
binds does not fill a disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from typing import Final

from smppd.events import AuditEvent

log = logging.getLogger("smppd.customers")
REFUSALS: Final = 1000
"""Entries that refused binds are told by in a minute; further peers are told together."""
NAMES_TOLD: Final = 8
"""Names that a reason and a peer are told with in a minute; further ones are told together."""
ACCEPTED: Final = 10_000
"""Different accepted binds that are gathered at one time."""
GATHER: Final = 10.0
"""Seconds over which like accepted binds become one entry of the audit trail, with their count."""
TOLD: Final = 500
"""Entries that one tick tells, a few milliseconds; those behind them come with the next ticks."""
_MINUTE: Final = 60.0

Heard = Callable[[str, dict[str, str]], None]
"""Told of binds for the audit trail: event, fields."""


class RefusedBinds:
    """Refused binds for the log and the audit trail. For each reason, peer and name there is one entry a minute, with the
    number of binds that it stands for, so that a guesser does not fill a disk. The name is shown where it is an account's.
    Of any other name there is a keyed hash only, since it may be a password that was typed into the wrong field."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._told: dict[tuple[str, str, str, str], list[float]] = {}  # until when it is quiet, how many came since
        self._names: dict[tuple[str, str], int] = {}  # how many names of a reason and a peer are among them

    def note(self, reason: str, peer: str, now: float, who: tuple[str, str] = ("", "")) -> None:
        """One refused bind. `who`: what `Authenticator.named` made of the name."""
        key = (reason, peer, *who)
        if key not in self._told and who[0] and self._names.get((reason, peer), 0) >= NAMES_TOLD:
            key = (reason, peer, "", "")
        if key not in self._told and len(self._told) >= REFUSALS:
            key = (reason, "others", "", "")
        entry = self._told.get(key)
        if entry is not None:
            entry[1] += 1
        else:
            self._names[key[:2]] = self._names.get(key[:2], 0) + 1
            self._say(key, 1, now)

    def tick(self, now: float, *, every: bool = False) -> None:
        """Writes what came since the last entry, where that is a minute old: `TOLD` entries at most. ``every``: writes all
        of them at once, before the daemon ends."""
        for key, (until, number) in list(islice(self._told.items(), None if every else TOLD)):
            if until > now and not every:
                break  # in the order of telling
            del self._told[key]
            if number:
                self._say(key, int(number), now)
                continue
            self._names[key[:2]] -= 1
            if not self._names[key[:2]]:
                del self._names[key[:2]]

    def _say(self, key: tuple[str, str, str, str], number: int, now: float) -> None:
        self._told[key] = [now + _MINUTE, 0]
        reason, peer, field, name = key
        fields = {"peer": peer, "reason": reason, "count": str(number)}
        if field:
            fields[field] = name
        log.warning("bind refused", extra={"fields": fields})
        self._heard(AuditEvent.BIND_REFUSED, fields)


class AcceptedBinds:
    """Accepted binds for the audit trail: the first of an account, address and mode at once, those that follow within GATHER
    seconds as one entry with their count."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._told: dict[
            tuple[tuple[str, str], ...], list[float]
        ] = {}  # until when it is gathered, how many came since

    def note(self, fields: dict[str, str], now: float) -> None:
        """One accepted bind."""
        key = tuple(fields.items())
        entry = self._told.get(key)
        if entry is not None:
            entry[1] += 1
        elif len(self._told) >= ACCEPTED:
            self._heard(AuditEvent.BIND_ACCEPTED, fields)  # not gathered; the trail's own queue does that where it must
        else:
            self._say(key, 1, now)

    def tick(self, now: float, *, every: bool = False) -> None:
        """Writes what came since the last entry, where its time is over: `TOLD` entries at most. ``every``: writes all of
        them at once, before the daemon ends."""
        for key, (until, number) in list(islice(self._told.items(), None if every else TOLD)):
            if until > now and not every:
                break  # in the order of telling
            del self._told[key]
            if number:
                self._say(key, int(number), now)

    def _say(self, key: tuple[tuple[str, str], ...], number: int, now: float) -> None:
        self._told[key] = [now + GATHER, 0]
        self._heard(AuditEvent.BIND_ACCEPTED, dict(key) | {"count": str(number)})
