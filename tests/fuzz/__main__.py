"""`python -m tests.fuzz [TARGET ...] [--seconds N]`: the campaign, guided by coverage (`make fuzz`).

Each target runs in a process of its own with the corpus as seed. What it finds is written to var/fuzz/TARGET/, and what is
worth keeping goes by hand into tests/fuzz/corpus/TARGET/, which `make test` replays.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NAMES = ("wire", "operations", "session", "text", "receipt", "yaml")
CORPUS = Path(__file__).parent / "corpus"
ROOT = Path(__file__).resolve().parents[2]
LONGEST = 4096
"""Octets of an input."""


def main(arguments: Sequence[str]) -> int:
    """Runs the targets one after the other; 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="make fuzz FUZZ_ARGS=...", description="Fuzz everything that parses.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--seconds", type=int, default=300, help="for all targets together (default: %(default)s)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    names = args.targets or list(NAMES)
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"there is no target {unknown[0]}")
    each = max(1, args.seconds // len(names))
    if args.child:
        return _fuzz(names[0], each)
    found = []
    for name in names:
        print(f"fuzz: {name}, {each} s", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", name, "--child", "--seconds", str(each)]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            found.append(name)
    print(f"fuzz: {', '.join(found)}: see var/fuzz" if found else "fuzz: nothing found", flush=True)
    return 1 if found else 0


def _fuzz(name: str, seconds: int) -> int:
    import atheris

    grown = ROOT / "var" / "fuzz" / name
    (grown / "corpus").mkdir(parents=True, exist_ok=True)
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    # What is imported from here on tells the fuzzer which branches an input took; nothing of ours is imported before.
    with atheris.instrument_imports(include=["smppd.protocol", "smppd.config"]):
        from tests.fuzz.targets import TARGETS
    options = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        "-timeout=5",  # seconds for one input; a hang is a finding
        "-rss_limit_mb=2048",
        f"-artifact_prefix={grown}/",
        "-print_final_stats=1",
        str(grown / "corpus"),
        str(CORPUS / name),
    ]
    atheris.Setup(options, TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
