"""script: the SMSC misbehaves at each step of submit and receipt, one misbehaviour a unit. Every message ends in a state that
is on record, none vanish, nothing is submitted twice except as ``on_unknown: resend`` says."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from smppd.message import State
from tests.torture.customer import Customer
from tests.torture.daemon import PASSWORD, Daemon, StartFailure, account
from tests.torture.load import drain, until, verdict
from tests.torture.peers import Peers
from tests.torture.plan import Options, Unit
from tests.torture.record import Record, number_of, read_record
from tests.torture.smsc import Smsc, Step, Submit

NAME: Final = "script"
_MESSAGES: Final = 120
_RATE: Final = 300.0
_RESPONSE: Final = 1.0
"""Seconds that smppd waits for an answer; it takes up to another second to notice, and one more to settle the unknown."""
_SETTLED: Final = frozenset(range(2, 10)) | {State.SUBMITTED}

Script = Callable[[Submit, int], Step]


class Scene(NamedTuple):
    """``script``: what the SMSC does. ``most``: how often it may come to have a message. ``receipts``: whether each message
    gets one. ``settle``: seconds to go on for."""

    script: Script
    most: int = 1
    receipts: bool = True
    settle: float = 4.0


def _first(step: Step, every: int = 10) -> Script:
    """A misstep at the first arrival of each tenth message."""
    return lambda submit, attempt: step if attempt == 0 and submit.token % every == 0 else Step()


def _spread(submit: Submit, _attempt: int) -> Step:
    return Step(delay=(submit.token * 7 % 10) / 20)


SCENES: Final[dict[str, Scene]] = {
    "as it should be": Scene(lambda _submit, _attempt: Step()),
    "cut before the answer": Scene(_first(Step(cut="first"), 30), most=2),
    "cut after the answer": Scene(_first(Step(cut="answered"), 30), most=2),
    "cut before the receipt is acknowledged": Scene(_first(Step(cut="receipted"), 30), most=2),
    "late, within the timer": Scene(_first(Step(delay=0.6))),
    "late, after the timer": Scene(_first(Step(delay=2.2)), most=2),
    "later than the second try": Scene(_first(Step(delay=4.5, receipt=5.0)), most=2, settle=8.0),
    "no answer, but a receipt": Scene(_first(Step(answers=0)), most=2),
    "no answer, no receipt": Scene(_first(Step(answers=0, receipt=None)), most=2),
    "answered twice": Scene(_first(Step(answers=2), 2)),
    "out of order": Scene(_spread),
    "receipt before the answer": Scene(_first(Step(early=True, delay=0.1), 2)),
    "receipt twice": Scene(_first(Step(receipts=2), 2)),
    "receipts with unknown ids": Scene(_first(Step(shape=lambda _id: b"7" * 12)), receipts=False),
    "receipts with lower-case ids": Scene(lambda _submit, _attempt: Step(shape=bytes.lower)),
    "receipts of failure": Scene(lambda _submit, _attempt: Step(state=b"UNDELIV")),
    "generic_nack": Scene(_first(Step(nack=True))),
    "throttled": Scene(_first(Step(status=0x58))),
    "queue full": Scene(_first(Step(status=0x14))),
    "system error": Scene(_first(Step(status=0x08))),
    "refused for good": Scene(_first(Step(status=0x0B))),
    "binds refused": Scene(_first(Step(cut="answered"), 30), most=2),
}
_SHORT: Final = ("cut before the answer", "throttled")


def plan(options: Options) -> list[Unit]:
    """Each scene with ``on_unknown`` resend and hold, and with ``acknowledge: upstream``; short: two scenes, once each."""
    units = []
    for name in _SHORT if options.short else SCENES:
        variants = [("stored", "resend"), ("stored", "hold"), ("upstream", "resend")]
        for mode, unknown in variants[: 1 if options.short else None]:
            values = {"scene": name, "acknowledge": mode, "on_unknown": unknown}
            units.append(Unit(f"{NAME}-{name}-{mode}-{unknown}".replace(" ", "_"), options.seed, values))
    return units


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One scene."""
    scene = SCENES[unit.values["scene"]]
    hold = unit.values["on_unknown"] == "hold"
    faults: list[str] = []
    with Peers(scene.script) as peers:
        settings = account(
            "acme", acknowledge=unit.values["acknowledge"], on_unknown=unit.values["on_unknown"], unknown_after="1s"
        )
        daemon = Daemon(
            directory, options, peers.smsc.port, [settings], upstream={"response": f"{int(_RESPONSE * 1000)}ms"}
        )
        peers.at_end.append(daemon.kill)
        customer = Customer(daemon.plain_port, PASSWORD, rate=_RATE, binds=1, window=50)
        customer.limit = _MESSAGES
        try:
            daemon.keys()
            daemon.launch()
            daemon.await_ready()
            daemon.wait_links("sim", 1)
            customer.sending = True
            peers.add(customer)
            if unit.values["scene"] == "binds refused":
                _refuse(peers.smsc, peers, customer)
            until(lambda: customer.next >= _MESSAGES, 20)
            until(lambda: len(customer.book.waits) + customer.book.unanswered >= _MESSAGES, 10)
            drained = drain(daemon, peers, [customer], quiet=scene.settle)
        except StartFailure as failure:
            return {**unit.values, "faults": [str(failure)]}
        found, wrong = verdict(daemon, peers, customer, receipts=scene.receipts, drained=drained)
        if customer.book.unasked:
            faults.append(f"{customer.book.unasked} answers that nobody asked for")
        answered = len(customer.book.ids) + sum(customer.book.refused.values())
        if answered < _MESSAGES:
            faults.append(f"{_MESSAGES - answered} submits were never answered")
        over = [
            t
            for t, seen in peers.smsc.book.arrived().items()
            if sum(s.kept for s in seen) > (1 if hold else scene.most)
        ]
        if over:
            faults.append(f"{len(over)} messages were submitted more often than they may")
        faults += _undefined(customer, read_record(daemon.store))
    return {**unit.values, **found, "faults": faults + wrong}


def _refuse(smsc: Smsc, peers: Peers, customer: Customer) -> None:
    """Binds are refused from the first cut on, for two seconds."""
    smsc.bind_status = 0x0D
    until(lambda: not any(each.bound for each in list(smsc.sessions)), 10)
    time.sleep(2.0)
    smsc.bind_status = 0


def _undefined(customer: Customer, record: Record) -> list[str]:
    """Acknowledged messages of which the record does not tell where they are."""
    vague = 0
    for told in customer.book.ids:
        events = record.events.get(number_of(told), [])
        vague += not any(each.state in _SETTLED for each in events)
    return [f"{vague} acknowledged messages are in no defined state"] if vague else []
