"""Messages in the sealed log: found by number, by id, or by account and time; one message's life; whole where it is revealed.

A number never stands in an address: searches and their next pages are forms. Each look is on the audit trail before anything of
it is shown.
"""

from __future__ import annotations

from typing import Any, Final

from smppd.console.lifeline import lifeline
from smppd.console.page import Answer, Asked, Page, Refusal, show
from smppd.console.pages.saying import PAGE, account, accounts, moment, said, why
from smppd.ids import id_time, parse_shown
from smppd.message import BESIDE, State
from smppd.numbering import SHORT_DIGITS
from smppd.office.access import REASONS, Access, Why
from smppd.office.life import gap_of, life_of
from smppd.office.messages import as_dict, iso
from smppd.office.numbers import typed
from smppd.office.searching import Question, find, listed, search
from smppd.operators.approvals import GRANTED, Approvals
from smppd.operators.roles import Act
from smppd.records.listing import Place

SHOWN_FOR: Final = 120
"""Seconds after which a revealed message is masked again by itself."""
ENOUGH: Final = 0.2
"""Seconds after which a page of a search by number ends where it is: then there is more."""
LONGEST: Final = 31 * 86400.0
"""Seconds of the time that can be listed without a phone number."""
_STATES: Final = sorted(
    state.name for state in State if state not in BESIDE and state not in (State.SCHEDULED, State.RESENT)
)
_FIELDS: Final = ("number", "region", "id", "account", "since", "until", "state", "reason", "note")


# -- search ------------------------------------------------------------------------------------------------------------


@said
def _search(asked: Asked) -> Answer:
    if asked.method == "GET":
        return _form(asked, {"since": "1d"})
    form = {name: asked.form.get(name, "").strip() for name in _FIELDS}
    if form["id"]:
        return _shown(asked, form["id"], reveal=False)
    reason = why(form)
    since, until = moment(asked, "since"), moment(asked, "until")
    if since is not None and until is not None and since >= until:
        raise Refusal(400, "Since is not before until.")
    if form["state"] and form["state"] not in _STATES:
        raise Refusal(400, "There is no such state.")
    only = account(asked)
    chosen = None if only is None else [only]
    question = Question(
        typed(form["number"], form["region"] or None, chosen),
        since or 0,
        until,
        PAGE,
        since.typed if since is not None else "",
        until.typed if until is not None else "",
        form["state"],
        enough=ENOUGH,
    )
    if form["number"]:
        return _by_number(asked, form, question, reason)
    if since is None:
        raise Refusal(
            400,
            "Without a phone number or an id a time is needed: say since when. The log is never looked through as a whole.",
        )
    if (asked.now if until is None else until / 1000) - since / 1000 > LONGEST:
        raise Refusal(400, "Without a phone number 31 days can be listed at a time: say since and until when.")
    return _by_time(asked, form, question, reason)


def _form(asked: Asked, form: dict[str, str], status: int = 200, **values: Any) -> Answer:
    shown: dict[str, Any] = {
        "rows": None,
        "more": "",
        "reached": "",
        "damaged": 0,
        "national": False,
        "hint": "",
    }
    return show(
        "search",
        status=status,
        given={name: form.get(name, "") for name in _FIELDS},
        reasons=REASONS,
        states=_STATES,
        accounts_offered=accounts(asked),
        **{**shown, **values},
    )


def _by_number(asked: Asked, form: dict[str, str], question: Question, reason: Why) -> Answer:
    before = asked.form.get("before", "")
    if before:
        known = parse_shown(before.encode("utf-8", "replace"))
        if known is None:
            raise Refusal(400, "There is no such page.")
        question = question._replace(before=known)
    with Access(asked.settings, asked.authority) as access:
        found = search(access, question, reason)
    hint = ""
    forms = found.forms
    if not found.rows and not found.regions and not forms.ambiguous:
        if forms.exact[0].isdigit() and len(forms.exact[0]) > SHORT_DIGITS:
            hint = "A national number is found with its country."
    return _form(
        asked,
        form,
        rows=found.rows,
        more=f"{found.last:016x}" if found.more else "",
        reached=iso(id_time(found.last) * 1000) if found.more else "",
        damaged=len(found.damaged),
        national=any(row["match"] == "national digits" for row in found.rows),
        hint=hint,
        cursor="before",
    )


def _by_time(asked: Asked, form: dict[str, str], question: Question, reason: Why) -> Answer:
    place = Place()
    if asked.form.get("place"):
        try:
            place = Place.from_text(asked.form["place"][:40])
        except ValueError:
            raise Refusal(400, "There is no such page.") from None
    else:
        # From now on, so that the next page begins where this one ends, whatever comes meanwhile.
        form = form | {"until": form["until"] or iso(asked.now * 1000)}
        form["since"] = iso(question.since_ms)
    with Access(asked.settings, asked.authority) as access:
        found = listed(access, question, reason, place)
    return _form(
        asked,
        form,
        rows=found.rows,
        more="" if found.more is None else found.more.as_text(),
        reached="" if found.more is None or found.reached is None else iso(found.reached),
        damaged=len(found.damaged),
        cursor="place",
    )


# -- one message -------------------------------------------------------------------------------------------------------


@said
def _message(asked: Asked) -> Answer:
    if asked.method == "GET":
        return show("ask_message", id=asked.query.get("id", "")[:40], reasons=REASONS)
    return _shown(asked, asked.form.get("id", ""), reveal=False)


@said
def _reveal(asked: Asked) -> Answer:
    if asked.method == "GET":
        return show("ask_message", id=asked.query.get("id", "")[:40], reasons=REASONS)
    return _shown(asked, asked.form.get("id", ""), reveal=True)


def _shown(asked: Asked, identity: str, reveal: bool) -> Answer:
    reason = why(asked.form, in_words=reveal)
    with Access(asked.settings, asked.authority) as access:
        found = find(access, identity, reason, reveal)
        row = as_dict(access, found, reveal, None)
        steps = life_of(access, found)
    return show(
        "message_life",
        title=f"Message {row['id']}",
        row=row,
        steps=steps,
        gap_of=gap_of,
        iso=iso,
        line=lifeline(steps),
        revealed=reveal,
        until=asked.now + SHOWN_FOR,
        shown_for=SHOWN_FOR,
        reasons=REASONS,
        given={"reason": reason.reason, "note": reason.note},
        request=None if reveal else _request(asked, row["id"]),
    )


def _request(asked: Asked, identity: str) -> dict[str, Any] | None:
    """What became of his request to reveal this message for the law, where there is one."""
    with asked.office() as office:
        what: dict[str, str | int] = {"record": identity, "reason": "law"}
        request = Approvals(office.desk).find(asked.authority.operator, "reveal", what, asked.now)
    if request is None:
        return None
    return {
        "number": request.number,
        "state": request.state,
        "by": request.by,
        "until": request.until,
        "granted": request.state == GRANTED,
    }


PAGES: Final = (
    Page("/log", "Search", Act.SEARCH, _search, menu="Records", owners=True, posts=True),
    Page("/log/message", "A message", Act.SEARCH, _message, owners=True, posts=True),
    Page("/log/reveal", "A message", Act.REVEAL, _reveal, owners=True, posts=True),
)
