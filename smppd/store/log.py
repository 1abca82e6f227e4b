"""The sealed log as a store keeps it: what `records` asks of any back end, to find, verify, index and purge what is in it.

It is no part of `store.api`, which is what the relay asks on a message's path: whoever reads the log may take its time and
works beside the writer, in another process too. And it is no part of `records`, because back ends implement it, and these
import nothing above them.

In these terms a database that several nodes share can serve as well: rows have an id each, ids rise in the order of writing
of each node, and everything is asked for by stretches of ids, in pages. Rows of one node become visible in their order; one
of another node may become visible behind them though its id is lower. Who goes on where he was says so with a `Front`. What is
in a row stays sealed: no back end opens anything, and the segments of the indexes are octets to it. Every method raises
StoreError, and StoreBusy where trying again may help.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from smppd.store.holds import HeldRows
from smppd.vault.keys import KeyRows
from smppd.vault.seal import DIGEST_BYTES, SealError

LAST_ID: Final = (1 << 63) - 1
"""No row and no record has a higher id."""
Front = Mapping[int, int]
"""How far somebody has come in the log of each node: node -> the last row of it that he has. A node that is not named is not
begun. A store that has one log calls it 0 (`Log.node`)."""
APART: Final = 600_000 << 22
"""In ids: ten minutes. The clocks of nodes may be so far apart: what two of them write of one message is looked for so much
before the row that has its record."""
_PLACE: Final = struct.Struct(f"!I{DIGEST_BYTES}s")


class LogRow(NamedTuple):
    """What one commit wrote into the log.

    seq: the row's id. written: how many records it was written with; records: what is left of them, packed one after another;
    events: packed. chain: the link after it. digests: of records that a purge took out (`read_purged`), None for none; mac:
    what vouches for them. secrets: where its records' secrets are, if not under its own id.

    All as it is stored: what an attacker leaves in a row may be of any type, and `records.verify` says so.
    """

    seq: int
    written: int
    records: bytes
    events: bytes
    chain: bytes
    digests: bytes | None
    mac: bytes | None
    secrets: int | None

    def __repr__(self) -> str:
        return f"<LogRow {self.seq:016x}, {self.written} records>"


def read_purged(digests: bytes | None) -> dict[int, bytes]:
    """place in the row -> digest, of the records that were purged from a row (`LogRow.digests`). Raises SealError."""
    if len(digests or b"") % _PLACE.size:
        raise SealError("the digests of purged records are cut short")
    return dict(_PLACE.iter_unpack(digests or b""))


def pack_purged(gone: Mapping[int, bytes]) -> bytes:
    """The inverse of `read_purged`."""
    return b"".join(_PLACE.pack(place, gone[place]) for place in sorted(gone))


class Extent(NamedTuple):
    """A stretch of the log: rows ``first`` to ``last``. ``low``, ``high``: record ids in it, 0 where it has none; ``earliest``,
    ``latest``: epoch ms of acceptance; ``lead``: milliseconds that an id in it is ahead of its record's time at most."""

    first: int
    last: int
    low: int
    high: int
    earliest: int
    latest: int
    lead: int

    def touches(self, start: float, end: float) -> bool:
        """Whether a record in it may have been accepted at ``start <= t < end`` (epoch seconds)."""
        return self.low > 0 and self.earliest < end * 1000 and self.latest >= start * 1000


class Log(Protocol):
    """What all who work on the log ask."""

    def bounds(self) -> tuple[int, int] | None:
        """The ids of the oldest and the newest row; None for an empty log."""

    def packed(self, after: int, until: int, limit: int) -> list[tuple[int, bytes]]:
        """(id, records) of the first ``limit`` rows above ``after`` up to ``until``, rising."""

    def before(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """(id, records) of the last ``limit`` rows below ``seq``, rising."""

    def extents(self, upto: int = LAST_ID) -> list[Extent]:
        """Those that were written of rows up to this one, oldest first."""

    def indexed(self) -> int:
        """The indexes cover all rows up to this one, as far as they can be seen now; 0 for none."""

    @property
    def several(self) -> bool:
        """Whether it is that of several nodes."""

    def node(self, seq: int) -> int:
        """In whose log a row is."""

    def covered(self) -> dict[int, int]:
        """The last row of each node that the indexes cover (`Front`)."""

    def packed_beyond(self, front: Front, limit: int) -> list[tuple[int, bytes]]:
        """(id, records) of the first ``limit`` rows behind a front, by their ids."""

    def close(self) -> None:
        """Lets the log go."""


class Outline(NamedTuple):
    """The log at one moment. anchor, anchor_row: the link that the oldest row hangs on and the row before it, where older ones
    were deleted. lowest, highest: ids of the oldest and newest row. checkpoints: signed, of versions before there were seals.
    newest_seal: its number, None where there is none."""

    anchor: bytes | None
    anchor_row: int | None
    lowest: int | None
    highest: int | None
    checkpoints: list[bytes]
    newest_seal: int | None


class Records(Log, Protocol):
    """The log for those who only read it."""

    @property
    def keys(self) -> KeyRows:
        """The wrapped keys that open it."""

    @property
    def held(self) -> HeldRows:
        """What holds keep of it, to be read only."""

    def of(self, node: int) -> Records:
        """What one node wrote, with its chain; closed with this."""

    def near(self, record_id: int) -> list[int]:
        """The ids of the rows that may hold a record: the one begun before its id was drawn, and the next."""

    def row(self, seq: int) -> LogRow | None:
        """One row."""

    def link_before(self, seq: int) -> bytes | None:
        """The chain that a row continues: of the row before it, or where the log begins; None where it begins with nothing. A
        store of several nodes has a chain for each."""

    def rows(self, after: int, limit: int) -> list[LogRow]:
        """The first ``limit`` rows above ``after``, rising."""

    def secrets(self, row: LogRow) -> bytes:
        """The secrets of a row's records, SECRETS_BYTES for each place; shorter or empty where they are gone."""

    def events(self, seq: int) -> bytes:
        """The events of one row."""

    def told(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """(id, events) of the first ``limit`` rows above ``after``, rising."""

    def told_beyond(self, front: Front, limit: int) -> list[tuple[int, bytes]]:
        """(id, events) of the first ``limit`` rows behind a front, by their ids."""

    def number_segments(self, bucket: int, first: int, last: int) -> list[bytes]:
        """Segments of a bucket of the numbers' index (`records.segments`) that cover any of the rows ``first`` to ``last``."""

    def number_ends(self) -> list[int]:
        """The last rows of the pieces that the numbers' index is made of, rising: whoever goes through all of it reads each
        piece once when he goes by these. A hint."""

    def event_segments(self, bucket: int, record_id: int, first: int) -> list[bytes]:
        """The same of the index of events, of rows from ``first`` on, as far as they may tell of a record. Asked for again and
        again."""

    def outline(self) -> Outline:
        """All of it at one moment."""

    def anchor(self) -> tuple[bytes | None, int | None]:
        """`Outline.anchor` and ``anchor_row`` as they are now."""

    def seals(self, after: int, until: int, limit: int) -> list[tuple[int, bytes]]:
        """(number, signed) of the first ``limit`` seals above ``after`` up to ``until``, rising."""

    def chain_of(self, seq: int) -> int:
        """In which chain a row of this id stands: the number of the node that wrote it, 0 in a store that has one chain."""

    def first_seal(self, chain: int) -> bytes | None:
        """The oldest seal of a chain, signed; None where it was never sealed."""


class Segment(NamedTuple):
    """A piece of an index. table: ``number`` or ``event``. first, last: the rows that it covers; bucket: its share of the keys;
    low: the lowest record id in it; data: see `records.segments`."""

    table: str
    first: int
    last: int
    bucket: int
    low: int
    data: bytes


class IndexRows(Log, Protocol):
    """The log for the one who builds its indexes. Nothing in them is needed for durability: they can be built again."""

    def unindexed(self, front: Front, limit: int) -> list[LogRow]:
        """The first ``limit`` rows behind a front, by their ids, without what only verification needs."""

    def measured_from(self) -> int | None:
        """The oldest row that is in an extent; None where there are no extents."""

    def erased(self, low: int, high: int) -> frozenset[int]:
        """Ids from ``low`` to ``high`` of records whose numbers were erased: they are to be in no index."""

    def add(self, before: Front, after: Front, segments: Sequence[Segment], extents: Sequence[Extent]) -> None:
        """Adds what was made of the rows between two fronts, all or nothing. StoreError where somebody else has indexed
        meanwhile, so that ``before`` is not what is covered; StoreBusy where more is erased than the last call of ``erased``
        gave."""

    def cover(self, extents: Sequence[Extent]) -> None:
        """Adds extents of rows that are indexed."""

    def small(self, table: str, count: int) -> list[tuple[int, Segment]]:
        """(handle, segment) of the ``count`` oldest small segments of a bucket that has so many; empty where none has."""

    def merge(self, handles: Sequence[int], merged: Segment) -> bool:
        """Puts one big segment into the place of small ones, all or nothing; False where these are not all there any more."""


class PurgeRows(Log, Protocol):
    """The log and its keys for the one who destroys what is over. What an erasure needs is here too: first `replace_secrets`,
    then `shorten`.

    ``locked``: seconds for which the last writes kept others from writing.
    """

    @property
    def locked(self) -> float:
        """See above."""

    def scopes(self) -> list[bytes]:
        """The scopes of all keys."""

    def has_key(self, scope: bytes) -> bool:
        """Whether a key is there."""

    def destroy_keys(self, scopes: Sequence[bytes], holds: Collection[bytes] | None = None) -> bool:
        """Deletes keys: all or none. holds: the scopes of all holds' keys as the caller knows them; False, and nothing was
        deleted, where there are others by now."""

    def remembered(self, name: str, default: Any) -> Any:
        """What `remember` was told under a name."""

    def remember(self, values: Mapping[str, object], seen: Mapping[str, object] | None = None) -> bool:
        """Keeps what JSON can say under some names: all or nothing. seen: what the caller found under some names (nothing is
        the same as 0 and as an empty list); False, and nothing is kept, where something else stands there by now."""

    def remove_overdue(self, now: float, kept: Callable[[str], float | None]) -> int:
        """Removes damaged items that are past their time at ``now`` (epoch seconds); how many. kept(account): seconds for which
        something of it may be kept, None where nobody says."""

    def remove_ended(self, now: float) -> int:
        """Removes documents (`store.documents`) that have ended by ``now`` (epoch seconds); how many."""

    def stretch(self, first: int, last: int, limit: int, octets: int) -> tuple[list[LogRow], bool]:
        """The first ``limit`` rows of a stretch, fewer where their records have more than ``octets`` (but one), from the last
        one begun before ``first`` on: its records may be younger. With it, whether there may be more."""

    def kept_secrets(self, rows: Sequence[LogRow], first: int, last: int) -> list[tuple[int, bytes]]:
        """(where, secrets) of these rows, and of what lies between ``first`` and ``last`` and is no row's: of a batch for which
        there was no space, or one that is being committed."""

    def replace_secrets(self, changes: Sequence[tuple[int, bytes, bytes]]) -> bool:
        """(where, before, after): writes over secrets, and deletes those that are nothing but zeros then; all or none. False
        where something was not as it was before: then nothing is changed."""

    def shorten(
        self,
        changes: Sequence[tuple[LogRow, bytes, bytes, bytes | None]],
        values: Mapping[str, object],
        seen: Mapping[str, object] | None = None,
    ) -> bool:
        """(row, what is left of its records, digests of what is gone, what vouches for these): writes it, and remembers
        ``values``; all or nothing. False where a row, or what was ``seen`` (`remember`), was not as it was before: then nothing
        is changed."""

    def front(self, limit: int) -> list[tuple[int, bytes, int]]:
        """(id, chain, octets of records) of the oldest rows."""

    def trim(self, front: tuple[int, bytes] | None, oldest: int, stale: int, limit: int) -> int:
        """Deletes the oldest rows up to ``front`` (id, chain), of which the chain stays as the anchor; extents of rows below
        ``oldest``; up to ``limit`` segments of each index that cover rows below it only, of the numbers' index below ``stale``.
        How many segments."""

    def wipe(self) -> bool:
        """Nothing of what was deleted can be found any more in what the back end keeps beside the rows. False while somebody is
        reading: then it is still to be done."""


class States(Protocol):
    """What the log, the keys and the audit trail say of each other (`records.consistency`). Each is kept apart and under
    keys, so that none can be put back to an older state alone. Everything is as it is at the moment of the call. It is None
    where there is no log yet, or where the log is of a version before there were seals."""

    def known(self) -> tuple[bytes | None, bytes | None]:
        """What lies with the keys: the state of the log's seals (`ChainKeys.read_log`), and an entry of the audit trail
        (`read_audit`)."""

    def audit_head(self) -> bytes | None:
        """The entry of the audit trail that the log knows (`ChainKeys.read_audit`)."""

    def sealed(self) -> bool:
        """Whether there is a log, of a version that has seals."""

    def newest_seal(self) -> tuple[int, bytes] | None:
        """(number, signed)."""

    def first_seal(self) -> int | None:
        """The lowest number of a seal."""

    def seal(self, number: int) -> bytes | None:
        """A seal, signed."""

    def seals_after(self, number: int, limit: int) -> list[tuple[int, bytes]]:
        """(number, signed) of the first ``limit`` seals above a number, rising; none where there is no log yet."""

    def trimmed(self) -> bool:
        """Whether a purge has deleted the oldest rows."""

    def last_row(self) -> tuple[int, bytes] | None:
        """(id, chain) of the newest row, of a log of any version."""

    def first_row(self) -> int | None:
        """The id of the oldest row."""

    def link(self, seq: int) -> bytes | None:
        """The chain after a row."""

    def close(self) -> None:
        """Lets the store go."""
