"""What the vault's tests share: wrapped keys in memory, a KEK, a ring, and a submit_sm of fiction numbers."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from smppd.vault.keys import Kek, KeyRing

NOON = 1_795_348_800
"""2026-11-22T12:00:00Z."""


class MemoryRows:
    """`KeyRows` in a dict; counts what would wait for the disk."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.gets = 0
        self.puts = 0

    def get(self, scope: bytes) -> bytes | None:
        self.gets += 1
        return self.rows.get(scope)

    def put_new(self, scope: bytes, wrapped: bytes) -> bytes:
        self.puts += 1
        return self.rows.setdefault(scope, wrapped)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(pair for pair in self.rows.items() if pair[0].startswith(prefix)))

    def replace_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self.rows.update((scope, wrapped) for scope, wrapped in list(pairs) if scope in self.rows)

    def delete(self, scope: bytes) -> None:
        self.rows.pop(scope, None)


def some(label: str, size: int = 32) -> bytes:
    """Bytes that look random, the same each time."""
    return blake2b(label.encode(), digest_size=size).digest()


def kek(*versions: int) -> Kek:
    """A KEK with these versions (default: 1)."""
    return Kek([(version, "2026-11-22T00:00:00Z", some(f"kek {version}")) for version in versions or (1,)])


def ring(rows: MemoryRows | None = None) -> KeyRing:
    return KeyRing(kek(), MemoryRows() if rows is None else rows)


def submit_sm(text: bytes, source: bytes = b"Acme", destination: bytes = b"447700900123", tlvs: bytes = b"") -> bytes:
    """A submit_sm frame (SMPP 3.4 section 4.4.1)."""
    body = b"CMT\0\5\0" + source + b"\0\1\1" + destination + b"\0"
    body += b"\0\0\0\0\0\1\0\0\0" + bytes([len(text)]) + text + tlvs
    return struct.pack("!IIII", 16 + len(body), 4, 0, 7) + body
