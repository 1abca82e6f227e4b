"""How a cold row is sealed: under the key of a segment, tied to its place."""

from __future__ import annotations

import os
from typing import Final

from smppd.store.api import ColdRow
from smppd.vault.keys import KeyRing

FOUND: Final = 256
"""Rows under the keys of one receipt. A carrier that calls more messages by one id tells nothing with it."""

_COLD: Final = b"cold"
_NONCE: Final = 12

Columns = tuple[int, str, bytes, int, int, int, bytes]
"""kind, owner, key, id, expires (epoch seconds), segment, sealed data: a row as it is stored."""


def seal_columns(ring: KeyRing, row: ColdRow, segment: int) -> Columns:
    """A row under the key of a segment. Raises VaultError where that is gone."""
    nonce = os.urandom(_NONCE)
    sealed = nonce + ring.segment(segment).encrypt(nonce, row.data, _bound(row.kind, row.owner, row.id))
    return row.kind, row.owner, row.key, row.id, row.expires, segment, sealed


def open_columns(ring: KeyRing, columns: Columns) -> ColdRow:
    """A row as it is stored, opened. Raises what the ring and the cipher raise where it does not open."""
    kind, owner, key, identity, expires, segment, sealed = columns
    data = ring.segment(segment).decrypt(sealed[:_NONCE], sealed[_NONCE:], _bound(kind, owner, identity))
    return ColdRow(kind, owner, key, identity, expires, data)


def _bound(kind: int, owner: str, identity: int) -> bytes:
    """What ties a row to its place (associated data)."""
    return b"%s %d %s %d" % (_COLD, kind, owner.encode(), identity)
