"""The campaigns, by name, in the order in which they run."""

from __future__ import annotations

from typing import Final

from tests.torture.campaigns import (
    acts,
    clock,
    cut,
    database,
    disk,
    flaps,
    frozen,
    kill,
    mailbox,
    nodes,
    power,
    privacy,
    script,
    soak,
    spread,
    upgrade,
)
from tests.torture.plan import Campaign

CAMPAIGNS: Final[dict[str, Campaign]] = {
    each.NAME: Campaign(each.NAME, each.plan, each.run)
    for each in (
        kill,
        power,
        disk,
        upgrade,
        script,
        flaps,
        mailbox,
        clock,
        privacy,
        acts,
        database,
        nodes,
        frozen,
        cut,
        spread,
        soak,
    )
}
