"""How long search, export, verification, an erasure and a purge take over a log of N records, and how much memory.

The log is filled by the relay's own recorder, the store's own writer and the real indexer (`bench.filler`): ACCOUNTS accounts,
DAYS days, NUMBERS numbers, each message with its events. Then the commands are run as an operator runs them, each in a process
of its own: cold (the files dropped from the page cache) and warm.

    python -m bench.records --records N [--label TEXT] [--directory D] [--reuse] [--keep] [--report]

writes docs/records-benchmark.json and docs/records-benchmark.md. --reuse: measures the store that --keep left, without purging
it. --report: only writes the page anew.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import yaml

from bench import config
from bench.filler import BATCH, Filler, index
from smppd.config import Settings, load
from smppd.message import State
from smppd.protocol import wire
from smppd.store.postgres.connection import Connection, Server
from smppd.vault.seal import Direction
from tests import postgres

ACCOUNTS: Final = 5
DAYS: Final = 30
NUMBERS: Final = 500_000
COMMON: Final = "+447700900123"
"""A number that has COMMON_RECORDS records, spread over all accounts and days."""
COMMON_RECORDS: Final = 10_000
RARE: Final = "+447700900999"
"""A number that has RARE_RECORDS."""
RARE_RECORDS: Final = 20
NOBODY: Final = "+447700900998"
"""A number that has none."""
JSON: Final = config.ROOT / "docs" / "records-benchmark.json"
PAGE: Final = config.ROOT / "docs" / "records-benchmark.md"

_DAY: Final = 86_400.0
_LOCALHOST: Final = b"\x7f\0\0\1"
_TEXT: Final = b"Your parcel %09d will arrive today between 10 and 12. Reply to change it. Thank you, the %07d desk."
_LONGEST: Final = 3600.0
_REASON: Final = ("--reason", "quality", "--note", "benchmark")


class Figure(NamedTuple):
    """What one run of a command took: seconds, of which on a processor, and the most memory it had (MiB)."""

    seconds: float
    cpu: float
    mib: float


class _Clock:
    """A clock that the filling moves."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def prepare(directory: Path, many: int = ACCOUNTS, url: str = "") -> Path:
    """An installation with so many accounts, without a store yet; its configuration file. url: of a database that is to have
    the store."""
    directory.mkdir(parents=True)
    names = [f"acme-{n}" for n in range(many)]
    retain = {"body": "30d", "numbers": "30d", "billing": "60d"}
    hashed = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$3bYkP0P3vKQm3mB7m3x0sX9r5o3cVbXw1bN2oO3y0f4"
    accounts = [
        {"system_id": name, "password_hash": hashed, "networks": ["127.0.0.0/8"], "retain": retain, "basis": "contract"}
        for name in names
    ]
    (directory / "secret").write_text("not-used\n")
    (directory / "secret").chmod(0o600)
    upstream = {
        "name": "bench-smsc", "address": "127.0.0.1:2776", "system_id": "gateway", "password": {"file": "secret"},
    }  # fmt: skip
    content = {
        "listeners": [{"address": "127.0.0.1:2775"}],
        "accounts": accounts,
        "upstreams": [upstream],
        "routes": [{"upstreams": ["bench-smsc"]}],
        "store": {"path": "store", "reserve": "16MiB"} | ({"url": url} if url else {}),
        "keys": {"file": "keys/kek"},
    }
    path = directory / "smppd.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    done = subprocess.run(config.smppd("keys", "init", "--config", str(path)), cwd=config.ROOT, check=False)
    if done.returncode:
        raise RuntimeError("the keys could not be made")
    return path


def fill(path: Path, count: int, seed: int, say: Callable[[str], None]) -> dict[str, float]:
    """Fills the store: seconds of filling and indexing, and its size in octets."""
    settings = load(path)
    # Its first day is due when the benchmark purges, and no other.
    begin = time.time() // _DAY * _DAY - (DAYS + 1) * _DAY
    clock = _Clock(begin + 1)
    began = time.monotonic()
    filler = Filler(settings, clock)
    gc.collect()
    gc.freeze()
    context, random = filler.relay.context, Random(seed)
    owners = [context.account(account.system_id) for account in settings.accounts]
    common = max(1, count // min(COMMON_RECORDS, max(1, count // 10)))
    rare = max(1, count // RARE_RECORDS)
    step = DAYS * _DAY / count
    for n in range(count):
        clock.now = begin + 1 + n * step
        if n % rare == rare // 2:
            to = RARE[1:].encode()
        elif n % common == 0:
            to = COMMON[1:].encode()
        else:
            to = b"447700900%06d" % random.randrange(NUMBERS)  # too long for any number that is given out
        owner = owners[random.randrange(len(owners))]
        text = _TEXT % (n, n % 9_999_991)
        body = b"\0\1\1121255501%02d\0\1\1%s\0\0\0\0\0\0\1\0\0\0" % (n % 100, to)
        identity = context.new_id()
        sm = wire.Sm(wire.pdu(wire.Command.SUBMIT_SM, 0, 1, body + bytes([len(text)]) + text))
        filler.recorder.record(identity, owner, sm, Direction.MT, _LOCALHOST)
        context.append_event(identity, State.SUBMITTED, detail=b"bench-smsc\0%010d" % n)
        context.append_event(identity, State.DELIVERED)
        context.append_event(identity, State.RECEIPT_DONE)
        if len(filler.store.batch.records) >= BATCH:
            filler.commit()
        if n % 100_000 == 99_999:
            say(f"{n + 1:,} of {count:,} records after {time.monotonic() - began:.0f} s")
    filler.close()
    filled = time.monotonic()
    say("indexing")
    index(settings)
    octets = sum(one.stat().st_size for one in settings.store.directory.iterdir()) + _in_database(settings)
    return {
        "fill_seconds": round(filled - began, 1),
        "index_seconds": round(time.monotonic() - filled, 1),
        "octets": float(octets),
    }


def _in_database(settings: Settings) -> int:
    if settings.store.url is None:
        return 0
    with closing(Connection(Server(settings.store.url))) as db:
        row = db.one("SELECT pg_database_size(current_database())")
    assert row is not None
    return int(row[0])


def forget_pages(directory: Path) -> None:
    """Drops the store's files from the page cache, as far as the kernel does what it is asked for."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def timed(words: Sequence[str], statuses: Sequence[int] = (0,)) -> Figure:
    """Runs a command to its end. RuntimeError when it fails."""
    began = time.monotonic()
    process = subprocess.Popen(config.smppd(*words), cwd=config.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process:
        assert process.stderr is not None
        with closing(process.stderr):
            told = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in statuses:
        raise RuntimeError(f"{' '.join(words[:3])} failed: {told.decode(errors='replace')[-500:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return Figure(round(time.monotonic() - began, 3), round(cpu, 3), round(usage.ru_maxrss / 1024, 1))


def measure(path: Path, purge: bool, say: Callable[[str], None]) -> dict[str, Figure]:
    """Runs the commands on a filled store; what each took."""
    settings = load(path)
    store, out = settings.store.directory, path.parent / "export.json"
    tail = ("--config", str(path))
    figures: dict[str, Figure] = {}

    def run(name: str, *words: str, statuses: Sequence[int] = (0,), cold: bool = False) -> None:
        if cold:
            forget_pages(store)
        out.unlink(missing_ok=True)
        figures[name] = timed((*words, *tail), statuses)
        say(f"{name}: {figures[name]}")

    run("the command alone (keys list)", "keys", "list")
    words: tuple[str, ...]
    for state, cold in (("cold", True), ("warm", False)):
        for name, number, statuses in (("none", NOBODY, (1,)), ("rare", RARE, (0,)), ("common", COMMON, (0,))):
            words = ("log", "search", number, "--reason", "quality", "--json")
            run(f"search, {name}, {state}", *words, statuses=statuses, cold=cold)
    words = ("log", "search", COMMON, "--reason", "quality", "--json", "--limit", "100000")
    run(f"search, common, all {COMMON_RECORDS:,}", *words)
    words = ("subject", "export", RARE, *_REASON, "--out", str(out))
    run("export, rare, cold", *words, cold=True)
    words = ("subject", "export", COMMON, *_REASON, "--out", str(out))
    run("export, common", *words)
    for form in ("csv", "jsonl"):
        run(f"log export, all, {form}", "log", "export", "--format", form, "--out", str(out))
    run("verify", "log", "verify")
    if purge:
        run("erase, rare, cold", "subject", "erase", RARE, *_REASON, "--yes", "--json", cold=True)
        run("erase, common", "subject", "erase", COMMON, *_REASON, "--yes", "--json")
        run("purge of a day", "purge", "--json")
    return figures


# -- the page ------------------------------------------------------------------------------------------------------------


def _known() -> list[dict[str, Any]]:
    return list(json.loads(JSON.read_text())) if JSON.exists() else []


def keep(entry: dict[str, Any]) -> None:
    """Adds a run to the results, in the place of the one of the same size and label."""
    listed = [one for one in _known() if (one["records"], one["label"]) != (entry["records"], entry["label"])]
    listed = sorted([*listed, entry], key=lambda one: (one["records"], one["at"]))
    JSON.write_text(json.dumps(listed, indent=1) + "\n")
    PAGE.write_text(page(listed))


def page(runs: Sequence[dict[str, Any]]) -> str:
    """The Markdown page."""
    lines = [
        "# Searching, exporting, verifying, erasing and purging a big log",
        "",
        "Written by `make bench-records`. The log is made by the relay's own recorder, the store's own writer and the real",
        f"indexer: {ACCOUNTS} accounts, {DAYS} days, {NUMBERS:,} numbers, three events a message. Each figure is a whole",
        "command in a process of its own, start included (first line); cold: the store's files were dropped from the page",
        "cache before. Memory below that of the benchmark's own process (first line) is not told apart from it. One number has",
        f"{COMMON_RECORDS:,} records, another {RARE_RECORDS}, a third none. A search shows the newest 50.",
        "",
    ]
    for run in runs:
        gib = run["octets"] / (1 << 30)
        label = f", {run['label']}" if run["label"] else ""
        lines += [f"## {run['records']:,} records{label}", ""]
        if run.get("remark"):
            lines += [run["remark"], ""]
        if run["fill_seconds"]:
            rate = run["records"] / (run["fill_seconds"] + run["index_seconds"])
            lines += [
                f"{gib:.2f} GiB on disk ({run['octets'] / run['records']:.0f} octets a record); filled in"
                f" {run['fill_seconds']:.0f} s, indexed in {run['index_seconds']:.0f} s ({rate:,.0f} records/s).",
                "",
            ]
        lines += ["| what | s | of it processor | most memory, MiB |", "|---|--:|--:|--:|"]
        for name, (seconds, cpu, mib) in run["figures"].items():
            lines += [f"| {name} | {seconds:.2f} | {'' if cpu is None else f'{cpu:.2f}'} | {mib:.0f} |"]
        lines += [""]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.records", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--label", default="", metavar="TEXT", help="what is measured, where that is not the usual")
    parser.add_argument("--remark", default="", metavar="TEXT", help="a sentence about how it was measured")
    parser.add_argument("--directory", type=Path, default=config.ROOT / "var" / "records-bench", metavar="D")
    parser.add_argument("--reuse", action="store_true", help="measure the store that is there; do not purge it")
    parser.add_argument("--keep", action="store_true", help="leave the store there")
    parser.add_argument("--postgres", action="store_true", help="in a database of a server that is started for it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="only write the page anew")
    args = parser.parse_args(argv)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if args.report:
        PAGE.write_text(page(_known()))
        return 0
    told = {"fill_seconds": 0.0, "index_seconds": 0.0, "octets": 0.0}
    path = args.directory / "smppd.yaml"
    if args.postgres and (args.reuse or args.keep):
        parser.error("--postgres: the server ends with the measurement")
    server = postgres.Server(durable=True) if args.postgres else None
    try:
        if not args.reuse:
            shutil.rmtree(args.directory, ignore_errors=True)
            url = "" if server is None else server.url(server.database(schema=False).words("", 0)["dbname"])
            path = prepare(args.directory, url=url)
            told = fill(path, args.records, args.seed, say)
        figures = measure(path, not (args.reuse or args.keep), say)
    finally:
        if server is not None:
            server.remove()
        if not (args.keep or args.reuse):
            shutil.rmtree(args.directory, ignore_errors=True)
    label = args.label or ("PostgreSQL" if args.postgres else "")
    run = {"records": args.records, "label": label, "remark": args.remark, "at": int(time.time())}
    keep(run | {"figures": figures} | told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
