"""The first page: what is wrong, what flows, what waits, and what was changed by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from smppd.console.flow import Flows
from smppd.console.page import Answer, Asked, Page, show
from smppd.operators.roles import Act, may

_BUSIEST: Final = 25
"""Accounts on this page; all of them are on their own."""
LOOKING: Final = frozenset({Act.SEARCH, Act.RUNTIME})


class Alarm(NamedTuple):
    """A check of /readyz that is not well. state: `degraded` or `failed`."""

    check: str
    state: str
    words: str


class Totals(NamedTuple):
    """Over all that is seen: rates in messages a second, counts, and the age of the oldest in seconds."""

    accepted: float
    submitted: float | None
    waiting: int
    oldest: float | None
    mail: int
    oldest_mail: float | None
    sessions: int


def alarms(health: Mapping[str, Any]) -> list[Alarm]:
    """What is not well, the worst first."""
    found = []
    for check, said in dict(health.get("checks") or {}).items():
        word, _, words = str(said).partition(":")
        state = word.strip()
        if state != "ok":
            found.append(Alarm(check, state if state == "degraded" else "failed", words.strip()))
    return sorted(found, key=lambda one: one.state != "failed")


def _now(flows: Flows, asked: Asked) -> Answer:
    daemon, roles = asked.daemon, asked.authority.roles
    looks = any(may(roles, act) for act in LOOKING)
    owner = asked.authority.accounts is not None
    health = {} if owner else daemon.show("health")
    if not looks:
        return show("now", looks=False, owner=False, alarms=alarms(health), health=health)
    accounts = daemon.show("accounts")
    upstreams = [] if owner else daemon.show("upstreams")
    flow = flows.of(asked)
    queues = daemon.show("queues")
    busiest = sorted(accounts, key=lambda one: (-(one["rate"] or 0), -(one["queued"] or 0), one["name"]))[:_BUSIEST]
    stuck = [one for one in queues if one["why"] != "flowing"]
    return show(
        "now",
        looks=True,
        owner=owner,
        alarms=alarms(health),
        health=health,
        totals=_totals(accounts, upstreams, owner),
        accounts=busiest,
        all_accounts=len(accounts),
        upstreams=upstreams,
        flow=flow,
        stuck=sorted(stuck, key=lambda one: -(one["oldest"] or 0))[:_BUSIEST],
        all_stuck=len(stuck),
        acts=daemon.show("acts"),
    )


def _totals(accounts: Iterable[Mapping[str, Any]], upstreams: Iterable[Mapping[str, Any]], owner: bool) -> Totals:
    accounts = list(accounts)
    return Totals(
        sum(one["rate"] or 0 for one in accounts),
        None if owner else sum(one["rate"] or 0 for one in upstreams),
        sum(one["queued"] or 0 for one in accounts),
        max((one["oldest"] for one in accounts if one["oldest"] is not None), default=None),
        sum(one["mailbox"] or 0 for one in accounts),
        max((one["oldest_mail"] for one in accounts if one["oldest_mail"] is not None), default=None),
        sum(one["sessions"] or 0 for one in accounts),
    )


def pages(flows: Flows) -> tuple[Page, ...]:
    """The page, on the flow that is kept."""
    return (Page("/", "Now", None, partial(_now, flows), menu="Traffic", owners=True, live=True),)
