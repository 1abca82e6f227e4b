"""Writes requirements/*.txt, the locked and hash-checked packages, from requirements/*.in (`make lock`).

Run by a Python that has pip-tools. Each lock is resolved on the oldest Python that smppd supports and carries the
hashes of every file of a version, so one lock serves CPython 3.11 to 3.13 on Linux x86_64 and aarch64 (`make lock-check`).
The machine's own pip configuration is left out: neither its indexes nor its locally built wheels may enter a lock.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
LOCKS = (
    "runtime",
    "otel",
    "postgres",
    "build",
    "dev",
    "peers",
    "node",
    "fuzz",
    "packages",
    "chart",
)  # in the order in which they constrain each other
OLDEST = (3, 11)
# Resolved alone and cut to the packages they name: they are installed with --no-deps (see peers.in).
NO_DEPS = frozenset({"peers", "node", "fuzz"})
HEADER = "# Written by `make lock` from {name}.in. Do not edit.\n"


def normalise(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def blocks(lock: str) -> dict[str, str]:
    """The requirements of a lock: normalised name -> its lines with all hashes."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", lock, flags=re.M)):
        if block.strip():
            name = re.split(r"[=\[ ;]", block.strip(), maxsplit=1)[0]
            found[normalise(name)] = block.strip() + "\n"
    return found


def wanted(source: str) -> set[str]:
    """The names a .in file asks for, normalised."""
    lines = (line.split("#")[0].strip() for line in source.splitlines())
    return {normalise(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for line in lines if line and line[0] != "-"}


def compile_lock(name: str, upgrade: bool) -> str:
    """Resolve requirements/{name}.in with pip-compile; the text of the lock, without its header.

    Keeps the versions of the present lock unless `upgrade`. Raises CalledProcessError when nothing fits.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PIP_") or key == "PIP_CERT"}
    clean |= {"PIP_CONFIG_FILE": os.devnull}
    present = REQUIREMENTS / f"{name}.txt"
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / f"{name}.txt"
        if present.exists() and not upgrade:
            output.write_text(present.read_text())
        options = ["--generate-hashes", "--strip-extras", "--no-annotate", "--no-header", "--allow-unsafe", "--quiet"]
        options += ["--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", "--no-emit-options"]
        options += ["--output-file", str(output), f"{name}.in"] + (["--upgrade"] if upgrade else [])
        subprocess.run([sys.executable, "-m", "piptools", "compile", *options], check=True, cwd=REQUIREMENTS, env=clean)
        found = blocks(output.read_text())
    if name in NO_DEPS:
        asked = wanted((REQUIREMENTS / f"{name}.in").read_text())
        found = {package: block for package, block in found.items() if package in asked}
    return "".join(found[package] for package in sorted(found))


def main(arguments: list[str]) -> int:
    """`lock.py [--upgrade] [NAME ...]`: rewrite the named locks, or all of them."""
    if sys.version_info[:2] != OLDEST:
        print(f"lock: run this with Python {OLDEST[0]}.{OLDEST[1]}, the oldest that smppd supports", file=sys.stderr)
        return 1
    names = [argument for argument in arguments if not argument.startswith("-")] or list(LOCKS)
    for name in names:
        lock = compile_lock(name, upgrade="--upgrade" in arguments)
        (REQUIREMENTS / f"{name}.txt").write_text(HEADER.format(name=name) + lock)
        print(f"requirements/{name}.txt: {len(blocks(lock))} packages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
