"""All pages, in the order of the navigation."""

from __future__ import annotations

from collections.abc import Sequence

from smppd.console.flow import Flows
from smppd.console.gate import Gate
from smppd.console.page import Page
from smppd.console.pages import acts, logins, now, policy, traffic


def pages(gate: Gate) -> Sequence[Page]:
    """The pages of a console. gate: for those about logins."""
    flows = Flows()
    return (*now.pages(flows), *traffic.pages(flows), *acts.PAGES, *policy.PAGES, *logins.pages(gate))
