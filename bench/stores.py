"""Both stores and several nodes beside the yardsticks: `python -m bench.stores`; docs/stores.md, and the figures as JSON.

The database's CPU is counted: relay, database and, where there are two, both nodes have one core together. What one primary
carries beyond this machine is a model made of what was measured here: its CPU and its write-ahead log for a message.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Final

from bench import build, config
from bench.cases import RATES, Case
from bench.process import ProcessError
from bench.rates import shown
from bench.report import machine
from bench.runner import Relay, Result, measure

RELAYS: Final[tuple[Relay, ...]] = ("daemon", "postgres", "nodes", "spread", "node", "reference")
NAMES: Final[dict[Relay, str]] = {
    "daemon": "embedded",
    "postgres": "PostgreSQL, one node",
    "nodes": "PostgreSQL, two nodes",
    "spread": "the same, receipts spread",
    "node": "node-smpp",
    "reference": "smpp.twisted",
}
YARDSTICKS: Final = ("node", "reference")
USED: Final = 0.7
"""How far a primary's cores are used in the model: beyond that its commits wait for each other."""
CASES: Final = tuple(case for case in RATES if case.tls)

Results = dict[tuple[Relay, Case], list[Result]]


def _mid(results: Sequence[Result], figure: Callable[[Result], float | None]) -> float | None:
    there = [value for result in results if result.ok and (value := figure(result)) is not None]
    return median(there) if there else None


def _cell(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def table(results: Results) -> list[list[str]]:
    """A row for each case and relay: medians of the runs that went well."""
    rows = []
    for case in CASES:
        for relay in RELAYS:
            runs = results.get((relay, case.yardstick if relay in YARDSTICKS else case), [])
            if not runs:
                continue
            faults = sorted({run.fault or "failed" for run in runs if not run.ok})
            rows.append(
                [
                    shown(case),
                    NAMES[relay],
                    _cell(_mid(runs, lambda run: run.rate)),
                    _cell(_mid(runs, lambda run: run.cpu_per_message), 1),
                    _cell(_mid(runs, lambda run: run.server), 1),
                    _cell(_mid(runs, lambda run: run.commits), 2),
                    _cell(_mid(runs, lambda run: run.answer["p50"] / 1000), 2),
                    _cell(_mid(runs, lambda run: run.answer["p99"] / 1000), 2),
                    _cell(_mid(runs, lambda run: run.receipt["p50"] / 1000), 2),
                    _cell(_mid(runs, lambda run: run.receipt["p99"] / 1000), 2),
                    _cell(_mid(runs, lambda run: run.wal)),
                    "; ".join(faults),
                ]
            )
    return rows


def scaling(results: Results) -> list[str]:
    """What two nodes do for the CPU that they are given, in sentences."""
    said = []
    for case in CASES:
        one, two = (
            _mid(results.get((relay, case), []), lambda run: run.cpu_per_message) for relay in ("postgres", "nodes")
        )
        if one and two:
            said.append(
                f"- {shown(case)}: one node takes {one:.1f} us of CPU a message, so it relays {1e6 / one:,.0f} for a second of"
                f" CPU. Two nodes take {two:.1f}: for a second each they relay {2e6 / two:,.0f}, **{2 * one / two:.2f} times**"
                " as many."
            )
    return said


def model(results: Results) -> list[str]:
    """What a primary carries, in sentences."""
    full = CASES[-1]
    runs = results.get(("nodes", full), []) or results.get(("postgres", full), [])
    server, wal = _mid(runs, lambda run: run.server), _mid(runs, lambda run: run.wal)
    if not server or not wal:
        return []
    carried = USED * 1e6 / server
    octets = carried * wal / 1e6
    return [
        f"At full load the primary took {server:.1f} us of CPU and wrote {wal:,.0f} octets ahead for a message. With its cores"
        f" used to {USED:.0%} that is **{carried:,.0f} messages a second for each core of this kind**, and {octets:,.0f} MB/s"
        " of write-ahead log. A sync serves all commits that wait for one at the same time, so there are no more of them than"
        f" the disk does, however many nodes there are. Eight such cores: {8 * carried:,.0f} messages a second and"
        f" {8 * octets:,.0f} MB/s; whichever of the two ends first is the limit. Beyond it, groups of accounts get databases of"
        " their own.",
    ]


def page(results: Results, rounds: int, seconds: float) -> str:
    """Markdown."""
    about = machine()
    heads = ["case", "store", "msg/s", "CPU us/msg", "of it database", "commits/msg"]
    heads += ["answer p50 ms", "p99", "receipt p50 ms", "p99", "WAL octets/msg", ""]
    lines = [
        "# Stores and nodes",
        "",
        "The latest run of `python -m bench.stores`: the embedded store, PostgreSQL with one node and with two, beside the"
        " yardsticks, which keep nothing, are plain and have no rules. All that relays, and the database, has one core"
        " together; load generator and SMSC the other. The database syncs (`fsync`, `synchronous_commit`).",
        "",
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}, commit"
        f" {about['commit']}. Rounds: {rounds}; {seconds:g} s a run, at 50/s twice that. Medians of the runs that went well.",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|---" + "|---:" * 9 + "|---|",
        *("| " + " | ".join(row) + " |" for row in table(results)),
        "",
        "## Two nodes",
        "",
        *scaling(results),
        "",
        "## What one primary carries",
        "",
        *model(results),
        "",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and writes the page. The exit status: 1 where a message went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--relays", default=",".join(RELAYS))
    parser.add_argument("--full", action="store_true", help="full load only")
    parser.add_argument("--out", type=Path, default=config.ROOT / "docs")
    asked = parser.parse_args(argv)
    relays: list[Relay] = [relay for relay in RELAYS if relay in asked.relays.split(",")]
    tools = build.tools()
    results: Results = {}
    failed = False
    for number in range(asked.rounds):
        for case in CASES[-1:] if asked.full else CASES:
            for relay in relays if number % 2 else reversed(relays):
                key = relay, case.yardstick if relay in YARDSTICKS else case
                try:
                    result = measure(relay, key[1], tools, asked.seconds)
                except (ProcessError, RuntimeError) as error:
                    print(f"{relay} {case.name} could not be run: {error}", file=sys.stderr)
                    failed = True
                    continue
                results.setdefault(key, []).append(result)
                failed |= not result.ok
                print(
                    f"round {number + 1}: {relay:9} {case.name}: {result.rate:,.0f}/s, {result.cpu_per_message:.1f} us,"
                    f" p50 {result.answer['p50'] / 1000:.2f} ms, p99 {result.answer['p99'] / 1000:.2f} ms {result.fault}",
                    flush=True,
                )
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "stores.md").write_text(page(results, asked.rounds, asked.seconds))
    told = [asdict(result) for runs in results.values() for result in runs]
    (asked.out / "stores.json").write_text(json.dumps({"machine": machine(), "results": told}, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
