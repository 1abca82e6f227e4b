"""The first page: what flows now, what waits, and what is wrong."""

from __future__ import annotations

from smppd.console.page import Answer, Asked, Page, show
from smppd.operators.roles import Act


def _now(asked: Asked) -> Answer:
    return show("now", accounts=asked.daemon.show("accounts"))


PAGES = (Page("/", "Now", Act.SEARCH, _now, menu="Traffic", owners=True, live=True),)
