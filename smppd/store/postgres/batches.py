"""A batch as the parameters of the function that stores it (`commit_plain`, `commit_batch` in `schema/0001-relay.sql`,
`commit_shared` in `schema/0003-nodes.sql`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from smppd.store.api import Batch, ColdRow, Damaged, Doubt, Kind, OptOut
from smppd.store.aside import MOST, OCTETS, number_of, seal_item
from smppd.store.chain_writer import Link
from smppd.store.cold import seal_columns
from smppd.store.postgres.announcing import rows_put
from smppd.store.postgres.binary import (
    BYTEA,
    BYTEAS,
    INT4,
    INT4S,
    INT8,
    INT8S,
    TEXT,
    TEXTS,
    byteas,
    clean,
    int4,
    int4s,
    int8,
    int8s,
    text,
    texts,
)
from smppd.store.seals import LOG_STATE, Made
from smppd.vault.blocks import SegmentSealer
from smppd.vault.keys import KeyRing

SPOOL: Final = b"spool"
"""Associated data of the journal's blocks."""

Values = list[bytes | None]

PLAIN_TYPES: Final = (INT4, INT8, INT8, INT8, INT4, BYTEA, BYTEA, BYTEA, BYTEA, INT4, INT8, BYTEA)
_KEYS: Final = (BYTEAS, BYTEAS, BYTEAS)
_SEAL: Final = (INT8, INT8, BYTEA, TEXT, BYTEA)
_COLD: Final = (INT4, INT4S, TEXTS, BYTEAS, INT8S, INT8S, BYTEAS)
_DROP: Final = (INT4S, TEXTS, BYTEAS, INT8S)
_META: Final = (TEXTS, INT8S)
_ASIDE: Final = (INT4, TEXTS, TEXTS, INT8S, TEXTS, TEXTS, INT8S, INT8S, BYTEAS, INT8, INT8)
_OPT_OUTS: Final = (BYTEAS, TEXTS, TEXTS, INT8S, TEXTS, BYTEAS)
_DOUBTS: Final = (INT8S, BYTEAS, TEXTS, TEXTS, INT8S, INT8S)
_SEGMENTS: Final = (INT4S,)
BATCH_TYPES: Final = (
    *PLAIN_TYPES,
    *_KEYS,
    *_SEAL,
    *_COLD,
    *_DROP,
    *_META,
    *_ASIDE,
    *_OPT_OUTS,
    *_DOUBTS,
    *_SEGMENTS,
)
_SHARED: Final = _COLD
_HANDED: Final = (INT4S, TEXTS, INT4)
_NOTES: Final = (TEXTS,)
SHARED_TYPES: Final = (*BATCH_TYPES, *_SHARED, *_HANDED, *_NOTES)
PLAIN: Final = f"SELECT commit_plain({', '.join(f'${at + 1}' for at in range(len(PLAIN_TYPES)))})"
BATCH: Final = f"SELECT commit_batch({', '.join(f'${at + 1}' for at in range(len(BATCH_TYPES)))})"

SHARED: Final = f"SELECT commit_shared({', '.join(f'${at + 1}' for at in range(len(SHARED_TYPES)))})"

EVERYBODYS: Final = frozenset({int(Kind.REPLY), int(Kind.ERASED)})
"""Kinds of rows that are only looked up: nobody holds them, nobody is told of them."""
HANDED: Final = 5000
"""Rows of each owner that are given up with a commit; more are in steps behind it, so that no commit waits for long."""


@dataclass(slots=True)
class Work:
    """One commit. ``seq``: number of the log row. ``sealer``: for the journal; ``cold``, ``aside``: segments that cold rows
    and damaged items are sealed under. ``keys``, ``gone``: keys to add and to destroy. ``winners``: what others made in
    place of these keys, where that is why nothing was stored."""

    batch: Batch
    seq: int
    sealer: SegmentSealer
    cold: int
    aside: int
    keys: list[tuple[bytes, bytes]]
    gone: list[bytes]
    winners: dict[bytes, bytes] = field(default_factory=dict)


def plain(work: Work) -> bool:
    """Whether it is an ordinary batch, but for a seal: records, events and entries of the journal."""
    batch = work.batch
    return not (
        work.keys
        or work.gone
        or batch.put
        or batch.moves
        or batch.drop
        or batch.meta
        or batch.damaged
        or batch.opt_outs
        or batch.doubts
        or batch.decided
        or batch.segments
        or batch.handed
    )


def shared(batch: Batch) -> list[ColdRow]:
    """The rows that are put for nobody to hold, and are not dropped by the same batch. Of one that is put twice the newer."""
    found = {place: row for place, row in _newest(batch).items() if _nobodys(row)}
    if found:
        for place in batch.drop:
            found.pop(place, None)
    return list(found.values())


def _newest(batch: Batch) -> dict[tuple[int, str, bytes, int], ColdRow]:
    return {(row.kind, row.owner, row.key, row.id): row for rows in (batch.put, batch.moves) for row in rows}


def _nobodys(row: ColdRow) -> bool:
    return row.shared or row.kind in EVERYBODYS


def common(work: Work, link: Link | None, events: bytes) -> Values:
    """What every batch has, behind node, epoch and sequence."""
    batch = work.batch
    log: Values = [None] * 6
    if link is not None:
        secrets = b"".join(batch.secrets) if batch.secrets else None
        log = [int8(work.seq), int4(len(batch.records)), b"".join(batch.records), events, link.digest, secrets]
    spool: Values = [None] * 3
    if batch.accepts or batch.marks:
        counter, sealed = work.sealer.seal(SPOOL, b"".join(batch.accepts + batch.marks))
        spool = [int4(work.sealer.segment), int8(counter), sealed]
    return log + spool


def more(work: Work, ring: KeyRing, made: Made | None) -> Values:
    """What any other batch has, behind that. Raises VaultError where the key of a segment is gone."""
    batch = work.batch
    return [
        byteas(scope for scope, _ in work.keys),
        byteas(wrapped for _, wrapped in work.keys),
        byteas(work.gone),
        *seal(made),
        *_cold(ring, [row for row in _newest(batch).values() if not _nobodys(row)], work.cold),
        *_dropped(batch.drop),
        *_meta(batch.meta),
        *_aside(ring, batch.damaged, work.aside),
        *_opt_outs(batch.opt_outs),
        *_doubts(batch.doubts, batch.decided),
        int4s(batch.segments),
    ]


def sharing(work: Work, ring: KeyRing, rows: Sequence[ColdRow], node: int) -> Values:
    """What a batch has behind that whose rows others may claim. rows: `shared`. Raises VaultError likewise."""
    handed = list(dict.fromkeys(work.batch.handed))
    return [
        *_cold(ring, rows, work.cold),
        int4s(kind for kind, _ in handed),
        texts(owner for _, owner in handed),
        int4(HANDED),
        texts(rows_put(node, (row for row in rows if row.kind not in EVERYBODYS), handed)),
    ]


def seal(made: Made | None) -> Values:
    """A seal and its state."""
    if made is None:
        return [None] * len(_SEAL)
    return [int8(made.seal.number), int8(made.seal.seq), made.signed, text(LOG_STATE), made.state]


def seal_alone(made: Made | None, state: bytes) -> Values:
    """A batch of nothing but a seal, or of a state alone."""
    values: Values = [None] * len(BATCH_TYPES[3:])
    at = len(PLAIN_TYPES) + len(_KEYS) - 3
    values[at : at + len(_SEAL)] = seal(made)
    values[at + 3 : at + 5] = [text(LOG_STATE), state]
    return values


def _cold(ring: KeyRing, rows: Sequence[ColdRow], segment: int) -> Values:
    if not rows:
        return [None] * len(_COLD)
    sealed = [seal_columns(ring, row, segment) for row in rows]
    return [
        int4(segment),
        int4s(columns[0] for columns in sealed),
        texts(columns[1] for columns in sealed),
        byteas(columns[2] for columns in sealed),
        int8s(columns[3] for columns in sealed),
        int8s(columns[4] for columns in sealed),
        byteas(columns[6] for columns in sealed),
    ]


def _dropped(rows: Sequence[tuple[int, str, bytes, int]]) -> Values:
    return [
        int4s(row[0] for row in rows),
        texts(row[1] for row in rows),
        byteas(row[2] for row in rows),
        int8s(row[3] for row in rows),
    ]


def _meta(numbers: Sequence[tuple[str, int]]) -> Values:
    newest = dict(numbers)
    return [texts(newest), int8s(newest.values())]


def _aside(ring: KeyRing, items: Sequence[Damaged], segment: int) -> Values:
    if not items:
        return [None] * len(_ASIDE)
    kept = [item._replace(owner=clean(item.owner), id=number_of(item.id)) for item in items]
    return [
        int4(segment),
        texts(item.kind for item in kept),
        texts(item.owner for item in kept),
        int8s(item.id for item in kept),
        texts(item.place for item in kept),
        texts(item.reason for item in kept),
        int8s(item.at for item in kept),
        int8s(item.until for item in kept),
        byteas(seal_item(ring, item, segment) for item in kept),
        int8(MOST),
        int8(OCTETS),
    ]


def _opt_outs(changes: Sequence[OptOut]) -> Values:
    newest = {one.key: one for one in changes}
    stand = [one for one in newest.values() if one.stands]
    return [
        byteas(one.key for one in stand),
        texts(one.account for one in stand),
        texts(one.sender for one in stand),
        int8s(one.at for one in stand),
        texts(one.source for one in stand),
        byteas(one.key for one in newest.values() if not one.stands),
    ]


def _doubts(doubts: Sequence[Doubt], decided: Sequence[int]) -> Values:
    newest = list({one.record: one for one in doubts}.values())
    return [
        int8s(one.record for one in newest),
        byteas(one.key for one in newest),
        texts(one.account for one in newest),
        texts(one.sender for one in newest),
        int8s(one.at for one in newest),
        int8s(decided),
    ]
