"""What waits and would have no way to go any more by another configuration: for the plan of a reload, which changes nothing.

A lane is stranded when all its upstreams would be gone. What waits in it takes the route that it has then
(`send.rerouting`), or waits where no route matches. Of each such lane the oldest messages in memory are tried with the routes
and rules of that configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final, NamedTuple

from smppd.config import Settings
from smppd.message import Verdict
from smppd.policy.pipeline import Pipeline
from smppd.protocol.wire import Sm, splice
from smppd.relay.accept.routing import Router, Routes
from smppd.relay.context import Context
from smppd.relay.state.model import Account, Message

OF_A_LANE: Final = 20
TRIED: Final = 500
"""Messages that are tried, of one lane and in all: some milliseconds."""


class Stranded(NamedTuple):
    """What waits in one account for upstreams that leave. ``upstreams``: their names. ``waiting``: messages, on disk too.
    ``tried``: of how many the new route was looked for, the oldest ones; ``routed``: of how many there is one."""

    account: str
    upstreams: tuple[str, ...]
    waiting: int
    tried: int
    routed: int


def stranded(
    context: Context, settings: Settings, router: Router, pipelines: Mapping[str, Pipeline | None]
) -> list[Stranded]:
    """All of it. ``router`` and ``pipelines`` are of those settings, and in use nowhere."""
    present = {one.name for one in settings.upstreams if one.enabled}
    routes = Routes(router)
    left = TRIED
    found: list[Stranded] = []
    for account in context.accounts.values():
        for lane in account.lanes.values():
            names = tuple(upstream.name for upstream in lane.upstreams)
            if not len(lane) or lane.gone or any(name in present for name in names):
                continue
            some = list(islice(lane.hot, min(left, OF_A_LANE)))
            left -= len(some)
            pipeline = pipelines.get(account.name)
            routed = sum(1 for message in some if _route(routes, account, message, pipeline, context.now()))
            found.append(Stranded(account.name, names, len(lane), len(some), routed))
    return found


def _route(routes: Routes, account: Account, message: Message, pipeline: Pipeline | None, now: float) -> str:
    """The upstreams of a message, empty where it has none or cannot be asked about."""
    try:
        sm = Sm(message.frame)
        if message.reply_to is not None:
            sm = Sm(splice(sm, source=message.reply_to))
        verdict: Verdict | None = pipeline.decide(sm, now) if pipeline is not None else None
        return routes.route(account.name, sm, verdict)
    except Exception:  # noqa: BLE001  the item's edge: with what it fails here it would fail there, and wait
        return ""
