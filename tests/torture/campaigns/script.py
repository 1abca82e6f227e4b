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
from tests.torture.layer import Clock
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
    gets one. ``settle``: seconds to go on for. ``response``: seconds that smppd waits for an answer. ``form``: makes the ids of
    the answers. ``hours``: receipts come so late, by the wall clock and after a restart."""

    script: Script
    most: int = 1
    receipts: bool = True
    settle: float = 4.0
    response: float = _RESPONSE
    form: Callable[[bytes], bytes] | None = None
    hours: float = 0.0


def _first(step: Step, every: int = 10) -> Script:
    """A misstep at the first arrival of each tenth message."""
    return lambda submit, attempt: step if attempt == 0 and submit.token % every == 0 else Step()


def _stuck(submit: Submit, attempt: int) -> Step:
    """For a while no submit is answered, though everything else is."""
    return Step(answers=0, receipt=None) if attempt == 0 and 40 <= submit.token < 80 else Step()


def _decimal(name: bytes) -> bytes:
    return b"%d" % int(name, 16)


def _uuid(name: bytes) -> bytes:
    name = name.lower() * 2
    return b"-".join((name[:8], name[8:12], name[12:16], name[16:20], name[20:]))


def _shaped(shape: Callable[[bytes], bytes]) -> Script:
    return lambda _submit, _attempt: Step(shape=shape)


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
    "slow, within the timer": Scene(lambda _submit, _attempt: Step(delay=0.8)),
    "slow, after the timer": Scene(lambda _submit, _attempt: Step(delay=1.6), most=2, settle=8.0),
    "no submit answered for a while": Scene(_stuck, most=2, settle=8.0),
    "half open": Scene(_first(Step(cut="deaf"), 40), most=2, settle=12.0),
    "flapping": Scene(_first(Step(cut="first"), 12), most=2, settle=8.0),
    "receipt five seconds before the answer": Scene(_first(Step(early=True, delay=5.0), 2), settle=8.0, response=8.0),
    "receipts 72 hours late": Scene(lambda _submit, _attempt: Step(), hours=72.0 - 0.1),
    "receipts with lower-case ids": Scene(_shaped(bytes.lower)),
    "ids hexadecimal, in receipts decimal": Scene(_shaped(_decimal)),
    "ids decimal, in receipts hexadecimal": Scene(_shaped(lambda name: b"%X" % int(name)), form=_decimal),
    "ids with leading zeros, in receipts without": Scene(
        _shaped(lambda name: name.lstrip(b"0")), form=lambda name: b"0000" + _decimal(name)
    ),
    "ids with dashes, in receipts without": Scene(_shaped(lambda name: name.replace(b"-", b"")), form=_uuid),
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
        peers.smsc.form = scene.form
        peers.smsc.holding = bool(scene.hours)
        settings = account(
            "acme", acknowledge=unit.values["acknowledge"], on_unknown=unit.values["on_unknown"], unknown_after="1s"
        )
        upstream = {"response": f"{int(scene.response * 1000)}ms", "enquire_link": "1s"}
        daemon = Daemon(directory, options, peers.smsc.port, [settings], upstream=upstream)
        peers.at_end.append(daemon.kill)
        clock = Clock(options.scratch) if scene.hours else None
        if clock is not None:
            daemon.environment = clock.environment()
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
            if clock is not None:
                _days_later(daemon, peers, clock, scene.hours)
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


def _days_later(daemon: Daemon, peers: Peers, clock: Clock, hours: float) -> None:
    """All is sent and answered. The daemon ends, and comes back when it is ``hours`` later; then the receipts come."""
    until(lambda: sum(each.answered for each in peers.smsc.book.submits) >= _MESSAGES, 20)
    time.sleep(1.0)
    daemon.kill9()
    clock.set(hours * 3600.0)
    daemon.launch()
    daemon.await_ready()
    daemon.wait_links("sim", 1)
    time.sleep(2.0)
    peers.smsc.holding = False
    peers.call(peers.smsc.pump)


def _undefined(customer: Customer, record: Record) -> list[str]:
    """Acknowledged messages of which the record does not tell where they are."""
    vague = 0
    for told in customer.book.ids:
        events = record.events.get(number_of(told), [])
        vague += not any(each.state in _SETTLED for each in events)
    return [f"{vague} acknowledged messages are in no defined state"] if vague else []
