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
PACED, FULL = CASES[-2:]

Round = dict[tuple[Relay, Case], Result]
Results = list[Round]


def _mid(results: Sequence[Result], figure: Callable[[Result], float | None]) -> float | None:
    there = [value for result in results if result.ok and (value := figure(result)) is not None]
    return median(there) if there else None


def _cell(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _runs(results: Results, relay: Relay, case: Case) -> list[Result]:
    return [one[relay, case] for one in results if (relay, case) in one]


def table(results: Results) -> list[list[str]]:
    """A row for each case and relay: medians of the runs that went well."""
    rows = []
    for case in CASES:
        for relay in RELAYS:
            runs = _runs(results, relay, case.yardstick if relay in YARDSTICKS else case)
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
    """What two nodes do for the CPU that they are given, in sentences: of rounds in which both went well."""
    said = []
    for case in CASES:
        pairs = []
        for one in results:
            alone, both = one.get(("postgres", case)), one.get(("nodes", case))
            if alone is not None and both is not None and alone.ok and both.ok:
                pairs.append((alone.cpu_per_message, both.cpu_per_message))
        if pairs:
            one_node, two = (median(figures) for figures in zip(*pairs, strict=True))
            times = median(2 * alone / both for alone, both in pairs)
            said.append(
                f"- {shown(case)}: one node takes {one_node:,.1f} us of CPU a message, so it relays {1e6 / one_node:,.0f} for a"
                f" second of CPU. Two nodes take {two:,.1f}: for a second each they relay {2e6 / two:,.0f}, **{times:.2f}"
                f" times** as many ({len(pairs)} round{'s' * (len(pairs) > 1)})."
            )
    return said


def model(results: Results) -> list[str]:
    """What a primary carries, in sentences."""
    paced, full = PACED, FULL
    few, many = _runs(results, "postgres", paced), _runs(results, "postgres", full)
    small, commits = _mid(few, lambda run: run.server), _mid(few, lambda run: run.commits)
    server, part = _mid(many, lambda run: run.server), _mid(many, lambda run: run.commits)
    wal = _mid(many, lambda run: run.wal)
    if not small or not commits or not server or not wal or part is None:
        return []
    commit = small / commits
    message = max(server - commit * part, 0.0)

    def carried(together: int) -> float:
        return USED * 1e6 / (commit / together + message)

    return [
        f"A commit of one message cost the primary {commit:,.0f} us of CPU ({shown(paced)}), each message of a large one"
        f" {message:.1f} us (full load, {part:.4f} commits a message) and {wal:,.0f} octets of write-ahead log. So a primary"
        f" whose cores are used to {USED:.0%} carries, for each core of this kind and by how many messages the nodes put into a"
        " commit:",
        "",
        *(
            f"- {together}: **{carried(together):,.0f} messages a second**, {carried(together) * wal / 1e6:,.0f} MB/s of log"
            for together in (1, 10, 100)
        ),
        "",
        "Nodes put into a commit what came while the one before was stored, so commits grow with the load by themselves. A sync"
        " of the log serves all commits that wait for one at the same time. What ends first, cores, the log's megabytes or the"
        " replica's network, is the limit; beyond it, groups of accounts get databases of their own. This is arithmetic, not a"
        " measurement: no more than two cores were here.",
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
    results: Results = []
    failed = False
    for number in range(asked.rounds):
        results.append({})
        for case in CASES[-1:] if asked.full else CASES:
            for relay in relays if number % 2 else reversed(relays):
                key = relay, case.yardstick if relay in YARDSTICKS else case
                try:
                    result = measure(relay, key[1], tools, asked.seconds)
                except (ProcessError, RuntimeError) as error:
                    print(f"{relay} {case.name} could not be run: {error}", file=sys.stderr)
                    failed = True
                    continue
                results[-1][key] = result
                failed |= not result.ok
                print(
                    f"round {number + 1}: {relay:9} {case.name}: {result.rate:,.0f}/s, {result.cpu_per_message:.1f} us,"
                    f" p50 {result.answer['p50'] / 1000:.2f} ms, p99 {result.answer['p99'] / 1000:.2f} ms {result.fault}",
                    flush=True,
                )
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "stores.md").write_text(page(results, asked.rounds, asked.seconds))
    told = [[asdict(result) for result in one.values()] for one in results]
    (asked.out / "stores.json").write_text(json.dumps({"machine": machine(), "results": told}, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
