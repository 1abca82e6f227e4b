"""The lines of the feed: one JSON object each, made of a row of the log or of an entry of the audit trail.

Version 1, described in docs/feed.md. A line never holds a text; of numbers it holds nothing, or the masked form. Pure ASCII.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

from smppd.audit.trail import TrailRow
from smppd.events import AuditEvent
from smppd.message import Event, State, masked
from smppd.records.places import BadPlace, Place

VERSION: Final = 1
ACCEPTED: Final = "accepted"
RECEIVED: Final = "received"
GAP: Final = "gap"
MARK: Final = "mark"
BY_STATE: Final[dict[int, str]] = {
    State.SCHEDULED: "scheduled",
    State.ENROUTE: "receipt",
    State.DELIVERED: "receipt",
    State.EXPIRED: "expired",
    State.DELETED: "deleted",
    State.UNDELIVERABLE: "receipt",
    State.ACCEPTED: "receipt",
    State.UNKNOWN: "unknown",
    State.REJECTED: "rejected",
    State.SKIPPED: "replaced",
    State.STORED: "replaces",
    State.REFUSED: "refused",
    State.SUBMITTED: "submitted",
    State.UNANSWERED: "unanswered",
    State.RESENT: "resent",
    State.OPTED_OUT: "opted_out",
    State.RECEIPT_DONE: "acknowledged",
    State.RECEIPT_EXPIRED: "not_taken",
    State.OPTED_IN: "opted_in",
}
"""What an event of the log is called in the feed."""
OF_TRAIL: Final = ("suspended", "resumed", "opted_out", "opted_in")
"""What entries of the audit trail are called."""
EVENTS: Final = tuple(sorted({ACCEPTED, RECEIVED, *BY_STATE.values(), *OF_TRAIL}))
"""All that may be asked for. Gaps and marks come always."""

_OF_HANDSETS: Final = (State.OPTED_OUT, State.OPTED_IN)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))
_CURSOR: Final = re.compile(r"([0-9a-f]{16}-[0-9]{1,9})\.([0-9]{1,18})")
_SUSPENSIONS: Final = {"suspended": "suspended", "lifted": "resumed"}
_ACTS: Final = {"suspend": "suspended", "resume": "resumed"}
_OPT_OUTS: Final = {"add": "opted_out", "remove": "opted_in", "import": "opted_out"}


class Cursor(NamedTuple):
    """Where somebody is in the feed. log: in the log; trail: the last entry of the audit trail."""

    log: Place = Place()
    trail: int = 0

    def __str__(self) -> str:
        return f"{self.log}.{self.trail}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`. Raises BadPlace."""
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise BadPlace(
                "a cursor of the feed is taken as it was given: 16 hexadecimal digits, `-`, a number, `.`, a number"
            )
        return cls(Place.parse(found[1]), int(found[2]))


class About(NamedTuple):
    """What the feed says of a record. source, destination: masked; empty where they are not told or cannot be read."""

    account: str
    mo: bool
    parts: int
    source: str = ""
    destination: str = ""

    def __repr__(self) -> str:
        return f"<About {self.account} ***>"


NOBODY: Final = About("", False, 0)
"""Of a record that is not there any more."""


class Line(NamedTuple):
    """One line: the cursor that stands in it, and the whole of it with its line end."""

    cursor: Cursor
    data: bytes

    def __repr__(self) -> str:
        return f"<Line {self.cursor}>"


class Wanted(NamedTuple):
    """What a feed tells: empty for everything."""

    accounts: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()

    def takes(self, account: str, event: str) -> bool:
        """Whether a line with these is told. Where accounts are named, what is of none of them, or of nobody, is not."""
        return (not self.accounts or account in self.accounts) and (not self.events or event in self.events)


def record_line(cursor: Cursor, identity: int, accepted_ms: int, about: About) -> Line:
    """A customer's message is on record."""
    facts: dict[str, Any] = {
        "event": ACCEPTED,
        "at": iso(accepted_ms),
        **_message(identity, about),
        "state": State.STORED.name,
        "parts": about.parts,
    }
    return _line(cursor, str(cursor.log), facts)


def event_line(cursor: Cursor, event: Event, about: About) -> Line:
    """Something happened to a message."""
    facts: dict[str, Any] = {
        "event": event_name(event, about),
        "at": iso(event.time),
        **_message(event.id, about),
        "state": State(event.state).name if event.state in BY_STATE else str(event.state),
    }
    if event.upstream and event.state not in _OF_HANDSETS:
        facts["upstream"] = event.upstream
    if event.upstream_id:
        facts["upstream_id"] = event.upstream_id.decode("latin-1")
    if event.error:
        facts["error"] = event.error
    if event.duplicate:
        facts["possible_duplicate"] = True
    return _line(cursor, str(cursor.log), facts)


def event_name(event: Event, about: About) -> str:
    """What an event of the log is called in the feed."""
    if about.mo and event.state == State.ACCEPTED:
        return RECEIVED  # a handset's message has its record and this event in one commit
    return BY_STATE.get(event.state, f"state_{event.state}")


def about_event(event: Event, about: About) -> About:
    """What is known of an event's record. A word of a handset that has no record where it counts names its account itself."""
    if about is NOBODY and event.state in _OF_HANDSETS:
        return About(event.upstream, True, 0)
    return about


def masked_parties(addresses: bytes) -> tuple[str, str]:
    """Sender and recipient of a record's opened numbers part (`vault.seal.NumbersPart.addresses`), masked."""
    end = addresses.index(0, 2)
    both = (addresses[0], addresses[2:end]), (addresses[end + 1], addresses[end + 3 : addresses.index(0, end + 3)])
    source, destination = (masked(b"+" + digits if ton == 1 and digits.isdigit() else digits) for ton, digits in both)
    return source, destination


def _message(identity: int, about: About) -> dict[str, Any]:
    facts: dict[str, Any] = {"id": f"{identity:016x}", "account": about.account or None}
    if about.source or about.destination:
        facts |= {"from": about.source, "to": about.destination}
    return facts


def trail_line(cursor: Cursor, row: TrailRow) -> tuple[str, str, Line] | None:
    """(account, event, line) of an entry of the audit trail; None for one that the feed does not
    tell. An opt-out by a handset's word is an event of its message in the log, and not told twice."""
    try:
        facts = json.loads(row.what)
    except ValueError:
        return None
    if not isinstance(facts, dict):
        return None
    action = str(facts.get("action", ""))
    if row.event == AuditEvent.SUSPENSION:
        name = _SUSPENSIONS.get(action, "")
    elif row.event == AuditEvent.OPT_OUT and row.result == "done" and "word" not in facts:
        name = _OPT_OUTS.get(action, "")
        if action == "review" and facts.get("suppress"):  # a person read what a handset said, and took it for a refusal
            name = "opted_out"
    elif row.event == AuditEvent.ACT and row.result == "done":
        name = _ACTS.get(str(facts.get("act", "")), "")
        facts["account"] = str(facts.get("target", "")).removeprefix("account:")
    else:
        name = ""
    if not name:
        return None
    account = str(facts.get("account", ""))
    said: dict[str, Any] = {"event": name, "at": iso(row.at_ms), "account": account or None}
    said |= {one: facts[one] for one in ("reason", "hits", "entries") if one in facts}
    return account, name, _line(cursor, f"a{cursor.trail}", said)


def gap_line(cursor: Cursor, before: Cursor, reason: str, now_ms: int) -> Line:
    """What lay between two cursors is not there any more. reason: ``purged``, ``restored`` where the store is an older one
    than the feed was made of, ``damaged`` where a row was altered and cannot be read."""
    facts = {"event": GAP, "at": iso(now_ms), "reason": reason, "from": str(before), "to": str(cursor)}
    return _line(cursor, f"g{cursor.log}", facts)


def mark_line(cursor: Cursor, now_ms: int) -> Line:
    """Nothing is told, and the reader is so far."""
    return _line(cursor, "", {"event": MARK, "at": iso(now_ms)})


def error_line(code: str, sentence: str) -> bytes:
    """Why a connection ends."""
    return json.dumps({"v": VERSION, "error": sentence, "code": code}).encode("ascii") + b"\n"


def _line(cursor: Cursor, key: str, facts: dict[str, Any]) -> Line:
    whole = {"v": VERSION, "cursor": str(cursor), **({"key": key} if key else {}), **facts}
    return Line(cursor, _ENCODER.encode(whole).encode("ascii") + b"\n")


def cursor_of(line: bytes) -> Cursor | None:
    """The cursor of a line; None where it is none of the feed's."""
    try:
        facts = json.loads(line)
        return Cursor.parse(facts["cursor"])
    except (ValueError, KeyError, TypeError):
        return None


def iso(at_ms: int) -> str:
    """`2026-11-30T12:00:00.123Z`. at_ms: epoch milliseconds."""
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"


@lru_cache(maxsize=64)
def _second(at: int) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):  # somebody wrote into the log
        return "1970-01-01T00:00:00"
