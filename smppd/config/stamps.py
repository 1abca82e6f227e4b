"""What a file looked like when it was read, to see later whether it is another by now. One stat, the file is not opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """A file's size in octets, its mtime in nanoseconds since the epoch, and its inode: a file that is written again, or put
    in the place of another, has another stamp."""

    size: int
    mtime_ns: int
    inode: int


class ReadFile(NamedTuple):
    """A file that a configuration was made of, and its stamp when it was read."""

    path: Path
    stamp: Stamp


def stamp_of(path: Path | int) -> Stamp | None:
    """The stamp of a file (a path, or an open file's descriptor); None where it is not there or cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)
