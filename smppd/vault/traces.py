"""The sealed file of a trace: blocks under a key of its own, written one after another by one process in one lifetime.

    magic 8 `SMPPDTR1` | number of the trace u32
    blocks: octets u32 | AES-256-GCM, its tag 16 behind it

A block's nonce is its place in the file, from 0; associated data are magic and number. So blocks cannot be altered, swapped or
put into another trace's file. The file ends where its writer did, perhaps within a block: what stands before that opens. The
key is random, wrapped by the KEK (scope `trace/<number>`), and never used again after its writer has ended.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from smppd.vault.kek import KEY_BYTES
from smppd.vault.seal import SealError

TRACES: Final = b"trace/"
"""How the scopes of traces' keys begin."""
MAGIC: Final = b"SMPPDTR1"
LARGEST: Final = 16 << 20
"""Octets of a block."""
_HEAD: Final = struct.Struct("!8sI")
_LENGTH: Final = struct.Struct("!I")
_NONCE: Final = struct.Struct("!4xQ")
_TAG: Final = 16


def trace_scope(number: int) -> bytes:
    """`trace/000001`."""
    return TRACES + b"%06d" % number


def new_key() -> bytes:
    """A fresh key for a trace."""
    return secrets.token_bytes(KEY_BYTES)


class TraceWriter:
    """Writes a new file. For one thread. OSError from the file: a block may be half there then, so nothing more is written."""

    __slots__ = ("_aead", "_bound", "_file", "_half", "_place", "octets")

    def __init__(self, file: BinaryIO, number: int, key: bytes) -> None:
        """file: new, empty and not buffered. key: of this trace, and never written with before."""
        self._file = file
        self._aead = AESGCM(key)
        self._bound = _HEAD.pack(MAGIC, number)
        self._place = 0
        self._half = False
        self.octets = 0
        """Octets of the file."""
        self._put(self._bound)

    def __repr__(self) -> str:
        return f"<TraceWriter {self._place} blocks ***>"

    def write(self, data: bytes) -> None:
        """A block. SealError behind one that could not be written: whatever stood behind half a block would not open, nor would
        the file count as whole up to there."""
        if self._half:
            raise SealError("a block before this one could not be written")
        if len(data) + _TAG > LARGEST:
            raise SealError("a block of a trace is too large")
        # A place is used up before anything of its block is on the disk: the same nonce never goes with other octets.
        nonce, self._place = _NONCE.pack(self._place), self._place + 1
        sealed = self._aead.encrypt(nonce, data, self._bound)
        self._half = True
        self._put(_LENGTH.pack(len(sealed)) + sealed)
        self._half = False

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            self.octets += written
            view = view[written:]


def read_trace(file: BinaryIO, number: int, key: bytes) -> Iterator[bytes]:
    """What stands in the blocks of a file. SealError where one was altered or is another trace's; a block that is cut off at
    the end, as a kill leaves it, ends it."""
    bound = _HEAD.pack(MAGIC, number)
    head = file.read(len(bound))
    if head != bound[: len(head)]:
        raise SealError(f"the file of trace {number} was altered, or is another's")
    aead = AESGCM(key)
    place = 0
    while len(length := file.read(_LENGTH.size)) == _LENGTH.size:
        (size,) = _LENGTH.unpack(length)
        if not _TAG <= size <= LARGEST:
            raise SealError(f"the file of trace {number} was altered")
        sealed = file.read(size)
        if len(sealed) < size:
            return
        try:
            yield aead.decrypt(_NONCE.pack(place), sealed, bound)
        except InvalidTag:
            raise SealError(f"the file of trace {number} was altered") from None
        place += 1
