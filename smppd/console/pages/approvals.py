"""What one person asked for and another has to agree to."""

from __future__ import annotations

from typing import Final

from smppd.console.page import Answer, Asked, Page, Refusal, go, show
from smppd.console.pages.saying import said, whole_number
from smppd.office.approving import answer, as_dict, iso, waiting
from smppd.office.desk import open_office
from smppd.operators.approvals import ASKED


@said
def _approvals(asked: Asked) -> Answer:
    if asked.method == "POST":
        return _answer(asked)
    with open_office(asked.settings) as office:
        requests = waiting(office, asked.authority, asked.now)
    rows = [
        {**as_dict(one), "mine": one.asker == asked.authority.operator, "open": one.state == ASKED} for one in requests
    ]
    return show("approvals", rows=rows)


def _answer(asked: Asked) -> Answer:
    number = whole_number(asked.form.get("number", ""), 1, (1 << 53) - 1)
    what = asked.form.get("answer")
    if what not in ("grant", "deny"):
        raise Refusal(400, "Agree or deny.")
    with open_office(asked.settings) as office:
        after = answer(office, asked.authority, number, what == "grant", asked.now)
    if what == "grant":
        return go("/approvals", f"Request {number} is granted: {after.asker} may do it until {iso(after.until)}.")
    return go("/approvals", f"Request {number} is denied.")


PAGES: Final = (Page("/approvals", "Approvals", None, _approvals, menu="People", owners=True, posts=True),)
