"""The sealed stream of a bundle: whole or not at all, for one key."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from smppd.vault.bundle import MAGIC, PIECE, SealedReader, SealedWriter, fingerprint, read_private, read_public
from smppd.vault.keys import VaultError
from smppd.vault.seal import SealError

KEY = X25519PrivateKey.generate()


def sealed(data: bytes, *cuts: int) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, KEY.public_key())
    start = 0
    for cut in (*cuts, len(data)):
        writer.write(data[start:cut])
        start = cut
    writer.close()
    return file.getvalue()


def opened(stream: bytes, key: X25519PrivateKey = KEY) -> bytes:
    return SealedReader(io.BytesIO(stream), key).read()


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 5])
def test_it_comes_back(size: int) -> None:
    data = random.Random(size).randbytes(size)
    stream = sealed(data, size // 3, size // 2)
    assert opened(stream) == data
    reader, pieces = SealedReader(io.BytesIO(stream), KEY), []
    while piece := reader.read(10_000):
        pieces.append(piece)
    assert b"".join(pieces) == data and reader.read(1) == b""
    assert "***" in repr(reader) and "***" in repr(SealedWriter(io.BytesIO(), KEY.public_key()))


def test_what_was_changed_dropped_swapped_or_added_is_found() -> None:
    data = random.Random(1).randbytes(3 * PIECE + 100)
    stream = sealed(data)
    begin = 8 + 2 + struct.unpack("!H", stream[8:10])[0]
    pieces = [stream[at : at + PIECE + 16] for at in range(begin, len(stream), PIECE + 16)]
    head = stream[:begin]
    assert head + b"".join(pieces) == stream and len(pieces) == 4
    for bad in (
        [pieces[0], pieces[1], pieces[3]],
        pieces[:3],
        [pieces[1], pieces[0], *pieces[2:]],
        [*pieces, pieces[3]],
        [*pieces, b"x"],
        [],
        [*pieces[:3], pieces[3][:-1]],
    ):
        with pytest.raises(SealError):
            opened(head + b"".join(bad))
    other = sealed(data)
    with pytest.raises(SealError):
        opened(head + other[begin:])
    for at in range(begin + 20):
        with pytest.raises(SealError):
            opened(stream[:at] + bytes((stream[at] ^ 0x80,)) + stream[at + 1 :])
        with pytest.raises(SealError):
            opened(stream[:at])
    with pytest.raises(SealError, match="another key"):
        opened(stream, X25519PrivateKey.generate())


def test_a_stream_without_its_end_does_not_open() -> None:
    file = io.BytesIO()
    SealedWriter(file, KEY.public_key()).write(bytes(2 * PIECE))
    with pytest.raises(SealError):
        opened(file.getvalue())


def test_the_form_is_the_documented_one() -> None:
    stream = sealed(b"a" * PIECE + b"b")
    assert stream[:8] == MAGIC
    (size,) = struct.unpack("!H", stream[8:10])
    key = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM).decrypt(
        stream[10 : 10 + size], KEY, b"smppd evidence v1"
    )
    bound = hashlib.sha256(stream[: 10 + size]).digest()
    first, last = stream[10 + size :][: PIECE + 16], stream[10 + size :][PIECE + 16 :]
    assert AESGCM(key).decrypt(bytes(3) + struct.pack("!QB", 0, 0), first, bound) == b"a" * PIECE
    assert AESGCM(key).decrypt(bytes(3) + struct.pack("!QB", 1, 1), last, bound) == b"b"


def test_keys_of_openssl_are_read(tmp_path: Path) -> None:
    private, public = tmp_path / "a.key", tmp_path / "a.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "X25519", "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    key = read_public(public.read_bytes())
    assert read_private(private.read_bytes()).public_key() == key and len(fingerprint(key)) == 64


def test_what_is_no_key_is_refused() -> None:
    other = Ed25519PrivateKey.generate()
    wrong = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for pem in (b"", b"nonsense", wrong):
        with pytest.raises(VaultError, match="X25519 public"):
            read_public(pem)
    private = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"long enough"))
    for pem in (b"", wrong, private, locked):
        with pytest.raises(VaultError, match="X25519 private"):
            read_private(pem)
    with pytest.raises(VaultError, match="nothing can be sealed"):
        SealedWriter(io.BytesIO(), X25519PublicKey.from_public_bytes(bytes(32)))
