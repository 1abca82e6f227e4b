"""Who looked at whom: the hashes by which the audit trail names people, and the search for one person's among them.

The trail outlives every message, so no hash in it may be one that works for ever. Those of a month are under a key of that
month (scope `looks/2026-11` in keys.db), which the purge destroys 13 months after its end: from then on nobody can tell, with
all keys in hand, whose hash it was.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from typing import Final, NamedTuple

from smppd.audit.trail import AuditTrail, TrailEntry
from smppd.events import AuditEvent
from smppd.vault.kek import KEY_BYTES, Kek, VaultError
from smppd.vault.keys import KeyRows, Period, period_from_label, period_of

KEPT: Final = 396 * 86400.0
"""Seconds after the end of its month for which a key is kept: 13 months."""
PREFIX: Final = b"looks/"
MONTH: Final = "looks"
"""The fact that says which month's key an entry's hashes are under."""
LOOKS: Final = (AuditEvent.REVEAL, AuditEvent.EXPORT, AuditEvent.EVIDENCE, AuditEvent.SEARCH)
"""Entries that name people: by `subjects`, of what was shown, and by `number`, what was searched for."""
PER_VALUE: Final = 60
"""So many records are in one value of an entry, with both parties of each: 66 characters a record."""
_VALUES: Final = 24
_UNREADABLE: Final = "-"
_RETAINED: Final = 10 * 365 * 86400.0  # makes `period_of` give a month


class LookKey:
    """The key of one month."""

    __slots__ = ("_key", "month")

    def __init__(self, month: str, key: bytes) -> None:
        self.month = month
        self._key = key

    def __repr__(self) -> str:
        return f"<LookKey {self.month} ***>"

    def hash(self, form: bytes) -> str:
        """A number (in normal form, `numbering.normalise`) as the trail names it in this month: 32 hexadecimal digits."""
        return blake2b(form, key=self._key, digest_size=16, person=b"smppd-looks").hexdigest()


def month_of(now: float) -> Period:
    """The month of a moment (epoch seconds)."""
    return period_of(int(now), _RETAINED)


def scope_of(month: str) -> bytes:
    """`looks/2026-11`."""
    return PREFIX + month.encode("ascii")


def key_of(kek: Kek, rows: KeyRows, now: float) -> LookKey:
    """The key of the month of `now`, which is made if this is its first look. rows: writable."""
    month = month_of(now).label
    scope = scope_of(month)
    wrapped = rows.get(scope) or rows.put_new(scope, kek.wrap(scope, secrets.token_bytes(KEY_BYTES)))
    return LookKey(month, kek.unwrap(scope, wrapped))


def keys_left(kek: Kek, rows: KeyRows) -> dict[str, LookKey]:
    """Month -> key, of all that are left. rows: only read."""
    found = {}
    for scope, wrapped in rows.scan(PREFIX):
        month = scope.removeprefix(PREFIX).decode("ascii", "replace")
        found[month] = LookKey(month, kek.unwrap(scope, wrapped))
    return found


def due(scopes: Iterable[bytes], now: float) -> list[bytes]:
    """The scopes of keys whose time is over at `now` (epoch seconds)."""
    return [scope for scope in scopes if (month := _month(scope)) is not None and month.end + KEPT <= now]


def _month(scope: bytes) -> Period | None:
    if not scope.startswith(PREFIX):
        return None
    try:
        return period_from_label(scope.removeprefix(PREFIX).decode("ascii", "replace"))
    except VaultError:
        return None


# -- writing -----------------------------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A record that was shown, and the numbers of its parties in normal form, as far as they could be read."""

    record_id: int
    parties: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"<Shown {self.record_id:016x} ***>"


def facts_of(shown: Iterable[Shown], key: LookKey | None, subjects: bool) -> Iterator[dict[str, str | int]]:
    """What entries of the trail say of the records that were looked at, in portions that fit into one entry each: `ids`, `ids1`
    ..., and with `subjects` in the same places `subjects`, `subjects1` ..., the hashes of both parties. At least one portion.
    key: None where the entry names nobody."""
    month: dict[str, str | int] = {} if key is None else {MONTH: key.month}
    every = iter(shown)
    portion = list(islice(every, PER_VALUE * _VALUES))
    while True:
        facts = dict(month)
        for number, at in enumerate(range(0, len(portion), PER_VALUE)):
            some = portion[at : at + PER_VALUE]
            facts[f"ids{number or ''}"] = " ".join(f"{one.record_id:016x}" for one in some)
            if subjects and key is not None:
                facts[f"subjects{number or ''}"] = " ".join(_hashes(one, key) for one in some)
        yield facts
        portion = list(islice(every, PER_VALUE * _VALUES))
        if not portion:
            return


def _hashes(one: Shown, key: LookKey) -> str:
    return ",".join(key.hash(form) for form in one.parties) or _UNREADABLE


# -- finding -----------------------------------------------------------------------------------------------------------


class Look(NamedTuple):
    """A look at a person. searched: the number itself was searched for. ids: the records of that person that were shown."""

    entry: TrailEntry
    searched: bool
    ids: tuple[str, ...]


def looks_at(
    trail: AuditTrail, forms: Iterable[bytes], keys: Mapping[str, LookKey], older: Iterable[str] = ()
) -> Iterator[Look]:
    """The looks at a number, oldest first. forms: its normal forms. keys: of the months that are left. older: hashes of
    entries of a version before there were months. Raises VaultError."""
    wanted, before = tuple(forms), frozenset(older)
    hashes: dict[str, frozenset[str]] = {}
    for entry in trail.entries(events=LOOKS):
        month = entry.what.get(MONTH)
        if month is None:
            meant = before
        else:
            key = keys.get(str(month))
            if key is None:
                continue  # its time is over
            meant = hashes.setdefault(key.month, frozenset(key.hash(form) for form in wanted))
        ids = tuple(_matching(entry.what, meant))
        searched = not meant.isdisjoint(str(entry.what.get("number", "")).split())
        if ids or searched:
            yield Look(entry, searched, ids)


def _matching(what: Mapping[str, str | int], meant: frozenset[str]) -> Iterator[str]:
    for name, value in what.items():
        if not name.startswith("subjects"):
            continue
        ids = str(what.get("ids" + name.removeprefix("subjects"), "")).split()
        for identity, parties in zip(ids, str(value).split(), strict=False):
            if not meant.isdisjoint(parties.split(",")):
                yield identity
