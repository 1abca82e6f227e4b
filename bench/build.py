"""Compiles the bench's C tools with the machine's C compiler, once for each state of their sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
BUILD: Final = HERE / "build"
FLAGS: Final = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
TOOLS: Final = ("load", "smsc", "gaps")


class BuildError(Exception):
    """The tools could not be compiled; the text says why."""


def _digest() -> str:
    digest = hashlib.blake2b(" ".join(FLAGS).encode(), digest_size=8)
    for source in sorted((*HERE.glob("*.c"), *HERE.glob("*.h"))):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def tools(build: Path = BUILD) -> dict[str, Path]:
    """Paths of `load`, `smsc` and `gaps`, compiled into `build` if they are not there yet. BuildError without a compiler."""
    digest = _digest()
    paths = {name: build / f"{name}-{digest}" for name in TOOLS}
    missing = [name for name in TOOLS if not paths[name].exists()]
    if not missing:
        return paths
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise BuildError("the bench needs a C compiler: install gcc or clang, or set CC")
    build.mkdir(parents=True, exist_ok=True)
    for name in missing:
        # Under a name of its own first: two benches may build at the same time.
        half = build / f".{name}-{digest}.{os.getpid()}"
        command = [compiler, *FLAGS, "-o", str(half), str(HERE / f"{name}.c"), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise BuildError(f"{compiler} could not compile bench/{name}.c:\n{done.stderr.strip()}")
        half.replace(paths[name])
        for old in build.glob(f"{name}-*"):
            if old != paths[name]:
                old.unlink(missing_ok=True)
    return paths
