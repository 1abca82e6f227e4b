"""`make bench`: measure the daemon beside the reference relay and print a table.

Rounds are interleaved: in each, the yardsticks and every case are run once, of another checkout too where one is given.
Exit status 1 when a message went wrong or a case could not be run, 2 when the bench cannot be set up.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bench import build, config, perf, profile, rates, report
from bench.cases import BASE, Case, select
from bench.runner import ProcessError, Relay, Result, Sampled, daemon_exists, measure

Job = tuple[Relay, Case]
YARDSTICKS: Final[tuple[Relay, ...]] = ("direct", "reference", "node")
WIDTH: Final = 250  # of the table, also where the terminal is narrower or there is none


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of two cases, a second each; writes no files")
    parser.add_argument("--runs", type=int, metavar="N", help="rounds (default 5; with --quick 1)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a run (default 4; with --quick 1)")
    parser.add_argument(
        "--cases", nargs="+", metavar="NAME", help="names or shell patterns; default, quick, policies, feed, rates, all"
    )
    parser.add_argument(
        "--entries", type=int, metavar="N", help="of the big list where all policies are on (default a million)"
    )
    parser.add_argument(
        "--relays",
        help="of daemon, reference, node, direct (no relay at all); default reference,daemon, with rates node too",
    )
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="another checkout: its daemon takes turns with this one's"
    )
    parser.add_argument("--profile", action="store_true", help="sampled runs: which lines cost a message what")
    parser.add_argument(
        "--tree", type=Path, action="append", default=[], help="with --profile: another checkout, first"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the results go (default docs; --quick: nowhere)")
    parser.add_argument("--list", action="store_true", help="names of all cases")
    args = parser.parse_args(argv)
    args.runs = args.runs or (1 if args.quick else 5)
    args.seconds = args.seconds or (1.0 if args.quick else 4.0)
    args.rates = args.cases == ["rates"]
    args.relays = (args.relays or ("reference,node,daemon" if args.rates else "reference,daemon")).split(",")
    if unknown := set(args.relays) - {"daemon", "reference", "node", "direct"}:
        parser.error(f"no relay is called {', '.join(sorted(unknown))}")
    if args.against is not None:
        args.against = args.against.resolve()
        if not (args.against / "smppd" / "__main__.py").exists():
            parser.error(f"--against: there is no smppd in {args.against}")
        args.relays.append("against")
    try:
        args.cases = select(args.cases or (["quick"] if args.quick else ["default"]))
    except ValueError as error:
        parser.error(str(error))
    if args.entries is not None:
        args.cases = tuple(replace(case, policies=args.entries) if case.policies else case for case in args.cases)
    if args.out is None and not args.quick:
        args.out = config.ROOT / "docs"
    return args


def jobs(cases: Sequence[Case], relays: Sequence[str], number: int = 0) -> list[Job]:
    """What one round runs: each yardstick once, just before the first case that is held against it. Two checkouts take turns in
    going first."""
    made: dict[Job, None] = {}
    versions: tuple[Relay, ...] = ("against", "daemon") if number % 2 else ("daemon", "against")
    for case in cases:
        made |= dict.fromkeys((relay, case.yardstick) for relay in YARDSTICKS if relay in relays)
        made |= dict.fromkeys((relay, case) for relay in versions if relay in relays)
    return list(made)


def run(args: argparse.Namespace, tools: dict[str, Path], console: Console) -> int:
    """All rounds, the table, the files."""
    rounds: list[dict[tuple[str, Case], Result]] = []
    failed = False
    count = len(jobs(args.cases, args.relays))
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True)
    with bar:
        task = bar.add_task("", total=args.runs * count)
        for number in range(args.runs):
            rounds.append({})
            for relay, case in jobs(args.cases, args.relays, number):
                bar.update(task, description=f"round {number + 1} of {args.runs}: {relay} {case.name}")
                try:
                    result = measure(relay, case, tools, args.seconds, against=args.against)
                except (ProcessError, RuntimeError) as error:
                    console.print(f"{relay} {case.name} could not be run: {error}", markup=False, highlight=False)
                    failed = True
                else:
                    rounds[-1][relay, case] = result
                    failed |= not result.ok
                bar.advance(task)
    if args.rates:
        return 1 if not show_rates(args, rounds, console) or failed else 0
    made = report.rows(rounds)
    table = Table(*report.HEADINGS, box=box.SIMPLE)
    for column in table.columns[:-1]:
        column.no_wrap, column.justify = True, "right"
    table.columns[0].justify = "left"
    for row in made:
        table.add_row(*report.cells(row))
    console.print(table)
    if args.out and made:
        results = [result for one in rounds for result in one.values()]
        written = report.write(args.out, made, results, args.seconds)
        console.print("written: " + ", ".join(map(str, written)), highlight=False)
    return 1 if failed or not made else 0


def show_rates(args: argparse.Namespace, rounds: Sequence[rates.Round], console: Console) -> bool:
    """The tables of low rates, and their files; whether there was anything to show."""
    rows = rates.absolute(rounds)
    for headings, body in ((rates.heads(rounds), rates.comparison(rounds)), (rates.HEADINGS, rows)):
        table = Table(*headings, box=box.SIMPLE)
        for row in body:
            table.add_row(*row)
        if len(headings) > 1:
            console.print(table)
    if args.out and rows:
        written = rates.write(args.out, rounds, args.seconds, args.against)
        console.print("written: " + ", ".join(map(str, written)), highlight=False)
    return bool(rows)


def profiled(args: argparse.Namespace, tools: dict[str, Path], console: Console) -> int:
    """The first case, watched: interpreted, and compiled where there is perf; of another checkout too, where one is given."""
    case = args.cases[0] if args.cases else BASE
    forms = [True, False] if perf.available() else [True]
    if len(forms) == 1:
        console.print("no perf here: the compiled form is left out")
    runs = []
    ok = True
    for tree, interpreted in itertools.product([*args.tree, config.ROOT], forms):
        with tempfile.TemporaryDirectory(prefix="smppd-bench-") as directory:
            path = Path(directory) / "samples"
            result = measure("daemon", case, tools, args.seconds, sampled=Sampled(path, tree, interpreted))
            if not path.exists():
                console.print("the daemon left no profile: it did not end properly on SIGTERM")
                return 1
            if interpreted:
                made = profile.digest(json.loads(path.read_text()), tree, max(1, result.messages))
            else:
                made = perf.digest(path, result.cpu_per_message)
        ok &= result.ok
        about = report.machine(tree)
        runs.append(
            {name: about[name] for name in ("commit", "date", "cpu")}
            | {"form": "interpreted" if interpreted else "compiled", "case": case.name, "messages": result.messages}
            | {"rate": result.rate, "total": result.cpu_per_message}
            | made
        )
        console.print(
            f"{case.name}, {runs[-1]['form']}, {about['commit']}: {result.cpu_per_message:.1f} us CPU a message"
        )
        table = Table("us/msg", "where", "")
        rows = [(cost, where, text) for where, cost, text in made["lines"]] if interpreted else made["functions"]
        for cost, where, *text in rows[:30]:
            table.add_row(f"{cost:.2f}", where, Text("".join(text)))
        console.print(table)
    if args.out:
        console.print("written: " + ", ".join(map(str, profile.write(args.out, runs))), highlight=False)
    return 0 if ok else 1


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    args = arguments(argv)
    console = Console(width=max(Console().width, WIDTH))
    if args.list:
        print("\n".join(case.name for case in select(["all"])))
        return 0
    if "daemon" in args.relays and not daemon_exists():
        console.print("this checkout has no daemon yet: measuring the rest")
        args.relays.remove("daemon")
    try:
        tools = build.tools()
    except build.BuildError as error:
        console.print(str(error), markup=False, highlight=False)
        return 2
    if args.profile:
        if "daemon" not in args.relays:
            return 2
        try:
            return profiled(args, tools, console)
        except (ProcessError, RuntimeError) as error:
            console.print(f"{error}", markup=False, highlight=False)
            return 2
    return run(args, tools, console)


if __name__ == "__main__":
    sys.exit(main())
