"""Who wants no messages: asked about one number, added, lifted, and messages of handsets that wait for a person's decision."""

from __future__ import annotations

from typing import Any, Final

from smppd.console.page import Answer, Asked, Page, Refusal, go, show
from smppd.console.pages.saying import NOTE_MAX, PAGE, account, accounts, said
from smppd.ids import parse_shown
from smppd.office.opt_outs import at, open_opt_outs
from smppd.operators.roles import Act

SOURCE: Final = "console"
"""By what an entry came into the register."""


@said
def _check(asked: Asked) -> Answer:
    if asked.method == "GET":
        return _page(asked, {})
    name, number, sender = _typed(asked)
    with open_opt_outs(asked.settings, asked.authority) as register:
        standing = register.check(name, number, sender)
    entries = [
        {"sender": "every sender" if one.sender == "*" else one.sender, "at": at(one.at), "source": one.source}
        for one in standing.entries
    ]
    return _page(asked, dict(asked.form), entries, standing.ranges)


def _page(asked: Asked, form: dict[str, str], entries: list[Any] | None = None, ranges: bool = False) -> Answer:
    with open_opt_outs(asked.settings, asked.authority) as register:
        doubts = register.doubts()
    waiting = [
        {"record": f"{one.record:016x}", "account": one.account, "at": at(one.at), "sender": one.sender}
        for one in doubts[:PAGE]
    ]
    return show(
        "opt_outs",
        given={name: form.get(name, "") for name in ("number", "account", "sender", "note")},
        accounts_offered=accounts(asked),
        entries=entries,
        ranges=ranges,
        waiting=waiting,
        waiting_in_all=len(doubts),
    )


def _typed(asked: Asked) -> tuple[str, str, str | None]:
    """Account, number and sender of a form."""
    name = account(asked)
    if name is None:
        raise Refusal(400, "Say of which account.")
    if not asked.form.get("number", "").strip():
        raise Refusal(400, "Give a phone number.")
    return name, asked.form["number"], asked.form.get("sender", "").strip() or None


def _note(asked: Asked) -> str:
    note = asked.form.get("note", "").strip()
    if not note or len(note) > NOTE_MAX:
        raise Refusal(400, f"Say why, in 1 to {NOTE_MAX} characters.")
    return note


@said
def _add(asked: Asked) -> Answer:
    if asked.method == "GET":
        return go("/opt-outs")
    name, number, sender = _typed(asked)
    with open_opt_outs(asked.settings, asked.authority) as register:
        register.add(name, number, sender, _note(asked), SOURCE)
    return go("/opt-outs", f"Opted out of messages of {name}{'' if sender is None else ' from this sender'}.")


@said
def _lift(asked: Asked) -> Answer:
    if asked.method == "GET":
        return go("/opt-outs")
    name, number, sender = _typed(asked)
    with open_opt_outs(asked.settings, asked.authority) as register:
        there, ranges = register.remove(name, number, sender, _note(asked), SOURCE)
    note = f"{there} entries lifted." if there else "Nothing was lifted: it had not opted out."
    if ranges:
        note += " Numbers of the account's ranges and names were not looked at: name the sender that is meant."
    return go("/opt-outs", note)


@said
def _decide(asked: Asked) -> Answer:
    if asked.method == "GET":
        return go("/opt-outs")
    record = parse_shown(asked.form.get("record", "").encode("utf-8", "replace"))
    decision = asked.form.get("decision", "")
    if record is None or decision not in ("suppress", "dismiss"):
        raise Refusal(400, "Say whether it was a refusal.")
    refused = decision == "suppress"
    with open_opt_outs(asked.settings, asked.authority) as register:
        register.decide([record] if refused else [], [] if refused else [record])
    return go("/opt-outs", "It was a refusal: the number is opted out." if refused else "It was none.")


PAGES: Final = (
    Page("/opt-outs", "Opt-outs", Act.SEARCH, _check, menu="People", owners=True, posts=True),
    Page("/opt-outs/add", "Opt-outs", Act.OPT_OUT, _add, owners=True, posts=True),
    Page("/opt-outs/lift", "Opt-outs", Act.OPT_IN, _lift, posts=True),
    Page("/opt-outs/decide", "Opt-outs", Act.OPT_OUT, _decide, owners=True, posts=True),
)
