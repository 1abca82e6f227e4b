"""What is set aside, since it could not be handled or does not open: how it is sealed and opened, how many are kept.

An item is there for somebody to look at (`smppd damaged`), sealed as everything else that is on its way: under the key of a
segment of the spool, which is kept as long as the item is. Nobody serves from it, so it is bounded, and a purge removes what is
past its time (`until`).
"""

from __future__ import annotations

import os
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidTag

from smppd.store.api import Damaged, Kind
from smppd.vault.blocks import open_blob, split_row_id
from smppd.vault.kek import VaultError
from smppd.vault.keys import KeyRing

MOST: Final = 10_000
"""Items that are kept; more, and the oldest go."""
OCTETS: Final = 64 << 20
"""Octets of them that are kept, likewise."""

OURS, COLD, SPOOL, CLEAR = 0, 1, 2, 3
"""Forms of `data`: sealed as an item; as it stood in a cold row; as it stood in the spool; a number that was never sealed."""
KINDS: Final = {
    int(Kind.QUEUE): "cold message",
    int(Kind.WAITING): "cold waiting",
    int(Kind.MAIL): "cold mail",
    int(Kind.REPLY): "cold reply",
    int(Kind.ERASED): "cold erased",
    int(Kind.PARKED): "cold receipt",
    int(Kind.INHERITED): "cold inherited",
}
"""What an item is called that was a cold row of a kind."""
UNOPENED: Final = (VaultError, InvalidTag, TypeError, ValueError, OverflowError)
"""What is raised where something sealed in the spool does not open, of the types that it should be of."""
_NONCE: Final = 12


class Aside(NamedTuple):
    """An item as it is stored, by what it takes to open it. ``row``: the row of the spool, or the kind of cold row, it was."""

    kind: str
    owner: str
    id: int
    at: int
    form: int
    row: int
    segment: int


def seal_item(ring: KeyRing, item: Damaged, segment: int) -> bytes:
    """What is stored of an item's data. Raises VaultError where the segment's key is gone."""
    nonce = os.urandom(_NONCE)
    bound = _bound(item.kind, item.owner, number_of(item.id), item.at)
    return nonce + ring.segment(segment).encrypt(nonce, item.data, bound)


def open_item(ring: KeyRing, item: Aside, data: bytes) -> bytes:
    """The inverse, for every form. Raises what the ring and the cipher raise where it does not open: it was altered, or its key
    is gone."""
    if item.form == CLEAR:
        return data
    aead = ring.segment(item.segment)
    if item.form == SPOOL:
        return open_blob(aead, split_row_id(item.row)[1], b"spool", data)
    if item.form == COLD:
        bound = b"cold %d %s %d" % (item.row, item.owner.encode(), item.id)
    else:
        bound = _bound(item.kind, item.owner, item.id, item.at)
    return aead.decrypt(data[:_NONCE], data[_NONCE:], bound)


def number_of(value: Any) -> int:
    """A whole number of 63 bits and a sign; 0 for anything else, which is what was altered may be."""
    return value if isinstance(value, int) and -1 << 63 <= value < 1 << 63 else 0


def _bound(kind: str, owner: str, identity: int, at: int) -> bytes:
    """What ties an item to its row (associated data)."""
    return b"damaged %s %d %d %s" % (kind.encode(), identity, at, owner.encode("utf-8", "surrogatepass"))
