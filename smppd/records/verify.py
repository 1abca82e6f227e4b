"""Verifies the log: computes the digest of every record and the chain over all rows again, and compares the chain with its
seals. It goes on after a fault, so that one fault hides no other. The other files are compared in `records.consistency`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterator
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from smppd.store.log import LAST_ID, LogRow, Records, pack_purged, read_purged
from smppd.vault.chain import GENESIS, ChainKeys, Seal, SealKind, chain, events_digest, seal_hash, verify_checkpoint
from smppd.vault.keys import Part, period_scope
from smppd.vault.seal import DIGEST_BYTES, SealError, iter_records, read_header, verify_digest

FAULTS: Final = 20
"""So many are told one by one."""

_PAGE: Final = 64
_SEALS: Final = 500
_GONE: Final = 4  # offset of what is gone in a packed record (docs/adr/0002)
_PLACE: Final = len(pack_purged({0: bytes(DIGEST_BYTES)}))
_TRIES: Final = 3


class LogVerdict(NamedTuple):
    """What was found. rows, records: how many were good, purged records included; purged: records of which only the digest is
    left; checkpoints: how many were found in the chain; first_bad: id of the first log row that cannot be trusted; reason:
    the first fault, or what is sound; first: id of the oldest row there is; anchor, anchor_row: the link it hangs on and the
    last row before it, when older ones were deleted (a purge puts both on the audit trail); faults: all that is wrong, the
    first twenty one by one.

    seal: number and hash of the newest seal, None where there is none; sealed_ms: when it was made; clean: it was made at a
    clean end and nothing follows; unsealed: rows behind it; keyed: the number of rows whose links are under the key; last:
    (id, chain) of the last row.
    """

    ok: bool
    rows: int
    records: int
    purged: int
    checkpoints: int
    first_bad: int | None
    reason: str
    first: int | None = None
    anchor: bytes | None = None
    anchor_row: int | None = None
    faults: tuple[str, ...] = ()
    seal: tuple[int, bytes] | None = None
    first_seal: int = 0
    sealed_ms: int = 0
    clean: bool = False
    unsealed: int = 0
    keyed: int = 0
    last: tuple[int, bytes] | None = None

    def with_faults(self, more: list[str]) -> LogVerdict:
        """The same, with faults that others found."""
        if not more:
            return self
        faults = (*self.faults, *more)[:FAULTS]
        return self._replace(ok=False, faults=faults, reason=faults[0])


def row_digests(count: int, block: bytes, events: bytes, digests: bytes) -> Iterator[bytes]:
    """What the chain continues with at a row. Raises SealError."""
    gone = read_purged(digests)
    living = iter_records(block)
    for place in range(count):
        if place in gone:
            yield gone[place]
            continue
        packed = next(living, None)
        if packed is None:
            raise SealError("records are missing")
        yield verify_digest(packed)
    if next(living, None) is not None:
        raise SealError("there are more records than were written")
    if events:
        yield events_digest(events)


class _Walk:
    """One verification: what was found so far."""

    def __init__(self, records: Records, keys: ChainKeys | None, erased: Container[int]) -> None:
        self._records = records
        self._erased = erased
        self.keys = keys
        self._dead: set[bytes] = set()
        self.faults: list[str] = []
        self.first_bad: int | None = None
        self.rows = self.records = self.purged = self.points = self.keyed = 0

    def fault(self, text: str, seq: int | None = None) -> None:
        if len(self.faults) < FAULTS:
            self.faults.append(text)
        if seq is not None and (self.first_bad is None or seq < self.first_bad):
            self.first_bad = seq

    # -- seals ---------------------------------------------------------------------------------------------------------

    def seals(self, newest: int, anchor_row: int | None) -> Iterator[tuple[Seal, bytes]]:
        """The seals up to a number, each with its hash, in order; faults are what is missing and what was not signed."""
        keys = self.keys
        assert keys is not None
        after, before, digest, row = 0, 0, GENESIS, 0
        while page := self._records.seals(after, newest, _SEALS):
            for number, signed in page:
                after = number
                try:
                    seal = keys.read(signed)
                    if seal.number != number:
                        raise SealError(f"is checkpoint {seal.number} under another number")
                except SealError as error:
                    self.fault(f"checkpoint {number}: {error}")
                    continue
                # A purge leaves, of those that cover only deleted rows, the last one.
                purged = not before and anchor_row is not None and seal.seq <= anchor_row
                if number != before + 1 and not purged:
                    gap = f"{before + 1}" if number == before + 2 else f"{before + 1} to {number - 1}"
                    self.fault(f"checkpoints are missing: {gap}")
                elif seal.previous != digest and not purged:
                    self.fault(f"checkpoint {number} does not follow the one before")
                if seal.kind is SealKind.BEGIN and number > 1:
                    self.fault(
                        f"the chain was begun anew at checkpoint {number}, because the store did not fit its seals"
                    )
                if seal.seq < row:
                    self.fault(f"checkpoint {number} covers less than the one before")
                before, digest, row = number, seal_hash(signed), seal.seq
                yield seal, digest

    # -- rows ----------------------------------------------------------------------------------------------------------

    def row(self, link: bytes, row: LogRow, plain: bool) -> bytes:
        """Checks one row. Returns the chain after it as it is stored, so that the next row is judged by itself."""
        seq, count, block, events, stored, digests, mac, secrets = row
        stored = stored or b""
        good = len(self.faults)
        try:
            listed = list(row_digests(count, block or b"", events or b"", digests or b""))
            if plain or self.keys is None:
                expected = chain(link, listed)
            else:
                expected = self.keys.link(link, seq, secrets, listed)
                self.keyed += 1
            if expected != stored:
                self.fault(f"log row {seq:016x} was altered or does not follow the one before", seq)
            elif self.keys is not None:
                if digests and mac != self.keys.purged(seq, digests):
                    self.fault(f"log row {seq:016x}: records were taken out by no purge", seq)
                self._stripped(seq, block or b"")
        except (SealError, struct.error, OverflowError, TypeError) as error:
            self.fault(f"log row {seq:016x}: {error}", seq)
        if len(self.faults) == good and good < FAULTS:
            self.rows += 1
            self.records += count
            self.purged += len(digests or b"") // _PLACE
        return bytes(stored) if len(stored) == DIGEST_BYTES else GENESIS

    def _stripped(self, seq: int, block: bytes) -> None:
        """A part is taken out of a record only after its period's key was destroyed, or when it was erased."""
        for packed in iter_records(block):
            if packed[_GONE]:
                head = read_header(packed)
                if head.record_id in self._erased:
                    continue
                for part, gone, period in (
                    (Part.NUMBERS, head.numbers_gone, head.numbers_period),
                    (Part.BODY, head.body_gone, head.body_period),
                ):
                    if gone and period is not None and self._has(period_scope(head.account, part, period)):
                        what = f"a record was stripped of its {part.value} by no purge and no erasure"
                        self.fault(f"log row {seq:016x}: {what}", seq)
                        return

    def _has(self, scope: bytes) -> bool:
        # Only what is gone is remembered: a purge that runs meanwhile destroys the key and then strips the record.
        if scope not in self._dead and self._records.keys.get(scope) is None:
            self._dead.add(scope)
        return scope not in self._dead


def verify_log(
    records: Records,
    id_time: Callable[[int], float],
    public: Ed25519PublicKey | None = None,
    progress: Callable[[float], object] | None = None,
    keys: ChainKeys | None = None,
    erased: Container[int] = frozenset(),
) -> LogVerdict:
    """See the module. id_time: `ids.id_time`. public: the key of the checkpoints of before there were seals; without it they
    are not looked at. progress: told from 0.0 to 1.0. keys: without them only a log of before there were seals can be
    verified. erased: ids of the records that the erasure journal names (`erasure_journal`). Raises StoreError."""
    for _ in range(_TRIES):
        anchor = records.anchor()
        verdict = _verify_once(records, id_time, public, progress, keys, erased)
        if verdict.ok or records.anchor() == anchor:
            break  # otherwise a purge has deleted the oldest rows while they were read
    return verdict


def _verify_once(
    records: Records,
    id_time: Callable[[int], float],
    public: Ed25519PublicKey | None,
    progress: Callable[[float], object] | None,
    keys: ChainKeys | None,
    erased: Container[int],
) -> LogVerdict:
    walk = _Walk(records, keys, erased)
    anchor, anchor_row, lowest, highest, signed, newest = records.outline()
    link = GENESIS if anchor is None else anchor
    waiting: dict[bytes, int] = {}
    try:
        for point in (verify_checkpoint(public, one) for one in signed) if public is not None else ():
            waiting[point.chain] = point.time_ms
    except SealError as error:
        walk.fault(str(error), lowest)
    old = len(waiting)
    waiting.pop(link, None)

    if newest is not None and keys is None:
        walk.fault("the log is sealed, and without keys it cannot be verified")
    seals = walk.seals(newest, anchor_row) if newest is not None and keys is not None else iter(())
    at = next(seals, None)
    begin = LAST_ID if at is None else at[0].seq if at[0].number == 1 and at[0].kind is SealKind.BEGIN else -1
    first = at[0].number if at is not None else 0
    last_seal: tuple[Seal, bytes] | None = None
    last_row: tuple[int, bytes] | None = None
    after, total, unsealed = anchor_row or 0, 0, 0

    def sealed_upto(seq: int) -> None:
        """Seals that cover nothing above `seq` must agree with the chain as it is there."""
        nonlocal at, last_seal, unsealed
        while at is not None and at[0].seq < seq:
            seal = at[0]
            if seal.seq == after and seal.chain != link:
                walk.fault(f"the log is not the one that checkpoint {seal.number} was made of", seal.seq)
            elif seal.seq != after and not (anchor_row is not None and seal.seq < anchor_row):
                walk.fault(f"the last log row before checkpoint {seal.number} is missing", seal.seq)
            walk.points += 1
            last_seal, unsealed = at, 0
            at = next(seals, None)

    start = 0
    while page := records.rows(start, _PAGE):
        for row in page:
            seq = row.seq
            sealed_upto(seq)
            link = walk.row(link, row, plain=seq <= begin)
            waiting.pop(link, None)
            after, total, unsealed = seq, total + 1, unsealed + 1
            last_row = (seq, link)
        start = page[-1].seq
        if progress is not None and lowest is not None and highest is not None:
            progress(min(1.0, (start - lowest) / max(1, highest - lowest)))
    sealed_upto(LAST_ID)
    begun = id_time(lowest) * 1000 if lowest is not None else float("inf")
    if any(anchor is None or at_ms >= begun for at_ms in waiting.values()):
        walk.fault("the log is not the one that was signed: its end is missing, or an older copy was put back")
    reason = f"{walk.records} records in {walk.rows} log rows, none altered"
    return LogVerdict(
        ok=not walk.faults,
        rows=walk.rows,
        records=walk.records,
        purged=walk.purged,
        checkpoints=walk.points + old - len(waiting),
        first_bad=walk.first_bad,
        reason=walk.faults[0] if walk.faults else reason,
        first=lowest,
        anchor=anchor,
        anchor_row=anchor_row,
        faults=tuple(walk.faults),
        seal=None if last_seal is None else (last_seal[0].number, last_seal[1]),
        first_seal=first,
        sealed_ms=0 if last_seal is None else last_seal[0].time_ms,
        clean=last_seal is not None and last_seal[0].kind is SealKind.STOP and not unsealed,
        unsealed=unsealed if last_seal is not None else 0,
        keyed=walk.keyed,
        last=last_row,
    )
