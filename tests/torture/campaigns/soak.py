"""soak: an hour at 70 % of the measured capacity. Memory, file descriptors and p99 of each minute must stay flat: the median of
the last quarter at most 1.05 of the second's. The peers are the bench's tools, so that they are never the slow ones; they
check each message and each receipt of each minute themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.build import tools
from bench.process import Process
from tests.torture.daemon import PASSWORD, Daemon, StartFailure, account
from tests.torture.plan import Options, Unit

NAME: Final = "soak"
_SECONDS: Final = 3600.0
_MINUTE: Final = 60.0
_SHARE: Final = 0.7
FLAT: Final = 1.05
_BINDS: Final = 4
P99_MS: Final = 2.0
"""Milliseconds by which a median p99 may differ whatever its ratio: the clocks and cores of a shared machine are no finer."""


def plan(options: Options) -> list[Unit]:
    """One hour (``--seconds``) in minutes; short: 4 slices of 1 second."""
    slice_s = 1.0 if options.short else _MINUTE
    total = options.seconds or (4.0 if options.short else _SECONDS)
    return [Unit(f"{NAME}-{int(total)}", options.seed, {"slices": max(4, int(total / slice_s)), "slice_s": slice_s})]


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """The whole soak."""
    faults: list[str] = []
    curve: list[dict[str, float]] = []
    made = tools()
    slices: int = unit.values["slices"]
    slice_s: float = unit.values["slice_s"]
    with Process("smsc", [str(made["smsc"]), "--receipt-delay", "20", "--window", "500"], options.scratch) as smsc:
        daemon = Daemon(directory, options, int(smsc.line(10)["listening"]), [account("acme")])
        try:
            daemon.keys()
            daemon.launch()
            daemon.await_ready()
            daemon.wait_links("sim", 1)
            first = 0
            burst = ("--duration", f"{1 if options.short else 10:g}")
            warm = _load(made["load"], daemon, options.scratch, first, burst)
            first += int(warm["sent"])
            measured = _load(made["load"], daemon, options.scratch, first, burst)
            first += int(measured["sent"])
            capacity = float(measured["rate"])
            rate = max(50, int(capacity * _SHARE))
            for number in range(slices):
                told = _load(
                    made["load"],
                    daemon,
                    options.scratch,
                    first,
                    ("--duration", f"{slice_s:g}", "--rate", str(rate)),
                )
                first += int(told["sent"])
                curve.append(
                    {
                        "rss_mib": round(daemon.rss() / (1 << 20), 1),
                        "fds": len(os.listdir(f"/proc/{daemon.pid}/fd")),
                        "p99_ms": round(told["answer_us"]["p99"] / 1000, 2),
                        "receipt_p99_ms": round(told["receipt_us"]["p99"] / 1000, 2),
                        "sent": told["sent"],
                        "seconds": round(told["elapsed"], 3),
                    }
                )
                if not told["ok"]:
                    faults.append(
                        f"minute {number}: {told['missing']} missing, {told['duplicates']} doubled, {told['wrong']} wrong"
                        f" of {told['sent']}, {told['lost_sessions']} sessions lost"
                    )
            if errors := daemon.metric("smppd_internal_errors_total"):
                faults.append(f"the daemon counted {errors:g} internal errors")
            if status := daemon.terminate(30):
                faults.append(f"the daemon ended with status {status}")
        except StartFailure as failure:
            return {**unit.values, "faults": [str(failure)]}
        finally:
            daemon.kill()
    ratios = {}
    for name in ("rss_mib", "fds", "p99_ms"):
        second, last = quarters([each[name] for each in curve])
        ratios[name] = round(last / second, 3) if second else 0.0
        slack = P99_MS if name == "p99_ms" else 0.0
        # A short run has not come to rest yet: it shows that the campaign works.
        if not options.short and last > second * FLAT and last - second > slack:
            faults.append(f"{name}: the last quarter's median is {ratios[name]:g} of the second's")
    return {
        **unit.values,
        "capacity": round(capacity),
        "rate": round(sum(each["sent"] for each in curve) / sum(each["seconds"] for each in curve)),
        "paced_at": rate,
        "messages": sum(int(each["sent"]) for each in curve),
        "ratios": ratios,
        "curve": curve,
        "faults": faults + daemon.complaints(),
    }


def quarters(values: Sequence[float]) -> tuple[float, float]:
    """Medians of the second and of the last quarter."""
    size = len(values) // 4
    return median(values[size : 2 * size]), median(values[-size:])


def _load(tool: Path, daemon: Daemon, scratch: Path, first: int, arguments: tuple[str, ...]) -> dict[str, Any]:
    command = [str(tool), "--port", str(daemon.plain_port), "--system-id", "acme", "--binds", str(_BINDS)]
    command += ["--window", "100", "--first", str(first), "--deadline", "180", *arguments]
    with Process("load", command, scratch, env={"SMPPD_BENCH_PASSWORD": PASSWORD}) as load:
        told: dict[str, Any] = load.line(200)
        load.wait(20)
    return told
