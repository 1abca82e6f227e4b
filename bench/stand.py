"""A daemon and an SMSC that stay for several loads: what the growth curves drive, restart and look into.

A figure is taken twice: at full speed (messages/s, CPU a message) and paced (latencies, which at full speed only show how
long the windows are).
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import config
from bench.cases import Case
from bench.process import Process, ProcessError, machine_busy_us, maps, pss_kib, usage, waited_us
from bench.runner import WARM_UP, Target, await_ready, cores, load, load_process
from smppd import native

Values = dict[str, float]
Change = Callable[[dict[str, Any]], None]
PACE: Final = 2000  # messages a second of the paced half, well under any point's capacity
PATIENCE: Final = 600.0  # seconds for a start on a big store
_LATENCIES: Final = ("p50", "p99", "p999", "max")


@dataclass
class Bench:
    """What a curve is run with. ``say``: tells a person what goes on."""

    tools: dict[str, Path]
    seconds: float
    rounds: int
    quick: bool
    say: Callable[[str], None] = field(default=lambda _text: None)
    only: Sequence[int] = ()

    def first(self, full: Sequence[int], quick: Sequence[int]) -> Sequence[int]:
        """The points: all of them, the few of a trial, or those of them that were asked for (``only``)."""
        return [one for one in (quick if self.quick else full) if not self.only or one in self.only]


class Stand:
    """See the module. A context manager: everything it started is stopped and its store removed at the end."""

    def __init__(self, bench: Bench, case: Case, change: Change | None = None, smsc: Sequence[str] = ()) -> None:
        """change: alters the configuration before it is written. smsc: options of bench/smsc.c."""
        self.bench = bench
        self.case = case
        self.form = ""
        self.ready_seconds = 0.0
        self._change = change
        self._smsc_options = smsc
        self._undo = contextlib.ExitStack()
        self._daemon: Process | None = None
        self._number = 0

    def __enter__(self) -> Stand:
        with contextlib.ExitStack() as undo:
            self.scratch = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="smppd-bench-")))
            var = config.ROOT / "var" / "bench"
            var.mkdir(parents=True, exist_ok=True)
            self.directory = Path(tempfile.mkdtemp(prefix="growth-", dir=var))
            undo.callback(shutil.rmtree, self.directory, ignore_errors=True)
            command = [str(self.bench.tools["smsc"]), *self._smsc_options]
            self._smsc = undo.enter_context(Process("smsc", command, self.scratch, core=cores(self.case)[1]))
            self.work = config.prepare(self.case, self.directory, self._smsc.line(10)["listening"], self._change)
            undo.callback(self.stop)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    @property
    def daemon(self) -> Process:
        """The daemon, which runs."""
        assert self._daemon is not None
        return self._daemon

    def start(self, command: Sequence[str] = ()) -> float:
        """Starts the daemon; returns the seconds until it was ready. ``command`` replaces its ordinary command line."""
        began = time.monotonic()
        line = list(command) or config.smppd("run", "--config", str(self.work.config))
        self._daemon = Process("smppd", line, self.scratch, core=cores(self.case)[0], cwd=config.ROOT)
        await_ready(self._daemon, self.work.http_port, PATIENCE)
        self.ready_seconds = time.monotonic() - began
        self.form = "compiled" if maps(self._daemon.pid, native.LIBRARY) else "interpreted"
        return self.ready_seconds

    def stop(self) -> None:
        """Stops the daemon; its store stays."""
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            with daemon:
                daemon.stop(60)

    @contextlib.contextmanager
    def running(self) -> Iterator[Stand]:
        """The daemon, started and warm, until the end of the block."""
        self.start()
        try:
            self.warm_up()
            yield self
        finally:
            self.stop()

    # -- loads -----------------------------------------------------------------------------------------------------------

    @property
    def target(self) -> Target:
        """Where the load goes."""
        return Target(None, self.work.port, self.work.password, self.work.certificate if self.case.tls else None)

    def send(self, *options: str, deadline: float) -> dict[str, Any]:
        """One load with numbers that no earlier one had; its report. ProcessError when the daemon ended meanwhile."""
        first = ("--first", str(self._number))
        report = load(
            self.bench.tools["load"], self.case, self.target, self.scratch, *first, *options, deadline=deadline
        )
        self._number += report["sent"]
        if self.daemon.status is not None:
            raise self.daemon.fail(f"ended with status {self.daemon.status} under load")
        return report

    def warm_up(self, *options: str) -> None:
        """A thousand messages that are not measured."""
        self.send("--messages", str(WARM_UP), *options, deadline=60)

    def drive(self, seconds: float, rate: int = 0, *options: str) -> Values:
        """One measured load. Latencies in milliseconds, CPU in microseconds a message; ``bad``: messages that went wrong."""
        pace = ("--rate", str(rate)) if rate else ()
        before, busy, clock = usage(self.daemon.pid), machine_busy_us(), time.monotonic()
        smsc, waited = usage(self._smsc.pid).cpu_us, waited_us(self.daemon.pid)
        report = self.send("--duration", f"{seconds:g}", *pace, *options, deadline=seconds * 4 + 30)
        after = usage(self.daemon.pid)
        busy, clock = machine_busy_us() - busy, time.monotonic() - clock
        cpu = after.cpu_us - before.cpu_us
        ours = cpu + report["cpu_us"] + usage(self._smsc.pid).cpu_us - smsc
        values: Values = {
            "rate": report["rate"],
            "cpu": cpu / max(1, report["receipts"]),
            "cores": cpu / 1e6 / (report["elapsed"] or 1e-9),
            "peak_mib": after.peak_kib / 1024,
            "slow": report["answer_us"]["slow"],
            "bad": sum(report[name] for name in ("missing", "duplicates", "wrong", "lost_sessions"))
            + sum(report["errors"].values()),
            "waited_percent": (waited_us(self.daemon.pid) - waited) / 1e4 / clock,
            "others": max(0.0, busy - ours) / 1e6 / clock,
        }
        values |= {name: report["answer_us"][name] / 1000 for name in _LATENCIES}
        return values | {f"receipt_{name}": report["receipt_us"][name] / 1000 for name in _LATENCIES}

    def figures(self, *options: str, pace: int = PACE) -> Values:
        """A load at full speed for messages/s and CPU, and a paced one for the latencies."""
        seconds = self.bench.seconds
        full = self.drive(seconds, 0, *options)
        paced = self.drive(seconds, pace, *options)
        return paced | {
            "rate": full["rate"],
            "cpu": full["cpu"],
            "paced_cpu": paced["cpu"],
            "bad": full["bad"] + paced["bad"],
            "others": max(full["others"], paced["others"]),
            "pss_mib": self.pss_kib() / 1024,
        }

    @contextlib.contextmanager
    def idle(self, binds: int, system_id: str, patience: float) -> Iterator[float]:
        """That many sessions of an account, bound and silent; gives the seconds it took to bind them all."""
        options = ("--idle", "--system-id", system_id, "--binds", str(binds))
        began = time.monotonic()
        with load_process(self.bench.tools["load"], self.case, self.target, self.scratch, *options) as process:
            process.line(patience)
            yield time.monotonic() - began
            process.end_input()
            if process.wait(60):
                raise process.fail("idle sessions were lost")

    def bind_once(self, system_id: str) -> None:
        """Binds and goes again, so that the account's password has been checked."""
        with self.idle(1, system_id, 60):
            pass

    # -- looking inside --------------------------------------------------------------------------------------------------

    def pss_kib(self) -> int:
        """Proportional set size of the daemon."""
        return pss_kib(self.daemon.pid)

    def share(self, seconds: float) -> float:
        """What the daemon uses of a core while nobody drives it."""
        spent, began = usage(self.daemon.pid).cpu_us, time.monotonic()
        time.sleep(seconds)
        return (usage(self.daemon.pid).cpu_us - spent) / 1e6 / (time.monotonic() - began)

    def metric(self, name: str) -> float:
        """The sum of one of the daemon's series over its labels, as /metrics has it."""
        address = f"http://127.0.0.1:{self.work.http_port}/metrics"
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            with urllib.request.urlopen(address, timeout=10) as answer:
                lines = answer.read().decode().splitlines()
            return sum(float(line.split()[-1]) for line in lines if line.partition("{")[0].split(" ")[0] == name)
        raise ProcessError(f"{address} did not answer")

    @property
    def store(self) -> Path:
        """The directory of its store."""
        return self.directory / "store"

    def store_mib(self) -> float:
        """Size of the store on disk."""
        return sum(file.stat().st_size for file in self.store.iterdir() if file.is_file()) / (1 << 20)
