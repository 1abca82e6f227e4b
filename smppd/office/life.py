"""A message's life in steps, with times and what lies between them: accepted, committed, submitted, its receipt, delivered to
the customer; attempts and changes of the carrier among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from smppd.message import Event, State
from smppd.office.access import Access, printable
from smppd.office.messages import error_name, state_name
from smppd.protocol import wire
from smppd.records.lookup import Found

GOOD, BAD, PLAIN = "good", "bad", "plain"
"""How a step is drawn."""
_OURS: Final = {
    State.SCHEDULED: "Held for its hour",
    State.SUBMITTED: "Submitted",
    State.UNANSWERED: "No answer came",
    State.RESENT: "Sent again",
    State.REFUSED: "Refused",
    State.RECEIPT_DONE: "Delivered to the customer",
    State.RECEIPT_EXPIRED: "Receipt never taken",
    State.OPTED_OUT: "The handset opted out",
    State.OPTED_IN: "The handset opted in again",
}
_BAD: Final = frozenset(
    {
        State.REFUSED,
        State.UNANSWERED,
        State.RECEIPT_EXPIRED,
        State.EXPIRED,
        State.UNDELIVERABLE,
        State.REJECTED,
        State.DELETED,
        State.UNKNOWN,
        State.SKIPPED,
    }
)
_BY_STATUS: Final = frozenset({State.REFUSED, State.REJECTED})


class Step(NamedTuple):
    """A step. at: epoch milliseconds, None where that is not kept; gap: milliseconds since the step before, None where nobody
    knows. what: in few words; where: the carrier; facts: what else is known, in sentences; look: GOOD, BAD or PLAIN."""

    what: str
    at: int | None
    gap: int | None
    where: str
    facts: tuple[str, ...]
    look: str


def life_of(access: Access, found: Found) -> list[Step]:
    """The steps of a message, as its record and the events of it say, in the order of their times. Raises StoreError."""
    header = found.record.header
    events = access.reader.events(header.record_id)
    mo = header.direction.name == "MO"
    accepted = "Received from the carrier" if mo else "Accepted"
    steps = [
        Step(accepted, header.accepted_ms, None, "", (), PLAIN),
        Step(
            "Committed",
            None,
            None,
            "",
            (f"in row {found.seq:016x} of the log; its own time is not kept, and no answer was given before it",),
            PLAIN,
        ),
    ]
    before = header.accepted_ms
    carrier = ""
    for event in sorted(events, key=lambda one: one.time):
        moved = bool(carrier and event.upstream and event.upstream != carrier)
        steps.append(_step(access, event, event.time - before, moved, mo))
        before = event.time
        carrier = event.upstream or carrier
    return steps


def _step(access: Access, event: Event, gap: int, moved: bool, mo: bool) -> Step:
    what = _OURS.get(event.state, "")  # type: ignore[call-overload]
    if event.state == State.STORED:
        what = "Replaces another message"
    elif not what:
        what = f"Receipt: {state_name(event.state)}" if event.upstream_id else state_name(event.state)
    if mo and event.state == State.RECEIPT_DONE:
        what = "Acknowledged by the customer"
    facts = list(_facts(access, event, moved))
    look = BAD if event.state in _BAD else PLAIN
    if event.state in (State.DELIVERED, State.RECEIPT_DONE):
        look = GOOD
    return Step(what, event.time, gap, event.upstream, tuple(facts), look)


def _facts(access: Access, event: Event, moved: bool) -> Iterable[str]:
    if moved:
        yield "it took another carrier than before"
    if event.upstream_id:
        yield f"the carrier's id {printable(event.upstream_id.decode('latin-1'))}"
    if event.error:
        name = error_name(access, event)
        if not name and event.state in _BY_STATUS:
            name = wire.status_name(event.error)
        yield f"code {event.error}" + (f": {name}" if name else ", which has no name in the carrier's `error_table`")
    if event.duplicate:
        yield "possible duplicate: it may have reached the carrier before"


def gap_of(milliseconds: int | None) -> str:
    """`+12 ms`, `+3.4 s`, `+5 min 2 s`, `+2 h 3 min`, `+4 d 2 h`; empty where nobody knows. Negative where the
    clock was set back."""
    if milliseconds is None:
        return ""
    sign, left = ("-" if milliseconds < 0 else "+"), abs(milliseconds)
    if left < 1000:
        return f"{sign}{left} ms"
    if left < 60_000:
        return f"{sign}{left / 1000:.1f} s"
    seconds = left // 1000
    for size, unit, smaller, its in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{sign}{seconds // size} {unit}" + (f" {rest} {its}" if rest else "")
    return ""
