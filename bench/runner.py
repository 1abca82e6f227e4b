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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from bench import config, perf
from bench.cases import SLOW, Case
from bench.process import Process, ProcessError, Usage, machine_busy_us, maps, on_core, usage
from smppd import native
from smppd.store.postgres.connection import Connection
from tests import postgres

Relay = Literal["daemon", "against", "postgres", "nodes", "spread", "reference", "node", "direct"]
"""What is measured: this checkout's daemon, that of another one, this one's on PostgreSQL, two of these on one PostgreSQL, each
with the receipts of its own messages, the same with the receipts spread over the links of both, the two yardsticks, or no
relay at all."""
DAEMONS: Final[tuple[Relay, ...]] = ("daemon", "against", "postgres", "nodes", "spread")


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
_APART: Final = 10_000_000  # between the numbers of two load generators' messages
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
    server: float | None = None  # of the CPU a message, what the database took
    wal: float | None = None  # octets that the database wrote ahead for a message


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
    database: postgres.Server | None = None  # the server that has its store
    second: Target | None = None  # another node, which has half of the load

    @property
    def nodes(self) -> list[Target]:
        """This one and the second."""
        return [self] if self.second is None else [self, self.second]

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
def _database(core: int | None) -> Iterator[postgres.Server]:
    """A server that syncs, on the relay's core."""
    with on_core(core):
        server = postgres.Server(durable=True)
    try:
        # It was started by a thread of its own, which was there before.
        if core is not None:
            os.sched_setaffinity(server.pid, {core})
        yield server
    finally:
        server.remove()


@contextlib.contextmanager
def _on_postgres(
    case: Case, upstream_port: int, scratch: Path, count: int = 1, *, spread: bool = False
) -> Iterator[Target]:
    """One or two nodes on a database of their own. spread: all are one to the carrier."""
    var = config.ROOT / "var" / "bench"
    var.mkdir(parents=True, exist_ok=True)
    core = cores(case)[0]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_database(core))
        url = server.url(server.database(schema=False).words("", 0)["dbname"])
        made: list[tuple[Process, config.Workspace]] = []
        for number in range(count):
            directory = Path(tempfile.mkdtemp(prefix="run-", dir=var))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)

            def change(content: dict[str, Any], number: int = number) -> None:
                content["store"] = {"url": url, "path": "store"}
                content["node"] = number
                content["accounts"][0]["max_binds"] *= 3  # those of the warm-up count until the other node has heard
                if not spread:
                    content["upstreams"][0]["system_id"] = f"gateway{number}"

            if made:
                work = config.sibling(made[0][1], directory, change)
            else:
                work = config.prepare(case, directory, upstream_port, change)
            command = config.smppd("run", "--config", str(work.config))
            process = stack.enter_context(Process(f"smppd-{number}", command, scratch, core=core, cwd=config.ROOT))
            await_ready(process, work.http_port)
            made.append((process, work))
        target: Target | None = None
        for process, work in reversed(made):
            certificate = work.certificate if case.tls else None
            target = Target(process, work.port, work.password, certificate, work.http_port, server, target)
        assert target is not None
        yield target


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


def _halves(tool: Path, case: Case, target: Target, scratch: Path, spell: float, *options: str) -> dict[str, Any]:
    """The load of `spell` seconds, split over the nodes where there are two; one report: sums, and of latencies the worse
    ones."""
    nodes = target.nodes
    share = replace(case, binds=max(1, case.binds // len(nodes)), rate=case.rate // len(nodes))
    deadline = spell * 4 + 30
    pace = ("--rate", str(share.rate)) if share.rate else ()
    told: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        loads = [
            stack.enter_context(
                load_process(
                    tool, share, node, scratch, "--deadline", f"{deadline:g}",
                    "--first", str(WARM_UP + number * _APART), "--duration", f"{spell:g}", *pace, *options,
                )
            )
            for number, node in enumerate(nodes)
        ]  # fmt: skip
        for process in loads:
            told.append(process.line(deadline + 60))
            process.wait(10)
    return _together(told)


def _together(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for name, first in told[0].items():
        values = [one[name] for one in told]
        if name == "elapsed":
            whole[name] = max(values)
        elif isinstance(first, bool):
            whole[name] = all(values)
        elif isinstance(first, dict):
            whole[name] = {key: max(one.get(key, 0) for one in values) for key in {*first, *values[-1]}}
        else:
            whole[name] = sum(values)
    return whole


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
    shape = [*["--mix"] * case.mix, *["--links"] * case.links]
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smppd-bench-")))
        smsc = stack.enter_context(Process("smsc", [str(tools["smsc"])], scratch, core=cores(case)[1]))
        upstream_port = smsc.line(10)["listening"]
        if relay in ("daemon", "against"):
            tree = against if relay == "against" else sampled.tree if sampled else None
            target = stack.enter_context(_daemon(case, upstream_port, scratch, sampled, tree))
        elif relay == "postgres":
            target = stack.enter_context(_on_postgres(case, upstream_port, scratch))
        elif relay in ("nodes", "spread"):
            spread = relay == "spread"
            target = stack.enter_context(_on_postgres(case, upstream_port, scratch, 2, spread=spread))
        elif relay == "reference":
            target = stack.enter_context(_reference(case, upstream_port, scratch))
        elif relay == "node":
            target = stack.enter_context(_node(case, upstream_port, scratch))
        else:
            target = stack.enter_context(_direct(upstream_port))
        for number, one in enumerate(target.nodes):
            numbers = ("--messages", str(WARM_UP), "--first", str(number * _APART))
            load(tools["load"], case, one, scratch, *numbers, deadline=60)
        pid = target.process.pid if target.process else smsc.pid
        every = [pid] + [one.process.pid for one in target.nodes[1:] if one.process]
        database = target.database
        every += [database.pid] if database is not None else []
        form = ""
        if relay in DAEMONS:
            form = "compiled" if maps(pid, native.LIBRARY) else "interpreted"
        if sampled and sampled.interpreted:
            os.kill(pid, signal.SIGUSR2)  # from here on
        idle = _idle(every) if 0 < case.rate <= SLOW and not sampled else None
        watched = perf.recording(pid, sampled.path, seconds) if sampled and not sampled.interpreted else None
        commits = _commits(target)
        before, smsc_before, busy, clock = _all_used(every), usage(smsc.pid), machine_busy_us(), time.monotonic()
        served, logged = _of_server(database)
        gap: dict[str, float] | None = None
        # At full speed latency is that of full windows, and the probe would only take time from the relay.
        probe = gaps(tools["gaps"], cores(case)[0], scratch, nap=_NAP) if case.rate else contextlib.nullcontext()
        with watched or contextlib.nullcontext(), probe as tell:
            sent = _halves(tools["load"], case, target, scratch, seconds, *shape)
            if tell is not None:
                gap = tell()
        busy, clock = machine_busy_us() - busy, time.monotonic() - clock
        after, smsc_after = _all_used(every), usage(smsc.pid)
        served, logged = (after - before for after, before in zip(_of_server(database), (served, logged), strict=True))
        for one in target.nodes:
            if one.process and one.process.status is not None:
                raise one.process.fail(f"ended with status {one.process.status} during the run")
        if commits is not None:
            commits = (_commits(target) or commits) - commits
        for one in target.nodes:
            if one.process:
                one.process.stop()
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
        server=None if database is None else served / max(1, sent["receipts"]),
        wal=None if database is None else logged / max(1, sent["receipts"]),
    )


def _all_used(pids: Sequence[int]) -> Usage:
    """What these processes have used, all of them with all their children."""
    each = [usage(pid) for pid in pids]
    return Usage(sum(one.cpu_us for one in each), sum(one.peak_kib for one in each), sum(one.processes for one in each))


def _of_server(database: postgres.Server | None) -> tuple[float, float]:
    """(CPU in microseconds, octets of its write-ahead log) so far."""
    if database is None:
        return 0.0, 0.0
    db = Connection(database.address())
    row = db.one("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
    db.close()
    assert row is not None
    return usage(database.pid).cpu_us, float(row[0])


def _commits(target: Target) -> float | None:
    told = [one.commits() for one in target.nodes]
    return None if None in told else sum(one for one in told if one is not None)


def _idle(pids: Sequence[int]) -> float:
    """What processes with all their children use while nobody asks anything of them: microseconds of CPU a second."""
    time.sleep(SETTLE_SECONDS)
    before, clock = _all_used(pids).cpu_us, time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (_all_used(pids).cpu_us - before) / (time.monotonic() - clock)


__all__ = ["ProcessError", "Relay", "Result", "daemon_exists", "measure"]
