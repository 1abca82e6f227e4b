"""A compiled list on disk, and the look-up in it.

An entry is a hash of 8 octets (BLAKE2b under the installation's key and the list's kind), so that no number stands on disk and
nobody without the key can try numbers. All are sorted; the first bits of a hash are the number of its bucket, 32 to 64
entries, and where each bucket begins is kept in memory: a look-up hashes, takes one slice of about 400 octets from the mapped
file (one page of memory, at times two) and searches that. With n entries, what is not on the list is taken for one with
probability n / 2^64: 5.4e-12 for 100 million.

    header, 4096 octets: `_HEADER`, the MAC of it, zeros
    entries: 8 octets each, as little-endian numbers in rising order, no two alike
    buckets: 2^bits + 1 numbers of 4 octets, little-endian: how many entries come before each

Such a file is written whole under another name and then put in place, and never changed: what is mapped stays as it is, and a
mapped file that is cut short ends the process. It is read once in full when it is opened, against the digest in the header,
whose MAC is under the key: nothing is believed that this installation did not write.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from array import array
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path
from typing import Final, NamedTuple

from smppd.config import Stamp, stamp_of

MAGIC: Final = b"smppdlst"
VERSION: Final = 1
WIDTH: Final = 8
"""Octets of an entry."""
HEADER: Final = 4096
MOST: Final = (1 << 32) - 1
"""Entries of one list."""
KINDS: Final = ("numbers", "domains", "senders")
_PER_BUCKET: Final = 64
_PIECE: Final = 1 << 20
_MAC: Final = 32
# magic, version, kind, width, bits, entries, lines skipped, compiled at (s), size, mtime_ns, inode of the source,
# digest of what it depends on, digest of the source, digest of all behind the header, who has the key
_HEADER: Final = struct.Struct("<8sHBBHxxQQQQQQ16s32s32s16s")


class ListFault(Exception):
    """A compiled list that is not believed; the text says why, without anything of the list."""


class Header(NamedTuple):
    """What a compiled list says of itself.

    bits: of a hash that are its bucket. entries: how many different ones. skipped: bad lines that were left out. compiled:
    epoch seconds. source: the file's stamp when it was read. spec: a digest of the settings that it was compiled under.
    digest: of the source, keyed. body: of all behind the header. holder: tells whose key it is.
    """

    kind: str
    bits: int
    entries: int
    skipped: int
    compiled: int
    source: Stamp
    spec: bytes
    digest: bytes
    body: bytes
    holder: bytes

    def pack(self, key: bytes) -> bytes:
        """The header's 4096 octets."""
        fields = _HEADER.pack(
            MAGIC,
            VERSION,
            KINDS.index(self.kind),
            WIDTH,
            self.bits,
            self.entries,
            self.skipped,
            self.compiled,
            *self.source,
            self.spec,
            self.digest,
            self.body,
            self.holder,
        )
        return (fields + mac_of(key, fields)).ljust(HEADER, b"\0")


def unpack(raw: bytes) -> Header:
    """The header in the first octets of a file, not yet held against the key. Raises ListFault."""
    if len(raw) < HEADER or not raw.startswith(MAGIC):
        raise ListFault("is no compiled list")
    found = _HEADER.unpack_from(raw)
    _magic, version, kind, width, bits, entries, skipped, compiled, size, mtime, inode, spec, digest, body, holder = (
        found
    )
    if version != VERSION or width != WIDTH:
        raise ListFault(f"is of a form that this version does not know ({version})")
    if kind >= len(KINDS) or bits > 32 or entries > MOST:
        raise ListFault("has a header that cannot be")
    return Header(KINDS[kind], bits, entries, skipped, compiled, Stamp(size, mtime, inode), spec, digest, body, holder)


def read_header(path: Path) -> Header:
    """The header of a file, not held against a key. Raises ListFault, OSError."""
    with path.open("rb") as file:
        return unpack(file.read(HEADER))


def mac_of(key: bytes, fields: bytes) -> bytes:
    """The MAC of a header's fields."""
    return blake2b(fields, key=key, digest_size=_MAC, person=b"smppd-list-file").digest()


def holder_of(key: bytes) -> bytes:
    """What tells one key from another, and gives nothing of it away."""
    return blake2b(key=key, digest_size=16, person=b"smppd-list-who").digest()


def hasher(key: bytes, kind: str) -> Callable[[], blake2b]:
    """Gives, at each call, a new hash state of this kind of entry: update it with a form, `digest` it to `WIDTH` octets."""
    state = blake2b(key=key, digest_size=WIDTH, person=b"smppd-" + kind.encode("ascii"))
    return state.copy


class _Digests:
    """The hashes of forms, of which the last is kept: rules and screens ask several lists about one number, in a row."""

    __slots__ = ("_last", "_new")

    def __init__(self, key: bytes, kind: str) -> None:
        self._new = hasher(key, kind)
        self._last = (b"", b"")

    def of(self, form: bytes) -> bytes:
        last = self._last
        if last[0] == form and form:
            return last[1]
        state = self._new()
        state.update(form)
        digest = state.digest()
        self._last = form, digest
        return digest


@lru_cache(maxsize=16)
def _digests(key: bytes, kind: str) -> _Digests:
    """One for all lists of a kind."""
    return _Digests(key, kind)


def bits_for(entries: int) -> int:
    """How many bits of a hash are its bucket, for so many entries."""
    return max(0, (entries // _PER_BUCKET)).bit_length()


def length_of(header: Header) -> int:
    """Octets of the whole file."""
    return HEADER + WIDTH * header.entries + 4 * ((1 << header.bits) + 1)


class Table:
    """A compiled list that was found whole. Open it with `open_table`."""

    __slots__ = ("_buckets", "_digests", "_file", "_shift", "header", "octets", "stamp")

    def __init__(self, header: Header, stamp: Stamp, file: mmap.mmap, buckets: array[int], key: bytes) -> None:
        self.header = header
        self.stamp = stamp
        """Of the compiled file."""
        self.octets = len(file)
        self._file = file
        self._buckets = buckets
        self._shift = 32 - header.bits
        self._digests = _digests(key, header.kind)

    def __repr__(self) -> str:
        return f"<Table of {self.header.entries} {self.header.kind}>"

    def __len__(self) -> int:
        return self.header.entries

    def has(self, form: bytes) -> bool:
        """Whether an entry is on the list, in its normal form (`lists.forms`)."""
        wanted = self._digests.of(form)
        # Its highest octets are enough, and a small number.
        bucket = int.from_bytes(wanted[4:], "little") >> self._shift
        first: int = self._buckets[bucket]
        last: int = self._buckets[bucket + 1]
        if first == last:
            return False
        some = self._file[HEADER + first * WIDTH : HEADER + last * WIDTH]
        at = some.find(wanted)
        while at >= 0:
            if not at % WIDTH:  # else the end of one entry and the beginning of the next
                return True
            at = some.find(wanted, at + 1)
        return False

    @property
    def memory(self) -> int:
        """Octets in memory that are its own; the mapped file is the kernel's to keep or drop."""
        return len(self._buckets) * self._buckets.itemsize

    def close(self) -> None:
        """Gives the mapped file back. Nothing may be asked of it afterwards."""
        self._file.close()


def open_table(path: Path, key: bytes, kind: str | None = None) -> Table:
    """Opens a compiled list, and reads all of it once, which leaves the interpreter to other threads: about a second a gigabyte
    where it is in the page cache. ``kind``: what it has to be a list of. Raises ListFault where it is not one that this
    installation wrote, whole; OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = _proven(handle, key)
        if kind is not None and header.kind != kind:
            raise ListFault(f"is a list of {header.kind}")
        stamp = stamp_of(handle)
        if stamp is None or stamp.size != length_of(header):
            raise ListFault("is cut short, or longer than it should be")
        body = blake2b(digest_size=32)
        start = HEADER + header.entries * WIDTH
        buckets = array("I")
        at = HEADER
        while at < stamp.size:
            piece = os.pread(handle, min(_PIECE, (start if at < start else stamp.size) - at), at)
            if not piece:
                raise ListFault("is cut short, or longer than it should be")
            body.update(piece)
            if at >= start:
                buckets.frombytes(piece)
            at += len(piece)
        if not compare_digest(body.digest(), header.body):
            raise ListFault("was altered, or is damaged")
        if sys.byteorder == "big":
            buckets.byteswap()
        file = mmap.mmap(handle, stamp.size, prot=mmap.PROT_READ)
        # A look-up needs its page alone, not those behind it.
        file.madvise(mmap.MADV_RANDOM)
        return Table(header, stamp, file, buckets, key)
    finally:
        os.close(handle)


def _proven(handle: int, key: bytes) -> Header:
    raw = os.pread(handle, HEADER, 0)
    header = unpack(raw)
    if not compare_digest(header.holder, holder_of(key)):
        raise ListFault("was compiled under another installation's key")
    fields = raw[: _HEADER.size]
    if not compare_digest(raw[_HEADER.size :], mac_of(key, fields).ljust(HEADER - _HEADER.size, b"\0")):
        raise ListFault("was altered, or is damaged")
    return header
