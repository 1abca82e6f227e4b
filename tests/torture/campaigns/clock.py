"""clock: the wall clock jumps by an hour and a day, both ways, under load. No timer is stuck, nothing expires too early, no id
is given twice, and a restart under an earlier clock goes on with higher ids."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from smppd.message import State
from tests.torture.customer import Customer
from tests.torture.daemon import PASSWORD, Daemon, StartFailure, account
from tests.torture.layer import Clock
from tests.torture.load import drain, until, verdict
from tests.torture.peers import Peers
from tests.torture.plan import Options, Unit
from tests.torture.record import read_record
from tests.torture.smsc import Step, Submit

NAME: Final = "clock"
_HOUR: Final = 3600.0
_DAY: Final = 86400.0
_JUMPS: Final = (_HOUR, 0.0, -_HOUR, 0.0, _DAY, 0.0, -_DAY, 0.0, _DAY, -_DAY)
_SHORT: Final = (_HOUR, 0.0, -_DAY, 0.0)
_RATE: Final = 400.0


def plan(options: Options) -> list[Unit]:
    """All jumps, ``rounds`` times (5, by turns in both modes); short: once."""
    times = 1 if options.short else options.rounds or 5
    modes = ("stored", "upstream")
    return [Unit(f"{NAME}-{n}", options.seed * 1000 + n, {"acknowledge": modes[n % 2]}) for n in range(times)]


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One round of jumps, the last of them across a kill."""
    random = unit.random()
    faults: list[str] = []
    highest = 0
    pause = 0.3 if options.short else 2.5
    jumps = _SHORT if options.short else _JUMPS

    def script(submit: Submit, attempt: int) -> Step:
        if attempt == 0 and submit.token % 397 == 0:
            return Step(answers=0, receipt=None)  # its timers have to run on
        if attempt == 0 and submit.token % 389 == 0:
            return Step(status=0x58)
        return Step(receipt=random.uniform(0.0, 1.0))

    with Peers(script) as peers:
        clock = Clock(options.scratch)
        settings = account("acme", acknowledge=unit.values["acknowledge"], unknown_after="1s")
        daemon = Daemon(directory, options, peers.smsc.port, [settings], upstream={"response": "2s"})
        peers.at_end.append(daemon.kill)
        daemon.environment = clock.environment()
        customer = Customer(daemon.plain_port, PASSWORD, rate=_RATE)
        book = customer.book
        try:
            daemon.keys()
            daemon.launch()
            daemon.await_ready()
            peers.add(customer)
            customer.sending = True
            until(lambda: len(book.ids) > 100, 20)
            for jump in jumps:
                clock.set(jump)
                before, told = len(book.ids), sum(book.receipts.values())
                time.sleep(pause)
                if not until(lambda old=before: len(book.ids) > old + 20, 5):  # type: ignore[misc]
                    faults.append(f"no message is acknowledged after a jump to {jump:+g} s")
                if not until(lambda old=told: sum(book.receipts.values()) > old + 5, 5):  # type: ignore[misc]
                    faults.append(f"no receipt arrives after a jump to {jump:+g} s")
                if customer.bound < customer.count and not until(lambda: customer.bound == customer.count, 5):
                    faults.append(f"a session is lost after a jump to {jump:+g} s")
            # Messages wait while time flies, and must not expire of it: they are valid for three days.
            if unit.values["acknowledge"] == "stored":
                peers.wait(peers.smsc.stop())
                time.sleep(pause)
                clock.set(_DAY)
                time.sleep(pause)
                clock.set(0.0)
                peers.wait(peers.smsc.start())
                time.sleep(pause)
            clock.set(_DAY)
            time.sleep(pause)
            highest = max((int(told, 16) for told in list(book.ids)), default=0)
            daemon.kill9()
            clock.set(-_HOUR)
            count = len(book.ids)
            known = set(book.ids)
            daemon.launch()
            daemon.await_ready()
            if not until(lambda: len(book.ids) > count + 100, 15):
                faults.append("no message is acknowledged after a restart under an earlier clock")
            lower = sum(int(told, 16) <= highest for told in book.ids.keys() - known)
            if lower:
                faults.append(f"{lower} ids after the restart are not above those before")
            drained = drain(daemon, peers, [customer], quiet=6.0)
        except StartFailure as failure:
            return {**unit.values, "faults": [str(failure)]}
        finally:
            customer.sending = False
        found, wrong = verdict(daemon, peers, customer, verify=True, drained=drained)
        record = read_record(daemon.store)
        expired = sum(any(e.state == State.EXPIRED for e in events) for events in record.events.values())
        if expired:
            faults.append(f"{expired} messages expired, and none may")
    return {
        **unit.values,
        **found,
        "jumps": len(jumps) + 3,
        "drained_s": round(drained, 1),
        "expired": expired,
        "faults": faults + wrong,
    }
