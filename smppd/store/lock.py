"""The lock on the directory of a node: one daemon, or one command in its place, whatever back end has the store."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from smppd.store.api import StoreError

LOCK_FILE: Final = "lock"
"""In the directory; whoever holds it is its daemon."""
_LOOKS: Final = 5
_LOOK_SECONDS: Final = 0.02


def in_use(directory: Path) -> bool:
    """Whether a daemon uses the directory."""
    try:
        handle = os.open(directory / LOCK_FILE, os.O_RDWR)
    except OSError:
        return False  # none was ever started here, or it is somebody else's and nothing can be written in any case
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


class Lock:
    """An advisory lock on the directory. Released when the process ends, however it ends. StoreError where another has it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(directory / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
        for left in range(_LOOKS, -1, -1):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if not left:
                    os.close(self._file)
                    raise StoreError(f"{directory}: another smppd is using this store") from error
                # A command may hold it for a moment, to see whether a daemon runs (`in_use`).
                time.sleep(_LOOK_SECONDS)

    def release(self) -> None:
        """Lets the store go."""
        os.close(self._file)
