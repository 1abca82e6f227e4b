"""The feed's file: lines are appended, it is rotated by size and age, and its own last line says where it goes on.

So each event stands in it once, however the daemon ended: half a line that a kill or a full disk left is cut off, and what
follows the cursor of the last whole line comes next. A small file beside the store says how far the feed has looked; it
counts where lines are filtered, and where somebody took the file away.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from smppd.durable import append_whole, end_of_last_line, old_file, replace_file, rotate_files, sync_directory
from smppd.feed.lines import Cursor, Line, cursor_of

MODE: Final = 0o640
PLACE_FILE: Final = "feed-file.json"
"""In the store's directory."""
_BACK: Final = 64 * 1024
_BEGINNING: Final = b'{"v":'
"""How each line begins."""
_VERSION: Final = 1


class FeedError(Exception):
    """The feed cannot go on now. The text is one sentence without content."""


class Kept(NamedTuple):
    """What is kept of a file. cursor: all before it is in the file, or is not told; began: epoch seconds, when the present file
    was begun."""

    cursor: Cursor
    began: float


class PlaceFile:
    """Keeps a place, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Kept | None:
        """None where there is none yet. Raises FeedError if it cannot be read or understood."""
        try:
            said: dict[str, Any] = json.loads(self.path.read_text("ascii"))
            if said["version"] != _VERSION:
                raise ValueError
            return Kept(Cursor.parse(said["cursor"]), float(said["began"]))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FeedError(f"{self.path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise FeedError(
                f"{self.path} is not what smppd wrote; without it the feed begins with what comes"
            ) from None

    def save(self, kept: Kept) -> None:
        """Durable when it returns. Raises FeedError."""
        said = {"version": _VERSION, "cursor": str(kept.cursor), "began": kept.began}
        try:
            replace_file(self.path, json.dumps(said).encode("ascii"))
        except OSError as error:
            raise FeedError(f"{self.path} cannot be written: {error.strerror}") from None


class FeedFile:
    """See the module. For one thread."""

    def __init__(
        self,
        path: Path,
        place: PlaceFile,
        *,
        rotate: int,
        every: float | None,
        keep: int,
        wall: Callable[[], float],
    ) -> None:
        """rotate: octets, 0 for never; every: seconds, None for never; keep: so many old files."""
        self._path = path
        self._place = place
        self._rotate = rotate
        self._every = every
        self._keep = keep
        self._wall = wall
        self._began = wall()
        self._saved = Cursor()
        self._claimed = -1
        self.cursor = Cursor()
        """All before it is written, or is not told."""

    def __repr__(self) -> str:
        return f"<FeedFile {self._path}>"

    def open(self) -> None:
        """Finds out where the file goes on, and cuts off what is no whole line: at the start, and after each failure. Raises
        FeedError."""
        kept = self._place.load()
        if kept is not None:
            self._began = kept.began
            self._saved = kept.cursor
        if not self._path.parent.is_dir():  # perhaps not mounted now: the feed's file is there again with it
            raise FeedError(f"{self._path.parent}: there is no such directory")
        try:
            with suppress(FileNotFoundError):
                handle = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    self._claim(handle)
                finally:
                    os.close(handle)
            found = _last(self._path, cut=True) or _last(old_file(self._path, 1), cut=False)
        except OSError as error:
            raise self._failed(error) from None
        if found is None:
            if kept is None:
                raise FeedError(f"{self._place.path} is missing, and {self._path} has no line that says where it ends")
            found = max(kept.cursor, self.cursor)  # somebody took the file away
        elif kept is not None:
            # Both are places of one run of lines: what is further in one is not behind in the other.
            found = Cursor(max(found.log, kept.cursor.log), max(found.trail, kept.cursor.trail))
        self.cursor = found

    def append(self, lines: tuple[Line, ...], cursor: Cursor) -> None:
        """Appends lines, behind which ``cursor`` is. Raises FeedError: then none of them counts."""
        data = b"".join(line.data for line in lines)
        try:
            if data:
                handle, size = self._opened()
                try:
                    if self._due(size, len(data)):
                        os.fsync(handle)
                        os.close(handle)
                        handle = -1
                        self._shift()
                        handle, size = self._opened()
                    append_whole(handle, size, data, sync=False)
                finally:
                    if handle >= 0:
                        os.close(handle)
        except OSError as error:
            raise self._failed(error) from None
        self.cursor = cursor

    def save(self) -> None:
        """Keeps how far it is, once the lines are on stable storage. Raises FeedError."""
        if self._saved == self.cursor:
            return
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            handle = -1
        except OSError as error:
            raise self._failed(error) from None
        try:
            if handle >= 0:
                os.fsync(handle)
        except OSError as error:
            raise self._failed(error) from None
        finally:
            if handle >= 0:
                os.close(handle)
        self._place.save(Kept(self.cursor, self._began))
        self._saved = self.cursor

    def turn(self) -> None:
        """Rotates a file that is old enough, though nothing is written. Raises FeedError."""
        if self._every is None or self._wall() - self._began < self._every:
            return
        try:
            if self._path.exists() and self._path.stat().st_size:
                self._shift()
            else:
                self._began = self._wall()
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Lets the file go."""
        if self._claimed >= 0:
            os.close(self._claimed)
            self._claimed = -1

    def _claim(self, handle: int) -> None:
        """The file of this handle is ours alone, while we are there. Raises FeedError where it is another one's: two stores
        would each go on behind the other's lines."""
        if self._claimed >= 0 and os.path.samestat(os.fstat(self._claimed), os.fstat(handle)):
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FeedError(f"{self._path} is written by another feed") from None
        except OSError:
            pass  # a file system without locks
        self.close()
        self._claimed = os.dup(handle)

    def _failed(self, error: OSError) -> FeedError:
        return FeedError(f"{self._path}: {error.strerror or error}")

    def _due(self, size: int, more: int) -> bool:
        if not size:
            return False
        old = self._every is not None and self._wall() - self._began >= self._every
        return old or bool(self._rotate and size + more > self._rotate)

    def _opened(self) -> tuple[int, int]:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        try:
            handle = os.open(self._path, flags)
        except FileNotFoundError:
            handle = os.open(self._path, flags | os.O_CREAT, MODE)
            self._began = self._wall()
            sync_directory(self._path.parent)
        try:
            self._claim(handle)
        except FeedError:
            os.close(handle)
            raise
        return handle, os.fstat(handle).st_size

    def _shift(self) -> None:
        beyond = self._keep + 1  # of when more were kept
        while (one := old_file(self._path, beyond)).exists():
            one.unlink()
            beyond += 1
        rotate_files(self._path, self._keep)
        self._began = self._wall()


def says(path: Path) -> bool:
    """Whether a feed's file, or its newest old one, has a line that says where it goes on. Raises FeedError."""
    try:
        return (_last(path, cut=False) or _last(old_file(path, 1), cut=False)) is not None
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror or error}") from None


def _last(path: Path, *, cut: bool) -> Cursor | None:
    """The cursor of the last whole line of the feed's. cut: what follows the last whole line is cut off. Raises FeedError for a
    file in which no line is the feed's, and leaves it as it is: it is somebody else's."""
    try:
        handle = os.open(path, (os.O_RDWR if cut else os.O_RDONLY) | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(handle).st_size
        end = end_of_last_line(handle, size)
        found = _cursor_before(handle, end)
        if found is None and size:
            torn = os.pread(handle, len(_BEGINNING), 0)
            # The one line that it has is half there, or a power cut left zeros of it.
            if end or not (_BEGINNING.startswith(torn) or not torn.strip(b"\0")):
                raise FeedError(f"{path} is no file of the feed, it was left as it is: move it away")
        if cut and end < size:
            os.ftruncate(handle, end)
        return found
    finally:
        os.close(handle)


def _cursor_before(handle: int, end: int) -> Cursor | None:
    """That of the last line of the feed's that ends at `end` or before: somebody may have written lines of his own there."""
    least = max(0, end - _BACK)
    while end > least:
        begin = end_of_last_line(handle, end - 1)
        found = cursor_of(os.pread(handle, end - begin, begin)) if end - begin <= _BACK else None
        if found is not None:
            return found
        end = begin
    return None
