"""All pages, in the order of the navigation."""

from __future__ import annotations

from collections.abc import Sequence

from smppd.console.gate import Gate
from smppd.console.page import Page
from smppd.console.pages import logins, now


def pages(gate: Gate) -> Sequence[Page]:
    """The pages of a console. gate: for those about logins."""
    return (*now.PAGES, *logins.pages(gate))
