"""A form that asks what policy and routing would do with a message. Nothing is sent, counted or stored."""

from __future__ import annotations

from typing import Any, Final

from smppd.config import ConfigError
from smppd.config.includes import changed
from smppd.console.page import Answer, Asked, Page, Refusal, show
from smppd.console.pages.saying import account, accounts, said
from smppd.office.explaining import Trial, conclusion, explain_trial
from smppd.operators.roles import Act

WITHIN: Final = 10.0
"""Seconds that the daemon has to say what its screens would do, for all parts of a message."""
_OLD: Final = (
    "The configuration was changed since this console was started. What is said here is of the older one, until the console is"
    " started again."
)
_FIELDS: Final = ("account", "from", "to", "text")


@said
def _explain(asked: Asked) -> Answer:
    source = asked.query if asked.method == "GET" else asked.form
    given = {name: source.get(name, "") for name in _FIELDS}
    if asked.method == "GET":
        return _page(asked, given)
    name = account(asked)
    if name is None:
        raise Refusal(400, "Say of which account the message is.")
    try:
        explained = explain_trial(asked.settings, Trial(name, given["from"], given["to"], given["text"]), WITHIN)
    except ConfigError:
        raise Refusal(409, "The policies of this configuration cannot be used; `smppd check` says why.") from None
    parts = [{"part": one, "conclusion": conclusion(one)} for one in explained.parts]
    return _page(asked, given, parts, explained.remarks)


def _page(
    asked: Asked, given: dict[str, str], parts: list[dict[str, Any]] | None = None, remarks: list[str] | None = None
) -> Answer:
    settings = asked.settings
    old = changed(settings.path, settings.include, settings.files)
    return show(
        "explain",
        given=given,
        parts_of=parts,
        remarks=[*([_OLD] if old else []), *(remarks or [])],
        accounts_offered=accounts(asked),
    )


# Not for account owners: it says rule by rule what gets through, and which carriers there are; the daemon shows them neither.
PAGES: Final = (Page("/explain", "Try a message", Act.SEARCH, _explain, menu="Policy", posts=True),)
