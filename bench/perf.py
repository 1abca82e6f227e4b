"""The compiled daemon seen by perf(1), where the machine has it (Debian: linux-perf): what each compiled function costs with
all that it calls, and what each library costs by itself. Samples of the processor's clock; stacks by DWARF."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

HERTZ: Final = 499
STACK: Final = 16384  # octets of stack kept with each sample
FUNCTIONS: Final = 40
LIBRARIES: Final = 12
_LINE: Final = re.compile(r"^\s+([\d.]+)%\s+(?:[\d.]+%\s+)?(.+?)\s*$")
# mypyc's name of a function: CPyDef_module___Class___method or CPyDef_module___function.
_NAME: Final = re.compile(r"\[\.\] CPyDef_(\w+)$")


def available() -> bool:
    """Whether perf is there and may look at processes."""
    if shutil.which("perf") is None:
        return False
    tried = subprocess.run(
        ["perf", "record", "-e", "cpu-clock", "-o", "/dev/null", "true"], capture_output=True, check=False
    )
    return tried.returncode == 0


@contextlib.contextmanager
def recording(pid: int, path: Path, seconds: float) -> Iterator[None]:
    """Samples a process for so long, beginning now."""
    command = ["perf", "record", "-e", "cpu-clock", "-F", str(HERTZ), "--call-graph", f"dwarf,{STACK}", "-p", str(pid)]
    command += ["-o", str(path), "--", "sleep", f"{seconds:g}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        process.wait(seconds + 60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _report(path: Path, *options: str) -> str:
    command = ["perf", "report", "-i", str(path), "-g", "none", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def shares(text: str) -> list[tuple[float, str]]:
    """(share of all samples, what) of the lines of a report."""
    found = [_LINE.match(line) for line in text.splitlines() if not line.startswith("#")]
    return [(float(match[1]) / 100, match[2]) for match in found if match]


def readable(symbol: str) -> str | None:
    """`submit.SubmitDesk.take` for mypyc's name of it; None for another's symbol or a part of a generator."""
    match = _NAME.search(symbol)
    if match is None or "mypyc" in symbol:
        return None
    return match[1].replace("___", ".").removesuffix(".__init__")


def digest(path: Path, us: float) -> dict[str, list[list[Any]]]:
    """`functions`: microseconds a message with what they call; `libraries`: by themselves. `us`: CPU a message, all in all."""
    functions: list[list[Any]] = []
    for share, symbol in shares(_report(path, "--children", "--sort", "sym")):
        name = readable(symbol)
        if name is not None:
            functions.append([round(share * us, 2), name])
    libraries = [
        [round(share * us, 2), name] for share, name in shares(_report(path, "--no-children", "--sort", "dso"))
    ]
    return {"functions": functions[:FUNCTIONS], "libraries": libraries[:LIBRARIES]}


__all__ = ["available", "digest", "readable", "recording", "shares"]
