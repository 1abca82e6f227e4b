"""Ships into a file, one JSON object a line: appended and on the disk before the place of the target moves on.

It rotates by size. It opens the file for each batch, so a file that logrotate renamed or copied and emptied is noticed without
a signal. A kill or a full disk in the middle of a batch leaves no half of a line: it is cut off before anything follows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smppd.audit.shipping import Line, ShippingError
from smppd.durable import append_whole, end_of_last_line, rotate_files, sync_directory

MODE: Final = 0o640
"""Its group may read it: a collector's, for example."""


class FileTarget:
    """See the module. For one thread."""

    name = "file"
    lossy = False
    """What `send` took is there."""

    def __init__(self, path: Path, rotate: int, keep: int) -> None:
        """rotate: octets, 0 for never; keep: so many old files."""
        self._path = path
        self._rotate = rotate
        self._keep = keep

    def __repr__(self) -> str:
        return f"<FileTarget {self._path}>"

    def send(self, lines: Sequence[Line]) -> None:
        """Appends lines; durable when it returns. Raises ShippingError: then none of them counts."""
        data = b"".join(line.text(self.name).encode("ascii") + b"\n" for line in lines)
        try:
            handle, size = self._open()
            try:
                if self._rotate and size and size + len(data) > self._rotate:
                    os.close(handle)
                    handle = -1
                    rotate_files(self._path, self._keep)
                    handle, size = self._open()
                append_whole(handle, size, data, sync=True)
            finally:
                if handle >= 0:
                    os.close(handle)
        except OSError as error:
            raise ShippingError(f"{self._path}: {error.strerror or error}") from None

    def _open(self) -> tuple[int, int]:
        """The file and its size, without what a kill left of a line."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        try:
            handle = os.open(self._path, flags)
        except FileNotFoundError:
            handle = os.open(self._path, flags | os.O_CREAT, MODE)
            sync_directory(self._path.parent)
        try:
            size = os.fstat(handle).st_size
            end = end_of_last_line(handle, size)
            if end < size:
                os.ftruncate(handle, end)
            return handle, end
        except BaseException:
            os.close(handle)
            raise

    def watch(self) -> None:
        """Nothing happens to a file while nothing is written."""

    def finish(self) -> bool:
        """All that was sent is there."""
        return True

    def close(self) -> None:
        """Nothing is open between two batches."""
