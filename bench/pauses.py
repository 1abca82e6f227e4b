"""Pauses: the longest answers while something disturbs the daemon, beside the machine's own gaps in the same seconds."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bench import config
from bench.cases import Case
from bench.depth import fill, search
from bench.filler import RARE
from bench.latency import capacity
from bench.points import Column, Curve, Graph, Point, point
from bench.runner import cores, gaps
from bench.stand import Bench, Change, Stand, Values

OLD: Final = "old"
_SHARE: Final = 10
"""Of capacity, percent. With more, the backlog that any delay leaves is what is seen, not the delay."""
_ACCOUNTS: Final = 1000
_COLLECTING: Final = """
import gc, runpy, signal
signal.signal(signal.SIGUSR2, lambda *_: gc.collect())
runpy.run_module("smppd", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Stretch:
    """Some seconds under load with a disturbance: `action` each `every` seconds (0: again and again)."""

    name: str
    action: Callable[[Stand], object] | None = None
    every: float = 1.0
    accounts: int = 1
    filling: Sequence[str] = ()
    held: int = 0
    collecting: bool = False
    quick: bool = False


def _scrape(stand: Stand) -> None:
    stand.metric("smppd_ready")


def _truncate(stand: Stand) -> None:
    db = sqlite3.connect(stand.store / "data.db", timeout=5.0)
    try:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        db.close()


def _purge(stand: Stand) -> None:
    command = config.smppd("purge", "--json", "--config", str(stand.work.config))
    done = subprocess.run(command, cwd=config.ROOT, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode not in (0, 1):  # 1: old bytes may still be in a write-ahead log, as somebody reads
        raise RuntimeError(f"purge failed: {done.stderr.strip()[-1000:]}")


_TOO_OLD: Final = ("--records", "200000", "--account", OLD, "--days-ago", "4")
STRETCHES: Final = (
    Stretch("nothing else", quick=True),
    Stretch("SIGHUP each second", lambda stand: stand.daemon.signal(signal.SIGHUP), quick=True),
    Stretch("nothing else, 1,000 accounts", accounts=_ACCOUNTS),
    Stretch(
        "SIGHUP each second, 1,000 accounts", lambda stand: stand.daemon.signal(signal.SIGHUP), accounts=_ACCOUNTS
    ),
    Stretch("metrics scraped each second", _scrape),
    Stretch("metrics scraped each second, 1,000 accounts", _scrape, accounts=_ACCOUNTS),
    Stretch("smppd purge of 200,000 records", _purge, 0.0, filling=_TOO_OLD),
    Stretch("200,000 records being indexed", filling=("--records", "200000", "--no-index")),
    Stretch("smppd log search again and again", lambda stand: search(stand, RARE), 0.0, filling=("--records", "100000")),
    Stretch("WAL truncated twice a second", _truncate, 0.5),
    Stretch("100,000 messages in memory", held=100_000),
    Stretch(
        "the same, all garbage collected each second",
        lambda stand: stand.daemon.signal(signal.SIGUSR2), held=100_000, collecting=True,
    ),
)  # fmt: skip


@contextlib.contextmanager
def _disturbing(stand: Stand, stretch: Stretch) -> Iterator[Callable[[], int]]:
    """Disturbs the daemon until the block ends; gives a function that tells how often it was begun. An error of the
    disturbance is raised at the end."""
    stop, errors, times = threading.Event(), [], [0]

    def run(action: Callable[[Stand], object]) -> None:
        while not stop.wait(stretch.every):
            try:
                times[0] += 1
                action(stand)
            except Exception as error:  # noqa: BLE001  a thread's edge: handed to whoever started it
                errors.append(error)
                return

    thread = threading.Thread(target=run, args=(stretch.action,), daemon=True) if stretch.action else None
    if thread:
        thread.start()
    try:
        yield lambda: times[0]
    finally:
        stop.set()
        if thread:
            thread.join(320)
    if errors:
        raise RuntimeError(f"{stretch.name}: {errors[0]}")


def _measured(stand: Stand, stretch: Stretch, seconds: float, pace: int) -> Values:
    ours, theirs = cores(stand.case)
    probe = stand.bench.tools["gaps"]
    with (
        gaps(probe, ours, stand.scratch) as tell,
        gaps(probe, theirs, stand.scratch, "tool-gaps") as tell_tools,
        _disturbing(stand, stretch) as times,
    ):
        values = stand.drive(seconds, pace)
        gap, tool_gap = tell(), tell_tools()
        done = times()
    return values | {
        "times": done,
        "gap": gap["max"] / 1000,
        "gap_p99": gap["p99"] / 1000,
        "gap_slow": gap["slow"],
        "tool_gap": tool_gap["max"] / 1000,
        "tool_gap_slow": tool_gap["slow"],
    }


def _change(stretch: Stretch) -> Change:
    def change(content: dict[str, Any]) -> None:
        for number in range(1, stretch.accounts):
            config.another(f"other-{number}", content)
        config.another(OLD, content, retain="1d")

    return change


def _one(bench: Bench, stretch: Stretch, seconds: float, pace: int) -> tuple[Values, str]:
    smsc = ("--hold", str(stretch.held)) if stretch.held else ()
    with Stand(bench, Case(), _change(stretch), smsc) as stand:
        if stretch.filling:
            fill(stand, *stretch.filling)
        run = config.smppd("run", "--config", str(stand.work.config))
        stand.start([run[0], "-c", _COLLECTING, *run[3:]] if stretch.collecting else ())
        if stretch.held:
            stand.send("--messages", str(stretch.held), "--answers-only", deadline=60 + stretch.held / 500)
        stand.warm_up()
        return _measured(stand, stretch, seconds, pace), stand.form


def _pauses(bench: Bench) -> Iterator[Point]:
    quiet = STRETCHES[0]
    with Stand(bench, Case()) as stand, stand.running():
        pace = int(capacity(stand, 1 if bench.quick else 3) * _SHARE / 100)
    seconds = bench.seconds if bench.quick else bench.seconds * 2.5
    for place, stretch in enumerate(STRETCHES):
        if bench.quick and not stretch.quick:
            continue
        pairs, form = [], ""
        for number in range(bench.rounds):
            bench.say(f"pauses, {stretch.name}, {pace:,}/s, round {number + 1}")
            base, _ = _one(bench, quiet, seconds, pace)
            values, form = _one(bench, stretch, seconds, pace)
            values |= {f"quiet_{name}": base[name] for name in ("max", "slow", "gap", "p99", "waited_percent")}
            pairs.append((values, base))
        made = point(place, stretch.name, pairs, form=form)
        worst = {"worst": max(one["max"] for one, _ in pairs), "worst_gap": max(one["gap"] for one, _ in pairs)}
        yield replace(made, values=made.values | worst)


PAUSES: Final = Curve(
    "pauses",
    "Pauses",
    f"The longest answers at {_SHARE} % of capacity while something else goes on, in stretches of equal length on a fresh"
    " daemon each; in the same round just before each a quiet one, the base. Gap: how late a process on the same core that"
    " sleeps a millisecond again and again was woken at the most, with the daemon's priority. The machine is shared: an answer"
    " as late as the machine's gap was is no pause of smppd's. Waiting: share of the time in which the daemon's main thread was"
    " ready to run and another process had the core. Medians of the rounds; worst: of all rounds.",
    "",
    (
        Column("times", "times", 0),
        Column("p99", "answer p99 ms"),
        Column("p999", "p99.9"),
        Column("max", "longest"),
        Column("worst", "worst"),
        Column("slow", "over 50 ms", 0),
        Column("gap", "gap, daemon's core ms"),
        Column("worst_gap", "worst"),
        Column("waited_percent", "waiting %"),
        Column("tool_gap", "gap, tools' core ms"),
        Column("quiet_p99", "quiet: p99 ms"),
        Column("quiet_max", "longest"),
        Column("quiet_slow", "over 50 ms", 0),
        Column("quiet_gap", "gap ms"),
        Column("quiet_waited_percent", "waiting %"),
    ),
    (
        Graph(
            "Longest, ms (medians)",
            ("max", "quiet_max", "gap"),
            names=("answer", "answer in the quiet stretch", "gap of the machine"),
        ),
    ),
    _pauses,
)
