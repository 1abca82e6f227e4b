"""Holds: which records the law forbids to destroy, on whose word, and until when. Each is a sealed document of kind `hold`.

A hold protects from the moment it is there. It begins *pending*, for 72 hours, and becomes *active* when a second person
agrees. It ends by release or by its time. What it keeps of records is `records.capture`'s to gather, and `records.keeping`'s
to let go; here it is said what a hold covers.

The key of a hold is stored before its document and destroyed after the document says that it has ended. So a purge that knows
all holds' keys (`PurgeRows.destroy_keys`) knows all holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Any, Final, NamedTuple

from smppd.records.held import HeldParts
from smppd.store.api import StoreError
from smppd.store.documents import FOREVER, Documents
from smppd.store.holds import HeldRows
from smppd.vault.documents import DocumentSealer
from smppd.vault.held import new_key
from smppd.vault.keys import KeyRing, VaultError, hold_scope

KIND: Final = "hold"
"""Of the documents."""
PENDING: Final = 72 * 3600.0
"""Seconds for which a hold protects that nobody else has agreed to."""
LONGEST: Final = 3653 * 86400.0
"""Seconds for which a hold may be asked: ten years."""
REMEMBERED: Final = 366 * 86400.0
"""Seconds for which it is known that there was a hold; its numbers are forgotten when it ends."""
_TRIES: Final = 8
_ENDLESS: Final = float("inf")


class HoldError(VaultError):
    """It cannot be done to this hold; the text says why."""


class HoldState(StrEnum):
    """What a hold is. EXPIRED: its time is over, or nobody agreed to it in time."""

    PENDING = "pending"
    ACTIVE = "active"
    RELEASED = "released"
    EXPIRED = "expired"


class Hold(NamedTuple):
    """forms: normal forms of a number, none for every number; account: empty for every account; since, until: epoch seconds of
    acceptance, `since <= t < until`. Both a number and an account: the number within the account. authority, reference: who
    demands it, and in which matter. expires, added, ended: epoch seconds. who, second: those who asked and agreed."""

    number: int
    forms: tuple[bytes, ...]
    account: str
    since: float
    until: float
    authority: str
    reference: str
    expires: float
    who: str
    added: float
    state: HoldState = HoldState.PENDING
    second: str = ""
    ended: float = 0.0

    def __repr__(self) -> str:
        return f"<Hold {self.number} {self.state} ***>"

    @property
    def lives(self) -> bool:
        """Whether it protects."""
        return self.state in (HoldState.PENDING, HoldState.ACTIVE)

    @property
    def ends(self) -> float:
        """When it ends by itself, epoch seconds."""
        return min(self.expires, self.added + PENDING) if self.state is HoldState.PENDING else self.expires

    def covers(self, account: str, accepted_ms: int, forms: tuple[bytes, ...]) -> bool:
        """Whether a record of this account and time, from and to numbers in these normal forms, is meant."""
        return (
            self.account in ("", account)
            and self.since <= accepted_ms / 1000 < self.until
            and (not self.forms or any(form in self.forms for form in forms))
        )

    def concerns(self, account: str, start: float, end: float) -> bool:
        """Whether a record of this account that was accepted at `start <= t < end` may be meant."""
        return self.account in ("", account) and self.since < end and self.until > start

    def same(self, other: Hold) -> bool:
        """Whether both were asked for the same."""
        return self[1:8] == other[1:8]


class Holds:
    """All holds of a store. For one thread. Methods raise StoreError, and VaultError for a document that was altered: then
    nobody knows what is held."""

    def __init__(
        self,
        documents: Documents,
        held_rows: HeldRows,
        ring: KeyRing,
        sealer: DocumentSealer,
        released: Callable[[int], object] = lambda _number: None,
    ) -> None:
        """ring: whose KEK wraps the holds' keys. released(number): called when a hold has ended and nothing of it is left;
        again after a kill."""
        self._documents = documents
        self.rows = held_rows
        self.ring = ring
        self._sealer = sealer
        self.released = released
        self.parts = HeldParts(held_rows, ring)

    def close(self) -> None:
        """Closes documents and held rows."""
        self._documents.close()
        self.rows.close()

    # -- what is held --------------------------------------------------------------------------------------------------

    def all(self) -> list[Hold]:
        """Every hold, those that have ended too, in order of number."""
        listed = (self._read(name, sealed) for name, sealed in self._documents.all(KIND))
        return sorted(listed, key=lambda one: one.number)

    def active(self) -> list[Hold]:
        """Those that protect: pending and active ones."""
        return [one for one in self.all() if one.lives]

    def in_force(self) -> list[int]:
        """The numbers of those that protect."""
        return [one.number for one in self.active()]

    def get(self, number: int) -> Hold | None:
        """One hold, None where there is none (any more)."""
        sealed = self._documents.get(KIND, str(number))
        return None if sealed is None else self._read(str(number), sealed)

    def holding(self, record_id: int, account: str, accepted_ms: int, forms: Collection[bytes]) -> int:
        """The number of a hold that covers such a record, 0 for none. forms: normal forms of both its numbers. A record whose
        numbers cannot be read any more is known by its id, if a hold keeps it."""
        living = self.active()
        for one in living:
            if one.covers(account, accepted_ms, tuple(forms)):
                return one.number
        kept = {row.hold for row in self.rows.of(record_id)} if living else set()
        return next((one.number for one in living if one.number in kept), 0)

    def scopes(self) -> dict[bytes, int]:
        """The scopes of the keys of all holds that protect, and their numbers."""
        return {hold_scope(one.number): one.number for one in self.active()}

    # -- changes -------------------------------------------------------------------------------------------------------

    def number(self) -> int:
        """A number for a new hold."""
        return self._documents.number(KIND)

    def add(self, hold: Hold) -> None:
        """A new hold, which protects when this returns: key first, then document."""
        self._make_key(hold)
        if not self._documents.add(KIND, str(hold.number), self._sealed(hold)):
            raise HoldError(f"there is a hold {hold.number} already")

    def asked(self, hold: Hold) -> Hold | None:
        """The hold that protects already for which the same was asked."""
        return next((one for one in self.active() if one.same(hold)), None)

    def activate(self, number: int, second: str) -> Hold:
        """A pending hold becomes active. HoldError where it is none. second: who agreed."""
        return self._change(
            number, (HoldState.PENDING,), lambda one: one._replace(state=HoldState.ACTIVE, second=second)
        )

    def end(self, number: int, state: HoldState, now: float) -> Hold:
        """A hold that protects ends, as released or expired: what it kept cannot be opened with its key when this returns, and
        it is forgotten which number it was about. HoldError where it has ended already."""
        ended = self._change(
            number,
            (HoldState.PENDING, HoldState.ACTIVE),
            lambda one: one._replace(state=state, ended=now, forms=()),
        )
        self.rows.destroy_key(hold_scope(number))
        return ended

    def make_key(self, hold: Hold) -> None:
        """Sees to it that a hold that protects has its key: in a restored backup that was copied while it was added it may
        lack. Then it begins anew."""
        if self.rows.wrapped(hold_scope(hold.number)) is None:
            now = self.get(hold.number)
            if now is None or not now.lives:
                return  # it has ended meanwhile
            self.rows.forget(hold.number)
            while some := self.rows.page(hold.number, 0, 1000):
                self.rows.remove(hold.number, [row.record for row in some])
            self._make_key(hold)

    def _make_key(self, hold: Hold) -> None:
        scope = hold_scope(hold.number)
        self.rows.put_key(scope, self.ring.wrap(scope, new_key(), int(hold.added)))

    def _change(self, number: int, states: tuple[HoldState, ...], change: Callable[[Hold], Hold]) -> Hold:
        name = str(number)
        for _ in range(_TRIES):
            before = self._documents.get(KIND, name)
            if before is None:
                raise HoldError(f"there is no hold {number}")
            hold = self._read(name, before)
            if hold.state not in states:
                raise HoldError(f"hold {number} is {hold.state}")
            after = change(hold)
            until = FOREVER if after.lives else int(after.ended + REMEMBERED)
            if self._documents.replace(KIND, name, before, self._sealed(after), until):
                return after
        raise StoreError(f"hold {number} is being changed by others all the time")

    # -- documents -----------------------------------------------------------------------------------------------------

    def _sealed(self, hold: Hold) -> bytes:
        value = hold._asdict() | {
            "forms": [form.decode("utf-8", "surrogateescape") for form in hold.forms],
            "until": None if hold.until == _ENDLESS else hold.until,
        }
        return self._sealer.seal(KIND, str(hold.number), value)

    def _read(self, name: str, sealed: bytes) -> Hold:
        value: dict[str, Any] = self._sealer.open(KIND, name, sealed)
        try:
            return Hold(
                **value
                | {
                    "forms": tuple(form.encode("utf-8", "surrogateescape") for form in value["forms"]),
                    "until": _ENDLESS if value["until"] is None else value["until"],
                    "state": HoldState(value["state"]),
                }
            )
        except (TypeError, KeyError, ValueError):
            raise HoldError(f"hold {name[:20]} is of an unknown form") from None
