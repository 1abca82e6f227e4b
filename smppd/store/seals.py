"""The seals of a running log: when one is due, what it says, and what the start finds at the end of the log.

A back end keeps them (`SealRows`) and, apart from them, the log's state, which says what the last one was: so that neither
can be cut short or put back to an older copy alone. A seal goes with the commit of a batch: the state learns first which one
comes, then the seal is there. A kill between the two leaves the state one ahead, which is no roll-back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, NamedTuple, Protocol

from smppd.vault.chain import GENESIS, ChainKeys, LogState, Seal, SealKind, events_digest, seal_hash
from smppd.vault.seal import SealError, iter_records, verify_digest

RECORDS: Final = 1000
"""A seal is made when so many records have come since the last,"""
SECONDS: Final = 60.0
"""or so many seconds have passed and there is something new in the log or on the audit trail."""
LOG_STATE: Final = "log"
"""Name of the log's state."""

_TAIL: Final = 20_000
_PAGE: Final = 500


class Made(NamedTuple):
    """A seal that is to be written."""

    seal: Seal
    signed: bytes
    digest: bytes
    state: bytes
    """The log's state, which is written before it."""


class TakenUp(NamedTuple):
    """What the start found. clean: the last end was. unsealed: rows after the last seal. faults: sentences; the store is not
    the one that was left."""

    clean: bool
    unsealed: int
    faults: list[str]


LogRow = tuple[int, bytes, bytes, bytes, int | None]
"""Number, records, events, chain, and the row of secrets that it names, if it does."""


def names_older(keys: ChainKeys, stored: bytes | None, number: int) -> bool:
    """Whether what is stored as an entry of the audit trail (`ChainKeys.pack_audit`) gives way to this one: it is older, none,
    or does not open."""
    try:
        return stored is None or keys.read_audit(stored)[0] < number
    except SealError:
        return True


class SealRows(Protocol):
    """Where seals are kept. What it raises is what its back end raises."""

    state_at: str
    seals_at: str
    """Where state and seals are, in words for people."""

    def state(self) -> bytes | None:
        """The log's state."""

    def newest(self) -> tuple[bytes, int] | None:
        """(signed, number) of the newest seal."""

    def chain_of(self, seq: int) -> bytes | None:
        """The chain after a row of the log."""

    def count_after(self, seq: int) -> int:
        """How many rows the log has behind this one."""

    def after(self, seq: int, limit: int) -> Sequence[LogRow]:
        """Rows of the log behind this one, in order."""

    def purged(self, seq: int) -> bool:
        """Whether a purge took records out of a row."""

    def vouch(self, mac: Callable[[int, bytes], bytes]) -> None:
        """What an older version purged is taken over as it is. mac(row, digests): under the chain's key."""

    def write(self, made: Made) -> bool:
        """Makes a seal durable, after its state; False where that cannot be done just now."""

    def write_state(self, state: bytes) -> bool:
        """Makes the log's state durable; False likewise."""

    def audit_head(self) -> tuple[int, bytes] | None:
        """(id, hash) of the audit trail's head; None where it cannot be read."""

    def close(self) -> None:
        """Lets go of what it has opened itself."""


class Seals:
    """The seals of one running store."""

    def __init__(self, keys: ChainKeys, rows: SealRows, wall: Callable[[], float]) -> None:
        """wall: epoch seconds."""
        self._keys = keys
        self._stored = rows
        self._wall = wall
        self._number = self._floor = 0
        self._digest = GENESIS
        self._head = (0, GENESIS)
        self._sealed = (0, 0)  # last row, id of the audit trail's head
        self._opening: SealKind | None = None
        self._records = 0
        self._at = monotonic()
        self.rows = 0
        """Rows that the chain covers."""

    @property
    def last(self) -> tuple[int, bytes]:
        """(number, hash) of the newest durable seal."""
        return self._number, self._digest

    @property
    def row(self) -> int:
        """The last log row that is sealed."""
        return self._sealed[0]

    @property
    def age(self) -> float:
        """Seconds since the last seal, or the last look for something to seal."""
        return monotonic() - self._at

    # -- start ---------------------------------------------------------------------------------------------------------

    def take_up(self, row: int, link: bytes, named: int) -> TakenUp:
        """Goes on from what the store holds, finds what is wrong, and seals what the last run left. row, link: the last row of
        the log and its chain. named: the highest number on the audit trail. The next number is above all that were ever
        known: what is missing shows as a gap for ever."""
        taken, last = self._look_back(named)
        self.rows, seq = (last.rows, last.seq) if last is not None else (0, 0)
        self.rows += self._stored.count_after(seq)
        self._opening = SealKind.BEGIN if last is None or taken.faults else SealKind.START
        self._write(SealKind.START, row, link)  # where there is no space, it goes with the first commit that finds room
        return taken

    def _look_back(self, named: int) -> tuple[TakenUp, Seal | None]:
        faults: list[str] = []
        state, last = self._state(faults), self._newest(faults)
        known = max(state.number if state is not None else 0, named)
        state_at, seals_at = self._stored.state_at, self._stored.seals_at
        if last is None:
            if known:
                faults.append(f"all checkpoints are missing: there were {known}")
            else:
                self._stored.vouch(self._keys.purged)
            self._floor = max(known, state.next if state is not None else 0)
            return TakenUp(not known, 0, faults), None
        self._number, self._sealed = last.number, (last.seq, last.audit_id)
        self._head = (last.audit_id, last.audit_hash)
        if state is None:
            faults.append(f"{state_at} does not know the checkpoints of {seals_at}")
        elif state.number > last.number:
            faults.append(f"{seals_at} ends with checkpoint {last.number}, {state_at} knows {state.number}")
            self._floor = state.next
        elif state.next < last.number:
            faults.append(f"{state_at} ends with checkpoint {state.next}, {seals_at} has {last.number}")
        if named > last.number:
            faults.append(f"{seals_at} ends with checkpoint {last.number}, the audit trail names {named}")
            self._floor = max(self._floor, named)
        unsealed = self._tail(last, faults)
        if last.kind is SealKind.STOP and unsealed:
            faults.append("there are log rows after a clean end")
        return TakenUp(last.kind is SealKind.STOP, unsealed, faults), last

    def _state(self, faults: list[str]) -> LogState | None:
        value = self._stored.state()
        try:
            return None if value is None else self._keys.read_log(value)
        except SealError as error:
            faults.append(str(error))
            return None

    def _newest(self, faults: list[str]) -> Seal | None:
        found = self._stored.newest()
        if found is None:
            return None
        signed, number = found
        self._floor = max(self._floor, number)
        try:
            seal = self._keys.read(signed)
        except SealError as error:
            faults.append(str(error))
            return None
        self._digest = seal_hash(signed)
        return seal

    def _tail(self, last: Seal, faults: list[str]) -> int:
        """Rows after the last seal; whether they follow it."""
        link, after, count = last.chain, last.seq, 0
        if last.seq and self._stored.chain_of(last.seq) != last.chain:
            faults.append("the log row of the last checkpoint is missing or altered")
            return 0
        while count <= _TAIL:
            rows = self._stored.after(after, _PAGE)
            for seq, records, events, stored, slot in rows:
                try:
                    digests = [verify_digest(packed) for packed in iter_records(records)]
                    if events:
                        digests.append(events_digest(events))
                    follows = self._keys.link(link, seq, slot, digests) == stored
                except SealError:
                    follows = False
                # What a purge has taken records out of does not come here within the minute that a seal takes.
                if not follows and not self._stored.purged(seq):
                    faults.append(f"log row {seq:016x} was altered or does not follow the one before")
                    return count
                link, after, count = bytes(stored), seq, count + 1
            if len(rows) < _PAGE:
                return count
        faults.append(f"more than {_TAIL} log rows have no checkpoint")
        return count

    # -- making --------------------------------------------------------------------------------------------------------

    def due(self, records: int) -> bool:
        """Whether a seal goes with the commit of so many records more."""
        return self._opening is not None or self._records + records >= RECORDS or monotonic() - self._at >= SECONDS

    def rest(self, kind: SealKind, row: int, link: bytes) -> None:
        """A seal without a commit of records: at the end, or where there is something that the last one does not cover. Where
        it cannot be written just now, the next one has it."""
        self._at = monotonic()
        self._look()
        if kind is SealKind.STOP or self._sealed != (row, self._head[0]):
            self._write(kind, row, link)

    def alone(self, row: int, link: bytes) -> Made | None:
        """The same for a back end that writes it as it writes a commit; None where there is nothing that the last one does not
        cover."""
        self._at = monotonic()
        self._look()
        return self.make(SealKind.RUNNING, row, link) if self._sealed != (row, self._head[0]) else None

    def _write(self, kind: SealKind, row: int, link: bytes) -> None:
        made = self.make(kind, row, link)
        if not self._stored.write(made):
            return
        self.done(made)
        if made.seal.kind is SealKind.STOP:
            state = LogState(self._number, self._number, True, self._digest, self._digest)
            self._stored.write_state(self._keys.pack_log(state))

    def make(self, kind: SealKind, seq: int, link: bytes, more: int = 0) -> Made:
        """The next seal, over all rows up to `seq`, of which `more` are not counted yet."""
        self._look()
        number = max(self._number, self._floor) + 1
        if self._opening is not None:
            kind = self._opening
        seal = Seal(number, kind, seq, self.rows + more, int(self._wall() * 1000), link, self._digest, *self._head)
        signed = self._keys.sign(seal)
        digest = seal_hash(signed)
        state = self._keys.pack_log(LogState(self._number, number, False, self._digest, digest))
        return Made(seal, signed, digest, state)

    def done(self, made: Made) -> None:
        """The seal is durable."""
        self._number, self._digest, self._floor = made.seal.number, made.digest, 0
        self._sealed = (made.seal.seq, made.seal.audit_id)
        self._opening = None
        self._records, self._at = 0, monotonic()

    def committed(self, made: Made | None, rows: int, records: int) -> None:
        """A commit is durable: with this seal, if any."""
        self.rows += rows
        if made is not None:
            self.done(made)
        else:
            self._records += records

    def _look(self) -> None:
        """The audit trail's head as it is now. One that cannot be read, or that went back, is not believed: the seals go on
        naming what was there, so it shows."""
        head = self._stored.audit_head()
        if head is not None and head[0] >= self._head[0]:
            self._head = head

    def close(self) -> None:
        """Lets go of what was opened for them."""
        self._stored.close()
