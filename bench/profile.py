"""`make bench-profile`: where a message's time goes, step by step and line by line, before and after.

The daemon runs interpreted under `bench/sampler.py`, which sees every line, and compiled under perf, where there is one; those
are the figures that hold. Results go into profile.json; profile.md shows of each form the first run beside the latest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

Step = tuple[str, tuple[str, ...]]

# The innermost frame of ours decides; the first step that has its file. Files are relative to smppd/.
STEPS: Final[tuple[Step, ...]] = (
    (
        "sockets, TLS, PROXY",
        (
            "net/transport",
            "net/tls",
            "net/endpoints",
            "net/proxy",
            "net/limits",
            "net/hello",
            "net/handshakes",
            "net/door",
        ),
    ),
    ("frames and sessions", ("protocol/wire", "protocol/session", "net/customers", "net/upstreams")),
    ("policy", ("policy/", "protocol/text", "protocol/gsm", "protocol/longmessage")),
    ("sealing, blind index", ("vault/",)),
    ("accepting and answering", ("relay/accept/", "relay/state/bucket", "ids")),
    ("to the carrier and its answer", ("relay/send/",)),
    ("receipts", ("relay/receipts/", "protocol/receipt")),
    ("mailbox", ("relay/deliver/", "relay/state/post")),
    ("state and journal", ("relay/", "message", "protocol/")),
    ("handing over to the writer", ("store/",)),
    ("rest of smppd", ("",)),
)
REACTOR: Final = "reactor (Twisted)"
WRITER: Final = "writer: SQLite and fsync"
LINES: Final = 40
_FORMS: Final = (
    ("compiled", "Functions and libraries, seen by perf."),
    (
        "interpreted",
        "Steps and lines, sampled each millisecond of CPU; the writer's thread is not sampled, only counted.",
    ),
)


def step_of(file: str) -> str:
    """The step of a file of ours, by its path below smppd/."""
    return next(name for name, beginnings in STEPS if file.startswith(beginnings))


def digest(sampled: dict[str, Any], tree: Path, messages: int) -> dict[str, Any]:
    """Microseconds a message: by step, and by line of ours with its text. `sampled`: a result of the sampler."""
    ours = f"{tree / 'smppd'}/"
    steps: Counter[str] = Counter()
    lines: Counter[tuple[str, int]] = Counter()
    seen = sum(used for _, used in sampled["stacks"])
    # What the last sample missed is spread over all.
    scale = 1e6 / messages * (sampled["main"] / seen if seen else 0.0)
    for stack, used in sampled["stacks"]:
        inner = next(((file, line) for file, _name, line in stack if file.startswith(ours)), None)
        if inner is None or inner[0].endswith("/cli/commands/run.py"):
            steps[REACTOR] += used * scale
            continue
        file = inner[0].removeprefix(ours)
        steps[step_of(file)] += used * scale
        lines[file, inner[1]] += used * scale
    steps[WRITER] += sampled["others"] * 1e6 / messages
    return {
        "steps": {name: round(cost, 2) for name, cost in steps.most_common()},
        "lines": [
            [f"{file}:{line}", round(cost, 2), _text(tree / "smppd" / file, line)]
            for (file, line), cost in lines.most_common(LINES)
        ],
    }


def _text(path: Path, line: int | None) -> str:
    if line is None:
        return ""
    try:
        return path.read_text().splitlines()[line - 1].strip()
    except (OSError, IndexError):
        return ""


def _runs(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["runs"]) if path.exists() else []


def write(directory: Path, fresh: Sequence[dict[str, Any]]) -> list[Path]:
    """Adds runs to profile.json (of each form the first and the latest are kept) and writes profile.md; their paths.

    A run: form, commit, date, cpu (model), case, messages, rate, total (us CPU a message, all processes), and what
    `digest` gives.
    """
    data, page = directory / "profile.json", directory / "profile.md"
    runs = [*_runs(data), *fresh]
    kept = []
    for form in ("compiled", "interpreted"):
        of_form = [run for run in runs if run["form"] == form]
        kept += of_form[:1] + of_form[1:][-1:]
    directory.mkdir(parents=True, exist_ok=True)
    data.write_text(json.dumps({"runs": kept}, indent=1) + "\n")
    page.write_text("\n".join(_page(kept)) + "\n")
    return [data, page]


def _page(runs: Sequence[dict[str, Any]]) -> Iterable[str]:
    yield "# Where a message's time goes"
    yield ""
    yield "Written by `make bench-profile`: the whole job (TLS, 20 rules, throttle, sealed and synced log, carrier, receipt,"
    yield "mailbox) at full load. Microseconds of CPU a message. Machines differ: columns compare only where machine and day"
    yield "are the same. What is watched is slower than what is not: believe shares, and [benchmarks](benchmarks.md) for sums."
    for form, intro in _FORMS:
        of_form = [run for run in runs if run["form"] == form]
        if not of_form:
            continue
        yield ""
        yield f"## {form.capitalize()}"
        yield ""
        latest = of_form[-1]
        yield f"{intro} {latest['case']}, {latest['messages']:,} messages at {latest['rate']:,.0f} a second, {latest['cpu']}."
        heads = [
            f"{name}: {run['commit']}, {run['date']}" for name, run in zip(("before", "now"), of_form, strict=False)
        ]
        for title, key in (("step", "steps"), ("with all that it calls", "functions"), ("by itself", "libraries")):
            if key in latest:
                yield ""
                yield from _beside(title, heads, [_costs(run[key]) for run in of_form], total=key != "functions")
        if "lines" in latest:
            yield ""
            yield "| us now | line | |"
            yield "|---:|---|---|"
            for where, cost, text in latest["lines"]:
                shown = text.replace("|", "\\|")
                yield f"| {cost:.2f} | {where} | `{shown}` |"


def _costs(table: Any) -> dict[str, float]:
    return dict(table) if isinstance(table, dict) else {str(name): float(cost) for cost, name in table}


def _beside(title: str, heads: Sequence[str], runs: Sequence[dict[str, float]], *, total: bool) -> Iterable[str]:
    yield f"| {title} | " + " | ".join(heads) + " |"
    yield "|---|" + "---:|" * len(runs)
    for name in runs[-1]:
        yield f"| {name} | " + " | ".join(f"{run[name]:.1f}" if name in run else "-" for run in runs) + " |"
    if total:
        yield "| **all** | " + " | ".join(f"**{sum(run.values()):.1f}**" for run in runs) + " |"


__all__ = ["REACTOR", "STEPS", "WRITER", "digest", "step_of", "write"]
