"""disk: no space left, on a small file system of its own where one may be mounted and by the layer; then I/O errors, and
writes that do half of what they should.

Full: nothing is acknowledged while it lasts, ESME_RMSGQFUL and /readyz say why, and all goes on by itself when there is
space again. An error of fsync or write: the daemon ends, says so, and the next start recovers. A short write is no error: the
rest is written, and nobody notices.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.torture.customer import Customer
from tests.torture.daemon import PASSWORD, Daemon, StartFailure, account
from tests.torture.disk import copy_store
from tests.torture.layer import BAD_SYNC, BAD_WRITE, NO_SPACE, SHORT_WRITE, Layer
from tests.torture.load import drain, until, verdict
from tests.torture.peers import Peers
from tests.torture.plan import Options, Unit
from tests.torture.smsc import Step, Submit

NAME: Final = "disk"
_RATE: Final = 600.0
_RMSGQFUL: Final = 0x14
_KINDS: Final = ("full", "small", "sync", "write", "short")


def plan(options: Options) -> list[Unit]:
    """Each kind of trouble in both modes, ``rounds`` times (3; short: one of each sort, once)."""
    times = 1 if options.short else options.rounds or 3
    modes = ("stored", "upstream")
    units = []
    for number in range(times):
        for kind in ("full", "sync", "short") if options.short else _KINDS:
            for mode in modes[number % 2 :][:1] if options.short else modes:
                seed = options.seed * 1000 + number
                units.append(Unit(f"{NAME}-{kind}-{mode}-{number}", seed, {"kind": kind, "acknowledge": mode}))
    return units


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One of them."""
    random = unit.random()

    def script(_submit: Submit, _attempt: int) -> Step:
        # Some receipts come before, some during, some after the trouble.
        return Step(receipt=random.uniform(0.0, 1.5 if options.short else 3.0))

    faults: list[str] = []
    notes: dict[str, Any] = {}
    drained = 0.0
    kind = unit.values["kind"]
    with Peers(script) as peers:
        settings = account("acme", acknowledge=unit.values["acknowledge"], unknown_after="1s")
        store = {"path": "store", "reserve": "1MiB"}
        daemon = Daemon(directory, options, peers.smsc.port, [settings], store=store)
        peers.at_end.append(daemon.kill)
        customer = Customer(daemon.plain_port, PASSWORD, rate=_RATE)
        mounted = kind == "small" and _mount(daemon.store)
        if mounted:
            peers.at_end.insert(0, lambda: _unmount(daemon.store))
        if kind == "small" and not mounted:
            return {**unit.values, "skipped": "no file system may be mounted here", "faults": []}
        try:
            daemon.keys()
            layer = Layer(options.scratch, daemon.store.resolve(), None)
            if not mounted:
                daemon.environment = layer.environment()
            daemon.launch()
            daemon.await_ready()
            peers.add(customer)
            customer.sending = True
            if not until(lambda: len(customer.book.ids) > 200, 20):
                faults.append("no load before the trouble")
            time.sleep(random.uniform(0.2, 1.0))
            if kind in ("full", "small"):
                ballast = daemon.store / "ballast"

                def fill() -> None:
                    if mounted:
                        _fill(ballast)
                    else:
                        layer.fault(NO_SPACE)

                def free() -> None:
                    if mounted:
                        ballast.unlink()
                    else:
                        layer.fault(0)

                _full(daemon, customer, fill, free, faults, notes)
            elif kind == "short":
                _short(daemon, customer, layer, faults)
            else:
                _broken(daemon, customer, layer, BAD_SYNC if kind == "sync" else BAD_WRITE, faults, notes)
            drained = drain(daemon, peers, [customer], quiet=5.0)
        except StartFailure as failure:
            faults.append(str(failure))
        finally:
            customer.sending = False
        found, wrong = verdict(daemon, peers, customer, verify=True, drained=drained)
    return {**unit.values, **found, **notes, "faults": faults + wrong}


def _mount(store: Path) -> bool:
    if os.geteuid() != 0:
        return False
    store.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "tmpfs", str(store)],
        capture_output=True,
        check=False,
        timeout=10,
    )
    return done.returncode == 0


def _unmount(store: Path) -> None:
    """Leaves a copy, or nothing could be looked into afterwards."""
    copy_store(store, store.with_name("store-copy"))
    subprocess.run(["umount", "-l", str(store)], check=False, timeout=10)


def _fill(ballast: Path) -> None:
    """Takes all the space there is."""
    with ballast.open("wb", buffering=0) as file:
        size = 1 << 20
        while size >= 512:
            try:
                if file.write(bytes(size)) < size:
                    size //= 2
            except OSError:
                size //= 2


def _full(
    daemon: Daemon,
    customer: Customer,
    fill: Callable[[], None],
    free: Callable[[], None],
    faults: list[str],
    notes: dict[str, Any],
) -> None:
    book = customer.book
    fill()
    began = time.monotonic()
    if not until(lambda: book.refused[_RMSGQFUL] > 0 or not _runs(daemon), 10):
        faults.append("a full disk, and no ESME_RMSGQFUL within 10 s")
    notes["refused_after_s"] = round(time.monotonic() - began, 2)
    if not until(lambda: daemon.http("/readyz")[0] == 503, 5):
        faults.append("a full disk, and /readyz stays ready")
    told = daemon.http("/readyz")[1]
    if "space" not in told:
        faults.append("/readyz does not say that there is no space")
    time.sleep(0.5)
    before, refused = len(book.ids), book.refused[_RMSGQFUL]
    ready = 0
    for _ in range(20):
        time.sleep(0.1)
        ready += daemon.http("/readyz")[0] == 200
    notes["acknowledged_while_full"] = len(book.ids) - before
    notes["refused_while_full"] = book.refused[_RMSGQFUL] - refused
    if len(book.ids) != before:
        faults.append(f"{len(book.ids) - before} messages acknowledged in 2 s on a full disk")
    if ready:
        faults.append(f"/readyz said ready {ready} times of 20 on a full disk")
    free()
    before = len(book.ids)
    began = time.monotonic()
    if not until(lambda: len(book.ids) > before + 50 or not _runs(daemon), 15):
        faults.append("space again, and nothing is acknowledged within 15 s")
    notes["accepting_after_s"] = round(time.monotonic() - began, 2)
    if not _runs(daemon):
        faults.append(f"the daemon ended on a full disk: {daemon.last_words()}")
        daemon.launch()
        daemon.await_ready()
        return
    if not until(daemon.ready, 5):
        faults.append("space again, and /readyz does not say ready")
    if unknown := {status for status in book.refused if status not in (_RMSGQFUL, 0x58)}:
        faults.append(f"refused with {', '.join(hex(status) for status in sorted(unknown))} as well")
    time.sleep(1.0)


def _short(daemon: Daemon, customer: Customer, layer: Layer, faults: list[str]) -> None:
    before = len(customer.book.ids)
    layer.fault(SHORT_WRITE)
    if not until(lambda: len(customer.book.ids) > before + 200 or not _runs(daemon), 20):
        faults.append("short writes, and nothing is acknowledged within 20 s")
    if not _runs(daemon):
        faults.append(f"the daemon ended of short writes: {daemon.last_words()}")
        layer.fault(0)
    else:
        # What half writes left behind is read back.
        daemon.kill9()
    daemon.launch()
    daemon.await_ready()
    time.sleep(0.5)
    layer.fault(0)


def _broken(
    daemon: Daemon, customer: Customer, layer: Layer, fault: int, faults: list[str], notes: dict[str, Any]
) -> None:
    layer.fault(fault)
    began = time.monotonic()
    if not until(lambda: not _runs(daemon), 10):
        faults.append("an I/O error, and the daemon goes on")
        daemon.kill9()
    assert daemon.process is not None
    status = notes["exit_status"] = daemon.process.wait(10)
    notes["ended_after_s"] = round(time.monotonic() - began, 2)
    if status == 0:
        faults.append("an I/O error, and exit status 0")
    if '"critical"' not in daemon.log_text() or "the store failed" not in daemon.log_text():
        faults.append("an I/O error, and no clear line in the log")
    before = len(customer.book.ids)
    layer.fault(0)
    daemon.launch()
    notes["recovery_s"] = round(daemon.await_ready(), 2)
    if not until(lambda: len(customer.book.ids) > before + 50, 20):
        faults.append("recovered, and nothing is acknowledged within 20 s")


def _runs(daemon: Daemon) -> bool:
    return daemon.process is not None and daemon.process.poll() is None
