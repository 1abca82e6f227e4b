"""Growth curves of what is stored: records in the log, and receipts that wait for an account that is not bound."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from bench import config
from bench.cases import Case
from bench.filler import COMMON, RARE
from bench.points import COST, PACED, Column, Curve, Graph, Point, point
from bench.runner import ProcessError
from bench.stand import Bench, Change, Stand, Values

AWAY: Final = "away"
_FILLING: Final = 3600.0  # seconds that ten million records may take


def fill(stand: Stand, *options: str) -> dict[str, float]:
    """Runs bench.filler on the store of a stand whose daemon does not run. RuntimeError with what it said if it fails."""
    command = [sys.executable, "-m", "bench.filler", str(stand.work.config), *options]
    done = subprocess.run(command, cwd=config.ROOT, capture_output=True, text=True, timeout=_FILLING, check=False)
    if done.returncode:
        raise RuntimeError(f"the filler failed: {done.stderr.strip()[-2000:]}")
    told: dict[str, float] = json.loads(done.stdout)
    return told


class _Kept:
    """A copy of a stand's store, so that each round finds it as it was filled, without what the loads before added."""

    def __init__(self, stand: Stand) -> None:
        self._store = stand.store
        self._copy = stand.directory / "kept"

    def take(self) -> None:
        """Copies the store."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._store, self._copy)

    def restore(self) -> None:
        """Puts the copy in the store's place."""
        if self._copy.exists():
            shutil.rmtree(self._store)
            shutil.copytree(self._copy, self._store)

    def forget(self) -> None:
        """Removes the copy."""
        shutil.rmtree(self._copy, ignore_errors=True)


def _filled(
    bench: Bench,
    name: str,
    counts: Sequence[int],
    options: Callable[[int], Sequence[str]],
    look: Callable[[Stand, int], Values],
    change: Change | None = None,
) -> Iterator[Point]:
    """Points on one store that grows from one to the next; `options(n)` let the filler add n. `look` runs before the daemon
    is started. Base: an empty store, on a daemon of its own just before."""
    with Stand(bench, Case(), change) as stand:
        kept, there = _Kept(stand), 0
        stand.start()  # makes the store
        stand.stop()
        for count in counts:
            kept.restore()
            told: dict[str, float] = {}
            if count > there:
                bench.say(f"{name}: filling up to {count:,}")
                told = fill(stand, *options(count - there))
                there = count
            # The last and biggest is not copied: what three rounds of load add to it is nothing beside it.
            if count == counts[-1] and count > 1_000_000:
                kept.forget()
            else:
                kept.take()
            size = stand.store_mib()
            pairs = []
            for number in range(bench.rounds):
                bench.say(f"{name}, {count:,}, round {number + 1}")
                with Stand(bench, Case(), change) as base, base.running():
                    yardstick = base.figures() | {"start": base.ready_seconds}
                kept.restore()
                values = look(stand, count) | {"store_mib": size}
                started = stand.start()
                _all_there(stand, name, count)
                stand.warm_up()
                values |= stand.figures() | {"start": started}
                stand.stop()
                values["restart"] = stand.start()
                stand.stop()
                pairs.append((values, yardstick))
            if told:
                pairs = [(values | {"fill_rate": _rate(told)}, base) for values, base in pairs]
            yield point(count, "", pairs, form=stand.form)


def _rate(told: dict[str, float]) -> float:
    return (told["records"] + told["mail"]) / (told["seconds"] + told["index_seconds"])


def _all_there(stand: Stand, name: str, count: int) -> None:
    if name != "mailbox":
        return
    end = time.monotonic() + 10
    while (found := stand.metric("smppd_mailbox")) != count:
        if time.monotonic() > end:
            raise ProcessError(f"{count} receipts should wait, the daemon knows of {found:.0f}")
        time.sleep(0.2)


def search(stand: Stand, number: str) -> float:
    """Seconds that `smppd log search` takes for one number, as an operator would call it."""
    arguments = ("log", "search", number, "--reason", "support", "--json", "--config", str(stand.work.config))
    began = time.monotonic()
    done = subprocess.run(
        config.smppd(*arguments), cwd=config.ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode not in (0, 1):  # 1: nothing found
        raise RuntimeError(f"log search failed: {done.stderr.strip()[-1000:]}")
    return time.monotonic() - began


def _log(bench: Bench) -> Iterator[Point]:
    counts = bench.first((0, 10_000, 100_000, 1_000_000, 10_000_000), (0, 5000))

    def searches(stand: Stand, _count: int) -> Values:
        return {"search_rare": search(stand, RARE), "search_common": search(stand, COMMON)}

    return _filled(bench, "log", counts, lambda more: ("--records", str(more)), searches)


def _mailbox(bench: Bench) -> Iterator[Point]:
    counts = bench.first((0, 10_000, 100_000, 1_000_000), (0, 5000))

    def change(content: dict[str, Any]) -> None:
        config.another(AWAY, content, receipts={"limit": 2_000_000})

    def options(more: int) -> Sequence[str]:
        return ("--mail", str(more), "--account", AWAY)

    return _filled(bench, "mailbox", counts, options, lambda _stand, _count: {}, change)


_COLUMNS: Final = (
    *COST,
    Column("peak_mib", "peak MiB", 0),
    Column("start", "start-up s", 2),
    Column("start", "ratio", 2, ratio=True),
    Column("restart", "restart after the load s", 2),
    Column("store_mib", "store MiB", 0),
    Column("fill_rate", "filled/s", 0),
)
_GRAPHS: Final = (
    Graph("CPU a message at full speed, ratio to an empty store in the same round", ("cpu",), ratio=True),
    PACED,
    Graph("Start-up, s", ("start", "restart"), names=("filled", "after the load")),
    Graph("Peak memory, MiB", ("peak_mib",)),
)
LOG: Final = Curve(
    "log",
    "Records in the log",
    "The store holds so many sealed records with their events, signed checkpoints and finished indexes, made by the relay's"
    " recorder and the store's writer (`bench/filler.py`). Base: an empty store, on a daemon of its own just before. Search:"
    " the whole command, without the load; a rare number is in up to 25 records, a common one in one of 999.",
    "records in the log",
    (*_COLUMNS, Column("search_rare", "search, rare s", 2), Column("search_common", "common s", 2)),
    (*_GRAPHS, Graph("smppd log search, s", ("search_rare", "search_common"), names=("rare", "common"))),
    _log,
)
MAILBOX: Final = Curve(
    "mailbox",
    "Receipts that wait",
    "So many receipts wait for an account that is not bound, put there by the relay's mailroom and the store's writer; another"
    " account carries the load. Base: none wait, on a daemon of its own just before.",
    "receipts waiting",
    _COLUMNS,
    _GRAPHS,
    _mailbox,
)
