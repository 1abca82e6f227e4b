"""A file that is there whole or not at all, readable by its owner alone: what is written stands under no name until it is done.

Where the file system can (Linux, O_TMPFILE), not even a kill leaves anything; elsewhere a file with a name of its own is taken
away again, unless the process is killed.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from smppd.cli.commands import CommandError


class WholeFile:
    """As a context: `text` may be written to; `commit` gives it its name."""

    def __init__(self, path: Path, *, force: bool = False, status: int = 2) -> None:
        """Raises CommandError (of this status) where the file is there and may not be replaced, or cannot be made."""
        self.path = path
        self._force = force
        self._named: Path | None = None
        if path.is_dir():
            raise CommandError(f"{path}: it is there already, and cannot be written: it is a directory", status)
        if os.path.lexists(path) and not (force and path.is_file()):
            raise CommandError(f"{path}: it is there already, and nothing was looked at; --force replaces it", status)
        try:
            descriptor = self._open()
        except OSError as error:
            raise CommandError(f"{path}: it cannot be written: {error.strerror}", status) from None
        self.text: TextIO = os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")

    def _open(self) -> int:
        directory = self.path.parent
        try:
            return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except (OSError, AttributeError):
            self._named = directory / f".{self.path.name}.{secrets.token_hex(6)}"
            return os.open(self._named, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError, ValueError):
            self.text.close()
        if self._named is not None:
            with suppress(OSError):
                self._named.unlink(missing_ok=True)

    def commit(self) -> None:
        """The file is on stable storage under its name when this returns. CommandError when it cannot be, or when somebody else
        made one of this name meanwhile: then that one stays."""
        try:
            self.text.flush()
            descriptor = self.text.fileno()
            os.fchmod(descriptor, 0o600)
            os.fsync(descriptor)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._name(descriptor, directory)
                os.fsync(directory)
            finally:
                os.close(directory)
        except FileExistsError:
            raise CommandError(f"{self.path}: somebody made it meanwhile; it was left as it is") from None
        except OSError as error:
            raise CommandError(f"{self.path}: it cannot be written: {error.strerror}") from None

    def _name(self, descriptor: int, directory: int) -> None:
        source = f"/proc/self/fd/{descriptor}" if self._named is None else str(self._named)
        if not self._force:
            _link(source, self.path.name, directory)
        elif self._named is not None:
            os.replace(self._named, self.path)
        else:
            # A file without a name cannot replace one: it gets a name first.
            between = f".{self.path.name}.{secrets.token_hex(6)}"
            _link(source, between, directory)
            os.replace(between, self.path.name, src_dir_fd=directory, dst_dir_fd=directory)


def _link(source: str, name: str, directory: int) -> None:
    # With a descriptor of a directory it is linkat(2) that is called, which follows the link in /proc.
    os.link(source, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)
