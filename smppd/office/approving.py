"""What one person asked for and another has to agree to: who may know of it, and who answers."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any, Final

from smppd.events import AuditEvent
from smppd.office.access import printable
from smppd.office.authority import request_facts
from smppd.office.desk import TOO_LATE, Office
from smppd.office.errors import OfficeError
from smppd.operators.approvals import ASKED, DENIED, GRANTED, Approvals, Request, may_agree
from smppd.operators.roles import Authority, may
from smppd.vault.mask import mask_digits, mask_number, mask_text

CONSOLE: Final = "console"
"""Who the audit trail names behind an operator who logged in to the console: the kernel knows nothing of him there."""
_NUMBERS: Final = frozenset({"number", "numbers", "subject"})
"""Facts that are phone numbers."""


def waiting(office: Office, authority: Authority, now: float) -> list[Request]:
    """What somebody asked for, and what he could answer. Raises StoreError and SealError."""
    return [one for one in Approvals(office.desk).all(now) if _concerns(one, authority)]


def answer(office: Office, authority: Authority, number: int, granted: bool, now: float) -> Request:
    """Grants a request or denies it, which is on the audit trail first; the request as it is then. OfficeError where it is none
    of his, and where he may not answer it. Raises StoreError and SealError."""
    approvals = Approvals(office.desk)
    found = approvals.load(number, now)
    if found is None or not _concerns(found[0], authority):
        raise OfficeError(f"no request {number} waits for you (any more)")
    request, paper = found
    refused = _why_not(office, request, authority) if granted else _why_no_denial(request)
    by = authority.operator or f"{authority.actor.who} (no login)"
    facts: dict[str, str | int] = {"action": GRANTED if granted else DENIED, **request_facts(request)}
    if not authority.operator:
        facts["login"] = "none"
    if refused:
        facts["why"] = refused
        office.record(AuditEvent.APPROVAL, authority.who, facts, "refused", authority.actor)
        raise OfficeError(refused)
    office.record(AuditEvent.APPROVAL, authority.who, facts, "done", authority.actor)
    after = approvals.answer(request, paper, granted, by, now)
    if after is None:
        facts["why"] = TOO_LATE
        office.record(AuditEvent.APPROVAL, authority.who, facts, "refused", authority.actor)
        raise OfficeError(f"somebody else answered request {request.number} just now: look again")
    return after


def _concerns(request: Request, authority: Authority) -> bool:
    """Whether somebody may know of a request: who asked, and who could do the same himself."""
    if not authority.operator:
        return os.geteuid() == 0
    return authority.operator == request.asker or may_agree(
        request, may(authority.roles, request.act), authority.accounts
    )


def _why_not(office: Office, request: Request, authority: Authority) -> str:
    """Why somebody cannot grant a request, empty where he can."""
    if request.state != ASKED:
        return f"request {request.number} was {request.state} already, by {request.by}"
    if authority.operator == request.asker:
        return "nobody agrees to what he asked for himself"
    if not authority.operator and request.person == CONSOLE:
        return "it was asked for in the console, and nobody can tell whether it was the same person: log in to agree"
    if not authority.operator and _person(authority.actor.who) == _person(request.person):
        return "whoever asked as an operator cannot agree without a login: it would be the same person"
    mine = office.people.get(authority.operator) if authority.operator else None
    if mine is not None and mine.by == request.asker:
        return f"{request.asker}, who asks, set up this login or changed it last: somebody else has to agree"
    return ""


def _why_no_denial(request: Request) -> str:
    return f"request {request.number} was denied already, by {request.by}" if request.state == DENIED else ""


def _person(who: str) -> str:
    return who.partition(" (")[0]


def as_dict(one: Request) -> dict[str, Any]:
    """A request as JSON has it, numbers masked."""
    return {
        "number": one.number,
        "state": one.state,
        "kind": one.kind,
        "what": {name: _shown(name, value) for name, value in one.what.items()},
        "asker": one.asker,
        "reason": one.reason,
        "note": printable(mask_digits(one.note)),
        "asked": iso(one.asked),
        "by": one.by,
        "until": iso(one.until),
    }


def _shown(name: str, value: str | int) -> str | int:
    if not isinstance(value, str):
        return value
    if name in _NUMBERS:
        return printable(" ".join(mask_number(number) for number in value.split()))
    return printable(mask_text(value))


def iso(seconds: float) -> str:
    """`2026-11-30T09:00:00Z`, of epoch seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
