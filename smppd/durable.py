"""Files that are there whole or not at all, also after a power cut: written beside their place, synced, renamed into it. And
files that grow by whole lines and are rotated.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_BACK: Final = 64 * 1024


def replace_file(path: Path, data: bytes) -> None:
    """Puts these octets into a file of mode 0600, in the place of one that is there; durable when this returns. What a kill
    leaves behind has the ending `.new`, and the next call takes it away. OSError."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)
    os.replace(fresh, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes what was created, renamed or deleted in a directory durable. OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_whole(handle: int, size: int, data: bytes, *, sync: bool) -> None:
    """Appends to a file of so many octets, and syncs it where that is wanted.

    OSError: then it is cut to its size again, where that is possible.
    """
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(handle, view) :]
        if sync:
            os.fsync(handle)
    except OSError:
        with suppress(OSError):
            os.ftruncate(handle, size)
        raise


def end_of_last_line(handle: int, end: int) -> int:
    """Where the last line ends that is whole before the offset `end`; 0 where none is. OSError."""
    while end > 0:
        begin = max(0, end - _BACK)
        found = os.pread(handle, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def old_file(path: Path, number: int) -> Path:
    """`PATH.1`: the newest of a file's old ones is 1."""
    return path.with_name(f"{path.name}.{number}")


def rotate_files(path: Path, keep: int) -> None:
    """PATH -> PATH.1 -> PATH.2 ... PATH.keep: the last goes first, so that a kill in between overwrites none. OSError."""
    old = [path, *(old_file(path, number) for number in range(1, keep + 1))]
    # Files are renamed up to the first number that is free: a kill, or somebody who deleted a file, may have left it so.
    free = next((number for number in range(1, len(old)) if not old[number].exists()), len(old) - 1)
    for number in range(free, 0, -1):
        os.replace(old[number - 1], old[number])
    sync_directory(path.parent)
