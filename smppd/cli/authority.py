"""How a command learns on whose word it acts: `--operator`, a passphrase and a code, or an open session; and who else agreed,
where two have to.

Without a login root may do everything, and anybody else who can open the store as long as it has no operators. Both are said on
the audit trail. Whoever can read the key-encryption key can open the store with a program of his own: what is enforced here
keeps honest people to what they may, and writes down what they do.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from typing import Final

from smppd.audit.trail import Actor, current_actor
from smppd.cli.commands import CommandError, say
from smppd.cli.credentials import TokenFile, add_credentials, claim_of, claimed_address, place
from smppd.cli.desk import Office, has_people, open_office, told
from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.operators.approvals import ASKED, DENIED, GRANTED, Approvals, Request
from smppd.operators.login import REFUSAL_FLOOR, REFUSED, Claim, check
from smppd.operators.people import Operator
from smppd.operators.roles import Act, Authority, may
from smppd.operators.sessions import current

ANOTHER_PERSON: Final = 3
"""Exit status: it was asked for, and another person has to agree."""
NOBODY_YET: Final = "there are no operators yet: `smppd operators add`"
NEEDED: Final = "log in: --operator NAME, or `smppd login`"


def add_login(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a login."""
    parser.add_argument("--operator", metavar="NAME", help="who you are (`smppd operators`)")
    add_credentials(parser)


def authorise(act: Act, args: argparse.Namespace, settings: Settings) -> Authority:
    """On whose word a command does `act`: of the operator who logs in (`--operator`, or an open session), or of root without a
    login. CommandError when this person may not do it; the reason is the same for every kind of failed login. The refusal is on
    the audit trail."""
    actor = current_actor()
    with told():
        peopled = has_people(settings)
    if not peopled:
        if wanted(args) is not None:
            raise CommandError(NOBODY_YET, 2)
        return Authority(actor, act=act)
    with open_office(settings) as office:
        authority = identify(act, args, office, actor)
        if not authority.operator or may(authority.roles, act):
            return authority
        what = {"act": act.value, "reason": "role"}
        office.record(AuditEvent.LOGIN_REFUSED, authority.who, what, "refused", actor)
        raise CommandError(f"{authority.operator} may not do this: no role of his allows it ({act.value})")


def identify(act: Act | None, args: argparse.Namespace, office: Office, actor: Actor) -> Authority:
    """Who it is: the operator of `--operator`, of an open session, or nobody, where that is allowed for the act. CommandError
    otherwise."""
    name = wanted(args)
    if name is not None:
        if not office.people.any():
            raise CommandError(NOBODY_YET, 2)
        operator = log_in(office, claim_of(name, getattr(args, "credentials", None)), actor)
        return _authority(operator, actor, act)
    if getattr(args, "credentials", None) is not None:
        raise CommandError("--credentials are whose? Add --operator NAME", 2)
    tokens = token_file(office)
    token = tokens.read()
    if token is not None:
        session = current(office.desk, token, place(), claimed_address(), time.time())
        if session is not None and office.vouched(session.operator):
            return _authority(session.operator, actor, act)
        tokens.remove()
        say("Your session has ended.")
    if act is Act.SEARCH or os.geteuid() == 0 or not (office.people.any() or office.emptied()):
        return Authority(actor, act=act)
    what = {"act": "" if act is None else act.value, "reason": "no login"}
    office.record(AuditEvent.LOGIN_REFUSED, f"{actor.who} (no login)", what, "refused", actor)
    raise CommandError(f"this needs a login: {NEEDED}")


def wanted(args: argparse.Namespace) -> str | None:
    """The name after `--operator`."""
    name: str | None = getattr(args, "operator", None)
    return name


def log_in(office: Office, claim: Claim, actor: Actor) -> Operator:
    """The operator who says this. Waits and raises CommandError where it does not fit; both are on the audit trail."""
    began = time.monotonic()
    outcome = check(office.desk, claim, time.time(), claimed_address(), vouched=office.vouched)
    if outcome.refusals:
        # The name is hashed: somebody may have typed his passphrase there.
        facts: dict[str, str | int] = {"name": outcome.name, "count": outcome.refusals}
        if outcome.failure is not None:
            facts["reason"] = outcome.failure.value
        office.record(AuditEvent.LOGIN_REFUSED, actor.who, facts, "refused", actor)
    operator = outcome.operator
    if operator is None:
        time.sleep(max(0.0, REFUSAL_FLOOR - (time.monotonic() - began)))
        raise CommandError(REFUSED)
    facts = {"name": operator.name, "factor": "recovery code" if outcome.recovery else "code"}
    if outcome.recovery:
        facts["codes_left"] = len(operator.recovery)
    office.record(AuditEvent.LOGIN, f"{operator.name} ({actor.who})", facts, "done", actor)
    if outcome.recovery:
        left = len(operator.recovery)
        say(f"That recovery code is used up; {left} are left. `smppd operators reset` makes new ones.")
    return operator


def token_file(office: Office) -> TokenFile:
    """Where this user keeps the token of a session of this installation, at this terminal."""
    return TokenFile(office.desk.hash("install", place())[:24])


def _authority(operator: Operator, actor: Actor, act: Act | None) -> Authority:
    return Authority(actor, operator.name, operator.roles, operator.sees(), act)


# -- two people --------------------------------------------------------------------------------------------------------


def approver(
    authority: Authority, args: argparse.Namespace, settings: Settings, kind: str, what: Mapping[str, str | int]
) -> str:
    """The second person who agreed to exactly this act (`kind`, `what`), empty where none is needed because nobody logged in.
    Where nobody agreed yet the request is put down for another person, and CommandError (status 3) says so: then nothing was
    done."""
    with told():
        peopled = has_people(settings)
    if not peopled:
        return ""
    with open_office(settings) as office:
        if not authority.operator:
            facts: dict[str, str | int] = {"action": "not needed", "kind": kind, "reason": "no login", "login": "none"}
            office.record(AuditEvent.APPROVAL, authority.who, facts, "done", authority.actor)
            return ""
        return _second(authority, args, office, kind, what)


def _second(
    authority: Authority, args: argparse.Namespace, office: Office, kind: str, what: Mapping[str, str | int]
) -> str:
    approvals, now = Approvals(office.desk), time.time()
    request = approvals.find(authority.operator, kind, what, now)
    if request is not None and request.state == GRANTED:
        if office.granted(request):
            return request.by
        facts: dict[str, str | int] = {"action": "not as the audit trail left it", **request_facts(request)}
        office.record(AuditEvent.APPROVAL, authority.who, facts, "refused", authority.actor)
        approvals.remove(request.number)
        raise CommandError(
            f"request {request.number} was not granted by what the audit trail says: an older row of it was put back. It is"
            " taken away; run this again to ask anew"
        )
    if request is not None and request.state == DENIED:
        approvals.remove(request.number)  # told once; whoever asks again, asks anew
        raise CommandError(f"request {request.number} was denied by {request.by}")
    if request is None:
        if authority.act is None:
            raise AssertionError("whoever asks for another person was authorised for an act")
        request = approvals.ask(
            authority.operator,
            kind,
            authority.act,
            what,
            now,
            person=authority.actor.who,
            accounts=authority.accounts,
            note=str(getattr(args, "note", "") or ""),
            reason=str(getattr(args, "reason", "") or ""),
        )
        facts = {"action": ASKED, **request_facts(request)}
        office.record(AuditEvent.APPROVAL, authority.who, facts, "done", authority.actor)
    raise CommandError(
        f"asked for as request {request.number}: another person has to agree (`smppd approvals grant {request.number}`);"
        " then run this again",
        ANOTHER_PERSON,
    )


def request_facts(request: Request) -> dict[str, str | int]:
    """What the audit trail says of a request: nothing of what it is about, which may name a person's number."""
    return {
        "kind": request.kind,
        "number": request.number,
        "asker": request.asker,
        "reason": request.reason,
        "note": request.note,
    }
