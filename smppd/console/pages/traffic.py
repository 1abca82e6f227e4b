"""What the daemon shows of its traffic: sessions, accounts, upstreams, queues, messages on their way, bans."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from smppd.console.flow import Flows
from smppd.console.page import Answer, Asked, Page, Refusal, show
from smppd.console.paging import named, slice_of
from smppd.operators.roles import Act

_LOOKING: Final = frozenset({Act.RUNTIME})
_MESSAGES: Final = 200
"""Messages on their way that are shown, the oldest first."""


def _sessions(asked: Asked) -> Answer:
    wanted = asked.query.get("name", "")
    found = named(asked.daemon.show("sessions"), "name", wanted)
    side = asked.query.get("side", "")
    if side in ("customer", "carrier"):
        found = [one for one in found if one["side"] == side]
    found.sort(key=lambda one: (one["side"], one["name"] or "", one["since"] or 0))
    return show("sessions", sessions=slice_of(found, asked.query), wanted=wanted, side=side)


def _accounts(asked: Asked) -> Answer:
    wanted = asked.query.get("name", "")
    found = named(asked.daemon.show("accounts"), "name", wanted)
    order = asked.query.get("order", "name")
    if order in _ORDERS:
        found.sort(key=lambda one: (-(one[_ORDERS[order]] or 0), one["name"]))
    else:
        found.sort(key=lambda one: one["name"])
    return show("accounts", accounts=slice_of(found, asked.query), wanted=wanted, order=order)


_ORDERS: Final = {"rate": "rate", "queued": "queued", "oldest": "oldest", "mailbox": "mailbox"}


def _account(flows: Flows, asked: Asked) -> Answer:
    name = asked.args["name"]
    found = next((one for one in asked.daemon.show("accounts") if one["name"] == name), None)
    if found is None or not asked.sees(name):
        raise Refusal(404, "There is no such account.")
    return show(
        "account",
        title=name,
        account=found,
        flow=flows.of(asked),
        sessions=slice_of(asked.daemon.show("sessions", account=name), {}),
        queues=[one for one in asked.daemon.show("queues") if one["account"] == name],
        limits=[one for one in asked.daemon.show("limits") if one["of"] == name],
    )


def _upstreams(flows: Flows, asked: Asked) -> Answer:
    return show("upstreams", upstreams=asked.daemon.show("upstreams"), flow=flows.of(asked))


def _queues(asked: Asked) -> Answer:
    wanted = asked.query.get("account", "")
    found = named(asked.daemon.show("queues"), "account", wanted)
    found.sort(key=lambda one: (one["why"] == "flowing", -(one["oldest"] or 0)))
    return show("queues", queues=slice_of(found, asked.query), wanted=wanted)


def _messages(asked: Asked) -> Answer:
    query = asked.query
    fields: dict[str, str | int] = {"limit": _MESSAGES}
    fields |= {name: query[name].strip() for name in ("account", "upstream", "id") if query.get(name, "").strip()}
    found: list[Mapping[str, Any]] = asked.daemon.show("messages", **fields)
    return show("messages", messages=found, query=query, most=_MESSAGES)


def _limits(asked: Asked) -> Answer:
    found = asked.daemon.show("limits")
    return show("limits", limits=slice_of(found, asked.query))


def _bans(asked: Asked) -> Answer:
    found = named(asked.daemon.show("bans"), "address", asked.query.get("address", ""))
    return show("bans", bans=slice_of(found, asked.query), wanted=asked.query.get("address", ""))


def pages(flows: Flows) -> tuple[Page, ...]:
    """The pages, on the flow that is kept."""
    account, upstreams = partial(_account, flows), partial(_upstreams, flows)
    return (
        Page("/sessions", "Sessions", Act.SEARCH, _sessions, "Traffic", owners=True, live=True, also=_LOOKING),
        Page("/upstreams", "Upstreams", Act.SEARCH, upstreams, "Traffic", live=True, also=_LOOKING),
        Page("/accounts", "Accounts", Act.SEARCH, _accounts, "Traffic", owners=True, live=True, also=_LOOKING),
        Page("/accounts/{name}", "Account", Act.SEARCH, account, owners=True, live=True, also=_LOOKING),
        Page("/queues", "Queues", Act.SEARCH, _queues, "Traffic", owners=True, live=True, also=_LOOKING),
        Page("/messages", "On their way", Act.SEARCH, _messages, "Traffic", owners=True, live=True, also=_LOOKING),
        Page("/limits", "Limits", Act.SEARCH, _limits, "Traffic", live=True, also=_LOOKING),
        Page("/bans", "Bans", Act.RUNTIME, _bans, "Traffic", live=True, also=frozenset({Act.AUDIT})),
    )
