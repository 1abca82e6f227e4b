"""Holds: which records the law forbids to destroy. Asked for here, and released with another person's word."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from smppd.console.page import Answer, Asked, Page, Refusal, go, show
from smppd.console.pages.saying import PAGE, accounts, moment, said, whole_number
from smppd.office.errors import ANOTHER_PERSON, OfficeError
from smppd.office.holding import Order, as_dict, asked_for, iso, one_of, open_hold_desk, open_holds, sees
from smppd.operators.roles import Act
from smppd.records.holds import PENDING, HoldState

_FIELDS: Final = ("number", "region", "account", "since", "until", "authority", "reference", "expires")


@said
def _holds(asked: Asked) -> Answer:
    if asked.method == "POST":
        return _add(asked)
    with closing(open_holds(asked.settings)) as holds:
        every = [one for one in holds.all() if sees(one, asked.authority)]
    every.sort(key=lambda one: (not one.lives, -one.number))
    return show(
        "holds",
        holds=[as_dict(one) for one in every[:PAGE]],
        in_all=len(every),
        living=sum(one.lives for one in every),
        accounts_offered=accounts(asked),
        given=dict.fromkeys(_FIELDS, ""),
    )


def _add(asked: Asked) -> Answer:
    form = {name: asked.form.get(name, "").strip() for name in _FIELDS}
    expires = moment(asked, "expires")
    if expires is None:
        raise Refusal(400, "Say when it expires: ten years from now at most.")
    since, until = moment(asked, "since"), moment(asked, "until")
    order = Order(
        form["number"] or None,
        form["account"] or None,
        0.0 if since is None else since / 1000,
        None if until is None else until / 1000,
        form["region"] or None,
        asked.form.get("also_national") == "yes",
        form["authority"],
        form["reference"],
        expires / 1000,
    )
    hold = asked_for(asked.settings, order, asked.authority, asked.now)
    with open_hold_desk(asked.settings, asked.authority) as desk:
        hold = desk.ask(hold)
        if hold.state is HoldState.ACTIVE:
            return go("/holds", f"Hold {hold.number} is active already, until {iso(hold.expires)}.")
        try:
            hold = desk.activate(hold)
        except OfficeError as error:
            if error.status != ANOTHER_PERSON:
                raise
            ends = iso(min(hold.ends, hold.added + PENDING))
            return go(
                "/holds",
                f"Hold {hold.number} protects from now on, until {ends} at the latest. Another person has to agree to request"
                f" {error.request}; then activate it.",
            )
    return go("/holds", f"Hold {hold.number} is active until {iso(hold.expires)}.")


@said
def _hold(asked: Asked) -> Answer:
    number = whole_number(asked.args["number"], 1, (1 << 31) - 1)
    if asked.method == "POST":
        return _change(asked, number)
    with closing(open_holds(asked.settings)) as holds:
        hold = one_of(holds, number, asked.authority)
        count = holds.rows.count(number) if hold.lives else 0
    return show("hold", title=f"Hold {number}", hold=as_dict(hold), lives=hold.lives, records=count)


def _change(asked: Asked, number: int) -> Answer:
    what = asked.form.get("what")
    with open_hold_desk(asked.settings, asked.authority) as desk:
        if what == "activate":
            hold = desk.activate(desk.one(number))
            return go(f"/holds/{number}", f"Hold {number} is active until {iso(hold.expires)}.")
        if what == "release":
            desk.release(number)
            return go(f"/holds/{number}", f"Hold {number} is released: what only it kept cannot be opened any more.")
    raise Refusal(400, "Say what is to be done with it.")


PAGES: Final = (
    Page("/holds", "Holds", Act.HOLD, _holds, menu="People", posts=True),
    Page("/holds/{number}", "A hold", Act.HOLD, _hold, posts=True),
)
