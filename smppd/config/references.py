"""What one section of the configuration says about another: names that must exist, and names that must be unique.

Works on plain values that may be wrong in any way, so that these faults are found together with all others.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from smppd.config.lists import ASKED_BY
from smppd.config.traffic import SCREENS
from smppd.numbering import normalise_prefix

DEFAULT_HTTP = "127.0.0.1:9180"
_WILDCARDS = {"0.0.0.0", "[::]"}

Loc = tuple[str | int, ...]


class Found(NamedTuple):
    """What is wrong at `loc`: `message`. Where another place belongs to the sentence, that is `other`, between `message` and
    `end`: how it is said depends on the file that it stands in."""

    loc: Loc
    message: str
    other: Loc | None = None
    end: str = ""


def references(plain: Any) -> Iterator[Found]:
    """Every broken cross reference in the plain configuration."""
    if not isinstance(plain, dict):
        return
    upstreams = [(loc, _get(item, "name")) for loc, item in _each(plain, "upstreams")]
    accounts = [(loc, _get(item, "system_id")) for loc, item in _each(plain, "accounts")]
    routes = [(loc, _get(item, "name")) for loc, item in _each(plain, "routes")]
    yield from _unique(upstreams, "name", "upstream")
    yield from _unique(accounts, "system_id", "account")
    yield from _unique(routes, "name", "route")
    yield from _addresses(plain)

    upstream_names = {name for _, name in upstreams}
    account_names = {name for _, name in accounts}
    policies = plain.get("policies")
    policies = policies if isinstance(policies, dict) else {}
    registries = _registries(plain)
    for loc, account in _each(plain, "accounts"):
        yield from _known(loc, account, "policies", policies.keys(), "policy")
        yield from _suspending(loc, account, policies)
        dlt = account.get("dlt")
        if isinstance(dlt, dict):
            yield from _known((*loc, "dlt"), dlt, "registry", registries, "registry")
    for loc, route in _each(plain, "routes"):
        yield from _known(loc, route, "upstreams", upstream_names, "upstream")
        yield from _known(loc, route, "accounts", account_names, "account")
    for name in ("feed", "tracing"):
        section = plain.get(name)
        if isinstance(section, dict):
            yield from _known((name,), section, "accounts", account_names, "account")
    for name, policy in policies.items():
        if isinstance(policy, dict):
            yield from _rules(("policies", name, "rules"), policy.get("rules"), upstream_names)
        else:
            yield from _rules(("policies", name), policy, upstream_names)
    lists = plain.get("lists")
    lists = lists if isinstance(lists, dict) else {}
    for loc, account in _each(plain, "accounts"):
        opt_out = account.get("opt_out")
        if isinstance(opt_out, dict):
            yield from _of_kind((*loc, "opt_out"), opt_out, "lists", lists, "numbers")
    for name, policy in policies.items():
        path: Loc = ("policies", name, "rules") if isinstance(policy, dict) else ("policies", name)
        yield from _asked(path, policy.get("rules") if isinstance(policy, dict) else policy, lists)
    yield from _owners(plain)


def _asked(loc: Loc, rules: Any, lists: dict[str, Any]) -> Iterator[Found]:
    """The lists that conditions name: they exist, and are of the kind that is asked for."""
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        for part in ("when", "unless"):
            condition = rule.get(part) if isinstance(rule, dict) else None
            if not isinstance(condition, dict):
                continue
            for key, kind in ASKED_BY.items():
                yield from _of_kind((*loc, index, part), condition, key, lists, kind)


def _of_kind(loc: Loc, where: dict[str, Any], key: str, lists: dict[str, Any], kind: str) -> Iterator[Found]:
    """The lists named there exist, and are of this kind."""
    yield from _known(loc, where, key, lists.keys(), "list")
    for at, name in enumerate(_list(where.get(key))):
        other = _get(lists.get(str(name)), "kind")
        if other is not None and other != kind:
            yield Found((*loc, key, at), f"{name} is a list of {other}, not of {kind}")


def _registries(plain: dict[str, Any]) -> set[str | None]:
    dlt = plain.get("dlt")
    registries = dlt.get("registries") if isinstance(dlt, dict) else None
    return set(registries) if isinstance(registries, dict) else set()


def _rules(loc: Loc, rules: Any, upstreams: Iterable[str | None]) -> Iterator[Found]:
    if not isinstance(rules, list):
        return
    named = [((*loc, index), _get(rule, "name")) for index, rule in enumerate(rules)]
    yield from _unique(named, "name", "rule")
    for index, rule in enumerate(rules):
        action = rule.get("do") if isinstance(rule, dict) else None
        if isinstance(action, dict):
            yield from _known((*loc, index, "do"), action, "route", upstreams, "upstream")


def _suspending(loc: Loc, account: dict[str, Any], policies: dict[Any, Any]) -> Iterator[Found]:
    """A name that refuses nothing would never suspend anybody."""
    section = account.get("suspend_after")
    if not isinstance(section, dict):
        return
    known: set[str | None] = {*SCREENS}
    for name, policy in policies.items():
        rules = policy.get("rules") if isinstance(policy, dict) else policy
        known |= {str(name), *(f"{name}/{_get(rule, 'name')}" for rule in _list(rules))}
    for index, name in enumerate(_list(section.get("rules"))):
        if isinstance(name, str) and name not in known and name.partition("/")[0] not in SCREENS:
            yield Found(
                (*loc, "suspend_after", "rules", index), f"no policy or rule is named {name}{suggestion(name, known)}"
            )


def _owners(plain: dict[str, Any]) -> Iterator[Found]:
    """One MO message must have one owner: a number may be shared by accounts only if keywords tell them apart."""
    owners: dict[tuple[bytes, str], Loc] = {}
    for loc, account in _each(plain, "accounts"):
        words = [str(word).casefold() for word in _list(account.get("keywords"))] or [""]
        for index, number in enumerate(_list(account.get("numbers"))):
            for word in words:
                key = (normalise_prefix(str(number).encode()), word)
                other = owners.setdefault(key, loc)
                if other != loc:
                    why = "with the same keyword" if word else "and neither has keywords"
                    yield Found((*loc, "numbers", index), "this number is also that of ", other, f", {why}")
                    break


def _unique(names: list[tuple[Loc, str | None]], key: str, what: str) -> Iterator[Found]:
    seen: dict[str, Loc] = {}
    for loc, name in names:
        if name is None:
            continue
        first = seen.setdefault(name, loc)
        if first != loc:
            yield Found((*loc, key), f"{what} {name} is given twice (first as ", first, ")")


def _known(loc: Loc, section: dict[str, Any], key: str, names: Iterable[str | None], what: str) -> Iterator[Found]:
    for index, item in enumerate(_list(section.get(key))):
        name = _get(item, "name") if isinstance(item, dict) else item
        if isinstance(name, (str, int)) and not isinstance(name, bool) and str(name) not in names:
            yield Found((*loc, key, index), f"no {what} is named {name}{suggestion(str(name), names)}")


def suggestion(name: str, names: Iterable[str | None]) -> str:
    """` (did you mean X?)` for the nearest of `names`, or nothing."""
    near = difflib.get_close_matches(name, [known for known in names if known], n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def _each(plain: dict[str, Any], section: str) -> Iterator[tuple[Loc, dict[str, Any]]]:
    for index, item in enumerate(_list(plain.get(section))):
        if isinstance(item, dict):
            yield (section, index), item


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _get(item: Any, key: str) -> str | None:
    value = item.get(key) if isinstance(item, dict) else None
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _addresses(plain: dict[str, Any]) -> Iterator[Found]:
    """Addresses that cannot be listened on at the same time: equal ones, and a wildcard beside another of its port."""
    wanted: list[tuple[Loc, str | None]] = [(loc, _get(item, "address")) for loc, item in _each(plain, "listeners")]
    http = plain.get("http", {})
    if isinstance(http, dict):
        wanted.append((("http",), _get(http, "address") or DEFAULT_HTTP))
    taken: list[tuple[Loc, str, str]] = []
    for loc, address in wanted:
        host, _, port = (address or "").rpartition(":")
        host, port = _same(host), port.lstrip("0") or "0"
        if not host or port == "0":  # any free one, which several may ask for
            continue
        other = next((where for where, h, p in taken if p == port and (h == host or _WILDCARDS & {h, host})), None)
        if other is not None:
            where = (*loc, "address") if loc != ("http",) or "address" in plain.get("http", {}) else (*other, "address")
            yield Found(
                where,
                "cannot be listened on together with ",
                other if where[0] == loc[0] else loc,
                ": the same port",
            )
        taken.append((loc, host, port))


def _same(host: str) -> str:
    """A host in one form, as it is listened on: `localhost` is 127.0.0.1 there. Of other names nobody is asked."""
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        return f"[{ipaddress.IPv6Address(host[1:-1])}]" if host.startswith("[") else host.lower()
    except ValueError:
        return host


def shown(loc: Loc) -> str:
    """A location as an operator writes it: `accounts[0].window`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
