"""Retention: destroys what is past its time, keys first, then record secrets, then what they opened.

A period key goes once the period's end plus the account's retention has passed (`records.due`); from then on that part of
all its records is unreadable. The sweep that follows goes through the log rows that were written in that time: zeroes the
secrets of those records, strips their dead parts, and takes out whole records when billing retention is over too; their
digests stay, so that the chain verifies. Rows at the front of the log in which nothing is kept any more
are deleted; the link that the rest hangs on stays as the anchor. It goes on the audit trail first, so that a front cut off
by somebody else shows.

What a hold covers (`records.holds`) is left: a key waits until every hold has gathered what it opens (`records.keeping`), which
holds no other key up, and a row that a hold keeps is not touched.

What is left to sweep is written down before a key is destroyed, and the sweep acts on whatever key is missing, so a kill
at any moment loses nothing: the next step goes on. A step covers as many rows as the daemon's writer can wait for (`Pace`), and
writes nothing where nothing of them is over, but how far it is, once a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, thread_time
from typing import Final, Self

from smppd.audit.trail import Actor, AuditTrail
from smppd.config import Retain
from smppd.events import AuditEvent
from smppd.pacing import breathe, breathing
from smppd.records import looks
from smppd.records.consistency import ANCHORS, anchor_named
from smppd.records.due import RETAIN, SPANS, TURN, Due, PurgePlan, add_spans
from smppd.records.erasure import Eraser
from smppd.records.keeping import Keeper
from smppd.records.pace import OCTETS, Pace
from smppd.store.api import StoreError
from smppd.store.log import LogRow, PurgeRows, pack_purged, read_purged
from smppd.vault.chain import ChainKeys
from smppd.vault.keys import Part, Period, VaultError, period_scope, read_scope
from smppd.vault.seal import (
    SECRETS_BYTES,
    Content,
    RecordHeader,
    digest_of,
    erase,
    erase_body,
    iter_records,
    read_header,
)

EVERY: Final = 3600.0
"""Seconds between looks for what is due, in the daemon."""

_ANCHORS: Final = 4  # a purge may be killed between this and what it says
_NOTED: Final = 1.0
_FRONT_ROWS: Final = 2000
_SEGMENTS: Final = 64
_HALF: Final = SECRETS_BYTES // 2
_ZERO: Final = bytes(_HALF)
_REST: Final = 0.02
_DUTY: Final = 3.0
_IDLE: Final = 10.0
_FAILED: Final = 60.0
_ELSEWHERE: Final = 10.0
_DAEMON: Final = Actor("smppd", "")


@dataclass(slots=True)
class Purged:
    """Counts of what a purge destroyed. complete: False when what was deleted can still be found in what the back end keeps
    beside its rows, because somebody is reading. ended: holds whose time is over."""

    keys: int = 0
    secrets: int = 0
    parts: int = 0
    records: int = 0
    rows: int = 0
    damaged: int = 0
    complete: bool = True
    unknown: list[str] = field(default_factory=list)
    future: int = 0
    ended: int = 0

    def __bool__(self) -> bool:
        return bool(self.keys or self.secrets or self.parts or self.records or self.rows or self.damaged)

    def counts(self) -> dict[str, int]:
        """For the audit trail."""
        return {name: getattr(self, name) for name in ("keys", "secrets", "parts", "records", "rows", "damaged")}


class Purger:
    """Purges one store, beside the daemon or inside it. For one thread."""

    def __init__(
        self,
        rows: PurgeRows,
        retains: Callable[[], Mapping[str, Retain]],
        id_time: Callable[[int], float],
        *,
        trail: AuditTrail | None = None,
        chain_keys: ChainKeys | None = None,
        actor: Actor = _DAEMON,
        dropped: Callable[[str, Part, Period], object] = lambda _account, _part, _period: None,
        held: Callable[[str, Part, Period], bool] = lambda _account, _part, _period: False,
        keeper: Keeper | None = None,
        erasing: Eraser | None = None,
        also: Callable[[float], object] = lambda _now: None,
    ) -> None:
        """rows: the log and its keys, closed with this. retains(): each account's retention as configured now; those of
        accounts that were removed are remembered. id_time: `ids.id_time`. chain_keys: vouch for what a purge leaves.
        dropped: told of every key that is gone, by this purge or another process's; the daemon gives `ring.drop`, which
        takes it out of memory. held: a key to keep in spite of its age. keeper: the store's holds, closed with this; None only
        where there can be none. erasing: finishes erasures that were begun, or had to wait; closed with this.
        also(now): removes what else is past its time, at each look."""
        self.rows = rows
        self._due = Due(rows, retains, id_time, held)
        self._id_time = id_time
        self._trail = trail
        self._chain_keys = chain_keys
        self._actor = actor
        self._dropped = dropped
        self._keeper = keeper
        self._again = False
        self._turn = True
        self._pace = Pace()
        self._left: list[list[int]] | None = None
        self._left_at = 0
        self._noted = float("-inf")
        self.rested = False
        """Whether the last step took its rests itself (`pacing`)."""
        self._erasing = erasing
        self._also = also
        self._next = self._looked = float("-inf")
        self._seen: set[bytes] = set()
        self._unclean = True  # whoever swept last may have been killed before it could wipe
        self._finished = True
        self.done = Purged()
        """What this pass has destroyed so far; begins anew with each look for what is due."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the log."""
        self.rows.close()
        if self._keeper is not None:
            self._keeper.close()
        if self._erasing is not None:
            self._erasing.close()

    def plan(self, now: float) -> PurgePlan:
        """What is due at `now` (epoch seconds). Changes nothing."""
        return self._due.plan(now)[0]

    # -- doing it ------------------------------------------------------------------------------------------------------

    def step(self, now: float) -> bool:
        """Does a little: erases some records, or looks for what is due (every EVERY seconds) and destroys those keys, or
        sweeps a few rows. False when there is nothing to do before the next look.

        Raises StoreError and VaultError; nothing is half done then, and the next call goes on.
        """
        self.rested = False
        if self._erasing is not None and self._erasing.step(now):
            return True
        if now >= self._next or now < self._looked:  # or the clock was set back
            self.done = Purged()
            soon = self._begin(now)
            self._next, self._looked = now + (_FAILED if soon else EVERY), now
            self._finished = False
            return True
        if self._again:
            self._again = False
            if self._begin(now):
                self._next = min(self._next, now + _FAILED)
            return True
        if self._finished and not self._unclean:
            return False
        keeper = self._keeper
        if keeper is not None and keeper.let_go(self.rows):
            self._unclean = True
            return True
        spans = self._spans()
        if keeper is not None and keeper.wanting and (self._turn or not spans):
            self._turn, self.rested = False, True
            self._again = not keeper.gather()  # then the keys that waited may go
            return True
        self._turn = True
        if spans:
            self.rested = True
            before = thread_time()
            full = self._sweep(spans, now)
            self._pace.took(self.rows.locked, thread_time() - before, full=full)
            return True
        if self._trim(now):
            return True
        if self._unclean and not self._wipe():
            self.done.complete = False
            return False
        self.done.complete = True
        if not self._finished:
            self._finished = True
            self._audit({name: count for name, count in self.done.counts().items() if name not in ("keys", "rows")})
        return False

    def run(self, now: float, progress: Callable[[Purged], object] | None = None) -> Purged:
        """Everything that is due at `now`; returns what was destroyed. progress: called after each step."""
        self._next = float("-inf")
        while self.step(now):
            if progress is not None:
                progress(self.done)
        return self.done

    def _begin(self, now: float) -> bool:
        """Looks for what is due and destroys the keys that no hold needs any more. True where keys stay although they could go,
        because a hold is being added just now: look again soon."""
        self._also(now)
        keeper, known, soon = self._keeper, None, False
        if keeper is not None:
            self.done.ended += keeper.expire(now)
            plan, retains = self._due.plan(now, keeper.ready)
        else:
            plan, retains = self._due.plan(now)
        self.done.unknown, self.done.future = plan.unknown, plan.future
        self._left, self._noted = None, monotonic()
        if not add_spans(self.rows, plan.spans, {RETAIN: retains}):
            return True
        due = plan.due
        if keeper is not None:
            known = keeper.known(self.rows.scopes(), now)
            if known is None:
                due, soon = [], True
        self.done.damaged += self.rows.remove_overdue(now, lambda account: _shortest(retains.get(account)))
        self._unclean = self._unclean or bool(self.done.damaged)
        self._unclean = bool(self.rows.remove_ended(now)) or self._unclean
        over = looks.due(self.rows.scopes(), now)
        if over:
            self.rows.destroy_keys(over)
            self._unclean = True
            self._audit({"looks": " ".join(scope.decode("ascii") for scope in over)})
        if due and not self.rows.destroy_keys([period_scope(*key) for key in due], known):
            due, soon = [], True  # a hold was added, or ended, just now
        if due:
            self._unclean = True
            self.done.keys += len(due)
            for key in due:
                self._dropped(*key)
            self._wipe()
            self._audit({"keys": len(due)})
        self.note_gone({period_scope(*key) for key in due})
        return soon

    def note_gone(self, told: Collection[bytes] = ()) -> None:
        """Tells of keys that another process, or another node, has destroyed, but for those that were told of. StoreError."""
        left = set(self.rows.scopes())
        for scope in self._seen.difference(left, told):
            parsed = read_scope(scope)
            if parsed is not None:
                self._dropped(*parsed)
        self._seen = left

    def _spans(self) -> list[list[int]]:
        """What is left to sweep: as it is in memory, unless something was added since (`TURN`)."""
        turn = self.rows.remembered(TURN, 0)
        if self._left is None or turn != self._left_at:
            self._left, self._left_at = self.rows.remembered(SPANS, []), turn
        return self._left

    def _sweep(self, spans: list[list[int]], now: float) -> bool:
        """The next rows of the first span: secrets first, then the rows, and how far the sweep has come. Whether it had as many
        rows as it may."""
        start, end = spans[0]
        # Asked first: secrets above it may be of a row that is committed while we look.
        bounds = self.rows.bounds()
        rows, more = self.rows.stretch(start, end, self._pace.rows, OCTETS)
        last = rows[-1].seq if more and rows else end
        alive = self._alive()
        first = min(start, rows[0].seq if rows else start)
        if not self._sweep_secrets(rows, first, last, None if bounds is None else bounds[1], alive):
            return False
        known = {name: entry["billing"] for name, entry in self.rows.remembered(RETAIN, {}).items()}
        held = self._held(rows, alive)
        changed, parts, records = [], 0, 0
        for row in rows:
            breathe()
            gone = read_purged(row.digests)
            kept, stripped, before = [], 0, len(gone)
            free = [place for place in range(row.written) if place not in gone]
            for place, packed in zip(free, iter_records(row.records), strict=False):
                head = read_header(packed)
                if head.record_id in held:
                    kept.append(packed)
                    continue
                numbers, body = alive(head, Part.NUMBERS), alive(head, Part.BODY)
                if not numbers and not body:
                    if self._due.kept_since(head, now) + known.get(head.account, float("inf")) <= now:
                        gone[place] = digest_of(packed)
                        continue
                    shorter = packed if head.numbers_gone and head.body_gone else erase(packed)
                elif not body and not head.body_gone and head.content is not Content.HIDE:
                    shorter = erase_body(packed)
                else:
                    shorter = packed
                stripped += shorter is not packed
                kept.append(shorter)
            removed = len(gone) - before
            if stripped or removed:
                digests = pack_purged(gone)
                mac = self._chain_keys.purged(row.seq, digests) if gone and self._chain_keys is not None else None
                changed.append((row, b"".join(kept), digests, mac))
                parts, records = parts + stripped, records + removed
        left = [[last + 1, end], *spans[1:]] if last < end else spans[1:]
        if changed or last >= end or monotonic() - self._noted >= _NOTED:
            if not self.rows.shorten(changed, {SPANS: left}, {TURN: self._left_at}):
                self._left = None
                return False  # erased from meanwhile, by another process, or there is more to sweep: look again
            self._noted = monotonic()
        self._left = left
        self.done.parts += parts
        self.done.records += records
        self._unclean = self._unclean or bool(changed)
        return more

    def _held(self, rows: Sequence[LogRow], alive: Callable[[RecordHeader, Part], bool]) -> set[int]:
        """The ids of records in these rows that a hold keeps. Asked after all their keys: what has none any more and is not
        kept then, no hold can gather."""
        if self._keeper is None:
            return set()
        heads: list[RecordHeader] = []
        for row in rows:
            breathe()
            heads += map(read_header, iter_records(row.records))
        for head in heads:
            alive(head, Part.NUMBERS)
            alive(head, Part.BODY)
        ids = [head.record_id for head in heads]
        return self._keeper.kept(min(ids), max(ids)) if ids else set()

    def _sweep_secrets(
        self,
        rows: Sequence[LogRow],
        start: int,
        last: int,
        newest: int | None,
        alive: Callable[[RecordHeader, Part], bool],
    ) -> bool:
        """Zeroes secrets of what has no key any more, deletes those of records that are no more. False: nothing, look again."""
        named = {row.secrets or row.seq: row for row in rows}
        zeroed = 0
        changed: list[tuple[int, bytes, bytes]] = []
        for seq, old in self.rows.kept_secrets(rows, start, last):
            breathe()
            row = named.get(seq)
            new = bytearray(old)
            if row is None:
                if newest is None or seq >= newest:
                    continue  # its row is being committed
                new = bytearray(len(old))  # its row never was: the disk was full
            else:
                gone = read_purged(row.digests)
                living = (place for place in range(row.written) if place not in gone)
                new[row.written * SECRETS_BYTES :] = bytes(
                    len(new) - row.written * SECRETS_BYTES
                )  # of a slot, what was not used
                for place in gone:
                    new[place * SECRETS_BYTES : (place + 1) * SECRETS_BYTES] = bytes(SECRETS_BYTES)
                for place, packed in zip(living, iter_records(row.records), strict=False):
                    head = read_header(packed)
                    at = place * SECRETS_BYTES
                    if not alive(head, Part.NUMBERS):
                        new[at : at + _HALF] = _ZERO
                    if not alive(head, Part.BODY):
                        new[at + _HALF : at + SECRETS_BYTES] = _ZERO
            if new != old:
                size = len(old) if row is None else row.written * SECRETS_BYTES
                zeroed += sum(old[at : at + _HALF] != new[at : at + _HALF] for at in range(0, size, _HALF))
            if new != old or not any(new):
                changed.append((seq, bytes(old), bytes(new)))
        if not changed:
            return True
        if not self.rows.replace_secrets(changed):
            return False
        self._unclean = True
        self.done.secrets += zeroed
        return True

    def _alive(self) -> Callable[[RecordHeader, Part], bool]:
        """Whether a part of a record has its key. To be asked after the record was read: its key was stored before the
        record."""
        cache: dict[tuple[str, Part, Period], bool] = {}

        def alive(head: RecordHeader, part: Part) -> bool:
            gone = head.numbers_gone if part is Part.NUMBERS else head.body_gone
            period = head.numbers_period if part is Part.NUMBERS else head.body_period
            if gone or period is None:
                return False
            key = (head.account, part, period)
            if key not in cache:
                cache[key] = self.rows.has_key(period_scope(*key))
            return cache[key]

        return alive

    def _trim(self, now: float) -> bool:
        """Deletes the oldest rows while nothing in them is kept, and index segments that no living key can use."""
        rows = self.rows.front(_FRONT_ROWS + 1)
        longest = max((entry["billing"] for entry in self.rows.remembered(RETAIN, {}).values()), default=float("inf"))
        last, link, count = 0, b"", 0
        for seq, chain, size in rows[:-1]:  # the newest row stays: the chain goes on from it
            if size or self._id_time(seq) + longest > now:
                break
            last, link, count = seq, bytes(chain), count + 1
        if last:
            self._tell_ends(rows[:count])
        parsed = map(read_scope, self.rows.scopes())
        starts = [scope[2].start for scope in parsed if scope is not None and scope[1] is Part.NUMBERS]
        oldest = max(last, rows[0][0]) if rows else 0
        listed = self._due.extents()
        # What was written since is behind all of these.
        stale = listed[-1].last + 1 if listed else oldest
        if starts:
            stale = next((one.first for one in listed if one.touches(min(starts), float("inf"))), stale)
        segments = self.rows.trim((last, link) if last else None, oldest, max(oldest, stale), _SEGMENTS)
        self.done.rows += count
        self._unclean = self._unclean or bool(last or segments)
        return bool(last or segments)

    def _tell_ends(self, gone: Sequence[tuple[int, bytes, int]]) -> None:
        """Puts on the trail where the log of each node begins from now on. Where there are several, this trail is not at hand
        for whoever verifies at another machine: there the chain's key vouches for it."""
        ends: dict[int, tuple[int, bytes, int]] = {}
        for seq, chain, _size in gone:
            node = self.rows.node(seq)
            ends[node] = seq, bytes(chain), ends.get(node, (0, b"", 0))[2] + 1
        for node, (seq, chain, count) in sorted(ends.items()):
            if self.rows.several and self._chain_keys is not None:
                before: list[list[str]] = self.rows.remembered(f"{ANCHORS} {node}", [])
                end = anchor_named(seq, chain, self._chain_keys)
                self.rows.remember({f"{ANCHORS} {node}": [*before, end][-_ANCHORS:]})
            self._audit({"rows": count, "anchor": chain.hex(), "row": f"{seq:016x}"})

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _wipe(self) -> bool:
        """False while somebody is reading."""
        if not self.rows.wipe():
            return False
        self._unclean = False
        return True

    def _audit(self, counts: Mapping[str, int | str]) -> None:
        if self._trail is not None and any(counts.values()):
            self._trail.append(AuditEvent.PURGE, self._actor.who, dict(counts), "destroyed", source=self._actor.source)


def _shortest(retain: Mapping[str, float] | None) -> float | None:
    """Seconds for which something with numbers and a text in it may be kept, None where nobody says."""
    return None if retain is None else min(retain["body"], retain["numbers"])


class PurgeThread(threading.Thread):
    """Runs a `Purger` in the daemon until told to stop: a look an hour, and short steps while something is due."""

    def __init__(
        self,
        make: Callable[[], Purger],
        stop: threading.Event,
        clock: Callable[[], float],
        failed: Callable[[str], object],
        ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """ours(): asked in this thread; where another node purges, only keys that are gone are noted. make: builds the purger,
        in this thread. stop: set it, then join. clock: epoch seconds. failed(reason): called in
        this thread when something is wrong; it goes on after a minute."""
        super().__init__(name="purge", daemon=True)
        self._make = make
        self._stop_event = stop
        self._clock = clock
        self._failed = failed
        self._ours = ours

    def run(self) -> None:
        """The thread's loop."""
        purger: Purger | None = None
        while not self._stop_event.is_set():
            began = monotonic()
            try:
                if purger is None:
                    purger = self._make()
                if not self._ours():
                    purger.note_gone()
                    self._stop_event.wait(_ELSEWHERE)
                    continue
                with breathing():
                    more = purger.step(self._clock())
                pause = _IDLE if not more else _REST if purger.rested else max(_REST, _DUTY * (monotonic() - began))
            except (StoreError, VaultError) as error:
                self._failed(f"{type(error).__name__}: {error}")
                pause = _FAILED
            except Exception as error:  # noqa: BLE001  the thread's edge: retention goes on with the next try
                self._failed(type(error).__name__)  # its words may quote what was stored
                pause = _FAILED
            self._stop_event.wait(pause)
        if purger is not None:
            purger.close()
