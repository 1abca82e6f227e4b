"""`make bench-growth`: what a message costs, and how long it takes, while something grows or disturbs.

Each curve can be run alone; its results replace its earlier ones in docs/growth.json and leave the others. Exit status 1
when a message went wrong or a curve could not be run, 2 when the bench cannot be set up.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import build, config, growth_report
from bench.curves import ACCOUNTS, INFLIGHT, RULES, SESSIONS
from bench.depth import LOG, MAILBOX
from bench.latency import LATENCY
from bench.pauses import PAUSES
from bench.points import Curve, Point
from bench.process import raise_files
from bench.runner import ProcessError, daemon_exists
from bench.stand import Bench

CURVES: Final[tuple[Curve, ...]] = (SESSIONS, ACCOUNTS, RULES, LOG, MAILBOX, INFLIGHT, LATENCY, PAUSES)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = [curve.name for curve in CURVES]
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("curves", nargs="*", metavar="CURVE", help=f"of {', '.join(names)}; all when none is named")
    parser.add_argument("--points", nargs="+", type=int, metavar="N", help="of a curve's points, these alone")
    parser.add_argument("--quick", action="store_true", help="a trial: few small points, one round; writes no files")
    parser.add_argument("--rounds", type=int, metavar="N", help="measurements of each point (default 3; --quick 1)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each load (default 4; --quick 0.5)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the results go (default docs; --quick: nowhere)")
    parser.add_argument("--pages", action="store_true", help="measure nothing; write page and pictures from the data")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.curves if name not in names]:
        parser.error(f"no curve is called {', '.join(unknown)}; there are: {', '.join(names)}")
    for name, least in (("rounds", 1), ("seconds", 0.1)):
        if getattr(args, name) is not None and getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least:g}")
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.seconds = args.seconds or (0.5 if args.quick else 4.0)
    args.curves = [curve for curve in CURVES if curve.name in args.curves or not args.curves]
    if args.out is None and (args.pages or not args.quick):
        args.out = config.ROOT / "docs"
    return args


def measure(curve: Curve, bench: Bench, out: Path | None) -> bool:
    """Runs one curve and keeps each point as soon as it is known; whether all went well."""
    points: list[Point] = []
    began = time.monotonic()
    try:
        for point in curve.run(bench):
            points.append(point)
            figures = [(column.heading, growth_report.cells(column, point.as_json())) for column in curve.columns]
            told = ", ".join(f"{heading} {cell}" for heading, cell in figures)
            bench.say(f"{curve.name} {f'{point.x:,} ' if curve.x else ''}{point.group}: {told} {point.note}")
            if out is not None:
                row = growth_report.entry(points, seconds=bench.seconds, rounds=bench.rounds, quick=bench.quick)
                growth_report.keep(out, curve.name, row, CURVES)
    except (ProcessError, RuntimeError, OSError) as error:
        bench.say(f"{curve.name} could not be run to its end: {error}")
        return False
    bench.say(f"{curve.name}: {time.monotonic() - began:.0f} s")
    return bool(points) and not any("went wrong" in point.note for point in points)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    args = arguments(argv)
    if args.pages:
        growth_report.write(args.out, growth_report.load(args.out), CURVES)
        return 0
    if not daemon_exists():
        print("this checkout has no daemon", file=sys.stderr)
        return 2
    try:
        tools = build.tools()
    except build.BuildError as error:
        print(error, file=sys.stderr)
        return 2
    # Ending at once would leave the daemon running and its store behind; this way every `with` is left properly.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    raise_files()
    bench = Bench(tools, args.seconds, args.rounds, args.quick, lambda text: print(text, flush=True), args.points or ())
    well = [
        measure(curve, bench, args.out) for curve in args.curves
    ]  # one that fails does not keep others from running
    signal.signal(signal.SIGTERM, before)
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
