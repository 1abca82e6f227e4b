"""A hold's key: seals the part keys of the records that it keeps, and finds these records by number.

The hold has one random key, wrapped by the KEK (scope `hold/<number>`). Two keys are derived from it. One seals what opens a
record; it is bound to record, hold and blind indexes, so no row can be put into another's place. The other makes blind indexes
of the numbers, because those in the record are under a period key that dies on time.
"""

from __future__ import annotations

import secrets
import struct
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from smppd.vault.kek import KEY_BYTES
from smppd.vault.seal import INDEX_BYTES, PartKeys, SealError

_VERSION: Final = b"\1"
_NONCE: Final = 12
_BOUND: Final = struct.Struct("!13sQQ16s16s")
_CONTEXT: Final = b"smppd held v1"
_NONE: Final = bytes(32)


def new_key() -> bytes:
    """A fresh key for a hold."""
    return secrets.token_bytes(KEY_BYTES)


class HoldKey:
    """See the module. number: the hold's."""

    __slots__ = ("_aead", "_index", "number")

    def __init__(self, number: int, key: bytes) -> None:
        self.number = number
        self._aead = AESGCMSIV(_derived(key, b"smppd held parts v1"))
        self._index = blake2b(key=_derived(key, b"smppd held index v1"), digest_size=INDEX_BYTES, person=b"smppd-held")

    def __repr__(self) -> str:
        return f"<HoldKey {self.number} ***>"

    def blind(self, form: bytes) -> bytes:
        """The blind index (INDEX_BYTES) of a normal form of a number."""
        state = self._index.copy()
        state.update(form)
        return state.digest()

    def seal(self, record: int, source: bytes, destination: bytes, parts: PartKeys) -> bytes:
        """version 1 | nonce 12 | AES-256-GCM-SIV of part key of the numbers 32 | of the body 32, zeros where there is none.
        source, destination: blind indexes (`blind`), bound to it."""
        nonce = secrets.token_bytes(_NONCE)
        plain = (parts.numbers or _NONE) + (parts.body or _NONE)
        return _VERSION + nonce + self._aead.encrypt(nonce, plain, self._bound(record, source, destination))

    def open(self, record: int, source: bytes, destination: bytes, sealed: bytes) -> PartKeys:
        """The inverse of `seal`. SealError where it was altered, or belongs to another record or hold."""
        if sealed[:1] != _VERSION:
            raise SealError("what a hold keeps of a record has an unknown form")
        try:
            plain = self._aead.decrypt(
                sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], self._bound(record, source, destination)
            )
        except (InvalidTag, ValueError):
            raise SealError("what a hold keeps of a record was altered, or is another record's") from None
        numbers, body = plain[:32], plain[32:]
        return PartKeys(None if numbers == _NONE else numbers, None if body == _NONE else body)

    def _bound(self, record: int, source: bytes, destination: bytes) -> bytes:
        if len(source) != INDEX_BYTES or len(destination) != INDEX_BYTES:
            raise SealError("a blind index has a wrong length")
        return _BOUND.pack(_CONTEXT, record, self.number, source, destination)


def _derived(key: bytes, label: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=label).derive(key)
