"""Consents on record: whether there is one, what it is, and the proof of it as a file."""

from __future__ import annotations

from typing import Any, Final

from smppd.consent.register_proof import ANY, CLASSES
from smppd.console.page import Answer, Asked, Page, Refusal, download, go, show
from smppd.console.pages.saying import account, accounts, said, why
from smppd.office.access import REASONS
from smppd.office.consents import open_consents
from smppd.operators.roles import Act


@said
def _check(asked: Asked) -> Answer:
    if asked.method == "GET":
        return _page(asked)
    name, number = _typed(asked)
    kind = asked.form.get("class", "promotional")
    if kind not in CLASSES:
        raise Refusal(400, "There is no such class of messages.")
    with open_consents(asked.settings, asked.authority) as desk:
        found = desk.check(name, number, kind, asked.form.get("sender", "").strip() or ANY)
    return _page(asked, answer="There is a consent on record." if found else "There is no consent on record.")


def _page(asked: Asked, answer: str = "", found: list[dict[str, Any]] | None = None) -> Answer:
    names = ("number", "account", "sender", "class", "reason", "note")
    return show(
        "consents",
        given={name: asked.form.get(name, "") for name in names},
        accounts_offered=accounts(asked),
        classes=sorted(CLASSES),
        reasons=REASONS,
        answer=answer,
        found=found,
    )


def _typed(asked: Asked) -> tuple[str, str]:
    name = account(asked)
    if name is None or all(one.system_id != name for one in asked.settings.accounts):
        raise Refusal(400, "Say of which account.")
    if not asked.form.get("number", "").strip():
        raise Refusal(400, "Give a phone number.")
    return name, asked.form["number"]


@said
def _show(asked: Asked) -> Answer:
    if asked.method == "GET":
        return go("/consents")
    name, number = _typed(asked)
    reason = why(asked.form, in_words=True)
    with open_consents(asked.settings, asked.authority) as desk:
        found = desk.found(name, number, reason, "show")
    return _page(asked, found=[_in_words(one) for one in found])


def _in_words(facts: dict[str, Any]) -> dict[str, Any]:
    words = {name: " ".join(value) if isinstance(value, list) else str(value) for name, value in facts.items()}
    return {name.replace("_", " "): value for name, value in words.items() if value}


@said
def _proof(asked: Asked) -> Answer:
    if asked.method == "GET":
        return go("/consents")
    name, number = _typed(asked)
    reason = why(asked.form, in_words=True)
    with open_consents(asked.settings, asked.authority) as desk:
        proof = desk.proof(name, number, reason)
    return download(proof.encode(), "application/json", f"consent-{name}.json")


PAGES: Final = (
    Page("/consents", "Consents", Act.SEARCH, _check, menu="People", owners=True, posts=True),
    Page("/consents/show", "Consents", Act.REVEAL, _show, owners=True, posts=True),
    Page("/consents/proof", "Consents", Act.EXPORT, _proof, posts=True),
)
