"""All pages, in the order of the navigation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smppd.console.flow import Flows
from smppd.console.gate import Gate
from smppd.console.page import Page
from smppd.console.pages import (
    acts,
    approvals,
    audit,
    consents,
    erasures,
    explaining,
    holds,
    logins,
    messages,
    now,
    opt_outs,
    policy,
    traffic,
)

RECORDS_AND_PEOPLE: Final = (
    *messages.PAGES,
    *explaining.PAGES,
    *opt_outs.PAGES,
    *consents.PAGES,
    *holds.PAGES,
    *erasures.PAGES,
    *approvals.PAGES,
    *audit.PAGES,
)


def pages(gate: Gate) -> Sequence[Page]:
    """The pages of a console. gate: for those about logins."""
    flows = Flows()
    return (
        *now.pages(flows),
        *traffic.pages(flows),
        *acts.PAGES,
        *policy.PAGES,
        *RECORDS_AND_PEOPLE,
        *logins.pages(gate),
    )
