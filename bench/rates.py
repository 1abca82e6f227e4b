"""What low rates cost, and full load beside them: this checkout's daemon as a ratio to another checkout's and to the
yardsticks, round by round; a table, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from bench.cases import Case
from bench.report import OTHERS_LIMIT, TOOL_LIMIT, machine
from bench.runner import Result

Round = Mapping[tuple[str, Case], Result]
Figure = Callable[[Result], float]

OTHERS: Final[tuple[str, ...]] = ("against", "node", "reference")
NAMES: Final[Mapping[str, str]] = {
    "daemon": "smppd", "against": "other checkout", "node": "node-smpp", "reference": "smpp.twisted", "direct": "no relay",
}  # fmt: skip
FIGURES: Final[Mapping[str, Figure]] = {
    "CPU": lambda result: result.cpu_per_message,
    "answer p50": lambda result: result.answer["p50"],
    "answer p99": lambda result: result.answer["p99"],
}
HEADINGS: Final = (
    "case", "relay", "rounds", "msg/s", "CPU us/msg", "commits/msg", "answer p50 ms", "p99", "receipt p50 ms", "p99",
    "idle us/s", "gap p99 ms", "load %", "SMSC %", "",
)  # fmt: skip


class Ratio(NamedTuple):
    """A figure of this checkout's daemon / that of another relay in the same round: median, lowest and highest."""

    figure: str
    other: str
    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f})"


def shown(case: Case) -> str:
    """The case in words."""
    what = f"TLS, {case.rules} rules" if case.tls else f"plain, {case.rules or 'no'} rules"
    pace = f"{case.rate}/s" if case.rate else "full load"
    return f"{pace}, {case.binds} bind{'s' * (case.binds > 1)}, window {case.window}: {what}"


def _other(one: Round, case: Case, other: str) -> Result | None:
    return one.get((other, case if other == "against" else case.yardstick))


def ratios(rounds: Sequence[Round], case: Case) -> list[Ratio]:
    """Of all figures to all other relays that were run beside this case. Rounds in which a message went wrong do not count."""
    made = []
    for name, figure in FIGURES.items():
        for other in OTHERS:
            found = []
            for one in rounds:
                own, beside = one.get(("daemon", case)), _other(one, case, other)
                if own and beside and own.ok and beside.ok and figure(beside):
                    found.append(figure(own) / figure(beside))
            if found:
                made.append(Ratio(name, other, median(found), min(found), max(found)))
    return made


def heads(rounds: Sequence[Round]) -> list[str]:
    """The headings of the table of ratios: only of what was run."""
    seen = {relay for one in rounds for relay, _ in one}
    return ["case", *(f"{name} / {NAMES[other]}" for name in FIGURES for other in OTHERS if other in seen)]


def comparison(rounds: Sequence[Round]) -> list[list[str]]:
    """The cells of the table of ratios, a row for each case, in the order of `heads`."""
    seen = {relay for one in rounds for relay, _ in one}
    made = []
    for case in dict.fromkeys(case for one in rounds for relay, case in one if relay == "daemon"):
        of = {(ratio.figure, ratio.other): str(ratio) for ratio in ratios(rounds, case)}
        cells = [of.get((name, other), "-") for name in FIGURES for other in OTHERS if other in seen]
        made.append([shown(case), *cells])
    return made


def _cells(relay: str, case: Case, results: Sequence[Result]) -> list[str]:
    good = [result for result in results if result.ok] or list(results)

    def mid(values: Iterable[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return median(there) if there else None

    def cell(values: Iterable[float | None], digits: int, scale: float = 1.0) -> str:
        value = mid(values)
        return "-" if value is None else f"{value * scale:,.{digits}f}"

    notes = sorted({result.fault or "failed" for result in results if not result.ok})
    if (busiest := mid([max(r.load_core, r.smsc_core) for r in good]) or 0.0) > TOOL_LIMIT:
        notes.append(f"a tool took {busiest:.0%} of its core")
    if (others := mid([r.others for r in good]) or 0.0) > OTHERS_LIMIT:
        notes.append(f"other processes took {others:.1f} cores")
    if relay == "daemon" or relay == "against":
        notes += sorted({r.form for r in good} - {"compiled"})
    return [
        shown(case),
        NAMES[relay],
        f"{len(good)}",
        cell([r.rate for r in good], 0),
        cell([r.cpu_per_message for r in good], 0 if case.rate else 1),
        cell([r.commits for r in good], 2),
        *(cell([r.answer[name] for r in good], 2, 1e-3) for name in ("p50", "p99")),
        *(cell([r.receipt[name] for r in good], 2, 1e-3) for name in ("p50", "p99")),
        cell([r.idle for r in good], 0),
        cell([r.gap["p99"] if r.gap else None for r in good], 2, 1e-3),
        cell([r.load_core for r in good], 0, 100),
        cell([r.smsc_core for r in good], 0, 100),
        "; ".join(notes),
    ]


def absolute(rounds: Sequence[Round]) -> list[list[str]]:
    """The cells of what each relay took, in the order of HEADINGS: medians over the rounds that went well."""
    keys = list(dict.fromkeys(key for one in rounds for key in one))
    order = {case: at for at, case in enumerate(dict.fromkeys(case for relay, case in keys if relay == "daemon"))}
    # A yardstick, which is always plain, stands with the first case that it was run beside.
    rank = [*NAMES]
    keys.sort(key=lambda key: (order.get(key[1], _first_beside(order, key[1])), rank.index(key[0])))
    return [_cells(relay, case, [one[relay, case] for one in rounds if (relay, case) in one]) for relay, case in keys]


def _first_beside(order: Mapping[Case, int], yardstick: Case) -> int:
    return min((at for case, at in order.items() if case.yardstick == yardstick), default=len(order))


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> list[str]:
    """Markdown. words: how many of the first columns are no figures."""
    lines = ["| " + " | ".join(headings) + " |", "|---" * words + "|---:" * (len(headings) - words) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def write(directory: Path, rounds: Sequence[Round], seconds: float, against: Path | None) -> list[Path]:
    """rates.json and rates.md in `directory`; their paths."""
    about = machine() | {"seconds": seconds}
    if against is not None:
        about["against"] = machine(against)["commit"]
    cases = dict.fromkeys(case for one in rounds for relay, case in one if relay == "daemon")
    content: dict[str, Any] = {
        "machine": about,
        "ratios": {case.name: [ratio._asdict() for ratio in ratios(rounds, case)] for case in cases},
        "rounds": [[asdict(result) for result in one.values()] for one in rounds],
    }
    directory.mkdir(parents=True, exist_ok=True)
    data, page = directory / "rates.json", directory / "rates.md"
    data.write_text(json.dumps(content, indent=1) + "\n")
    other = f"; the other checkout is at commit {about['against']}" if against is not None else ""
    lines = [
        "# Low rates",
        "",
        'The latest run of `make bench BENCH_ARGS="--cases rates"`; with `--against DIR` another checkout of smppd is'
        " measured in the same rounds. [Benchmarks](benchmarks.md#low-rates) says what it shows.",
        "",
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}, commit"
        f" {about['commit']}{other}. Rounds: {len(rounds)}; {seconds:g} s a run, at 50/s twice that. The relay has one core,"
        " load generator and SMSC the other.",
        "",
        "## Ratios",
        "",
        "This checkout's figure / the other's of the same round: median (lowest to highest). The yardsticks are plain, without"
        " rules, keep nothing, and are driven at the same pace.",
        "",
        *_table(heads(rounds), comparison(rounds), 1),
        "",
        "## Each by itself",
        "",
        "Medians over the rounds. CPU: user and system time of the relay with all its children. Idle: the same a second before"
        " anybody has bound. Gap: how much too late a process on the relay's core that sleeps 10 ms again and again was"
        " woken. Load, SMSC: of the tools' core.",
        "",
        *_table(HEADINGS, absolute(rounds), 2),
        "",
    ]
    page.write_text("\n".join(lines))
    return [data, page]
