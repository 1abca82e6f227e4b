"""`make bench-lists`: big lists by name: how long one of 100 million numbers takes to compile, what a look-up and a condition
cost, and how long the longest turn of a reactor is while lists are compiled and exchanged beside it.

Numbers are made under country code 999, which no country has, since the ranges for fiction hold too few; domains under
`.example` (RFC 2606). Files are made in a directory of their own and taken away again.

    python -m bench.lists                      all, with 100 million numbers: some 3 GB of disk, about ten minutes
    python -m bench.lists --entries 1000000    the same with fewer
    python -m bench.lists --only swap          one part: build, lookup, conditions, swap
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from smppd import native
from smppd.lists.compiler import ListSpec, place_of
from smppd.lists.compiling import Compilation
from smppd.lists.lists import DIRECTORY, Lists
from smppd.lists.table import Table, open_table

KEY: Final = b"bench".ljust(32, b"\0")
PARTS: Final = ("build", "lookup", "conditions", "swap")
MILLION: Final = 1_000_000
_STEP: Final = 387_420_489  # 3^18: coprime to 10^9, so that numbers come in no order and none twice
_TURN: Final = 0.001
_ROUNDS: Final = 3


def number(at: int) -> bytes:
    """A number that nobody has."""
    return b"999%09d" % (at * _STEP % 1_000_000_000)


def domain(at: int) -> bytes:
    """A domain that nobody has."""
    return b"host-%d.example" % (at * 7919)


def sender(at: int) -> bytes:
    """A name as a sender, of 11 characters at most."""
    return b"S%d" % (at * 7919 % 9_999_999_967)


MAKERS: Final[dict[str, Callable[[int], bytes]]] = {"numbers": number, "domains": domain, "senders": sender}


def write(path: Path, kind: str, count: int, first: int = 0) -> None:
    """A list's file of so many entries."""
    make = MAKERS[kind]
    with path.open("wb") as file:
        for start in range(first, first + count, 100_000):
            stop = min(first + count, start + 100_000)
            file.write(b"\n".join([make(at) for at in range(start, stop)]) + b"\n")


def compiled(directory: Path, kind: str, count: int) -> tuple[Path, dict[str, float]]:
    """Makes and compiles a list in a child. Where it is, and what it took."""
    source = directory / f"{kind}.txt"
    write(source, kind, count)
    spec = ListSpec(kind, kind, source, None, None, False)
    began = time.monotonic()
    outcome = Compilation(spec, directory / DIRECTORY, KEY, 0, progress=sys.stderr.isatty()).wait(_show)
    took = time.monotonic() - began
    assert outcome.kind == "compiled" and outcome.entries == count, outcome
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = place_of(directory / DIRECTORY, kind)
    figures = {
        "entries": count,
        "source_mb": source.stat().st_size / 1e6,
        "seconds": took,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "child_mib": used.ru_maxrss / 1024,
        "compiled_mb": path.stat().st_size / 1e6,
    }
    return path, figures


def _show(done: float) -> None:
    print(f"\r{done:6.1%}", end="", file=sys.stderr, flush=True)


def quantiles(times: list[int]) -> dict[str, float]:
    """Microseconds at the median, at 99 of 100, and the longest, of nanoseconds."""
    times.sort()
    return {
        "p50_us": times[len(times) // 2] / 1000,
        "p99_us": times[len(times) * 99 // 100] / 1000,
        "longest_us": times[-1] / 1000,
    }


def timed(table: Table, forms: list[bytes]) -> list[int]:
    """Nanoseconds of each look-up."""
    clock = time.perf_counter_ns
    times = []
    for form in forms:
        began = clock()
        table.has(form)
        times.append(clock() - began)
    return times


def memory(what: str) -> int:
    """Octets of this process: VmRSS, RssAnon, RssFile."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024
    return 0


def cool(path: Path) -> None:
    """Drops a file, and no other, from the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def lookup(path: Path, count: int, warm: int = 500_000, cold: int = 5_000) -> dict[str, Any]:
    """What look-ups cost, in this process, by so many of each; half of them hit."""
    rng = random.Random(1)
    before = memory("RssAnon")
    began = time.monotonic()
    table = open_table(path, KEY)
    found: dict[str, Any] = {"open_warm_s": time.monotonic() - began, "own_mb": (memory("RssAnon") - before) / 1e6}

    def forms(many: int) -> list[bytes]:
        return [number(rng.randrange(2 * count)) for _ in range(many)]

    cool(path)  # nothing of it is mapped yet, which could not be dropped
    found["cold"] = quantiles(timed(table, forms(cold)))
    table.close()
    cool(path)
    began = time.monotonic()
    table = open_table(path, KEY)
    found["open_cold_s"] = time.monotonic() - began
    timed(table, forms(warm))
    found["warm"] = quantiles(timed(table, forms(warm)))
    for at in range(0, count, max(1, count // 10_000)):
        assert table.has(number(at)) and not table.has(number(count + at))
    found["mapped_mb"] = memory("RssFile") / 1e6
    return found


# -- conditions --------------------------------------------------------------------------------------------------------

CONFIG: Final = """
listeners: [{{address: "127.0.0.1:2775"}}]
store: {{path: .}}
keys: {{file: kek}}
lists: {{}}
"""


def conditions(directory: Path) -> dict[str, Any]:
    """What three lists of a million cost a message, in microseconds: the same messages with rules that ask them and without."""
    from smppd.config import Rule
    from smppd.lists.named import NamedList
    from smppd.policy.pipeline import CompiledPolicy, Pipeline, Program
    from smppd.protocol.wire import Sm, pdu

    lists = {
        kind: NamedList(kind, kind, True, open_table(compiled(directory, kind, MILLION)[0], KEY, kind))
        for kind in MAKERS
    }
    asked = {"numbers": "destination_in", "senders": "sender_in", "domains": "domain_in"}
    # Finding the links of a text is not counted: that is what any condition on links costs.
    plain = [Rule.model_validate({"name": "links", "when": {"links": True, "longer_than": 1000}, "do": "refuse"})]
    rules = plain + [
        Rule.model_validate({"name": kind, "when": {asked[kind]: [kind]}, "do": "refuse"}) for kind in MAKERS
    ]

    def frame(at: int, text: bytes) -> Sm:
        head = b"\0\5\0" + b"Acme%d" % (at % 50) + b"\0\1\1" + number(MILLION + at) + b"\0\0\0\0\0\0\1\0\0\0"
        return Sm(pdu(4, 0, 1, head + bytes((len(text),)) + text))

    texts = {
        "without a link": b"Your parcel is on its way and will be with you between 10 and 12. Reply HELP for help.",
        "with a link": b"Your parcel is on its way and will be with you today: https://track.parcels.example/p/1234",
    }
    found: dict[str, Any] = {}
    for name, text in texts.items():
        frames = [frame(at, text) for at in range(20_000)]
        costs = {}
        for what, some in (("without lists", plain), ("with lists", rules)):
            pipeline = Pipeline(Program([CompiledPolicy("p", False, tuple(some))], lists))
            best = float("inf")
            for _round in range(7):
                gc.collect()
                began = time.perf_counter_ns()
                for sm in frames:
                    pipeline.decide(sm, 0.0)
                best = min(best, (time.perf_counter_ns() - began) / len(frames))
            assert all(pipeline.decide(sm, 0.0) is None for sm in frames)
            costs[what] = best / 1000
        found[name] = {**costs, "more_us": costs["with lists"] - costs["without lists"]}
    return found


# -- exchange ----------------------------------------------------------------------------------------------------------


def swap(directory: Path) -> dict[str, Any]:
    """How late turns of a reactor are, in milliseconds, while three lists of a million are compiled and exchanged, beside the
    same time without; in rounds, of which the best counts where other work goes on on the machine."""
    from smppd.config import parse
    from smppd.daemon.file_watch import FileWatch
    from smppd.metrics import Metrics
    from smppd.net.reactor import install

    reactor: Any = install()
    sections = "\n".join(f"  {kind}: {{file: {kind}.txt, kind: {kind}}}" for kind in MAKERS)
    text = CONFIG.format().replace("lists: {}", f"lists:\n{sections}") + "watch_files: 500ms\n"
    for kind in MAKERS:
        write(directory / f"{kind}.txt", kind, MILLION)
    settings = parse(text.encode(), directory / "smppd.yaml")
    lists = Lists(directory, KEY)
    lists.use(settings, lists.of(settings))
    watch = FileWatch(lists, settings, Metrics(), reactor.callFromThread, lambda: None)
    gaps: list[float] = []
    asked = [0]
    last = [0.0]
    sys.setswitchinterval(0.0005)

    def turn() -> None:
        now = time.perf_counter()
        gaps.append(now - last[0])
        for kind, named in lists.by_name.items():  # as messages do meanwhile
            if not named.absent:
                asked[0] += named.has(MAKERS[kind](asked[0] % MILLION))
        last[0] = time.perf_counter()
        reactor.callLater(_TURN, turn)

    found: dict[str, list[dict[str, float]]] = {"compiling": [], "idle": []}

    def note(what: str, took: float) -> None:
        late = sorted(1000 * (gap - _TURN) for gap in gaps)
        found[what].append(
            {
                "seconds": took,
                "turns": len(late),
                "p50_ms": late[len(late) // 2],
                "p99_ms": late[len(late) * 99 // 100],
                "longest_ms": late[-1],
            }
        )
        gaps.clear()

    def stamps() -> list[object]:
        return [None if one.table is None else one.table.stamp for one in lists.by_name.values()]

    def steps() -> Iterator[None]:
        while None in stamps():
            yield
        for again in range(_ROUNDS):
            before = stamps()
            for kind in MAKERS:
                write_aside(directory / f"{kind}.txt", kind, again)
            last[0] = time.perf_counter()
            gaps.clear()
            began = time.monotonic()
            while any(one == other for one, other in zip(stamps(), before, strict=True)):
                yield
            took = time.monotonic() - began
            note("compiling", took)
            until = time.monotonic() + took
            while time.monotonic() < until:
                yield
            note("idle", took)

    going = steps()

    def step() -> None:
        if next(going, True) is None:
            reactor.callLater(0.05, step)
        else:
            watch.stop()
            reactor.stop()

    last[0] = time.perf_counter()
    reactor.callWhenRunning(turn)
    reactor.callWhenRunning(step)
    reactor.run()
    return found


def write_aside(path: Path, kind: str, first: int) -> None:
    """The list's file again with other entries, in the place of the one before in one step."""
    fresh = path.with_name(path.name + ".new")
    write(fresh, kind, MILLION, 1 + first)
    os.replace(fresh, path)


def main() -> int:
    """Measures, and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.lists", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--entries", type=int, default=100 * MILLION, help="of the big list (default: %(default)s)")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.directory is not None:  # a part, in a process of its own
        print(json.dumps(_part(args.only, args.directory, args.entries)))
        return 0
    found: dict[str, Any] = {"compiled": native.compiled}
    with tempfile.TemporaryDirectory(prefix="smppd-lists-") as place:
        for part in PARTS if args.only is None else ("build", "lookup") if args.only == "lookup" else (args.only,):
            directory = Path(place) / ("big" if part in ("build", "lookup") else part)
            directory.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "bench.lists", "--only", part, "--directory", str(directory)]
            done = subprocess.run(
                [*command, "--entries", str(args.entries)], stdout=subprocess.PIPE, text=True, check=True
            )
            found[part] = json.loads(done.stdout)
            print(json.dumps({part: found[part]}, indent=2), flush=True)
    print(json.dumps({"compiled": native.compiled}))
    return 0


def _part(part: str, directory: Path, entries: int) -> dict[str, Any]:
    if part == "build":
        return compiled(directory, "numbers", entries)[1]
    if part == "lookup":
        return lookup(place_of(directory / DIRECTORY, "numbers"), entries)
    return conditions(directory) if part == "conditions" else swap(directory)


if __name__ == "__main__":
    sys.exit(main())
