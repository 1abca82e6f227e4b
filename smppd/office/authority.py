"""On whose word something is done: what somebody who has logged in may do, and who else agreed, where two have to.

How he logged in is the business of whoever serves him: a command (`cli.authority`), the console's sessions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from smppd.audit.trail import Actor
from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.office.desk import Office, has_people, open_office, told
from smppd.office.errors import ANOTHER_PERSON, OfficeError
from smppd.operators.approvals import ASKED, DENIED, GRANTED, MOST, Approvals, Request
from smppd.operators.people import Operator
from smppd.operators.roles import Act, Authority, may


def authority_of(operator: Operator, actor: Actor, act: Act | None) -> Authority:
    """The word of an operator who has logged in. actor: through what, and from where."""
    return Authority(actor, operator.name, operator.roles, operator.sees(), act)


def check_role(office: Office, authority: Authority, act: Act) -> None:
    """OfficeError where no role of an operator allows an act; the refusal is on the audit trail. Nobody who logged in nowhere
    comes here."""
    if may(authority.roles, act):
        return
    what = {"act": act.value, "reason": "role"}
    office.record(AuditEvent.LOGIN_REFUSED, authority.who, what, "refused", authority.actor)
    raise OfficeError(f"{authority.operator} may not do this: no role of his allows it ({act.value})")


# -- two people --------------------------------------------------------------------------------------------------------


def approver(
    authority: Authority,
    settings: Settings,
    kind: str,
    what: Mapping[str, str | int],
    note: str = "",
    reason: str = "",
) -> str:
    """The second person who agreed to exactly this act (`kind`, `what`), empty where none is needed because nobody logged in.
    Where nobody agreed yet the request is put down for another person, and OfficeError (ANOTHER_PERSON, with the request's
    number) says so: then nothing was done."""
    with told():
        peopled = has_people(settings)
    if not peopled:
        return ""
    with open_office(settings) as office:
        if not authority.operator:
            facts: dict[str, str | int] = {"action": "not needed", "kind": kind, "reason": "no login", "login": "none"}
            office.record(AuditEvent.APPROVAL, authority.who, facts, "done", authority.actor)
            return ""
        return _second(authority, office, kind, what, note, reason)


def _second(
    authority: Authority, office: Office, kind: str, what: Mapping[str, str | int], note: str, reason: str
) -> str:
    approvals, now = Approvals(office.desk), time.time()
    request = approvals.find(authority.operator, kind, what, now)
    if request is not None and request.state == GRANTED:
        if office.granted(request):
            return request.by
        facts: dict[str, str | int] = {"action": "not as the audit trail left it", **request_facts(request)}
        office.record(AuditEvent.APPROVAL, authority.who, facts, "refused", authority.actor)
        approvals.remove(request.number)
        raise OfficeError(
            f"request {request.number} was not granted by what the audit trail says: an older row of it was put back. It is"
            " taken away; run this again to ask anew"
        )
    if request is not None and request.state == DENIED:
        approvals.remove(request.number)  # told once; whoever asks again, asks anew
        raise OfficeError(f"request {request.number} was denied by {request.by}")
    if request is None:
        if authority.act is None:
            raise AssertionError("whoever asks for another person was authorised for an act")
        if not approvals.may_ask(authority.operator, now):
            raise OfficeError(
                f"{MOST} requests of yours are open: they have to be answered, or be over, before you ask for more"
            )
        request = approvals.ask(
            authority.operator,
            kind,
            authority.act,
            what,
            now,
            person=authority.actor.who,
            accounts=authority.accounts,
            note=note,
            reason=reason,
        )
        facts = {"action": ASKED, **request_facts(request)}
        office.record(AuditEvent.APPROVAL, authority.who, facts, "done", authority.actor)
    raise OfficeError(
        f"asked for as request {request.number}: another person has to agree (`smppd approvals grant {request.number}`);"
        " then run this again",
        ANOTHER_PERSON,
        request.number,
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
