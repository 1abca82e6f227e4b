"""upgrade: a store of the version before, left in the middle of its work, is opened by this one, which is killed at random
moments of its first starts. Messages on their way, receipts due and mail that waits: nothing of it is lost.

The long form makes each store with the code of the version before, out of the history; the short form, and a clone without
history, open the one that is kept. That one is old, so the daemon's wall clock is set to when it was made.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.torture import earlier
from tests.torture.customer import Customer
from tests.torture.daemon import PASSWORD, Daemon, StartFailure
from tests.torture.disk import copy_store, materialise
from tests.torture.layer import Clock, Layer
from tests.torture.load import drain, percentile, until, verdict
from tests.torture.peers import Peers
from tests.torture.plan import Options, Unit
from tests.torture.smsc import Step

NAME: Final = "upgrade"
_STORES: Final = 30
_MESSAGES: Final = 200
_HOWS: Final = ("moment", "operation", "power")
_OPERATIONS: Final = 2000
"""Operations on the store's files within which a start is killed, early ones more often: a start makes some hundreds before it
is ready, and more when its messages flow."""
_SECONDS: Final = 2.0
_RATE: Final = 100.0
_NEW: Final = 500_000_000
_AFTER: Final = 30.0
"""Seconds after the kept store was made at which it is opened."""


def plan(options: Options) -> list[Unit]:
    """30 stores, left by a kill or a clean end, the first starts ended at a moment, behind an operation, or by a power cut;
    short: the kept store, once."""
    units = []
    for number in range(1 if options.short else options.rounds or _STORES):
        how = "operation" if options.short else _HOWS[number % 3]
        values = {"how": how, "clean": number // 3 % 2 == 1, "acknowledge": ("stored", "upstream")[number // 6 % 2]}
        units.append(Unit(f"{NAME}-{number:03d}", options.seed * 1000 + number, values))
    return units


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One store."""
    random = unit.random()
    made = directory / "made"
    source = None if options.short else earlier.tree(directory / "source")
    values = dict(unit.values)
    try:
        if source is None:
            made.mkdir()
            left = earlier.unpack(made)
            values |= {"acknowledge": "stored", "clean": False, "kept": True}
        else:
            left = earlier.fill(made, source, random, values["acknowledge"], _MESSAGES, values["clean"])
    except StartFailure as failure:
        return {**values, "faults": [f"the version before: {failure}"]}
    return {**values, **left.figures(), **_open(values, left, made, random, options, directory)}


def _open(
    values: dict[str, Any], left: earlier.Earlier, made: Path, random: Random, options: Options, directory: Path
) -> dict[str, Any]:
    faults: list[str] = []
    recovered: list[float] = []
    kills = 0
    drained = 0.0
    with Peers(lambda _submit, _attempt: Step(receipt=random.uniform(0.0, 0.3))) as peers:
        # Its own process: the one that tests are forked from knows no layer.
        daemon = Daemon(
            directory / "opened",
            replace(options, short=False),
            peers.smsc.port,
            earlier.accounts(values["acknowledge"]),
            **earlier.SECTIONS,
        )
        peers.at_end.append(daemon.kill)
        earlier.put(made, daemon)
        left.smsc(peers.smsc)
        acme = Customer(daemon.plain_port, PASSWORD, rate=_RATE, first=_NEW)
        away = Customer(daemon.plain_port, PASSWORD, system_id="away", binds=1, command=0x09, rate=0.0)
        left.customer(acme.book)
        away.book = acme.book
        clock = Clock(options.scratch)
        if "kept" in values:
            clock.set(left.made + _AFTER - time.time())
        try:
            kills = _kill_starts(values["how"], daemon, clock, random, options, faults)
            daemon.environment = clock.environment()
            daemon.launch()
            recovered.append(daemon.await_ready())
            peers.add(acme)
            acme.sending = True
            if not until(lambda: acme.next > _NEW + 20, 20):
                faults.append("nothing new is taken after the upgrade")
            told = sum(acme.book.receipts.values())
            peers.add(away)
            until(lambda: sum(acme.book.receipts.values()) > told + 10, 10)
            daemon.kill9()  # once more, when what was taken over is on its way
            kills += 1
            acme.sending = False
            daemon.launch()
            recovered.append(daemon.await_ready())
            drained = drain(daemon, peers, [acme, away], quiet=6.0)
        except StartFailure as failure:
            faults.append(str(failure))
        found, wrong = verdict(daemon, peers, acme, verify=True, drained=drained)
    return {
        **found,
        "kills": kills,
        "recovery_ms": [percentile(recovered, 0.5), percentile(recovered, 1.0)],
        "drained_s": round(drained, 1),
        "faults": faults + wrong,
    }


def _kill_starts(how: str, daemon: Daemon, clock: Clock, random: Random, options: Options, faults: list[str]) -> int:
    """Starts it and ends it so, two or three times; how often."""
    times = random.randint(2, 3)
    base, log = options.scratch / "base", options.scratch / "operations"
    layer = Layer(options.scratch, daemon.store.resolve(), log if how == "power" else None, 200)
    for number in range(times):
        if how == "moment":
            daemon.environment = clock.environment()
            daemon.launch()
            time.sleep(random.uniform(0.2, _SECONDS))
            daemon.kill9()
            continue
        if how == "power":
            shutil.rmtree(base, ignore_errors=True)
            copy_store(daemon.store, base)
            log.write_bytes(b"")
        daemon.environment = _both(layer.environment(int(_OPERATIONS ** random.random())), clock.environment())
        daemon.launch()
        assert daemon.process is not None
        # Where it does not come so far it is killed at rest.
        if not until(lambda: daemon.process is None or daemon.process.poll() is not None, _SECONDS + random.random()):
            daemon.kill9()
        elif (status := daemon.process.wait(10)) != -9:
            faults.append(f"start {number} ended with status {status}: {daemon.last_words()}")
        if how == "power":
            materialise(base, log.read_bytes(), daemon.store, random)
    return times


def _both(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    """Two layers, one under the other."""
    return {**one, **other, "LD_PRELOAD": f"{one['LD_PRELOAD']}:{other['LD_PRELOAD']}"}
