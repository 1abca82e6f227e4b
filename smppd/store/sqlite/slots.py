"""Record secrets written ahead: where batches are small, their commit needs no commit of keys.db before it.

A slot is a row of `secrets` that is durable before any record is sealed with what it holds. A batch of few records takes its
secrets from one slot, and its log row names that; so a message waits for one sync instead of two. Slots are made many at a
time, and what a batch left of its slot is cut off when the next ones are made. A slot serves one log row and no second one,
so what erasure and purges destroy is as it was: the secrets of one record, in one place.

Whoever sees a slot that no log row names must not take it for rubbish: it may be about to be used. Only the daemon that made
it removes it (at its end, when batches become large, or at the next start), and only a purge of the log row that names it
destroys what is in it. A slot is told by its size: one octet, which holds nothing, more than some secrets. See docs/adr/0010.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from smppd.store.api import Batch
from smppd.vault.seal import SECRETS_BYTES

SLOT_RECORDS: Final = 16
"""Records that one slot has secrets for."""

IS_SLOT: Final = f"length(data) % {SECRETS_BYTES} = 1"
"""SQL: whether a row of `secrets` is a slot, unused, used, or cut to what was used of it."""
_MADE: Final = 16
_SMALL: Final = 3  # small batches in a row after which slots are made
_NEWEST: Final = 256  # rows of `secrets` that are looked through for slots that an earlier run left


class Slot(NamedTuple):
    """Record secrets that are durable before they are used: the row of `secrets` and what it holds."""

    id: int
    secrets: bytes

    def __repr__(self) -> str:
        return f"<Slot {self.id:016x} ***>"


@dataclass
class Plan:
    """What a batch does to `secrets` beside its data. ``slot``: the one its log row names, None where it has a row of its
    own; ``count``: its records. ``new``: slots to make with it. ``gone``: slots to remove. ``cut``: (slot, records) to cut."""

    slot: Slot | None = None
    count: int = 0
    new: list[Slot] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    cut: list[tuple[int, int]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether keys.db stays as it is."""
        return not (self.new or self.gone or self.cut)


class Ahead:
    """The slots of one running store; on the reactor thread, but for ``write`` and ``sweep``, which are the writer's."""

    def __init__(self, new_id: Callable[[], int]) -> None:
        self._new_id = new_id
        self._ready: deque[Slot] = deque()
        self._lent: Slot | None = None  # to the batch that is being filled
        self._gone: list[int] = []
        self._used: list[tuple[int, int]] = []
        self._small = 0

    def __repr__(self) -> str:
        return f"<Ahead {len(self._ready)} ready>"

    @property
    def ready(self) -> int:
        """How many slots are ready, beside the one that the current batch has."""
        return len(self._ready)

    def give(self, batch: Batch) -> None:
        """Lets a batch that has no record yet take its secrets from a slot. ``batch``: the one that is being filled."""
        if self._ready and self._lent is None and not batch.secrets:
            self._lent = self._ready.popleft()
            batch.ahead = self._lent.secrets

    def plan(self, batch: Batch) -> Plan:
        """The batch is complete, and another is being filled."""
        slot, self._lent = self._lent, None
        count = len(batch.secrets)
        plan = Plan(count=count)
        if slot is not None:
            if not count:
                self._ready.appendleft(slot)
            elif batch.drawn == count:
                plan.slot = slot
            else:
                self._gone.append(slot.id)  # its secrets stand in the batch's own row too
        if count > SLOT_RECORDS:
            self._small = 0
            # Batches are large: one more sync is nothing to them, and slots would only get old.
            self._gone.extend(one.id for one in self._ready)
            self._ready.clear()
        elif count:
            self._small += 1
            if plan.slot is None and not self._ready and self._small > _SMALL:
                plan.new = [Slot(self._new_id(), os.urandom(SLOT_RECORDS * SECRETS_BYTES)) for _ in range(_MADE)]
        if plan.slot is None and (count or plan.new):
            # keys.db is written anyway.
            plan.gone, self._gone = self._gone, []
            plan.cut, self._used = self._used, []
        return plan

    def stored(self, plan: Plan) -> None:
        """The batch is durable, and so are its new slots."""
        self._ready.extend(plan.new)
        if plan.slot is not None:
            self._used.append((plan.slot.id, plan.count))

    def lost(self, plan: Plan) -> None:
        """The batch was not stored; of its slots nobody knows."""
        self._gone.extend(plan.gone)
        self._used.extend(plan.cut)
        self._gone.extend(one.id for one in plan.new)
        if plan.slot is not None:
            self._gone.append(plan.slot.id)

    def end(self, batch: Batch, db: sqlite3.Connection) -> None:
        """Removes what was not used; when the writer has ended. ``batch``: the last one, which is not going to be stored. Where
        the disk does not let it, the next start does it."""
        self.lost(self.plan(batch))
        gone = [*self._gone, *(one.id for one in self._ready)]
        self._ready.clear()
        with suppress(sqlite3.Error):
            _tidy(db, Plan(gone=gone, cut=self._used))


def write(db: sqlite3.Connection, plan: Plan) -> None:
    """Makes, removes and cuts slots, in the caller's transaction."""
    if plan.gone:
        db.executemany("DELETE FROM secrets WHERE seq = ?", [(identity,) for identity in plan.gone])
    if plan.cut:
        db.executemany(
            "UPDATE secrets SET data = CAST(substr(data, 1, ?) || x'00' AS BLOB) WHERE seq = ?",
            [(count * SECRETS_BYTES, identity) for identity, count in plan.cut],
        )
    if plan.new:
        marks = ",".join(["(?, ?)"] * len(plan.new))
        values = [value for one in plan.new for value in (one.id, one.secrets + b"\0")]
        db.execute(f"INSERT INTO secrets VALUES {marks}", values)


def sweep(keys: sqlite3.Connection, data: sqlite3.Connection) -> None:
    """Removes the slots that an earlier run left unused, and cuts those it left uncut. At the start, before anything is
    written."""
    slots = [
        row[0]
        for row in keys.execute(
            f"SELECT seq FROM (SELECT seq, data FROM secrets ORDER BY seq DESC LIMIT ?) WHERE {IS_SLOT}", (_NEWEST,)
        ).fetchall()
    ]
    if slots:
        used = dict(
            data.execute(
                "SELECT secrets, count FROM log WHERE seq > ? AND secrets IS NOT NULL", (min(slots),)
            ).fetchall()
        )
        whole = {
            row[0]
            for row in keys.execute(
                "SELECT seq FROM secrets WHERE seq >= ? AND length(data) = ?",
                (min(slots), SLOT_RECORDS * SECRETS_BYTES + 1),
            ).fetchall()
        }
        cut = [(slot, used[slot]) for slot in slots if slot in used and slot in whole]
        _tidy(keys, Plan(gone=[slot for slot in slots if slot not in used], cut=cut))


def _tidy(db: sqlite3.Connection, plan: Plan) -> None:
    if not plan.empty:
        db.execute("BEGIN IMMEDIATE")
        try:
            write(db, plan)
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
