"""What can be seen of the running daemon over the control socket: `show WHAT` (docs/control.md).

An account owner is shown what is his accounts'; all else is as if it did not exist.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred

from smppd.config import Settings
from smppd.control.wire import Code, ControlError
from smppd.daemon.acts import ActInForce
from smppd.daemon.answers import Answer, Lazy, Listing
from smppd.daemon.askers import SHOWS_NEED, View
from smppd.daemon.http import Health
from smppd.daemon.in_force import shown_settings
from smppd.daemon.nodes import Membership
from smppd.daemon.reload import Reload
from smppd.daemon.worker import Worker
from smppd.ids import parse_shown
from smppd.lists.standing import standing
from smppd.metrics import Metrics, totals
from smppd.net.customers import Customers
from smppd.net.door import Door
from smppd.net.upstreams import Upstreams
from smppd.operators.roles import Authority
from smppd.relay.relay import Relay
from smppd.relay.views import MessageQuery
from smppd.traffic.suspension import Suspension

MESSAGES: Final = 100
MESSAGES_MOST: Final = 1000
_NAME: Final = 64
_STATES: Final = {"pause": "paused", "drain": "draining"}
"""What an act makes of an upstream."""
_PAUSING: Final = frozenset(_STATES)
_OF_NO_ACCOUNT: Final = _PAUSING | {"log-level"}


class Seen(NamedTuple):
    """The parts that are looked at."""

    settings: Callable[[], Settings]
    relay: Relay
    customers: Customers
    upstreams: Upstreams
    door: Door
    metrics: Metrics
    reload: Reload
    worker: Worker
    suspended: Callable[[], list[Suspension]]
    acts: Callable[[], list[ActInForce]]
    health: Callable[[], Health]
    nodes: Membership


class Showing:
    """The views. ``wall``: epoch seconds."""

    def __init__(self, seen: Seen, wall: Callable[[], float] = time.time) -> None:
        self._seen = seen
        self._wall = wall

    def views(self) -> dict[str, View]:
        """Each view by its name, with what it needs."""
        makers: dict[str, Callable[[dict[str, Any], Authority], Answer | Deferred[Answer]]] = {
            "sessions": self._sessions,
            "accounts": self._accounts,
            "upstreams": self._upstreams,
            "queues": self._queues,
            "messages": self._messages,
            "bans": self._bans,
            "suspensions": self._suspensions,
            "acts": self._acts,
            "config": self._config,
            "limits": self._limits,
            "rules": self._rules,
            "lists": self._lists,
            "health": self._health,
            "nodes": self._nodes,
            "flow": self._flow,
        }
        return {name: View(SHOWS_NEED[name], make) for name, make in makers.items()}

    def _listing(self, name: str, items: Iterable[object] | Mapping[str, object], **fields: object) -> Listing:
        return Listing(name, items, {"at": round(self._wall(), 3), **fields})

    def _small(self, name: str, value: object, **fields: object) -> dict[str, object]:
        return {"at": round(self._wall(), 3), **fields, name: value}

    # -- who is there --------------------------------------------------------------------------------------------------

    def _sessions(self, request: dict[str, Any], who: Authority) -> Answer:
        names = _names(request, who)
        upstream = _text(request, "upstream")
        offset = self._wall() - self._seen.customers.now()

        def each() -> Iterator[dict[str, Any]]:
            if upstream is None:
                for one in self._seen.customers.views(names):
                    yield one._asdict() | {"since": round(offset + one.since, 3)}
            if names is None:
                for one in self._seen.upstreams.views():
                    if upstream is None or one.name == upstream:
                        yield one._asdict() | {"since": round(offset + one.since, 3)}

        binds = self._seen.nodes.binds_elsewhere(names) if upstream is None else []
        links = self._seen.nodes.links_elsewhere(upstream) if names is None else []
        return self._listing("sessions", each(), **self._beside([*binds, *links]))

    def _accounts(self, request: dict[str, Any], who: Authority) -> Answer:
        names = _names(request, who)
        suspended = {one.account: one for one in self._seen.suspended()}
        nodes, bound = self._seen.nodes, self._seen.customers.bound

        def each() -> Iterator[dict[str, Any]]:
            for one in self._seen.relay.show_accounts(names):
                stands = suspended.get(one["name"])
                if stands is not None:
                    one["suspended"] = {"since": round(stands.since, 3), "by": stands.by, "reason": stands.reason}
                if nodes.number is not None:
                    one["elsewhere"] = bound.elsewhere(one["name"])
                yield one

        return self._listing("accounts", each(), **self._beside(nodes.binds_elsewhere(names)))

    def _upstreams(self, request: dict[str, Any], who: Authority) -> Answer:
        upstream = _text(request, "upstream")
        acts = {one.target: one for one in self._seen.acts() if one.act in _PAUSING}
        others = self._seen.nodes.links_elsewhere(upstream)
        theirs = Counter[str]()
        for there in others:
            theirs[there["upstream"]] += there["links"]

        def each() -> Iterator[dict[str, Any]]:
            for one in self._seen.relay.show_upstreams():
                name = one["name"]
                if upstream is not None and name != upstream:
                    continue
                due, error = self._seen.upstreams.trouble(name)
                one["last_error"] = error
                if one["again_in"] is None and due is not None:
                    one["again_in"] = round(due, 1)
                act = acts.get(name)
                if act is not None:
                    one["act"] = act._asdict()
                    one["state"] = "drained" if act.act == "drain" and not one["links"] else _STATES[act.act]
                if self._seen.nodes.number is not None:
                    one["elsewhere"] = theirs[name]
                yield one

        if who.accounts is not None:
            return self._listing("upstreams", ())
        return self._listing("upstreams", each(), **self._beside(others))

    def _nodes(self, _request: dict[str, Any], who: Authority) -> Answer:
        return self._listing("nodes", self._seen.nodes.views() if who.accounts is None else ())

    def _beside(self, elsewhere: Sequence[dict[str, Any]]) -> dict[str, object]:
        """Fields beside a list, where there can be several nodes: whose list it is, and what the others say of the same, in
        numbers only. The rest is asked of them."""
        node = self._seen.nodes.number
        return {} if node is None else {"node": node, "elsewhere": elsewhere}

    # -- what waits ----------------------------------------------------------------------------------------------------

    def _queues(self, request: dict[str, Any], who: Authority) -> Answer:
        stopped = {one.target for one in self._seen.acts() if one.act in _PAUSING}
        upstream = _text(request, "upstream") if who.accounts is None else None
        queues = self._seen.relay.show_queues(_names(request, who), upstream, stopped)
        hidden: dict[str, Any] = {} if who.accounts is None else {"upstreams": []}
        return self._listing("queues", (one | hidden for one in queues))

    def _messages(self, request: dict[str, Any], who: Authority) -> Deferred[Answer]:
        limit = request.get("limit", MESSAGES)
        if type(limit) is not int or not 1 <= limit <= MESSAGES_MOST:
            raise ControlError(f"`limit` is a number from 1 to {MESSAGES_MOST}", Code.REQUEST)
        written = _text(request, "id")
        identity = None if written is None else parse_shown(written.encode("ascii", "replace"))
        if written is not None and identity is None:
            raise ControlError("`id` is 16 hexadecimal digits, as smppd shows it", Code.REQUEST)
        upstream = _text(request, "upstream") if who.accounts is None else None
        hidden = {} if who.accounts is None else {"upstream": None}
        answered: Deferred[Answer] = Deferred()

        def found(messages: list[dict[str, Any]], more: bool) -> None:
            answered.callback(self._listing("messages", (one | hidden for one in messages), more=more))

        self._seen.relay.show_messages(MessageQuery(_names(request, who), upstream, identity, limit), found)
        return answered

    # -- what was done -------------------------------------------------------------------------------------------------

    def _bans(self, _request: dict[str, Any], who: Authority) -> Answer:
        return self._listing("bans", (one._asdict() for one in self._seen.door.bans() if who.accounts is None))

    def _suspensions(self, request: dict[str, Any], who: Authority) -> Answer:
        names = _names(request, who)
        found = [one for one in self._seen.suspended() if names is None or one.account in names]
        fields = ("account", "since", "by", "reason", "hits")
        return self._listing("suspensions", ({name: getattr(one, name) for name in fields} for one in found))

    def _acts(self, _request: dict[str, Any], who: Authority) -> Answer:
        found = [one for one in self._seen.acts() if who.accounts is None or _account_of(one) in who.accounts]
        return self._listing("acts", (one._asdict() for one in found))

    # -- how it is set up ----------------------------------------------------------------------------------------------

    def _config(self, _request: dict[str, Any], who: Authority) -> Answer:
        settings, reload = self._seen.settings(), self._seen.reload
        last = reload.last
        told = None if last is None else {"at": round(last.at, 3), "result": last.result, "faults": list(last.faults)}
        body: dict[str, object] = {
            "path": str(settings.path),
            "loaded": round(reload.loaded, 3),
            "hash": settings.digest,
            "last_reload": told,
            "acts": [one._asdict() for one in self._seen.acts()],
            "settings": shown_settings(settings, who.accounts),
        }
        if who.accounts is not None:
            body = {"settings": body["settings"]}
        return self._listing("config", body)

    def _limits(self, request: dict[str, Any], who: Authority) -> Answer:
        found = self._seen.relay.show_limits(_names(request, who))
        if who.accounts is None and request.get("account") is None:
            found += self._seen.door.limits()
        found.sort(key=lambda one: -one.share)
        return self._listing("limits", (one._asdict() for one in found))

    def _rules(self, _request: dict[str, Any], who: Authority) -> Answer:
        if who.accounts is not None:  # they are not counted by account
            return self._listing("rules", ())
        counts = totals(self._seen.metrics.rule_hits)
        modes: dict[tuple[str, str], str | None] = {
            (policy.name, rule.name): rule.mode
            for policy in self._seen.settings().policies.values()
            for rule in policy.rules
        }
        for policy, rule, _mode in counts:  # what asks after the rules, and rules that left
            modes.setdefault((policy, rule), None)

        def each() -> Iterator[dict[str, Any]]:
            for (policy, rule), mode in modes.items():
                yield {
                    "policy": policy,
                    "rule": rule,
                    "mode": mode,
                    "hits": int(counts.get((policy, rule, "enforce"), 0)),
                    "shadow": int(counts.get((policy, rule, "shadow"), 0)),
                }

        return self._listing("rules", each())

    def _lists(self, _request: dict[str, Any], who: Authority) -> Deferred[Answer]:
        settings = self._seen.settings()
        answered: Deferred[Answer] = Deferred()

        def read() -> list[dict[str, Any]]:
            return [standing(settings, name) for name in settings.lists] if who.accounts is None else []

        def then(found: list[dict[str, Any]] | None, error: Exception | None) -> None:
            if isinstance(error, OSError):
                error = ControlError(f"{error.filename}: {error.strerror}", Code.STATE)
            if error is not None:
                answered.errback(error)
            else:
                answered.callback(self._listing("lists", found or ()))

        self._seen.worker.run("lists", read, then)
        return answered

    # -- how it does ---------------------------------------------------------------------------------------------------

    def _health(self, _request: dict[str, Any], who: Authority) -> Answer:
        health = self._seen.health()
        state = ("degraded" if health.degraded else "ready") if health.ready else "not ready"
        body: dict[str, object] = {"ready": health.ready, "state": state, "checks": health.checks}
        if who.accounts is not None:  # the checks speak of carriers, and of other people's messages
            body = {"ready": health.ready, "state": "ready" if health.ready else "not ready", "checks": {}}
        return self._small("health", body)

    def _flow(self, request: dict[str, Any], who: Authority) -> Answer:
        since = request.get("since", 0)
        if isinstance(since, bool) or not isinstance(since, int | float) or not -1e12 < since < 1e12:
            raise ControlError("`since` is a time in epoch seconds", Code.REQUEST)
        flow = self._seen.relay.show_flow(float(since), _names(request, who))
        accounts, upstreams = Lazy(flow.accounts, flow.account), Lazy(flow.upstreams, flow.upstream)
        body = {"step": 1, "from": flow.first, "accounts": accounts, "upstreams": upstreams}
        return self._listing("flow", body)


def _account_of(act: ActInForce) -> str | None:
    """The account that an act is about; None of one that is about something else, whose name may be an account's too."""
    kind, mark, name = act.target.partition(":")
    if mark:
        return name if kind == "account" else None
    return None if act.act in _OF_NO_ACCOUNT else act.target


def _text(request: Mapping[str, Any], name: str) -> str | None:
    """A name in a request, None where it has none. ControlError where it is something else."""
    value = request.get(name)
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= _NAME):
        raise ControlError(f"`{name}` must be a name", Code.REQUEST)
    return value


def _names(request: Mapping[str, Any], who: Authority) -> frozenset[str] | None:
    """The accounts that are asked for, of those that may be seen; None: all."""
    account = _text(request, "account")
    if account is None:
        return who.accounts
    return frozenset({account}) if who.sees(account) else frozenset()
