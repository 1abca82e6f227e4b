"""`make bench-limits`: fills what a peer can make grow to its limit, and asks for the longest turn of the reactor.

Each structure is filled in a process of its own, by the PDUs of peers on a relay with the real store; then each operation is
done in which it takes part, and each tick. A turn may take `BOUND` milliseconds of CPU time. Memory is measured beside the
octets that the relay counts, and beside what is stated where that is of this structure alone. Exit status 1 when a turn was
longer or memory more, 2 when the campaign could not be run.

    python -m bench.limits               all, and docs/limits.md anew
    python -m bench.limits lane mailbox  these alone, printed
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import limits_report
from bench.config import ROOT
from bench.edge_structures import EDGE
from bench.limits_stand import Stand, memory
from bench.structures import STRUCTURES as INNER
from bench.structures import Structure

STRUCTURES: Final = (*INNER, *EDGE)
BOUND: Final = 20.0
"""Milliseconds of CPU time of the longest turn."""
_ROUNDS: Final = 3
_TIMEOUT: Final = 280


@dataclass
class Result:
    """What one structure took. ``turns``: (operation, longest turn in milliseconds). ``stated``: see `Structure`."""

    name: str
    fill: str
    seconds: float
    octets: int
    counted: int
    things: int
    turns: list[tuple[str, float]] = field(default_factory=list)
    compiled: bool = False
    stated: int = 0

    @property
    def ok(self) -> bool:
        """Whether no turn was too long, and memory is what is stated or less."""
        return all(spent <= BOUND for _, spent in self.turns) and not 0 < self.stated < self.octets


def measure(structure: Structure, directory: Path) -> Result:
    """Fills it and does everything, in this process."""
    from smppd import native

    began = time.monotonic()
    stand: Stand = structure.stand(structure.settings(directory))
    structure.prepare(stand)
    stand.settle()
    before, counted = memory(), stand.relay.context.ledger.octets
    took = structure.fill(stand)
    stand.settle()
    ledger = stand.relay.context.ledger
    octets = memory() - before if took is None else took
    result = Result(structure.name, structure.text, 0.0, octets, ledger.octets - counted, ledger.count())
    result.compiled = native.compiled
    result.stated = structure.stated
    for name, act in structure.acts.items():
        if name not in structure.once:
            _acted(result, stand, name, act, _ROUNDS)
    for name, tick in (TICKS | structure.ticks).items():
        longest = []
        for _ in range(_ROUNDS):
            stand.reset()
            stand.turn(lambda tick=tick: tick(stand))  # type: ignore[misc]
            stand.settle()
            longest.append(stand.longest)
        result.turns.append((name, min(longest) * 1000))
    for name in structure.once:
        _acted(result, stand, name, structure.acts[name], 1)
    result.seconds = time.monotonic() - began
    with suppress(RuntimeError):
        stand.close()
    return result


def _acted(result: Result, stand: Stand, name: str, act: Callable[[Stand], Any], rounds: int) -> None:
    """Does something, and notes its longest turn: the best of some rounds, since what the collector of garbage or a cold cache
    added is not in each."""
    stand.run(0.3)
    longest = []
    for _ in range(rounds):
        stand.reset()
        act(stand)
        stand.settle()
        stand.run(0.12)
        longest.append(stand.longest)
    result.turns.append((name, min(longest) * 1000))


TICKS: Final[dict[str, Callable[[Stand], Any]]] = {
    "tick": lambda stand: stand.relay.tick(time.monotonic()),
    "sweep": lambda stand: stand.relay._sweep(time.monotonic()),
    "scrape": lambda stand: stand.relay.set_gauges(),
    "reload": lambda stand: stand.reload(),
}


def child(name: str) -> Result:
    """`measure` in a process of its own. RuntimeError when it fails or takes too long."""
    command = [sys.executable, "-m", "bench.limits", "--child", name]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name}: not done after {_TIMEOUT} s") from None
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip()[-2000:]}")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    names = [one.name for one in STRUCTURES]
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "structures", nargs="*", metavar="STRUCTURE", help=f"of {', '.join(names)}; all when none is named"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where the page goes (default docs/limits.md, if all are run)"
    )
    parser.add_argument("--child", metavar="STRUCTURE", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if unknown := [name for name in args.structures if name not in names]:
        parser.error(f"no structure is called {', '.join(unknown)}; there are: {', '.join(names)}")
    if args.child:
        (structure,) = [one for one in STRUCTURES if one.name == args.child]
        (ROOT / "var").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="limits-", dir=ROOT / "var") as directory:
            print(json.dumps(asdict(measure(structure, Path(directory)))), flush=True)
        return 0
    chosen = [one for one in STRUCTURES if not args.structures or one.name in args.structures]
    found: list[Result] = []
    failed = False
    for structure in chosen:
        try:
            found.append(child(structure.name))
        except RuntimeError as error:  # the others are measured all the same
            print(f"bench-limits: {error}", file=sys.stderr)
            failed = True
            continue
        print("\n".join(limits_report.lines(asdict(found[-1]), BOUND)), flush=True)
    out = args.out or (ROOT / "docs/limits.md" if not args.structures else None)
    if failed:
        return 2
    if out is not None:
        limits_report.write(out, [asdict(one) for one in found], BOUND)
    return int(not all(one.ok for one in found))


if __name__ == "__main__":
    sys.exit(main())
