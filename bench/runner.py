"""One measurement: the SMSC and the load generator around a relay (a daemon, a yardstick, or nothing).

Relay on the first core, tools on the last when pinned. A short warm-up goes first, then CPU and time are taken over the
run proper, including what the relay still has to do after the last message was accepted.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from bench import config, perf
from bench.cases import SLOW, Case
from bench.process import Process, ProcessError, machine_busy_us, maps, usage
from smppd import native

Relay = Literal["daemon", "against", "reference", "node", "direct"]
"""What is measured: this checkout's daemon, that of another one, the two yardsticks, or no relay at all."""


@dataclass(frozen=True)
class Sampled:
    """A daemon that is watched: where the samples go, and whose smppd it is. Interpreted it runs under `bench/sampler.py`;
    compiled, perf looks at it."""

    path: Path
    tree: Path
    interpreted: bool


READY_SECONDS: Final = 30.0
QUIET_SECONDS: Final = 10.0  # without any answer or receipt: what is missing then counts as lost
WARM_UP: Final = 1000
SETTLE_SECONDS: Final = 0.5  # after the warm-up, until what it left to do in the background is done
IDLE_SECONDS: Final = 1.0
COMMITS: Final = re.compile(rb"^smppd_commit_seconds_count (\S+)", re.MULTILINE)  # in /metrics
NODE_RELAY: Final = Path(__file__).with_name("node_relay.js")
NODE_MODULES: Final = Path(__file__).parents[1] / "tests" / "peers" / "node_modules"
_NAP: Final = 10  # milliseconds: a thousand wakings a second would be felt at 500 messages a second


@dataclass(frozen=True)
class Result:
    """What one measurement gave. Latencies in microseconds, memory in KiB, CPU in microseconds a message."""

    relay: Relay
    case: str
    ok: bool
    messages: int
    rate: float
    cpu_per_message: float
    cores: float
    peak_kib: int
    processes: int
    answer: dict[str, float]
    receipt: dict[str, float]
    load_core: float
    smsc_core: float
    others: float  # cores that processes which are not of this measurement took meanwhile
    fault: str = ""
    form: str = ""  # of the daemon: "compiled" or "interpreted"
    gap: dict[str, float] | None = None  # of paced cases: what `gaps` tells of the relay's core
    commits: float | None = None  # a message, of a daemon
    idle: float | None = None  # CPU in microseconds a second with nobody bound; of slow cases


def daemon_exists() -> bool:
    """Whether this checkout has a daemon to measure."""
    try:
        return importlib.util.find_spec("smppd.__main__") is not None
    except ModuleNotFoundError:
        return False


def cores(case: Case) -> tuple[int | None, int | None]:
    """(relay's core, tools' core); None: not pinned."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[-1]) if case.pinned else (None, None)


@dataclass(frozen=True)
class Target:
    """Where the load goes."""

    process: Process | None
    port: int
    password: str = "bench"
    ca: Path | None = None
    http_port: int | None = None

    def commits(self) -> float | None:
        """How many commits it has made so far; None where it does not say, as a relay that keeps nothing."""
        if self.http_port is None:
            return None
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=5) as answer:
            found = COMMITS.search(answer.read())
        return float(found[1]) if found else None


@contextlib.contextmanager
def _direct(upstream_port: int) -> Iterator[Target]:
    yield Target(None, upstream_port)


@contextlib.contextmanager
def _reference(case: Case, upstream_port: int, scratch: Path) -> Iterator[Target]:
    command = [sys.executable, "-m", "bench.reference", str(upstream_port)]
    with Process("reference", command, scratch, core=cores(case)[0], cwd=config.ROOT) as process:
        yield Target(process, process.line(READY_SECONDS)["listening"])


def node() -> str | None:
    """The Node.js of this checkout (`make node`), or the machine's; None where there is none."""
    own = config.ROOT / ".venv" / "bin" / "node"
    return str(own) if own.exists() else shutil.which("node")


@contextlib.contextmanager
def _node(case: Case, upstream_port: int, scratch: Path) -> Iterator[Target]:
    program = node()
    if program is None or not (NODE_MODULES / "smpp").is_dir():
        raise ProcessError("node: Node.js or node-smpp is not here; `make node` brings them")
    env = {"NODE_PATH": str(NODE_MODULES)}
    command = [program, str(NODE_RELAY), str(upstream_port)]
    with Process("node", command, scratch, core=cores(case)[0], env=env) as process:
        yield Target(process, process.line(READY_SECONDS)["listening"])


def await_ready(process: Process, http_port: int, patience: float = READY_SECONDS) -> None:
    """Waits until /readyz says so. ProcessError when the daemon ends or `patience` seconds are over."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if process.status is not None:
            raise process.fail(f"ended with status {process.status} before it was ready")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/readyz", timeout=2) as answer:
                if answer.status == 200:
                    return
        time.sleep(0.02)
    raise process.fail(f"not ready within {patience:g} s")


@contextlib.contextmanager
def _daemon(
    case: Case, upstream_port: int, scratch: Path, sampled: Sampled | None, tree: Path | None
) -> Iterator[Target]:
    var = config.ROOT / "var" / "bench"
    var.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=var))
    try:
        tree = tree or config.ROOT
        work = config.prepare(case, directory, upstream_port, tree=tree)
        command = config.of_tree(config.smppd("run", "--config", str(work.config)), tree)
        env = {}
        if sampled and sampled.interpreted:
            command.remove("-m")
            command[1:1] = [str(Path(__file__).with_name("sampler.py")), str(sampled.path)]
            env = {"SMPPD_INTERPRETED": "1"}
        with Process("smppd", command, scratch, core=cores(case)[0], env=env, cwd=tree) as process:
            await_ready(process, work.http_port)
            certificate = work.certificate if case.tls else None
            yield Target(process, work.port, work.password, certificate, work.http_port)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def load_process(tool: Path, case: Case, target: Target, scratch: Path, *options: str) -> Process:
    """Starts the load generator; `options` are those of bench/load.c and win over the case's."""
    command = [str(tool), "--port", str(target.port), "--system-id", config.SYSTEM_ID, "--binds", str(case.binds)]
    command += ["--window", str(case.window), "--quiet", f"{QUIET_SECONDS:g}", *options]
    if target.ca:
        command += ["--tls-ca", str(target.ca), "--tls-name", "localhost"]
    env = {"SMPPD_BENCH_PASSWORD": target.password}
    return Process("load", command, scratch, core=cores(case)[1], env=env)


def load(tool: Path, case: Case, target: Target, scratch: Path, *options: str, deadline: float) -> dict[str, Any]:
    """Runs the load generator to its end; returns its report."""
    with load_process(tool, case, target, scratch, "--deadline", f"{deadline:g}", *options) as process:
        # Connecting, binding and unbinding stand outside the deadline.
        report: dict[str, Any] = process.line(deadline + 60)
        process.wait(10)
    return report


@contextlib.contextmanager
def gaps(
    tool: Path, core: int | None, scratch: Path, name: str = "gaps", nap: int = 1
) -> Iterator[Callable[[], dict[str, float]]]:
    """The probe of the machine's own gaps on one core (bench/gaps.c); gives a function that ends it and tells: by how much it
    was woken too late after each `nap` milliseconds, microseconds (`p99`, `max`), and how often by more than 50 ms (`slow`)."""
    with Process(name, [str(tool), str(nap)], scratch, core=core) as process:

        def tell() -> dict[str, float]:
            process.end_input()
            told: dict[str, float] = process.line(5)["late_us"]
            return told

        yield tell


def fault(load: dict[str, Any], smsc: dict[str, Any]) -> str:
    """What was not as it should be, in a few words; empty when all was well."""
    seen = {name: load[name] for name in ("errors", "missing", "duplicates", "wrong", "lost_sessions")}
    seen |= {f"smsc {name}": smsc[name] for name in ("mangled", "duplicate_texts", "bad_frames")}
    return ", ".join(f"{name} {value}" for name, value in seen.items() if value)


def measure(
    relay: Relay,
    case: Case,
    tools: dict[str, Path],
    seconds: float,
    sampled: Sampled | None = None,
    against: Path | None = None,
) -> Result:
    """Run one case for about `seconds`. ProcessError or RuntimeError when it cannot be run.

    against: the checkout whose daemon is `against`. Messages that went wrong do not raise: `ok` is False and `fault` says what
    was seen.
    """
    seconds = case.spell(seconds)
    shape = [*(["--rate", str(case.rate)] if case.rate else []), *["--mix"] * case.mix, *["--links"] * case.links]
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smppd-bench-")))
        smsc = stack.enter_context(Process("smsc", [str(tools["smsc"])], scratch, core=cores(case)[1]))
        upstream_port = smsc.line(10)["listening"]
        if relay in ("daemon", "against"):
            tree = against if relay == "against" else sampled.tree if sampled else None
            target = stack.enter_context(_daemon(case, upstream_port, scratch, sampled, tree))
        elif relay == "reference":
            target = stack.enter_context(_reference(case, upstream_port, scratch))
        elif relay == "node":
            target = stack.enter_context(_node(case, upstream_port, scratch))
        else:
            target = stack.enter_context(_direct(upstream_port))
        load(tools["load"], case, target, scratch, "--messages", str(WARM_UP), deadline=60)
        pid = target.process.pid if target.process else smsc.pid
        form = ""
        if relay in ("daemon", "against"):
            form = "compiled" if maps(pid, native.LIBRARY) else "interpreted"
        if sampled and sampled.interpreted:
            os.kill(pid, signal.SIGUSR2)  # from here on
        idle = _idle(pid) if 0 < case.rate <= SLOW and not sampled else None
        watched = perf.recording(pid, sampled.path, seconds) if sampled and not sampled.interpreted else None
        commits = target.commits()
        before, smsc_before, busy, clock = usage(pid), usage(smsc.pid), machine_busy_us(), time.monotonic()
        numbers = ("--first", str(WARM_UP), "--duration", f"{seconds:g}", *shape)
        gap: dict[str, float] | None = None
        # At full speed latency is that of full windows, and the probe would only take time from the relay.
        probe = gaps(tools["gaps"], cores(case)[0], scratch, nap=_NAP) if case.rate else contextlib.nullcontext()
        with watched or contextlib.nullcontext(), probe as tell:
            sent = load(tools["load"], case, target, scratch, *numbers, deadline=seconds * 4 + 30)
            if tell is not None:
                gap = tell()
        busy, clock = machine_busy_us() - busy, time.monotonic() - clock
        after, smsc_after = usage(pid), usage(smsc.pid)
        if target.process and target.process.status is not None:
            raise target.process.fail(f"ended with status {target.process.status} during the run")
        if commits is not None:
            commits = (target.commits() or commits) - commits
        if target.process:
            target.process.stop()
        smsc.stop()
        report = smsc.line(5)
    elapsed = sent["elapsed"] or 1e-9
    cpu, smsc_cpu = after.cpu_us - before.cpu_us, smsc_after.cpu_us - smsc_before.cpu_us
    ours = sent["cpu_us"] + cpu + (smsc_cpu if target.process else 0.0)
    return Result(
        relay=relay,
        case=case.name,
        ok=bool(sent["ok"] and report["ok"]),
        messages=sent["receipts"],
        rate=sent["rate"],
        cpu_per_message=cpu / max(1, sent["receipts"]),
        cores=cpu / 1e6 / elapsed,
        peak_kib=after.peak_kib,
        processes=after.processes,
        answer=sent["answer_us"],
        receipt=sent["receipt_us"],
        load_core=sent["cpu_us"] / 1e6 / elapsed,
        smsc_core=smsc_cpu / 1e6 / elapsed,
        others=max(0.0, busy - ours) / 1e6 / clock,
        fault=fault(sent, report),
        form=form,
        gap=gap,
        commits=None if commits is None else commits / max(1, sent["receipts"]),
        idle=idle,
    )


def _idle(pid: int) -> float:
    """What a process with all its children uses while nobody asks anything of it: microseconds of CPU a second."""
    time.sleep(SETTLE_SECONDS)
    before, clock = usage(pid).cpu_us, time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (usage(pid).cpu_us - before) / (time.monotonic() - clock)


__all__ = ["ProcessError", "Relay", "Result", "daemon_exists", "measure"]
