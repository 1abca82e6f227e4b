"""Reads the feed from any cursor on: pages of lines, made of the committed rows of the log and of the audit trail.

The log itself is what waits for whoever is behind, so nobody's slowness costs memory. What a purge took away before a reader
came so far is said by a line of its own, a gap.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from smppd.audit.trail import AuditTrail
from smppd.feed.lines import (
    ACCEPTED,
    NOBODY,
    About,
    Cursor,
    Line,
    Wanted,
    about_event,
    event_line,
    event_name,
    gap_line,
    masked_parties,
    record_line,
    trail_line,
)
from smppd.ids import id_time
from smppd.message import State, read_events
from smppd.records.places import Place
from smppd.store.log import LogRow, Records, read_purged
from smppd.vault.seal import (
    SECRETS_BYTES,
    Direction,
    PeriodKeys,
    SealError,
    iter_records,
    open_record,
    read_header,
)

PAGE_ROWS: Final = 64
"""Rows of the log that are looked at for a page at most,"""
PAGE_OCTETS: Final = 256 << 10
"""and octets of lines after which it ends."""
TRAIL_ENTRIES: Final = 200
"""Entries of the audit trail for one page."""
TRAIL_LOOK: Final = 1.0
"""Seconds between two looks at the trail."""
REMEMBERED: Final = 200_000
"""Records of which it is remembered whose they are: some 30 MB, with masked numbers 80. Others are read again."""
FORGET: Final = 60.0
"""Seconds after which masked numbers are read again from their records, which may have been erased meanwhile, or their keys
destroyed."""
PAGES: Final = 32
"""Pages that are kept, since several readers come by at about the same time: 8 MiB."""
_TRIES: Final = 5
_NO_SECRETS: Final = bytes(SECRETS_BYTES)
_HALF: Final = SECRETS_BYTES // 2


class Page(NamedTuple):
    """lines: what is told; cursor: how far one is with them; more: whether something more may be there now; gaps: how many of
    the lines are gaps."""

    lines: tuple[Line, ...]
    cursor: Cursor
    more: bool
    gaps: int = 0


class Tail:
    """See the module. For one thread. Raises StoreError and VaultError: then trying again may help."""

    def __init__(
        self,
        records: Records,
        trail: AuditTrail,
        wanted: Wanted,
        keys: Callable[[], PeriodKeys] | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """keys(): what opens numbers, with which lines have them masked; called again every FORGET seconds, for what it gave
        may remember keys that were destroyed. now: monotonic seconds; wall: epoch seconds. The log and the trail stay the
        caller's."""
        self._records = records
        self._trail = trail
        self._wanted = wanted
        self._renewed = keys
        self._keys = None if keys is None else keys()
        self._now = now
        self._wall = wall
        self._about: OrderedDict[int, About] = OrderedDict()
        self._same: dict[tuple[str, bool, int], About] = {}
        self._pages: OrderedDict[Cursor, Page] = OrderedDict()
        self._newest = 0
        self._whole = Place(-1)
        """The end of the newest row that was read to its end."""
        self._trail_head = -1
        self._trail_again = 0.0
        self._forget_at = now() + FORGET

    # -- where there is something --------------------------------------------------------------------------------------

    def look(self) -> int:
        """Looks for new rows; the id of the newest one. Call it before `page`."""
        bounds = self._records.bounds()
        self._newest = max(self._newest, bounds[1]) if bounds else self._newest
        if self._renewed is not None and self._now() >= self._forget_at:
            self._forget_at = self._now() + FORGET
            self._keys = self._renewed()
            self._about.clear()
            self._pages.clear()
        if self._now() >= self._trail_again:
            self._trail_again = self._now() + TRAIL_LOOK
            self._trail_head = self._trail.head()[0]
        return self._newest

    def end(self) -> Cursor:
        """The end of everything that is there now."""
        self.look()
        newest = self._records.row(self._newest) if self._newest else None
        place = Place() if newest is None else Place(newest.seq, _things(newest))
        if newest is None:
            place = Place((self._records.anchor()[1] or -1) + 1)
        return Cursor(place, self._trail.head()[0])

    def behind(self, cursor: Cursor) -> float:
        """Age in seconds of the oldest row that a reader lacks; 0 for none. As of the last `look`."""
        if cursor.log.seq > self._newest or (cursor.log == self._whole and self._whole.seq == self._newest):
            return 0.0
        following = self._records.near(max(1, cursor.log.seq))
        oldest = next((seq for seq in following if seq > cursor.log.seq), cursor.log.seq)
        return max(0.0, self._wall() - id_time(oldest)) if oldest else 0.0

    # -- pages ---------------------------------------------------------------------------------------------------------

    def page(self, after: Cursor) -> Page:
        """What follows a cursor."""
        if self._trail_head < 0:
            self.look()
        known = self._pages.get(after)
        if known is not None:
            self._pages.move_to_end(after)
            return known
        lines: list[Line] = []
        at, gaps = self._from_trail(after, lines)
        more = at.trail < self._trail_head
        if not (at.log == self._whole and self._whole.seq >= self._newest):
            at, more_rows, more_gaps = self._from_log(at, lines)
            more, gaps = more or more_rows, gaps + more_gaps
        page = Page(tuple(lines), at, more, gaps)
        if lines:
            self._pages[after] = page
            while len(self._pages) > PAGES:
                self._pages.popitem(last=False)
        return page

    def _from_trail(self, after: Cursor, lines: list[Line]) -> tuple[Cursor, int]:
        at = after
        if (
            after.trail > self._trail_head
        ):  # which is as old as the last look: entries that are newer may have been read since
            self._trail_head = self._trail.head()[0]
        if after.trail > self._trail_head:
            at = after._replace(trail=self._trail_head)
            lines.append(gap_line(at, after, "restored", self._now_ms()))
            return at, 1
        if after.trail == self._trail_head:
            return at, 0
        for row in self._trail.rows_after(after.trail, TRAIL_ENTRIES):
            at = at._replace(trail=row.id)
            told = trail_line(at, row)
            if told is not None and self._wanted.takes(told[0], told[1]):
                lines.append(told[2])
        return at, 0

    def _from_log(self, at: Cursor, lines: list[Line]) -> tuple[Cursor, bool, int]:
        rows, deleted = self._rows(at.log)
        gaps = 0
        if deleted is not None and at.log != Place() and self._missed(at.log, deleted):
            before, at = at, at._replace(log=Place(deleted + 1))
            lines.append(gap_line(at, before, "purged", self._now_ms()))
            gaps += 1
        if not rows:
            highest = max(self._newest, deleted or 0)
            # Ids rise for ever, so a place behind all of them is one of a store that was put back since.
            if at.log.seq > highest + 1:
                before, at = at, at._replace(log=Place(highest + 1) if highest else Place())
                lines.append(gap_line(at, before, "restored", self._now_ms()))
                gaps += 1
            return at, False, gaps
        if at.log.taken and at.log != self._whole and rows[0].seq != at.log.seq and not gaps:
            # A row of which something was taken stays until a purge: this place is one of another store, or of before.
            before, at = at, at._replace(log=Place(rows[0].seq))
            lines.append(gap_line(at, before, "restored", self._now_ms()))
            gaps += 1
        octets = 0
        for row in rows:
            try:
                for at, line, gap in self._row(row, at):  # noqa: B020  it is where one goes on
                    if line is not None:
                        lines.append(line)
                        gaps += gap
                        octets += len(line.data)
                        if octets >= PAGE_OCTETS:
                            return at, True, gaps
            except SealError:  # somebody wrote into the file: `log verify` says more, and the rows behind it go on
                before, at = at, at._replace(log=Place(row.seq + 1))
                lines.append(gap_line(at, before, "damaged", self._now_ms()))
                gaps += 1
                continue
            if row.seq >= self._whole.seq:
                self._whole = at.log
        return at, len(rows) > PAGE_ROWS, gaps

    def _rows(self, after: Place) -> tuple[list[LogRow], int | None]:
        """The rows from a place on, and the last one that a purge deleted, both as they are at the same moment."""
        above = after.seq if after == self._whole else after.seq - 1
        deleted = self._records.anchor()[1]
        for _ in range(_TRIES):
            rows = self._records.rows(above, PAGE_ROWS + 1)  # one of them may be over already
            now = self._records.anchor()[1]
            if now == deleted:
                break
            deleted = now
        return rows, deleted

    def _missed(self, place: Place, deleted: int) -> bool:
        """Whether something behind a place was in a row that was deleted. Of a row that is gone nobody can tell whether all of
        it was taken, unless it was read here."""
        return place.seq <= deleted and not (place.seq == deleted and place == self._whole)

    def _now_ms(self) -> int:
        return int(self._wall() * 1000)

    # -- a row ---------------------------------------------------------------------------------------------------------

    def _row(self, row: LogRow, at: Cursor) -> Iterator[tuple[Cursor, Line | None, bool]]:
        """(the cursor behind it, its line if it has one, whether that is a gap) of each thing of a row behind a cursor."""
        taken = at.log.taken if at.log.seq == row.seq else 0
        events = list(read_events(row.events))
        refused = {event.id for event in events if event.state == State.REFUSED}
        gone = read_purged(row.digests)
        living = iter_records(row.records)
        secrets: bytes | None = None
        for number in range(row.written):
            cursor = Cursor(Place(row.seq, number + 1), at.trail)
            if number in gone:
                if number >= taken:
                    before = Cursor(Place(row.seq, number), at.trail)
                    yield cursor, gap_line(cursor, before, "purged", self._now_ms()), True
                continue
            packed = next(living, None)
            if packed is None:
                raise SealError(f"log row {row.seq:016x} lacks records")
            if number < taken:
                continue
            if secrets is None and self._keys is not None:
                secrets = self._records.secrets(row)
            identity, accepted_ms, about = self._record(packed, number, secrets)
            self._remember(identity, about)
            told = not about.mo and identity not in refused and self._wanted.takes(about.account, ACCEPTED)
            yield cursor, record_line(cursor, identity, accepted_ms, about) if told else None, False
        for number, event in enumerate(events, row.written):
            if number < taken:
                continue
            cursor = Cursor(Place(row.seq, number + 1), at.trail)
            about = about_event(event, self._of(event.id))
            told = self._wanted.takes(about.account, event_name(event, about))
            yield cursor, event_line(cursor, event, about) if told else None, False
        things = row.written + len(events)
        if taken > things or not things:  # a reader says where it is, and may be wrong
            yield Cursor(Place(row.seq, things), at.trail), None, False

    def _record(self, packed: bytes, number: int, secrets: bytes | None) -> tuple[int, int, About]:
        header = read_header(packed)
        mo = header.direction is Direction.MO
        if self._keys is None or header.numbers_gone:
            key = (header.account, mo, header.parts)
            about = self._same.get(key)
            if about is None:
                about = self._same[key] = About(*key)
            return header.record_id, header.accepted_ms, about
        # Of the secrets only the numbers' half: the text is not opened.
        mine = (secrets or b"")[number * SECRETS_BYTES :][:_HALF].ljust(SECRETS_BYTES, b"\0")
        source = destination = ""
        try:
            opened = open_record(packed, self._keys, mine)
            if opened.numbers is not None:
                source, destination = masked_parties(opened.numbers.addresses)
        except (SealError, ValueError):  # it was altered, as `log verify` says
            pass
        return header.record_id, header.accepted_ms, About(header.account, mo, header.parts, source, destination)

    def _remember(self, identity: int, about: About) -> None:
        self._about[identity] = about
        if len(self._about) > REMEMBERED:
            self._about.popitem(last=False)

    def _of(self, identity: int) -> About:
        """Whose record it is; NOBODY where there is none (any more)."""
        about = self._about.get(identity)
        if about is not None:
            return about
        for seq in self._records.near(identity):
            row = self._records.row(seq)
            try:
                about = None if row is None else self._found(row, identity)
            except SealError:
                about = None  # somebody wrote into that row, which is told where it stands
            if about is not None:
                return about
        return NOBODY

    def _found(self, row: LogRow, identity: int) -> About | None:
        """Whose record it is, where it stands in this row."""
        gone = read_purged(row.digests)
        places = (place for place in range(row.written) if place not in gone)
        for place, packed in zip(places, iter_records(row.records), strict=False):
            if self._keys is None:  # it costs little, and events of its neighbours are likely to follow
                found, _at, about = self._record(packed, place, None)
                self._remember(found, about)
            elif read_header(packed).record_id == identity:
                found, _at, about = self._record(packed, place, self._records.secrets(row))
                self._remember(found, about)
                break
        return self._about.get(identity)


def _things(row: LogRow) -> int:
    return row.written + sum(1 for _ in read_events(row.events))
