"""Starting, pinning, measuring and stopping the processes of a measurement; Linux, by /proc.

Everything is stopped by the process id we started, within a time limit, and never by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TICK_US: Final = 1_000_000 / os.sysconf("SC_CLK_TCK")
STOP_SECONDS: Final = 20.0
_SCHEDULED: Final = (
    2  # of a clock's number: the time that the scheduler gave the process (CPUCLOCK_SCHED of the kernel)
)


class ProcessError(Exception):
    """A process of the measurement failed; the text says which and shows the end of what it wrote."""


@dataclass(frozen=True)
class Usage:
    """What a process and all its descendants have used so far."""

    cpu_us: float
    peak_kib: int
    processes: int


def _stat(pid: int) -> tuple[int, float] | None:
    """(parent, own and reaped children's CPU in microseconds), None when it has gone (proc(5), /proc/pid/stat).

    Its own comes from the process's clock (clock_getcpuclockid(3)), which counts nanoseconds: the clock ticks of /proc are too
    coarse where a message a millisecond is all that happens.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        own = time.clock_gettime(~pid << 3 | _SCHEDULED) * 1e6
    except OSError:  # it has just ended
        own = sum(map(int, fields[11:13])) * TICK_US
    return int(fields[1]), own + sum(map(int, fields[13:15])) * TICK_US


def _family(root: int) -> dict[int, float]:
    """`root` and all its descendants, as far as they live, and the CPU in microseconds each has used."""
    parents: dict[int, int] = {}
    cpu: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := _stat(int(entry.name))):
            parents[int(entry.name)], cpu[int(entry.name)] = found
    family = {root} & cpu.keys()
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grew = bool(more)
    return {pid: cpu[pid] for pid in family}


def _peak_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def pss_kib(root: int) -> int:
    """Proportional set size of `root` and all its descendants now, in KiB (proc(5), /proc/pid/smaps_rollup)."""
    return sum(map(_pss_kib, _family(root)))


def waited_us(pid: int) -> float:
    """How long the main thread of a process, ready to run, has waited for a core so far (/proc/pid/task/pid/schedstat, 0
    where the kernel does not count it): other processes on its core, never locks or the disk."""
    try:
        fields = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(fields[1]) / 1000


def usage(root: int) -> Usage:
    """CPU and peak resident memory of `root` and all its descendants.

    A child that ends counts on in its parent once reaped, in clock ticks (10 ms), so differences of two samples stay
    right. Pages shared by several processes count once for each.
    """
    cpu = _family(root)
    return Usage(sum(cpu.values()), sum(map(_peak_kib, cpu)), len(cpu))


def maps(pid: int, name: str) -> bool:
    """Whether the process has a file with this in its name in its memory (proc(5), /proc/pid/maps)."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return any(name in line.rpartition("/")[2] for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
    return False


def raise_files() -> int:
    """Lets this process and those it starts open as many files as the system allows (each session is one); how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def machine_busy_us() -> float:
    """CPU time all processes of the machine have used since it started (proc(5), /proc/stat), in microseconds."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) * TICK_US


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes started inside run on this core only; None: wherever the system puts them."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A process of the measurement: started at once, stopped by `stop` or at the end of its `with` block."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        scratch: Path,
        *,
        core: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self._errors = scratch / f"{name}.stderr"
        with self._errors.open("ab") as errors, on_core(core):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,  # its children are in its group, so that none outlives a failed run
            )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._pending = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.poll()

    def fail(self, why: str) -> ProcessError:
        """The error to raise, with the last lines it wrote."""
        last = self._errors.read_text(errors="replace").strip().splitlines()[-15:]
        return ProcessError("\n    ".join([f"{self.name}: {why}", *last]))

    def line(self, timeout: float) -> Any:
        """Its next line of output, as JSON. ProcessError when none comes in `timeout` seconds."""
        end = time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._output], [], [], left)[0]:
                raise self.fail(f"no output within {timeout:g} s")
            chunk = os.read(self._output.fileno(), 65536)
            if not chunk:
                raise self.fail(f"ended with status {self._process.wait(STOP_SECONDS)}")
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            raise self.fail("wrote something that is not JSON") from None

    def wait(self, timeout: float) -> int:
        """Its exit status, once it has ended. ProcessError when it has not within `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.fail(f"did not end within {timeout:g} s") from None

    def end_input(self) -> None:
        """Closes its standard input, which tells some of them to finish."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal, unless it has ended."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """SIGTERM, and SIGKILL to its group when it is not gone after `timeout` seconds. Returns the exit status.

        What it writes to standard output meanwhile is kept for `line`.
        """
        if self._process.poll() is None:
            self._process.terminate()
        end = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < end:
            if select.select([self._output], [], [], 0.05)[0]:
                chunk = os.read(self._output.fileno(), 65536)
                self._pending += chunk
                if not chunk:  # closed: only the exit is left to wait for
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(max(0.0, end - time.monotonic()))
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait(STOP_SECONDS)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self.end_input()
        self._output.close()
