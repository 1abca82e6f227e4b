"""`smppd approvals list|grant|deny`: what one person asked for and another has to agree to."""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import UTC, datetime
from typing import Any

from smppd.audit.trail import current_actor
from smppd.cli.access import printable
from smppd.cli.authority import add_login, identify, request_facts
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.desk import TOO_LATE, Office, has_people, open_office, told
from smppd.events import AuditEvent
from smppd.operators.approvals import ASKED, DENIED, GRANTED, WINDOW, Approvals, Request, may_agree
from smppd.operators.roles import Authority, may
from smppd.vault.mask import mask_digits, mask_number, mask_text

_NUMBERS = frozenset({"number", "numbers", "subject"})
"""Facts that are phone numbers."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "approvals",
        help="agree to what another person asked for, or deny it",
        description="What one person asked for and another has to agree to. Who agrees must be allowed to do the same, and"
        " cannot be the one who asked. What was granted may be done for an hour; what nobody answers ends after three days.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what you asked for, and what waits for you")
    grant = actions.add_parser("grant", help="agree to a request")
    deny = actions.add_parser("deny", help="deny a request, withdraw one of your own, or end what was granted")
    for one in (grant, deny):
        one.add_argument("number", type=_number, metavar="N", help="the number of the request")
    add_json(listing)
    for one in (listing, grant, deny):
        add_login(one)
        add_config(one)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `approvals ACTION`; 0, 1 when it was refused, 2 without a store."""
    settings = load_settings(args)
    with told():
        if not has_people(settings):
            raise CommandError("there are no operators yet, so nothing waits for two of them", 2)
    with open_office(settings) as office:
        authority = identify(None, args, office, current_actor())
        if args.action == "list":
            return _list(office, authority, args)
        return _answer(office, authority, args, args.action == "grant")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 53:
        raise argparse.ArgumentTypeError("must be the number of a request")
    return int(text)


# -- answering ---------------------------------------------------------------------------------------------------------


def _answer(office: Office, authority: Authority, args: argparse.Namespace, granted: bool) -> int:
    approvals, now = Approvals(office.desk), time.time()
    found = approvals.load(args.number, now)
    if found is None or not _concerns(found[0], authority):
        raise CommandError(f"no request {args.number} waits for you (any more)")
    request, paper = found
    refused = _why_not(office, request, authority) if granted else _why_no_denial(request, authority)
    by = authority.operator or f"{authority.actor.who} (no login)"
    facts: dict[str, str | int] = {"action": GRANTED if granted else DENIED, **request_facts(request)}
    if not authority.operator:
        facts["login"] = "none"
    if refused:
        facts["why"] = refused
        office.record(AuditEvent.APPROVAL, authority.who, facts, "refused", authority.actor)
        raise CommandError(refused)
    office.record(AuditEvent.APPROVAL, authority.who, facts, "done", authority.actor)
    after = approvals.answer(request, paper, granted, by, now)
    if after is None:
        facts["why"] = TOO_LATE
        office.record(AuditEvent.APPROVAL, authority.who, facts, "refused", authority.actor)
        raise CommandError(f"somebody else answered request {request.number} just now: look again")
    if granted:
        say(
            f"Request {request.number} is granted: {request.asker} may do it until {_iso(after.until)}"
            f" ({round(WINDOW / 60)} minutes)."
        )
    else:
        say(f"Request {request.number} is denied.")
    return 0


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
    if not authority.operator and _person(authority.actor.who) == _person(request.person):
        return "whoever asked as an operator cannot agree without a login: it would be the same person"
    mine = office.people.get(authority.operator) if authority.operator else None
    if mine is not None and mine.by == request.asker:
        return f"{request.asker}, who asks, set up this login or changed it last: somebody else has to agree"
    return ""


def _why_no_denial(request: Request, authority: Authority) -> str:
    return f"request {request.number} was denied already, by {request.by}" if request.state == DENIED else ""


def _person(who: str) -> str:
    return who.partition(" (")[0]


# -- list --------------------------------------------------------------------------------------------------------------


def _list(office: Office, authority: Authority, args: argparse.Namespace) -> int:
    requests = [one for one in Approvals(office.desk).all(time.time()) if _concerns(one, authority)]
    rows = [_facts(one) for one in requests]
    if args.json:
        print(json.dumps({"requests": rows}, indent=2))
        return 0
    for row in rows:
        what = "  ".join(f"{name}={value}" for name, value in row["what"].items())
        print(f"{row['number']}  {row['state']}  {row['kind']}  asked by {row['asker']} {row['asked']}")
        print(f"    {what}")
        if row["reason"] or row["note"]:
            print(f"    reason: {row['reason'] or 'none'}  note: {row['note'] or 'none'}")
        print(f"    {'answered by ' + row['by'] + ', ' if row['by'] else ''}ends {row['until']}")
    say(f"{len(rows)} request{'s' * (len(rows) != 1)}.")
    return 0


def _facts(one: Request) -> dict[str, Any]:
    return {
        "number": one.number,
        "state": one.state,
        "kind": one.kind,
        "what": {name: _shown(name, value) for name, value in one.what.items()},
        "asker": one.asker,
        "reason": one.reason,
        "note": printable(mask_digits(one.note)),
        "asked": _iso(one.asked),
        "by": one.by,
        "until": _iso(one.until),
    }


def _shown(name: str, value: str | int) -> str | int:
    if not isinstance(value, str):
        return value
    if name in _NUMBERS:
        return printable(" ".join(mask_number(number) for number in value.split()))
    return printable(mask_text(value))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
