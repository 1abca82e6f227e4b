"""`python -m tests.torture.door`: what strangers can do to others before they are known, measured on the real daemon.

Hellos at a steady rate from eight loopback addresses, in a process of their own, while a customer submits one message after
another; idle connections from 64 addresses while others bind; wrong binds sixteen at once under names that exist and that do
not; and, where it is installed, `sslscan`. Prints JSON. `--source` runs another tree's smppd, for a comparison.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import select
import selectors
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

from tests.e2e.children import ROOT
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc
from tests.torture.daemon import PASSWORD, Daemon, account
from tests.torture.plan import Options

SUBMIT: Final = 0x04
HOSTILE: Final = tuple(f"127.0.0.{number}" for number in range(2, 10))


def client_hello(groups: str | None = None) -> bytes:
    """What a TLS 1.3 client says first; with `groups`, offering only those."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if groups is not None:
        from smppd.net.openssl import SslLibrary

        SslLibrary().set_groups(context, groups)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def connected(port: int, source: str, wait: float = 5.0) -> socket.socket:
    """A connection from one of loopback's addresses."""
    return socket.create_connection(("127.0.0.1", port), wait, source_address=(source, 0))


def send_hellos(port: int, hello: bytes, rate: float, sources: tuple[str, ...] = HOSTILE) -> tuple[int, int]:
    """Sends the same hello on new connections, `rate` a second, until standard input ends; each is held for a second, whatever
    comes back unread. How many were sent, and how many of those held to their end had got an answer."""
    began = time.monotonic()
    number = sent = answered = 0
    open_ones: list[tuple[float, socket.socket]] = []
    while not select.select([sys.stdin], [], [], 0.002)[0] and time.monotonic() - began < 600:
        now = time.monotonic()
        while number < (now - began) * rate:
            try:
                one = connected(port, sources[number % len(sources)])
                one.send(hello)
                one.setblocking(False)
                open_ones.append((now, one))
                sent += 1
            except OSError:
                pass
            number += 1
        while open_ones and now - open_ones[0][0] > 1.0:
            _, one = open_ones.pop(0)
            try:
                answered += bool(one.recv(100))
            except OSError:
                pass
            one.close()
    return sent, answered


class Hellos:
    """`send_hellos` in a process of its own: the attackers share no interpreter with the customer who is measured."""

    def __init__(self, port: int, groups: str | None, rate: float) -> None:
        code = (
            "from tests.torture.door import client_hello, send_hellos\n"
            f"print(*send_hellos({port}, client_hello({groups!r}), {rate}))"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.pid = self._process.pid
        self.sent = self.answered = 0

    def __enter__(self) -> Hellos:
        time.sleep(1.0)  # it begins
        return self

    def __exit__(self, *_error: object) -> None:
        told, _ = self._process.communicate(timeout=30)
        self.sent, self.answered = map(int, told.split())


def elsewhere(*ours: int) -> float:
    """Seconds of CPU that processes other than these and this one have taken since the machine's start."""
    with Path("/proc/stat").open() as lines:
        ticks = [int(one) for one in next(lines).split()[1:9]]
    used = sum(ticks) - ticks[3] - ticks[4]  # less idle and waiting for disks
    for pid in (os.getpid(), *ours):
        used -= sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return used / os.sysconf("SC_CLK_TCK")


def latencies(probe: Probe, seconds: float) -> list[float]:
    """Milliseconds from each submit_sm to its answer, one after another, 4 ms apart."""
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        assert status(probe.ask(SUBMIT, submit_body(b"hello"))) == 0
        took.append(1000 * (time.monotonic() - began))
        time.sleep(0.004)
    return sorted(took)


def figures(slices: list[list[float]]) -> dict[str, Any]:
    """p50, p99 and the longest of all slices, in ms, and the p99 of each."""
    took = sorted(each for one in slices for each in one)
    if not took:
        return {"messages": 0}
    return {
        "p50_ms": round(took[len(took) // 2], 2),
        "p99_ms": round(took[int(len(took) * 0.99)], 2),
        "longest_ms": round(took[-1], 1),
        "messages": len(took),
        "p99_of_each_ms": [round(one[int(len(one) * 0.99)], 1) for one in slices],
    }


GROUPS: Final = {"X25519": "X25519", "P-384": "P-384", "ffdhe8192": "ffdhe8192", "usual": None}


def hellos(daemon: Daemon, ca: Path, seconds: float, rate: float, rounds: int, quiet: float) -> dict[str, Any]:
    """The customer's answers without and with hellos of several groups, in turns, so that a change of the machine meets all of
    them. A slice in which processes of others took more than `quiet` of a core does not count."""
    slices: dict[str, list[list[float]]] = {name: [] for name in ("nobody else", *GROUPS)}
    counts = dict.fromkeys(slices, (0, 0))
    noisy = 0
    assert daemon.process is not None
    with Probe(daemon.tls_port, ca) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        latencies(probe, 2.0)
        for _ in range(rounds):
            for name, those in slices.items():
                sending = Hellos(daemon.tls_port, GROUPS[name], rate) if name in GROUPS else None
                with sending or contextlib.nullcontext():
                    pids = (daemon.process.pid, *([sending.pid] if sending else []))
                    before, began = elsewhere(*pids), time.monotonic()
                    took = latencies(probe, seconds)
                    others = (elsewhere(*pids) - before) / (time.monotonic() - began)
                if sending is not None:
                    counts[name] = counts[name][0] + sending.sent, counts[name][1] + sending.answered
                if others <= quiet:
                    those.append(took)
                else:
                    noisy += 1
                time.sleep(0.5)
    found: dict[str, Any] = {name: figures(those) for name, those in slices.items()}
    alone = found["nobody else"].get("p99_ms")
    for name in GROUPS:
        if alone and "p99_ms" in found[name]:
            found[name]["against_nobody"] = round(found[name]["p99_ms"] / alone, 2)
        found[name] |= dict(zip(("sent", "answered"), counts[name], strict=True))
    return found | {"slices that did not count": noisy}


def idle(daemon: Daemon, ca: Path, good: int = 60, addresses: int = 64, each: int = 8) -> dict[str, Any]:
    """Good binds from addresses of their own while idle connections, renewed as they are cut, want all places."""
    sockets: list[socket.socket] = []
    going = True

    def renew() -> None:
        number = 0
        while going:
            for place, one in enumerate(sockets):
                try:
                    if one.recv(1) == b"":
                        raise ConnectionError
                except BlockingIOError:
                    continue
                except OSError:
                    one.close()
                    try:
                        sockets[place] = connected(daemon.tls_port, f"127.1.{number % addresses}.1")
                        sockets[place].setblocking(False)
                    except OSError:
                        pass
                    number += 1
            time.sleep(0.01)

    for number in range(addresses * each):
        one = connected(daemon.tls_port, f"127.1.{number % addresses}.1")
        one.setblocking(False)
        sockets.append(one)
    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    took, failed = [], 0
    context = ssl.create_default_context(cafile=str(ca))
    for number in range(good):
        began = time.monotonic()
        try:
            with connected(daemon.tls_port, f"127.{2 if number % 2 else 1}.200.{number + 1}") as plain:
                with context.wrap_socket(plain, server_hostname="localhost") as secure:
                    name = b"acme" if number % 4 == 1 else b"anywhere"  # acme's networks are not those of the idle
                    secure.sendall(frame(9, 0, 1, name + b"\0" + PASSWORD.encode() + b"\0\0\x34\0\0\0"))
                    if int.from_bytes(secure.recv(100)[8:12]) != 0:
                        raise ConnectionError
            took.append(time.monotonic() - began)
        except OSError:
            failed += 1
    going = False
    thread.join()
    for one in sockets:
        one.close()
    return {
        "good binds": good,
        "failed": failed,
        "within a second": sum(each < 1.0 for each in took),
        "slowest_s": round(max(took, default=0.0), 2),
    }


def names(daemon: Daemon, rounds: int, at_once: int = 16) -> dict[str, Any]:
    """Seconds until the answers to wrong binds sixteen at once, under an account's name and under one that nobody has."""
    random = Random(1)
    answered: dict[str, list[list[float]]] = {"existing": [], "unknown": []}
    order = ["existing", "unknown"] * rounds
    random.shuffle(order)
    for number, kind in enumerate(order):
        name = b"acme" if kind == "existing" else b"acmf"
        source = f"127.3.{number}.1"
        probes = [connected(daemon.plain_port, source, 30) for _ in range(at_once)]
        began = time.monotonic()
        for one in probes:
            one.sendall(frame(9, 0, 1, name + b"\0wrong%d\0\0\x34\0\0\0" % number))
        times: list[float] = []
        waiting = selectors.DefaultSelector()
        for one in probes:
            waiting.register(one, selectors.EVENT_READ)
        while len(times) < at_once and time.monotonic() - began < 30:
            for key, _ in waiting.select(1.0):
                times.append(time.monotonic() - began)
                waiting.unregister(key.fileobj)
        waiting.close()
        for one in probes:
            one.close()
        answered[kind].append(sorted(times))
    return {
        kind: {
            "first_s": round(median(times[0] for times in all_times), 2),
            "median_s": round(median(median(times) for times in all_times), 2),
            "last_s": round(median(times[-1] for times in all_times), 2),
            "answers": sum(map(len, all_times)),
        }
        for kind, all_times in answered.items()
    }


def busy(seconds: float) -> Callable[[], None]:
    """Keeps the machine's cores at work for some time, in processes of their own; the answer ends them early."""
    code = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: sum(range(10000))"
    working = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]

    def stop() -> None:
        for one in working:
            one.kill()
            one.wait()

    return stop


def scan(port: int) -> dict[str, Any]:
    """What sslscan finds; an empty answer where it is not installed."""
    program = shutil.which("sslscan")
    if program is None:
        return {}
    told = subprocess.run(
        [program, "--no-colour", "--no-heartbleed", f"127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    ).stdout
    part = told.partition("Server Key Exchange Group(s):")[2].partition("\n\n")[0]
    return {
        "versions": re.findall(r"^((?:SSL|TLS)v[\d.]+)\s+enabled", told, re.MULTILINE),
        "suites": sorted(set(re.findall(r"bits\s+((?:TLS_|ECDHE|DHE|AES|DES|RC4|CAMELLIA)\S+)", told))),
        "groups": sorted(set(re.findall(r"bits\s+([\w.-]+)", part))),
        "renegotiation": re.findall(r"^Session renegotiation (.+)$", told, re.MULTILINE)
        or re.findall(r"^(Secure session renegotiation supported|Insecure.*)$", told, re.MULTILINE),
        "compression": re.findall(r"^Compression (\w+)$", told, re.MULTILINE),
    }


def main() -> int:
    """Prints the figures; the reader judges them."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.door", description=__doc__)
    parser.add_argument("parts", nargs="*", help="hellos, idle, names, scan; default: all")
    parser.add_argument("--source", type=Path, default=ROOT)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each slice with hellos")
    parser.add_argument("--rate", type=float, default=100.0, help="hellos a second")
    parser.add_argument("--rounds", type=int, default=10, help="slices of each kind; sixteen binds under each name")
    parser.add_argument("--quiet", type=float, default=0.2, help="cores that others may take in a slice that counts")
    args = parser.parse_args()
    parts = args.parts or ["scan", "hellos", "idle", "names"]
    with tempfile.TemporaryDirectory() as scratch, RawSmsc() as smsc:
        directory = Path(scratch)
        spec = importlib.util.spec_from_file_location("certs_make", ROOT / "certs/make.py")
        assert spec is not None and spec.loader is not None
        make: Any = importlib.util.module_from_spec(spec)
        sys.modules["certs_make"] = make
        spec.loader.exec_module(make)
        make.make(directory, datetime.now(UTC))
        accounts = [
            account("acme", networks=["127.0.0.0/16", "127.2.0.0/16", "127.3.0.0/16"]),
            account("anywhere", networks="any"),
        ]
        limits = {"address_failures": 100_000, "id_failures": 100_000} if parts == ["names"] else {}
        daemon = Daemon(directory / "run", Options(source=args.source.resolve()), smsc.port, accounts, limits=limits)
        files = {"certificate": str(directory / "server.pem"), "key": str(directory / "server.key")}
        daemon.config["listeners"].append({"address": f"127.0.0.1:{daemon.tls_port}", "tls": files})
        daemon.write_config()
        daemon.keys()
        daemon.launch()
        found: dict[str, Any] = {}
        try:
            daemon.await_ready()
            daemon.wait_links("sim", 1)
            ca = directory / "ca.pem"
            for part in parts:
                if part == "scan":
                    found[part] = scan(daemon.tls_port)
                elif part == "hellos":
                    found[part] = hellos(daemon, ca, args.seconds, args.rate, args.rounds, args.quiet)
                elif part == "idle":
                    found[part] = idle(daemon, ca)
                elif part == "names":
                    end = busy(600)
                    try:
                        found[part] = names(daemon, args.rounds)
                    finally:
                        end()
            found["complaints"] = daemon.complaints()
        finally:
            daemon.kill()
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
