"""From measurements to figures: medians over the rounds, ratios to the reference relay, a table, JSON and Markdown."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.cases import Case
from bench.runner import Result

TOOL_LIMIT: Final = 0.60  # of their core; above it the tools may be what is measured
OTHERS_LIMIT: Final = 0.20  # cores; above it messages/s and latencies say more about the machine's other work
HEADINGS: Final = (
    "relay and case", "form", "msg/s", "CPU us/msg", "ratio", "answer p50 ms", "p99", "p99.9",
    "receipt p50 ms", "p99", "gap p99 ms", "longest", "peak MiB", "cores", "tools %", "",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The medians of one case over all rounds that went well. Units as in Result."""

    relay: str
    case: str
    rounds: int
    rate: float
    cpu_per_message: float
    ratio: float | None  # reference CPU a message / this relay's, taken round by round
    answer_p50: float
    answer_p99: float
    answer_p999: float
    receipt_p50: float
    receipt_p99: float
    peak_kib: float
    cores: float
    tools: float
    notes: str
    form: str
    gap_p99: float | None  # of the machine, on the relay's core
    gap_max: float | None
    more: float | None = None  # CPU a message more than the same without policies takes, round by round
    times: float | None = None  # likewise: how many times as much
    against: float | None = None  # CPU a message / that of the other checkout, round by round


def _row(
    results: Sequence[Result],
    ratios: Sequence[float],
    shared_core: bool,
    beside: Sequence[tuple[float, float]] = (),
    against: Sequence[float] = (),
) -> Row:
    good = [result for result in results if result.ok] or list(results)

    def mid(values: Sequence[float]) -> float:
        return float(median(values))

    tools = mid([r.load_core + r.smsc_core for r in good])
    notes = sorted({result.fault or "failed" for result in results if not result.ok})
    busiest = tools if shared_core else max(mid([r.load_core for r in good]), mid([r.smsc_core for r in good]))
    if busiest > TOOL_LIMIT and good[0].relay != "direct":
        notes.append(f"tools above {TOOL_LIMIT:.0%} of their core")
    others = mid([r.others for r in good])
    if others > OTHERS_LIMIT:
        notes.append(f"other processes took {others:.1f} cores")
    gaps = [r.gap for r in good if r.gap]
    return Row(
        relay=good[0].relay,
        case=good[0].case,
        rounds=len(good),
        rate=mid([r.rate for r in good]),
        cpu_per_message=mid([r.cpu_per_message for r in good]),
        ratio=mid(ratios) if ratios else None,
        answer_p50=mid([r.answer["p50"] for r in good]),
        answer_p99=mid([r.answer["p99"] for r in good]),
        answer_p999=mid([r.answer["p999"] for r in good]),
        receipt_p50=mid([r.receipt["p50"] for r in good]),
        receipt_p99=mid([r.receipt["p99"] for r in good]),
        peak_kib=mid([r.peak_kib for r in good]),
        cores=mid([r.cores for r in good]),
        tools=tools,
        notes="; ".join(notes),
        form="/".join(sorted({r.form for r in good})),
        gap_p99=mid([gap["p99"] for gap in gaps]) if gaps else None,
        gap_max=mid([gap["max"] for gap in gaps]) if gaps else None,
        more=mid([own - other for own, other in beside]) if beside else None,
        times=mid([own / other for own, other in beside]) if beside else None,
        against=mid(against) if against else None,
    )


def rows(rounds: Sequence[Mapping[tuple[str, Case], Result]]) -> list[Row]:
    """A row for each relay and case, in the order of the first round.

    Machines drift within minutes, so a ratio is taken between runs of the same round, and the median of those is shown.
    """
    made = []
    for relay, case in dict.fromkeys(key for one in rounds for key in one):
        results = [one[relay, case] for one in rounds if (relay, case) in one]
        ratios: list[float] = []
        beside: list[tuple[float, float]] = []
        against: list[float] = []
        for one in rounds:
            result, reference = one.get((relay, case)), one.get(("reference", case.yardstick))
            if relay == "daemon" and result and reference and result.ok and reference.ok and result.cpu_per_message:
                ratios.append(reference.cpu_per_message / result.cpu_per_message)
            other = None if case.without is None else one.get((relay, case.without))
            if result and other and result.ok and other.ok and other.cpu_per_message:
                beside.append((result.cpu_per_message, other.cpu_per_message))
            older = one.get(("against", case)) if relay == "daemon" else None
            if result and older and result.ok and older.ok and older.cpu_per_message:
                against.append(result.cpu_per_message / older.cpu_per_message)
        made.append(_row(results, ratios, case.pinned, beside, against))
    return made


def cells(row: Row) -> list[str]:
    """A row as text, in the order of HEADINGS."""
    notes = [] if row.more is None else [f"{row.more:+.1f} us a message by policies, {row.times:.2f} times as much"]
    notes += [] if row.against is None else [f"{row.against:.2f} times the CPU of the other checkout"]
    notes += [row.notes] if row.notes else []
    milliseconds = (row.answer_p50, row.answer_p99, row.answer_p999, row.receipt_p50, row.receipt_p99)
    return [
        row.case if row.relay == "daemon" else f"{row.relay}: {row.case}",
        row.form or "-",
        f"{row.rate:,.0f}",
        f"{row.cpu_per_message:,.1f}",
        "-" if row.ratio is None else f"{row.ratio:.1f}",
        *(f"{value / 1000:,.2f}" for value in milliseconds),
        *("-" if value is None else f"{value / 1000:,.2f}" for value in (row.gap_p99, row.gap_max)),
        f"{row.peak_kib / 1024:,.0f}",
        f"{row.cores:.2f}",
        f"{row.tools * 100:.0f}",
        "; ".join(notes),
    ]


def machine(tree: Path = Path(__file__).parent) -> dict[str, Any]:
    """What the figures depend on. `tree`: the checkout that was measured."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=tree, capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
    }


def write(directory: Path, table: Sequence[Row], results: Sequence[Result], seconds: float) -> list[Path]:
    """benchmarks-latest.json and benchmarks-latest.md in `directory`; returns their paths."""
    about = machine() | {"seconds": seconds}
    directory.mkdir(parents=True, exist_ok=True)
    data, text = directory / "benchmarks-latest.json", directory / "benchmarks-latest.md"
    content = {"machine": about, "rows": [asdict(row) for row in table], "runs": [asdict(result) for result in results]}
    data.write_text(json.dumps(content, indent=1) + "\n")
    lines = [
        "# The latest run of `make bench`",
        "",
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}, "
        f"commit {about['commit']}, {seconds:g} s a run, medians of {max((row.rounds for row in table), default=0)} "
        "rounds. Ratio: CPU a message of the reference relay (plain, keeps nothing) / that of smppd, round by round. "
        "Form: of the modules on a message's path. Cases: binds, transport, rules, acknowledgement, cores. Gap: how much too "
        "late a process on the relay's core that sleeps 10 ms again and again was woken, in paced cases: the machine's "
        "share of their latency.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---" + "|---:" * (len(HEADINGS) - 2) + "|---|",
        *("| " + " | ".join(cells(row)) + " |" for row in table),
        "",
    ]
    text.write_text("\n".join(lines))
    return [data, text]
