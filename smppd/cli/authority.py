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
from pathlib import Path
from typing import Final

from smppd.audit.trail import Actor, current_actor
from smppd.cli.commands import CommandError, say
from smppd.cli.credentials import TokenFile, add_credentials, claim_of, claimed_address, place
from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.office.authority import approver as office_approver
from smppd.office.authority import authority_of, check_role
from smppd.office.desk import Office, has_people, open_office, told
from smppd.operators.login import REFUSAL_FLOOR, REFUSED, Claim, check
from smppd.operators.people import Operator
from smppd.operators.roles import Act, Authority
from smppd.operators.sessions import current

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
        if authority.operator:
            check_role(office, authority, act)
        return authority


def identify(act: Act | None, args: argparse.Namespace, office: Office, actor: Actor) -> Authority:
    """Who it is: the operator of `--operator`, of an open session, or nobody, where that is allowed for the act. CommandError
    otherwise."""
    name = wanted(args)
    if name is not None:
        if not office.people.any():
            raise CommandError(NOBODY_YET, 2)
        operator = log_in(office, claim_of(name, getattr(args, "credentials", None)), actor)
        return authority_of(operator, actor, act)
    if getattr(args, "credentials", None) is not None:
        raise CommandError("--credentials are whose? Add --operator NAME", 2)
    tokens = token_file(office)
    token = tokens.read()
    if token is not None:
        session = current(office.desk, token, place(), claimed_address(), time.time())
        if session is not None and office.vouched(session.operator):
            return authority_of(session.operator, actor, act)
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


def is_believed(directory: Path) -> bool:
    """Whether the daemon believes this user who he is: root, and the user that it runs as itself. directory: its store's; where
    there is none, everybody is, and hears of it from the daemon that is not there."""
    try:
        return os.geteuid() in (0, directory.stat().st_uid)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False


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


# -- two people --------------------------------------------------------------------------------------------------------


def approver(
    authority: Authority, args: argparse.Namespace, settings: Settings, kind: str, what: Mapping[str, str | int]
) -> str:
    """See `office.authority.approver`; reason and note are the command's."""
    note, reason = (str(getattr(args, name, "") or "") for name in ("note", "reason"))
    return office_approver(authority, settings, kind, what, note, reason)
