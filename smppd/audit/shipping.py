"""What leaves the host of the audit trail and of the log's seals: one JSON object a line, and how far each target has it.

A line is plain ASCII: what is beyond it is written as JSON's escapes, so that no relay of any locale changes a character. It
holds what the trail and the seals hold, which is neither content nor numbers nor secrets, and can be verified by itself:
`records.shipped`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from smppd.audit.trail import AuditTrail, TrailRow
from smppd.durable import replace_file
from smppd.events import AuditEvent
from smppd.vault.chain import seal_hash
from smppd.vault.seal import DIGEST_BYTES

ZERO: Final = bytes(DIGEST_BYTES)
MARKS: Final = 40
"""So many earlier places are remembered of a target, nearer ones more closely: where the trail was put back to an older
copy, it is sent again from the newest that still stands."""
TARGETS: Final = ("file", "syslog")
"""Names of the targets that there may be."""
_SPACING: Final = 100
_VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ShippingError(Exception):
    """A target does not take anything now. The text is one sentence without content."""

    begun = False
    """Some of it may have arrived all the same."""


class Mark(NamedTuple):
    """How far somebody has got. audit, hash: the last entry of the trail; seal, seal_hash: the last seal of the log. 0 and
    zeros for none."""

    def covers(self, other: Mark) -> bool:
        """Whether it is as far as another in both."""
        return self.audit >= other.audit and self.seal >= other.seal

    audit: int = 0
    hash: bytes = ZERO
    seal: int = 0
    seal_hash: bytes = ZERO


class Line(NamedTuple):
    """One thing to ship. mark: how far one is with it; at_ms: when it was made, epoch milliseconds; facts: the JSON object;
    row: the entry of the trail, None for a seal; again: it may have been sent before."""

    mark: Mark
    at_ms: int
    facts: dict[str, Any]
    row: TrailRow | None
    again: bool = False

    def text(self, target: str) -> str:
        """The line for a target, without its end."""
        facts = {**self.facts, "target": target}
        if self.again:
            facts["again"] = True
        return json.dumps(facts, ensure_ascii=True, separators=(",", ":"))


def audit_line(row: TrailRow, before: Mark, installation: str) -> Line:
    """The line of an entry of the trail. installation: fingerprint of the key that signs its seals."""
    facts = {
        "kind": "audit",
        "id": row.id,
        "at": iso(row.at_ms),
        "event": row.event,
        "who": row.who,
        "source": row.source,
        "what": _readable(row.what),
        "result": row.result,
        "hash": row.hash.hex(),
        "mac": row.mac.hex(),
        "installation": installation,
    }
    return Line(before._replace(audit=row.id, hash=row.hash), row.at_ms, facts, row)


def seal_line(number: int, signed: bytes, at_ms: int, before: Mark, installation: str) -> Line:
    """The line of a seal (`vault.chain.Seal`). at_ms: when it was made."""
    digest = seal_hash(signed)
    facts = {
        "kind": "seal",
        "number": number,
        "at": iso(at_ms),
        "hash": digest.hex(),
        "signed": signed.hex(),
        "installation": installation,
    }
    return Line(before._replace(seal=number, seal_hash=digest), at_ms, facts, None)


def iso(at_ms: int) -> str:
    """`2026-11-30T12:00:00.123Z`. at_ms: epoch milliseconds."""
    try:
        at = _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:  # somebody wrote into the file; the hash says so
        at = _EPOCH
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"


def milliseconds(text: str) -> int:
    """The inverse of `iso`. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", text):
        raise ValueError("no time of smppd")
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)


def stored_what(value: object) -> str:
    """The text of `what` as the trail stores it, from what a line has there."""
    return value if isinstance(value, str) else _canonical(value)


def _canonical(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _readable(text: str) -> object:
    """An object where the text can be made of it again, octet for octet; else the text itself."""
    with suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, dict) and _canonical(value) == text:
            return value
    return text


# -- what there is to ship -------------------------------------------------------------------------------------------


class SealReader(Protocol):
    """Reads the seals of the log. Raises the store's error."""

    def seals_after(self, number: int, limit: int) -> list[tuple[int, bytes]]:
        """(number, signed) of the first `limit` seals above a number."""

    def newest_seal(self) -> tuple[int, bytes] | None:
        """(number, signed)."""

    def first_seal(self) -> int | None:
        """The lowest number there is: a purge deletes those that cover only deleted rows."""

    def seal(self, number: int) -> bytes | None:
        """A seal, signed."""


class Found(NamedTuple):
    """What stands behind a mark: the first lines, and how many things there are in all."""

    lines: list[Line]
    backlog: int


class Source:
    """The trail and the seals, as they grow. For one thread. Raises VaultError and the store's error."""

    def __init__(self, trail: AuditTrail, seal_time: Callable[[bytes], int], installation: str) -> None:
        """seal_time(signed): when a seal was made, epoch milliseconds; raises SealError. The trail stays the caller's."""
        self._trail = trail
        self._seal_time = seal_time
        self._installation = installation

    def newest(self, seals: SealReader) -> Mark:
        """The end of both."""
        number, digest = self._trail.head()
        newest = seals.newest_seal()
        return Mark(number, digest, *((0, ZERO) if newest is None else (newest[0], seal_hash(newest[1]))))

    def holds(self, seals: SealReader, mark: Mark) -> bool:
        """Whether the trail and the log still have what a mark names. What a purge took away is no difference."""
        if mark.audit and self._trail.hash_of(mark.audit) != mark.hash:
            return False
        if not mark.seal:
            return True
        signed = seals.seal(mark.seal)
        if signed is None:
            return mark.seal < (seals.first_seal() or 0)
        return seal_hash(signed) == mark.seal_hash

    def after(self, seals: SealReader, mark: Mark, limit: int) -> Found:
        """The first lines behind a mark: entries of the trail, then seals."""
        lines: list[Line] = []
        at = mark
        for row in self._trail.rows_after(mark.audit, limit):
            lines.append(audit_line(row, at, self._installation))
            at = lines[-1].mark
        for number, signed in seals.seals_after(mark.seal, limit - len(lines)) if len(lines) < limit else ():
            lines.append(seal_line(number, signed, self._seal_time(signed), at, self._installation))
            at = lines[-1].mark
        end = self.newest(seals)
        return Found(lines, max(len(lines), end.audit - mark.audit + end.seal - mark.seal))


# -- how far a target is ---------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """How far a target is. sent: it was given all up to here. sure: it has all up to here for certain; what is between may have
    been lost with a link. marks: earlier places, oldest first."""

    sent: Mark = Mark()
    sure: Mark = Mark()
    marks: tuple[Mark, ...] = ()

    def moved(self, sent: Mark, sure: Mark) -> Place:
        """The place further on."""
        marks = self.marks
        last = marks[-1] if marks else Mark()
        if sure.audit + sure.seal >= last.audit + last.seal + _SPACING:
            marks = (*marks, sure)
            if len(marks) > MARKS:  # every second one of the older half goes
                half = len(marks) // 2
                marks = (*marks[:half:2], *marks[half:])
        return Place(sent, sure, marks)

    def earlier(self) -> Iterator[Mark]:
        """The places to go back to, newest first; the beginning last."""
        yield from reversed(self.marks)
        yield Mark()


class Cursor:
    """Keeps the place of a target in a small file, which is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Place | None:
        """The place, None where there is none yet. Raises ShippingError if the file cannot be read or understood: whoever goes
        on from nowhere would send everything again."""
        try:
            text = self.path.read_text("ascii")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ShippingError(f"{self.path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        try:
            found = json.loads(text)
            if found["version"] != _VERSION:
                raise ValueError
            return Place(_mark(found["sent"]), _mark(found["sure"]), tuple(map(_mark, found["marks"])))
        except (ValueError, KeyError, TypeError):
            raise ShippingError(f"{self.path} is not what smppd wrote; without it everything is sent again") from None

    def save(self, place: Place) -> None:
        """Durable when it returns. Raises ShippingError."""
        values = {
            "version": _VERSION,
            "sent": _packed(place.sent),
            "sure": _packed(place.sure),
            "marks": [_packed(mark) for mark in place.marks],
        }
        try:
            replace_file(self.path, json.dumps(values).encode("ascii"))
        except OSError as error:
            raise ShippingError(f"{self.path} cannot be written: {error.strerror or error}") from None


def cursor_path(directory: Path, target: str) -> Path:
    """The file of a target's place, in the store's directory."""
    return directory / f"shipping-{target}.json"


def _packed(mark: Mark) -> list[int | str]:
    return [mark.audit, mark.hash.hex(), mark.seal, mark.seal_hash.hex()]


def _mark(value: Any) -> Mark:
    audit, digest, seal, seal_digest = value
    mark = Mark(int(audit), bytes.fromhex(digest), int(seal), bytes.fromhex(seal_digest))
    if mark.audit < 0 or mark.seal < 0 or len(mark.hash) != DIGEST_BYTES or len(mark.seal_hash) != DIGEST_BYTES:
        raise ValueError
    return mark


# -- who acted without a login ---------------------------------------------------------------------------------------

_NEEDS_LOGIN: Final = frozenset(
    {
        AuditEvent.REVEAL,
        AuditEvent.EXPORT,
        AuditEvent.ERASURE,
        AuditEvent.HOLD,
        AuditEvent.EVIDENCE,
        AuditEvent.PURGE,
        AuditEvent.KEY,
        AuditEvent.OPERATOR,
        AuditEvent.APPROVAL,
        AuditEvent.BAN_LIFTED,
        AuditEvent.DAMAGED,
    }
)
NO_LOGIN: Final = "(no login)"


def without_login(row: TrailRow) -> bool:
    """Whether an entry is of an act that needs a login, and was done without one. The daemon's own acts need none, and say
    nothing of it; what it did because a command asked says so."""
    if row.event not in _NEEDS_LOGIN:
        return False
    if row.who.endswith(NO_LOGIN):
        return True
    with suppress(ValueError):
        what = json.loads(row.what)
        return isinstance(what, dict) and what.get("login") == "none"
    return False
