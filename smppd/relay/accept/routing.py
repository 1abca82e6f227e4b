"""Finds the upstreams that a message may take, in the order of preference, by the routes' destination, sender, account, tag
and weight.

The first matching route wins, and the next matching ones follow as its fall-backs. Upstreams without weights are tried in
the order in which they are written. With weights the destination decides which upstream comes first, so all messages to one
number take the same way.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

from smppd.config import Route, Settings
from smppd.message import Verdict
from smppd.numbering import normalise, normalise_prefix
from smppd.protocol.wire import Sm

_NO_TAGS: frozenset[str] = frozenset()


class _Rule(NamedTuple):
    prefixes: tuple[bytes, ...]
    senders: frozenset[bytes]
    sender_prefixes: tuple[bytes, ...]
    tags: frozenset[str]
    names: tuple[str, ...]
    weights: tuple[int, ...] | None


def _compile(route: Route, region: str | None) -> _Rule:
    senders = [text.lower().encode() for text in route.sender]
    weighted = any("weight" in one.model_fields_set for one in route.upstreams)
    return _Rule(
        tuple(normalise_prefix(prefix.encode(), region) for prefix in route.destination),
        frozenset(normalise(text, 0, 0, region) for text in senders if not text.endswith(b"*")),
        tuple(_sender_prefix(text[:-1], region) for text in senders if text.endswith(b"*")),
        frozenset(route.tags),
        tuple(one.name for one in route.upstreams),
        tuple(one.weight for one in route.upstreams) if weighted else None,
    )


def _sender_prefix(text: bytes, region: str | None) -> bytes:
    return normalise_prefix(text, region) if text.removeprefix(b"+").isdigit() else text


class Router:
    """The routes of one configuration. Immutable; a reload makes a new one."""

    def __init__(self, settings: Settings) -> None:
        self._enabled = frozenset(one.name for one in settings.upstreams if one.enabled)
        self._regions = {one.system_id: one.region or settings.region for one in settings.accounts}
        routes = {
            region: [(frozenset(route.accounts), _compile(route, region)) for route in settings.routes]
            for region in set(self._regions.values())
        }
        self._rules = {
            name: tuple(rule for named, rule in routes[region] if not named or name in named)
            for name, region in self._regions.items()
        }
        self._simple = {
            name: self._join(rules, b"")
            for name, rules in self._rules.items()
            if all(not (r.prefixes or r.senders or r.sender_prefixes or r.tags or r.weights) for r in rules)
        }

    def accounts(self) -> set[str]:
        """The accounts of the configuration, by name."""
        return set(self._regions)

    def leads_somewhere(self, account: str) -> bool:
        """Whether any message of an account could have a route."""
        return any(self._enabled.intersection(rule.names) for rule in self._rules.get(account, ()))

    def _join(self, rules: tuple[_Rule, ...], destination: bytes) -> str:
        names: dict[str, None] = {}
        for rule in rules:
            for name in rule.names if rule.weights is None else _ordered(rule, destination, self._enabled):
                if name in self._enabled:
                    names[name] = None
        return ",".join(names)

    def route_of(self, account: str, sm: Sm, tags: frozenset[str] = _NO_TAGS) -> str:
        """``route`` of a message."""
        simple = self._simple.get(account)
        if simple is not None:
            return simple
        source_ton, ton = sm.source_ton, sm.destination_ton
        return self.route(account, sm.source_digits, sm.destination_digits, tags, source_ton, ton)

    def route(
        self,
        account: str,
        source: bytes,
        destination: bytes,
        tags: frozenset[str] = _NO_TAGS,
        source_ton: int = 0,
        ton: int = 0,
    ) -> str:
        """Names of the upstreams to try, joined by commas; empty when no route matches. Addresses are digits as on the
        wire, compared in their normal form (``numbering``) by the account's region."""
        simple = self._simple.get(account)
        if simple is not None:
            return simple
        region = self._regions.get(account)
        if region is not None or destination < b"1":  # + or 0, or a separator: nearly none
            destination = normalise(destination, ton, 0, region)
        matching = []
        sender: bytes | None = None
        for rule in self._rules.get(account, ()):
            if rule.prefixes and not destination.startswith(rule.prefixes):
                continue
            if rule.senders or rule.sender_prefixes:
                if sender is None:
                    sender = normalise(source.lower(), source_ton, 0, region)
                if sender not in rule.senders and not sender.startswith(rule.sender_prefixes):
                    continue
            if rule.tags and not rule.tags & tags:
                continue
            matching.append(rule)
        if len(matching) == 1 and matching[0].weights is None and len(matching[0].names) == 1:
            name = matching[0].names[0]
            return name if name in self._enabled else ""
        return self._join(tuple(matching), destination)


class Routes:
    """The routes of the present configuration. A reload exchanges ``router``."""

    def __init__(self, router: Router) -> None:
        self.router = router

    def route(self, account: str, sm: Sm, verdict: Verdict | None) -> str:
        """The names of a message's upstreams, joined by commas; empty where no route leads there."""
        if verdict is None:
            return self.router.route_of(account, sm)
        return verdict.route or self.router.route_of(account, sm, verdict.tags)


def _ordered(rule: _Rule, destination: bytes, enabled: frozenset[str]) -> tuple[str, ...]:
    """The weighted upstreams: first the one that this destination belongs to, then the others in the order written.

    A disabled one's destinations are divided anew by the weights of the others, and no other destination moves.
    """
    names, weights = list(rule.names), list(rule.weights or ())
    point = crc32(destination)
    while names:
        point, share = divmod(point, sum(weights))
        index = 0
        while share >= weights[index]:
            share -= weights[index]
            index += 1
        if names[index] in enabled:
            return (names[index], *rule.names)
        del names[index], weights[index]
    return ()
