"""acts: an operator does all that he can do, at random, under a steady load, while the daemon is killed again and again.

There are two upstreams, whose SMSCs have one book. Acts come every half a second: pauses, drains, kicks, suspensions, the end
of what waits, another route or another upstream for it. One kill in two comes while an act is being done. What has to survive
is looked for after each start, and at the end every message has its fate.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, Final

from smppd.control.client import ask
from smppd.control.wire import ControlError
from tests.torture.customer import Customer
from tests.torture.daemon import PASSWORD, Daemon, StartFailure, account
from tests.torture.load import drain, percentile, until, verdict
from tests.torture.peers import Peers
from tests.torture.plan import Options, Unit
from tests.torture.smsc import Step

NAME: Final = "acts"
RATE: Final = 500
_PAUSE: Final = 0.5
_REASON: Final = "a torture campaign"
_EXPECTED: Final = (0x45, 0x04)
"""The account is suspended; or the session is about to be unbound, and the submit came behind that."""
UPSTREAMS: Final = ("one", "two")


def plan(options: Options) -> list[Unit]:
    """One run; short: some seconds."""
    seconds = options.seconds or (6.0 if options.short else 240.0)
    rate = options.rate or (100 if options.short else RATE)
    return [Unit(f"{NAME}-000", options.seed, {"seconds": seconds, "rate": rate})]


class Operator:
    """Does acts, and knows what should stand."""

    def __init__(self, daemon: Daemon, random: Random) -> None:
        self.daemon = daemon
        self._random = random
        self.done: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.stopped: dict[str, str] = {}
        self.suspended = False
        self.faults: list[str] = []

    def act(self, act: str, target: str, **more: Any) -> bool:
        """Does one; whether the daemon answered."""
        request = {"do": "act", "act": act, "target": target, "reason": _REASON, **more}
        try:
            answer = ask(self.daemon.store, request)
        except ControlError as error:
            if not error.code:
                return False
            if error.code == "failed":
                self.faults.append(f"{act} {target}: {error}")
            self.refused[act] += 1
            return True
        self.done[act] += 1
        self.changed[act] += bool(answer["changed"])
        return True

    def some(self) -> None:
        """One act, whatever comes to his mind."""
        random, name = self._random, self._random.choice(UPSTREAMS)
        what = random.choice(
            ("pause",) * 5
            + ("drain",) * 2
            + ("unpause",) * 4
            + ("kick", "kick", "expire", "requeue", "requeue", "move", "move")
            + ("suspend", "resume", "resume", "resume", "log-level", "unban", "reload")
        )
        if what in ("pause", "drain", "unpause"):
            more = {"for": random.choice((0.0, 2.0))} if what == "drain" else {}
            if self.act(what, name, **more):
                self._stopped(what, name)
        elif what == "kick":
            self.act(what, random.choice(("acme", *UPSTREAMS, f"c{random.randint(1, 9)}", "127.0.0.1")))
        elif what in ("expire", "requeue"):
            more = {"older_than": random.choice((0.0, 1.0))} if what == "expire" else {}
            self.act(what, random.choice(("acme", name)), **more)
        elif what == "move":
            self.act(what, name, to=UPSTREAMS[1 - UPSTREAMS.index(name)])
        elif what in ("suspend", "resume"):
            if self.act(what, "acme"):
                self.suspended = what == "suspend"
        else:
            self.act(what, {"log-level": "warning", "unban": "192.0.2.1", "reload": ""}[what])

    def _stopped(self, what: str, name: str) -> None:
        if what == "unpause":
            self.stopped.pop(name, None)
        elif self.stopped.get(name) != "drain":
            self.stopped[name] = what

    def piles_up(self) -> None:
        """Both upstreams are paused for a while, so that messages wait."""
        if self.suspended and self.act("resume", "acme"):
            self.suspended = False
        for name in UPSTREAMS:
            if self.act("pause", name):
                self._stopped("pause", name)
        time.sleep(self._random.uniform(1.0, 4.0))

    def looks(self) -> None:
        """After a start: what has to stand stands."""
        for act in ("pause", "drain"):
            wanted = sum(one == act for one in self.stopped.values())
            stands = self.daemon.metric("smppd_acts_in_force", act=act)
            if stands != wanted:
                self.faults.append(f"after a kill {stands:g} acts {act} stand, not {wanted}")
        if bool(self.daemon.metric("smppd_suspended", account="acme")) != self.suspended:
            self.faults.append("after a kill the suspension is not what it was")

    def lets_go(self) -> None:
        """All goes on."""
        for name in UPSTREAMS:
            self.act("unpause", name)
        self.stopped.clear()
        self.act("resume", "acme")
        self.suspended = False


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """The run."""
    random = unit.random()
    faults: list[str] = []
    recovered: list[float] = []
    kills = midway = 0
    with Peers(lambda _submit, _attempt: Step(receipt=0.05, delay=0.01), smscs=2) as peers:
        daemon = Daemon(directory, options, peers.smsc.port, [account("acme", unknown_after="1s")])
        (first,) = daemon.config["upstreams"]
        ports = [one.port for one in (peers.smsc, *peers.others)]
        daemon.config["upstreams"] = [
            {**first, "name": name, "address": f"127.0.0.1:{port}"} for name, port in zip(UPSTREAMS, ports, strict=True)
        ]
        daemon.config["routes"] = [{"upstreams": list(UPSTREAMS)}]
        daemon.config["store"]["hot"] = 2000
        daemon.write_config()
        peers.at_end.append(daemon.kill)
        operator = Operator(daemon, random)
        customer = Customer(daemon.plain_port, PASSWORD, rate=unit.values["rate"])
        drained = 0.0
        try:
            daemon.keys()
            daemon.launch()
            daemon.await_ready()
            peers.add(customer)
            customer.sending = True
            until(lambda: len(customer.book.ids) > 0, 30.0)
            began = time.monotonic()
            due = began + random.uniform(0.3, 1.0) * min(20.0, unit.values["seconds"])
            while time.monotonic() - began < unit.values["seconds"]:
                time.sleep(random.uniform(0.1, 2 * _PAUSE))
                if time.monotonic() < due:
                    operator.some()
                    continue
                due = time.monotonic() + random.uniform(8.0, 25.0)
                if random.random() < 0.5:
                    # In the middle: an act on all that waits is asked for, and its answer is not waited for.
                    midway += 1
                    operator.piles_up()
                    what = random.choice(("expire", "requeue", "move"))
                    to = {"to": UPSTREAMS[1]} if what == "move" else {}
                    asking = threading.Thread(target=operator.act, args=(what, UPSTREAMS[0]), kwargs=to)
                    asking.start()
                    time.sleep(random.uniform(0.0, 0.1))
                    daemon.kill9()
                    asking.join(30)
                else:
                    daemon.kill9()
                kills += 1
                daemon.launch()
                recovered.append(daemon.await_ready())
                operator.looks()
            operator.lets_go()
            drained = drain(daemon, peers, [customer])
            if left := sum(daemon.metric("smppd_acts_in_force", act=act) for act in ("expire", "requeue", "move")):
                faults.append(f"{left:g} acts on messages were not finished")
        except StartFailure as failure:
            faults.append(str(failure))
        finally:
            customer.sending = False
        strange = {hex(one): count for one, count in customer.book.refused.items() if one not in _EXPECTED}
        found, wrong = verdict(daemon, peers, customer, verify=True, drained=drained)
    expired = sum(state == b"EXPIRED" for state in customer.book.states.values())
    if strange:
        faults.append(f"refused with {strange}")
    return {
        **unit.values,
        **found,
        "acts": dict(sorted(operator.done.items())),
        "acts_that_changed": sum(operator.changed.values()),
        "acts_refused": dict(operator.refused),
        "kills": kills,
        "kills_midway": midway,
        "expired": expired,
        "recovery_ms": [percentile(recovered, 0.5), percentile(recovered, 1.0)],
        "drained_s": round(drained, 1),
        "faults": faults + operator.faults + wrong,
    }
