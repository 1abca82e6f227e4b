"""The files that blocks are written into: made ahead, full of zeros and synced, so that a commit changes no size and takes no
space of the file system. A file belongs to one segment of the spool; a segment may have several.

Blocks go past the page cache where the file system allows it (O_DIRECT, open(2)): that is a third less of the processor's time
than to copy them there and have them written back from there at once, and quicker. Those who read the files see the same.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from errno import EDQUOT, EINVAL, EIO, ENOSPC
from pathlib import Path
from typing import Final

from smppd.durable import sync_directory
from smppd.store.journal.blocks import SECTOR, whole
from smppd.store.journal.reader import numbers, path_of

SMALLEST: Final = 1 << 18
LARGEST: Final = 16 << 20
"""Octets of a file: the next one is twice as large where one was filled, half as large where a quarter was not used."""
_PIECE: Final = 1 << 18
_NO_SPACE: Final = (ENOSPC, EDQUOT)
# Linux: a write that is its own sync, so the interpreter's lock is given away and taken back once (pwritev2(2)).
_DSYNC: Final = getattr(os, "RWF_DSYNC", 0)
_DIRECT: Final = getattr(os, "O_DIRECT", 0)
_MEMORY: Final = 1 << 20
"""Octets of memory that are kept for what is written past the page cache, which has to begin where a page begins."""


def no_space(error: OSError) -> bool:
    """Whether a write found no space, or no more than a quota."""
    return error.errno in _NO_SPACE


class JournalFiles:
    """See the module. ``write`` is the writer's, in its thread; ``drop`` and ``has`` are the filer's. Every method raises
    OSError."""

    def __init__(self, directory: Path) -> None:
        """directory: the store's. What an earlier run left is never written again."""
        self._directory = directory
        self._lock = threading.Lock()
        self._segments: dict[int, int] = {}
        self._segment = 0
        self._number = 0
        self._file = -1
        self._at = self._end = 0
        self._size = SMALLEST
        self._direct = bool(_DIRECT)
        """Whether blocks go past the page cache: until the file system, or its disk, is found not to allow it."""
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._spare: tuple[int, int, int] | None = None  # number, descriptor, octets
        self._wanted = threading.Event()
        self._over = False
        self._thread: threading.Thread | None = None
        self._next = max(numbers(directory), default=0) + 1

    # -- what earlier runs left ----------------------------------------------------------------------------------------

    def belongs(self, number: int, segment: int) -> None:
        """A file of an earlier run is of this segment."""
        self._segments[number] = segment

    def rest(self, living: Collection[int]) -> None:
        """Removes the files before the first of these segments, and those that were made ahead and never used: no gap comes to
        be in the sequences. Before the first ``write``, or after ``close``."""
        with self._lock:
            first = min((number for number, of in self._segments.items() if of in living), default=self._next)
            self._segments = {number: of for number, of in self._segments.items() if number >= first}
            gone = [number for number in numbers(self._directory) if number not in self._segments]
        self._remove(gone)

    def remove_all(self) -> None:
        """Removes every file: what lived in them stands elsewhere. Before the first ``write``, or after ``close``."""
        self.rest(())

    def cut(self, number: int, at: int) -> None:
        """Takes off what stands behind a place of a file of an earlier run; durable."""
        handle = os.open(path_of(self._directory, number), os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(handle, at)
            os.fsync(handle)
        finally:
            os.close(handle)

    def blank(self, number: int, at: int, octets: int) -> None:
        """Writes zeros over a stretch of a file of an earlier run; durable."""
        handle = os.open(path_of(self._directory, number), os.O_RDWR | os.O_CLOEXEC)
        try:
            _zeros(handle, at, octets)
            os.fsync(handle)
        finally:
            os.close(handle)

    # -- writing -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to make files ahead, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()
        self._wanted.set()

    def write(self, segment: int, pieces: Sequence[bytes]) -> int:
        """Writes a block of a segment, in one piece; on stable storage when this returns. How many octets. Where there was no
        space nothing of it is stored (`no_space`); after any other error nobody can say."""
        octets = sum(map(len, pieces))
        if segment != self._segment or self._at + octets > self._end:
            self._begin(segment, octets)
        try:
            self._put_all(pieces, octets)
        except OSError as error:
            if no_space(error):
                self._give_up_rest()
            raise
        self._at += octets
        return octets

    def _put_all(self, pieces: Sequence[bytes], octets: int) -> None:
        block = self._lay_out(pieces, octets)
        done = 0
        while done < octets:
            # To write less than was asked for is no error (write(2)).
            reached = done + self._put(block[done:], self._at + done)
            if self._direct and reached < octets:
                reached -= reached % SECTOR  # what goes past the page cache begins with a sector
            if reached <= done:
                raise OSError(EIO, f"{done} of {octets} octets of a block were written")
            done = reached

    def _lay_out(self, pieces: Sequence[bytes], octets: int) -> memoryview:
        """A block as one stretch of memory that begins where a page begins. It is shared memory: what is written past the page
        cache from other memory while another thread forks may be lost (open(2))."""
        memory = self._memory
        if len(memory) < octets:
            memory = mmap.mmap(-1, -(-octets // mmap.PAGESIZE) * mmap.PAGESIZE * 2)
            if octets <= _MEMORY:
                self._memory = memory
        block = memoryview(memory)[:octets]
        at = 0
        for piece in pieces:
            block[at : at + len(piece)] = piece
            at += len(piece)
        return block

    def _give_up_rest(self) -> None:
        """A part of a block may stand there, on a file system that writes into space of its own again (btrfs, ZFS). It must not
        look as if it had been stored."""
        self._end = self._at
        with suppress(OSError):
            os.ftruncate(self._file, self._at)
            os.fsync(self._file)

    def _put(self, block: memoryview, at: int) -> int:
        try:
            return self._put_once(block, at)
        except OSError as error:
            if error.errno != EINVAL or not self._direct:
                raise
        # Nothing was written: the disk has larger sectors, or the file system says only now that it cannot.
        self._direct = False
        _past_cache(self._file, False)
        return self._put_once(block, at)

    def _put_once(self, block: memoryview, at: int) -> int:
        if _DSYNC:
            return os.pwritev(self._file, [block], at, _DSYNC)
        done = os.pwritev(self._file, [block], at)
        os.fdatasync(self._file)
        return done

    def _begin(self, segment: int, octets: int) -> None:
        size = self._size
        if self._file >= 0 and segment == self._segment:
            size = min(LARGEST, size * 2)
        elif self._file >= 0 and self._at * 4 < self._end:
            size = max(SMALLEST, size // 2)
        with self._lock:
            spare, self._spare = self._spare, None
        # One that was being made while another was made here would stand before it.
        if spare is not None and (spare[2] < octets or spare[0] < self._number):
            os.close(spare[1])
            self._remove([spare[0]])
            spare = None
        number, handle, end = spare if spare is not None else self._make(max(size, whole(octets)))
        if self._file >= 0:
            os.close(self._file)
        self._direct = self._direct and _past_cache(handle, True)
        self._file, self._number, self._at, self._end = handle, number, 0, end
        self._segment, self._size = segment, size
        with self._lock:
            self._segments[number] = segment
        self._wanted.set()

    def _make(self, size: int) -> tuple[int, int, int]:
        with self._lock:
            number, self._next = self._next, self._next + 1
        path = path_of(self._directory, number)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            _zeros(handle, 0, size)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, size, os.POSIX_FADV_DONTNEED)  # nobody reads them
            sync_directory(self._directory)
        except OSError:
            os.close(handle)
            with suppress(OSError):
                path.unlink()
            raise
        return number, handle, size

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._over:
                return
            if self._spare is None:
                # Where there is no space now, the writer finds out when it needs the file.
                with suppress(OSError):
                    spare = self._make(self._size)
                    with self._lock:
                        self._spare = spare

    # -- segments ------------------------------------------------------------------------------------------------------

    def has(self, segment: int) -> bool:
        """Whether a file belongs to a segment."""
        with self._lock:
            return segment in self._segments.values()

    def drop(self, segment: int) -> None:
        """Removes the files of a segment. Durable: a later segment is never gone before an earlier one, whatever happens, since
        it may say that what the earlier one opens is over."""
        with self._lock:
            gone = [number for number, of in self._segments.items() if of == segment and number != self._number]
            for number in gone:
                del self._segments[number]
        self._remove(gone)

    def _remove(self, gone: Sequence[int]) -> None:
        for number in gone:
            path_of(self._directory, number).unlink(missing_ok=True)
        if gone:
            sync_directory(self._directory)

    def close(self) -> None:
        """Lets the files go. The one that was made ahead is removed."""
        self._over = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(30.0)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare[1])
            with suppress(OSError):
                self._remove([spare[0]])


def _past_cache(handle: int, wanted: bool) -> bool:
    """Has writes to a file go past the page cache, or through it; whether it does."""
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | _DIRECT if wanted else flags & ~_DIRECT)
    except OSError:
        return False
    return True


def _zeros(handle: int, at: int, octets: int) -> None:
    zeros = bytes(min(octets, _PIECE))
    while octets > 0:
        done = os.pwrite(handle, zeros[:octets], at)
        at += done
        octets -= done
