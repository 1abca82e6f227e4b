"""The preloaded layers: compiled with the machine's C compiler, steered through small mapped files."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).resolve().parent
_FLAGS: Final = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC")
NO_SPACE: Final = 1
BAD_SYNC: Final = 2
BAD_WRITE: Final = 3
SHORT_WRITE: Final = 4


def build(name: str, directory: Path) -> Path:
    """Compiles ``name``.c to a shared object in ``directory``. RuntimeError without a compiler, or with what it said."""
    made = directory / f"{name}.so"
    if made.exists():
        return made
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise RuntimeError("the torture campaigns need a C compiler: install gcc or clang, or set CC")
    done = subprocess.run(
        [compiler, *_FLAGS, "-o", str(made), str(_HERE / f"{name}.c"), "-ldl", "-lpthread"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name}.c does not compile:\n{done.stderr}")
    return made


class Layer:
    """The file layer over one store directory. ``log``: where operations are written down, None for nowhere."""

    def __init__(self, scratch: Path, store: Path, log: Path | None, sync_us: int = 0) -> None:
        self._object = build("powerloss", scratch)
        self._store = store
        self.log = log
        self._control = scratch / "control"
        self._sync_us = sync_us
        self.fault(0)

    def fault(self, kind: int) -> None:
        """What fails from now on: 0, ``NO_SPACE``, ``BAD_SYNC``, ``BAD_WRITE``, or ``SHORT_WRITE``: every second write
        of more than a sector writes half of them, which is no error. Effective at once."""
        # In place: the daemon has the file mapped.
        with self._control.open("r+b" if self._control.exists() else "wb") as file:
            file.write(struct.pack("=II", kind, 0))

    def environment(self, kill_at: int = 0) -> dict[str, str]:
        """For the daemon. kill_at: the number of the operation on the store behind which it is killed; 0: none."""
        values = {
            "LD_PRELOAD": str(self._object),
            "TORTURE_DIR": str(self._store),
            "TORTURE_CONTROL": str(self._control),
            "TORTURE_SYNC_US": str(self._sync_us),
            "TORTURE_KILL_AT": str(kill_at),
        }
        return values if self.log is None else {**values, "TORTURE_LOG": str(self.log)}


class Clock:
    """The wall clock of the daemon, off by as much as is asked for."""

    def __init__(self, scratch: Path) -> None:
        self._object = build("clockshift", scratch)
        self._file = scratch / "clock"
        self.set(0.0)

    def set(self, seconds: float) -> None:
        """How far ahead of the true time it is from now on."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", int(seconds * 1e9)))

    def environment(self) -> dict[str, str]:
        """For the daemon."""
        return {"LD_PRELOAD": str(self._object), "TORTURE_CLOCK": str(self._file)}
