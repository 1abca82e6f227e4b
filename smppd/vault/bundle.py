"""A stream sealed to somebody's X25519 public key: what is handed over, so that nobody on its way can read or change it.

    magic 8 `SMPPDEV1` | u16 length | HPKE (RFC 9180, base mode, single shot) of a random file key 32
    pieces: AES-256-GCM under the file key, each of 65,536 octets but the last, its tag 16 behind it

HPKE: KEM DHKEM(X25519, HKDF-SHA256), KDF HKDF-SHA256, AEAD AES-256-GCM; info `smppd evidence v1`. A piece's nonce: three zeros
| u64 number from 0 | 1 for the last piece, else 0. Associated data of each piece: SHA-256 of all before the first. So pieces
cannot be altered, dropped, swapped or added, nor the end cut off. docs/data-protection.md has the form, for who opens it
without smppd.
"""

from __future__ import annotations

import secrets
import struct
from hashlib import sha256
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from smppd.vault.keys import VaultError
from smppd.vault.seal import SealError

MAGIC: Final = b"SMPPDEV1"
PIECE: Final = 65536
_TAG: Final = 16
_INFO: Final = b"smppd evidence v1"
_LENGTH: Final = struct.Struct("!H")
_NONCE: Final = struct.Struct("!3xQB")
_LONGEST: Final = 512
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def read_public(pem: bytes) -> X25519PublicKey:
    """A public key in PEM form, as `openssl pkey -pubout` writes it. VaultError for anything else."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, X25519PublicKey):
        raise VaultError("this is no X25519 public key in PEM form")
    return key


def read_private(pem: bytes) -> X25519PrivateKey:
    """A private key in PEM form, not under a passphrase. VaultError for anything else."""
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise VaultError("this is no X25519 private key in PEM form, or it is under a passphrase")
    return key


def fingerprint(key: X25519PublicKey) -> str:
    """SHA-256 of a public key in DER form, hexadecimal."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


class SealedWriter:
    """Writes a sealed stream; `close` ends it, and without it the stream does not open to its end."""

    def __init__(self, file: BinaryIO, to: X25519PublicKey) -> None:
        key = secrets.token_bytes(32)
        try:
            sealed = _SUITE.encrypt(key, to, _INFO)
        except ValueError:
            raise VaultError("nothing can be sealed to this public key") from None
        head = MAGIC + _LENGTH.pack(len(sealed)) + sealed
        self._file = file
        self._aead = AESGCM(key)
        self._bound = sha256(head).digest()
        self._number = 0
        self._rest = bytearray()
        file.write(head)

    def __repr__(self) -> str:
        return "<SealedWriter ***>"

    def write(self, data: bytes) -> int:
        """Adds octets."""
        self._rest += data
        while len(self._rest) > PIECE:  # what is left at the end is the last piece
            self._put(bytes(self._rest[:PIECE]), last=False)
            del self._rest[:PIECE]
        return len(data)

    def close(self) -> None:
        """Writes the last piece; the file stays open."""
        self._put(bytes(self._rest), last=True)
        self._rest.clear()

    def _put(self, piece: bytes, *, last: bool) -> None:
        self._file.write(self._aead.encrypt(_NONCE.pack(self._number, last), piece, self._bound))
        self._number += 1


class SealedReader:
    """Reads what `SealedWriter` wrote. SealError where it was altered, cut short, or sealed to another key."""

    def __init__(self, file: BinaryIO, key: X25519PrivateKey) -> None:
        head = file.read(len(MAGIC) + _LENGTH.size)
        if len(head) != len(MAGIC) + _LENGTH.size or head[: len(MAGIC)] != MAGIC:
            raise SealError("this is no evidence bundle")
        (size,) = _LENGTH.unpack(head[len(MAGIC) :])
        sealed = file.read(size) if size <= _LONGEST else b""
        try:
            opened = _SUITE.decrypt(sealed, key, _INFO)
        except (InvalidTag, ValueError):
            opened = b""
        if len(opened) != 32:
            raise SealError("the bundle was sealed to another key, or its beginning was altered")
        self._file = file
        self._aead = AESGCM(opened)
        self._bound = sha256(head + sealed).digest()
        self._number = 0
        self._next = file.read(PIECE + _TAG)
        self._ready = b""
        self._done = False

    def __repr__(self) -> str:
        return "<SealedReader ***>"

    def read(self, size: int = -1) -> bytes:
        """Up to so many octets, all that are left where it is negative; empty at the end."""
        found = bytearray()
        while size < 0 or len(found) < size:
            if not self._ready and not self._fill():
                break
            some = len(self._ready) if size < 0 else size - len(found)
            found += self._ready[:some]
            self._ready = self._ready[some:]
        return bytes(found)

    def _fill(self) -> bool:
        while not self._done:
            piece, self._next = self._next, self._file.read(PIECE + _TAG)
            self._done = not self._next
            try:
                self._ready = self._aead.decrypt(_NONCE.pack(self._number, self._done), piece, self._bound)
            except (InvalidTag, ValueError):
                raise SealError("the bundle was altered or cut short") from None
            self._number += 1
            if self._ready:
                return True
        return False
