"""Gathers what holds keep: for each record that a hold covers, the keys of its parts, before its period key and secrets die.

A hold comes along the log in the order of its rows, in small steps, and remembers how far it is together with what it has
kept. So a kill costs one step, and doing it twice changes nothing. It is done when a hold is added, and by the purge before it
destroys a period key, for the records that came later. Records whose period died, and that another hold still keeps, are taken
from that one.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import thread_time
from typing import Final

from smppd.numbering import REGIONS, normalise
from smppd.pacing import breathe
from smppd.records.holds import Hold, Holds
from smppd.records.lookup import RecordRows
from smppd.records.pace import LEAST, OCTETS, Pace
from smppd.records.search import Blinds, indexed, periods, windows
from smppd.store.holds import HeldRow, Mark
from smppd.store.log import Extent, Records, read_purged
from smppd.vault.held import HoldKey
from smppd.vault.keys import Part, Period, PeriodKey, VaultError, hold_scope, period_scope
from smppd.vault.numbers import blind
from smppd.vault.seal import (
    INDEX_BYTES,
    NO_KEYS,
    SECRETS_BYTES,
    NumbersPart,
    PartKeys,
    SealError,
    iter_indexes,
    iter_records,
    iter_times,
    open_record,
    part_keys,
    read_header,
)

YOUNG: Final = 3_600_000 << 22
"""In ids: an hour. A commit that a node's lost connection holds up for longer is not seen by holds that went by."""
_MOST_ROWS: Final = 64
"""Log rows that are read at a time at most."""
_PAGES: Final = 32
"""So many times these, where nothing of them may have to be kept."""
_MANY: Final = 256
"""Records that are kept in one transaction; of what others keep, looked through in a step."""
_KEYS: Final = 256
_U64: Final = struct.Struct("!Q")
_PAIR: Final = struct.Struct("!QQ")
_ENDLESS: Final = (1 << 63) - 1
_NOWHERE: Final = bytes(INDEX_BYTES)
"""Blind index of a number that is not known any more."""
_NO_REGION: Final = 8
"""After so many records of an account of which no region explains a number, none is looked for."""


class _PeriodKeys:
    """Period keys as they are stored now, whoever else has made or destroyed some. `seal.PeriodKeys`."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._known: OrderedDict[tuple[str, Part, int], PeriodKey | None] = OrderedDict()

    def existing(self, account: str, part: Part, period: Period) -> PeriodKey | None:
        place = (account, part, period.code)
        if place in self._known:
            self._known.move_to_end(place)
            return self._known[place]
        scope = period_scope(account, part, period)
        wrapped = self._holds.rows.wrapped(scope)
        key = None
        if wrapped is not None:
            key = PeriodKey(account, part, period, self._holds.ring.unwrap(scope, wrapped))
        self._known[place] = key
        while len(self._known) > _KEYS:
            self._known.popitem(last=False)
        return key


def _same(parts: PartKeys, _record: int) -> PartKeys:
    return parts


class _Forms:
    """The normal forms in which a record's numbers were indexed. They depend on the region that the account had then, which is
    not kept: it is found by comparing with the record's own blind index."""

    def __init__(self) -> None:
        self._regions: dict[str, str | None] = {}
        self._failed: dict[str, int] = {}

    def of(
        self,
        numbers: NumbersPart,
        account: str,
        key: PeriodKey | None,
        indexes: tuple[bytes | None, bytes | None],
        likely: tuple[bytes, ...],
    ) -> tuple[bytes, bytes]:
        """Of source and destination. key: of the record's numbers; without it they are taken as they came. likely: forms that
        are tried first. Raises ValueError for what are no addresses."""
        octets = numbers.addresses
        end = octets.index(0, 2)
        source = (octets[2:end], octets[0])
        destination = (octets[end + 3 : octets.index(0, end + 3)], octets[end + 1])
        known = {} if key is None else {blind(key, form): form for form in likely}
        return (
            known.get(indexes[0] or b"") or self._one(*source, account, key, indexes[0]),
            known.get(indexes[1] or b"") or self._one(*destination, account, key, indexes[1]),
        )

    def _one(self, digits: bytes, ton: int, account: str, key: PeriodKey | None, index: bytes | None) -> bytes:
        plain = normalise(digits, ton)
        if key is None or index is None or blind(key, plain) == index:
            return plain
        known = self._regions.get(account)
        if known is not None:
            form = normalise(digits, ton, 0, known)
            if blind(key, form) == index:
                return form
        if self._failed.get(account, 0) < _NO_REGION:
            for region in sorted(REGIONS):
                form = normalise(digits, ton, 0, region)
                if blind(key, form) == index:
                    self._regions[account] = region
                    return form
            self._failed[account] = self._failed.get(account, 0) + 1
        return plain


class Capture:
    """One pass over the log for some holds. For one thread. Methods raise StoreError, and VaultError where a document or key
    was altered."""

    def __init__(self, holds: Holds, records: Records) -> None:
        self._holds = holds
        self._records = records
        self._reader = RecordRows(records)
        self._keys = _PeriodKeys(holds)
        self._forms = _Forms()
        self._blinds: dict[int, tuple[int, Blinds]] = {}
        self._windows: dict[int, tuple[int, list[Extent]]] = {}
        self._pace = Pace()
        self._at: dict[int, int] = {}
        self.damaged: set[int] = set()
        """Ids of records that a hold covers or may cover and that do not open: they were altered."""

    def reached(self, hold: int) -> int:
        """The row of the log up to which a hold has looked at all; 0 where it has not begun."""
        return max(self._noted(hold), self._at.get(hold, 0))

    def _noted(self, hold: int) -> int:
        mark = self._holds.rows.mark(hold, Mark.ROWS)
        return int(_U64.unpack(mark)[0]) if len(mark) == _U64.size else 0

    def begin(self) -> int:
        """The oldest row there is; 0 for none."""
        bounds = self._records.bounds()
        return 0 if bounds is None else bounds[0]

    def end(self) -> int:
        """The newest row there is; 0 for none."""
        bounds = self._records.bounds()
        return 0 if bounds is None else bounds[1]

    def step(self, hold: Hold, upto: int) -> bool:
        """A little for one hold: False when all rows up to `upto` have been looked at, or the hold has ended meanwhile."""
        key = self._holds.parts.key(hold.number)
        if key is None:
            return False
        others = self._holds.rows.mark(hold.number, Mark.OTHERS)
        place = _PAIR.unpack(others) if len(others) == _PAIR.size else (0, 0)
        if place[0] < _ENDLESS:
            return self._others(hold, key, place)
        after = self.reached(hold.number)
        if after >= upto:
            return False
        before = thread_time()
        try:
            return self._rows(hold, key, after, upto)
        finally:
            self._pace.took(self._holds.rows.locked, thread_time() - before, full=True)

    # -- along the log -------------------------------------------------------------------------------------------------

    def _rows(self, hold: Hold, key: HoldKey, after: int, upto: int) -> bool:
        covered = min(self._records.indexed(), upto)
        if after < covered:
            window = next((one for one in self._listed(hold, covered) if one.last > after), None)
            if window is None:
                return self._keep(hold, [], after=covered)
            if hold.forms:
                ids = indexed(self._records, self._searched(hold, upto), window)
                kept = self._kept(hold, key, self._by_id(sorted(ids)))
                return self._keep(hold, kept, after=min(window.last, covered))
            start, end = max(after, window.first - 1), min(window.last, covered)
        else:
            start, end = after, upto
        every: list[int] = []
        last = start
        number = min(self._pace.rows, _MOST_ROWS)
        octets = OCTETS
        for _ in range(_PAGES):  # what has nothing of it needs no mark of its own
            page = self._records.packed(last, end, number)
            last = page[-1][0] if len(page) == number else end
            octets -= sum([len(block) for _, block in page])
            if octets < 0:
                self._pace.rows = LEAST
                number = LEAST
            every = [seq for seq, block in page if self._may(hold, block, upto)]
            if every or last >= end:
                break
        return self._keep(hold, self._kept(hold, key, self._standing(every)), after=last)

    def _listed(self, hold: Hold, covered: int) -> list[Extent]:
        known = self._windows.get(hold.number)
        if known is None or known[0] != covered:
            bounds = self._records.bounds()
            lowest = covered + 1 if bounds is None else bounds[0]
            known = (covered, windows(self._records, covered, lowest, hold.since, hold.until))
            self._windows[hold.number] = known
        return known[1]

    def _searched(self, hold: Hold, upto: int) -> Blinds:
        """The blind indexes of a hold's numbers in every period that a row up to `upto` may be of."""
        known = self._blinds.get(hold.number)
        if known is None or known[0] < upto:
            accounts = frozenset((hold.account,)) if hold.account else None
            living = periods(self._records, accounts)
            known = (upto, Blinds(self._keys, hold.forms, living, hold.since, hold.until))
            self._blinds[hold.number] = known
        return known[1]

    def _may(self, hold: Hold, block: bytes, upto: int) -> bool:
        """Whether a row may have a record that the hold covers, without opening any: of a number only where its index
        occurs."""
        breathe()
        if hold.account and hold.account.encode() not in block:
            return False
        if not hold.forms:
            return True
        try:
            times = [accepted for _, accepted in iter_times(block)]
            if not times:
                return False
            blinds = self._searched(hold, upto).within(min(times), max(times))
            return any(index in blinds for index, _ in iter_indexes(block))
        except SealError:
            return True  # whoever reads it says which row it is

    def _by_id(self, ids: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
        """(packed record, its secrets) of records."""
        for record_id in ids:
            try:
                found = self._reader.packed(record_id)
            except SealError:
                self.damaged.add(record_id)
                continue
            if found is not None:
                yield found[1], found[2]

    def _standing(self, rows: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
        """(packed record, its secrets) of log rows."""
        for seq in rows:
            row = self._records.row(seq)
            if row is None:
                continue
            secrets = self._records.secrets(row)
            try:
                gone = read_purged(row.digests)
                places = (place for place in range(row.written) if place not in gone)
                for place, packed in zip(places, iter_records(row.records), strict=False):
                    some = secrets[place * SECRETS_BYTES :][:SECRETS_BYTES]
                    yield packed, some.ljust(SECRETS_BYTES, b"\0")
            except VaultError:
                self.damaged.add(seq)

    def _kept(self, hold: Hold, key: HoldKey, standing: Iterable[tuple[bytes, bytes]]) -> Iterator[HeldRow]:
        """What the hold has to keep of these records."""
        for packed, secrets in standing:
            breathe()
            try:
                head = read_header(packed)
            except SealError:
                self.damaged.add(0)
                continue
            if not hold.covers(head.account, head.accepted_ms, hold.forms):
                continue
            numbers_key = self._keys.existing(head.account, Part.NUMBERS, head.numbers_period)
            if hold.forms:
                wanted = [] if numbers_key is None else [blind(numbers_key, form) for form in hold.forms]
                if head.source_index not in wanted and head.destination_index not in wanted:
                    continue
            parts = part_keys(packed, self._keys, secrets)
            if parts.numbers is None and parts.body is None:
                continue
            try:
                opened = open_record(packed, NO_KEYS, secrets, partial(_same, parts))
                source = destination = _NOWHERE
                if opened.numbers is not None:
                    indexes = (head.source_index, head.destination_index)
                    forms = self._forms.of(opened.numbers, head.account, numbers_key, indexes, hold.forms)
                    source, destination = key.blind(forms[0]), key.blind(forms[1])
            except (SealError, ValueError):
                self.damaged.add(head.record_id)
                continue
            yield _held(key, head.record_id, source, destination, parts)

    # -- what other holds keep -----------------------------------------------------------------------------------------

    def _others(self, hold: Hold, key: HoldKey, place: tuple[int, int]) -> bool:
        rows = self._holds.rows
        other, after = place
        page: list[HeldRow] = []
        if other and other != hold.number:
            page = rows.page(other, after, _MANY)
        if not page:
            following = next((one for one in rows.holds() if one > other and one != hold.number), _ENDLESS)
            return self._mark(hold, [], Mark.OTHERS, _PAIR.pack(following, 0))
        kept = list(self._taken(hold, key, other, page))
        return self._mark(hold, kept, Mark.OTHERS, _PAIR.pack(other, page[-1].record))

    def _taken(self, hold: Hold, key: HoldKey, other: int, page: list[HeldRow]) -> Iterator[HeldRow]:
        theirs = self._holds.parts.key(other)
        if theirs is None:
            return
        wanted = {theirs.blind(form): form for form in hold.forms}
        for row in page:
            breathe()
            if wanted and row.source not in wanted and row.destination not in wanted:
                continue
            try:
                found = self._reader.packed(row.record)
                if found is None:
                    continue
                head = read_header(found[1])
                if not hold.covers(head.account, head.accepted_ms, hold.forms):
                    continue
                parts = theirs.open(row.record, row.source, row.destination, row.sealed)
                opened = open_record(found[1], NO_KEYS, bytes(SECRETS_BYTES), partial(_same, parts))
                source = destination = _NOWHERE
                if opened.numbers is not None:
                    # Those that were wanted are in the form that the other hold knew them by.
                    numbers_key = self._keys.existing(head.account, Part.NUMBERS, head.numbers_period)
                    indexes = (head.source_index, head.destination_index)
                    forms = self._forms.of(opened.numbers, head.account, numbers_key, indexes, hold.forms)
                    source = key.blind(wanted.get(row.source, forms[0]))
                    destination = key.blind(wanted.get(row.destination, forms[1]))
            except (SealError, ValueError):
                self.damaged.add(row.record)
                continue
            yield _held(key, row.record, source, destination, parts)

    # -- writing -------------------------------------------------------------------------------------------------------

    def _keep(self, hold: Hold, rows: Iterable[HeldRow], after: int) -> bool:
        """Keeps these, and then says that all up to a row was looked at. Where nodes share the log, a row of another may become
        visible below it: what is young is looked at by the next pass once more."""
        noted = self._noted(hold.number)
        before = _U64.pack(noted)
        self._at[hold.number] = after
        if self._records.several:
            after = max(noted, min(after, self.end() - YOUNG))
        some: list[HeldRow] = []
        for row in rows:
            some.append(row)
            if len(some) == _MANY:
                if not self._mark(hold, some, Mark.ROWS, before):
                    return False
                some = []
        return self._mark(hold, some, Mark.ROWS, _U64.pack(after))

    def _mark(self, hold: Hold, rows: list[HeldRow], which: Mark, mark: bytes) -> bool:
        return self._holds.rows.add(hold_scope(hold.number), hold.number, rows, which, mark)


def _held(key: HoldKey, record: int, source: bytes, destination: bytes, parts: PartKeys) -> HeldRow:
    return HeldRow(record, key.number, source, destination, key.seal(record, source, destination, parts))


def gather(capture: Capture, hold: Hold, progress: Callable[[float], object] = lambda _done: None) -> None:
    """Everything that a hold covers now. progress(done): 0.0 to 1.0, after each step."""
    first, upto = capture.begin(), capture.end()
    while capture.step(hold, upto):
        progress(min(1.0, max(0, capture.reached(hold.number) - first) / max(1, upto - first)))
