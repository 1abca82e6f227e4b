"""Erasures: where each stands, its certificate, and a form that asks for one. They are run by a command."""

from __future__ import annotations

from typing import Final

from smppd.console.page import Answer, Asked, Page, Refusal, download, go, show
from smppd.console.pages.saying import PAGE, account, accounts, said, whole_number, why
from smppd.office.access import REASONS
from smppd.office.desk import open_office
from smppd.office.erasures import ask, certificate, erasures, wishes, withdraw
from smppd.office.numbers import typed
from smppd.operators.roles import Act


@said
def _erasures(asked: Asked) -> Answer:
    if asked.method == "POST":
        return _asked_for(asked)
    with open_office(asked.settings) as office:
        waiting = wishes(office, asked.now)
    run, in_all = erasures(asked.settings, PAGE)
    return show(
        "erasures",
        wishes=[one.as_dict() for one in waiting],
        erasures=run,
        in_all=in_all,
        accounts_offered=accounts(asked),
        reasons=REASONS,
        given={"account": "", "reason": "", "note": ""},
    )


def _asked_for(asked: Asked) -> Answer:
    if asked.form.get("withdraw"):
        number = whole_number(asked.form["withdraw"], 1, (1 << 53) - 1)
        with open_office(asked.settings) as office:
            withdraw(office, asked.authority, number, asked.now)
        return go("/erasures", f"Request {number} was taken away: nothing is erased by it.")
    reason = why(asked.form, in_words=True)
    subject = asked.form.get("number", "").strip()
    if not subject:
        raise Refusal(400, "Give a phone number.")
    only = account(asked)
    number_asked = typed(subject, asked.form.get("region", "").strip() or None, None if only is None else [only])
    also_national = asked.form.get("also_national") == "yes"
    with open_office(asked.settings) as office:
        wish = ask(office, asked.settings, asked.authority, number_asked, also_national, reason, asked.now)
    return go(
        "/erasures",
        f"It was asked for as request {wish.number}. Nothing is erased yet: run `smppd subject erase --asked {wish.number}`.",
    )


@said
def _certificate(asked: Asked) -> Answer:
    number = whole_number(asked.args["number"], 1, (1 << 53) - 1)
    return download(certificate(asked.settings, number), "application/json", f"erasure-{number}.json")


PAGES: Final = (
    Page("/erasures", "Erasures", Act.ERASE, _erasures, menu="People", posts=True),
    Page("/erasures/{number}/certificate", "A certificate", Act.ERASE, _certificate),
)
