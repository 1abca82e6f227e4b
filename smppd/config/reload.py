"""What a reload would change, in sentences that hold no secret and no number, and what needs a restart instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from smppd.config import units
from smppd.config.settings import Settings


class Changes(NamedTuple):
    """`changes`: what is different. `refusals`: those of them that need a restart; empty when a reload may go on."""

    changes: list[str]
    refusals: list[str]


_HIDDEN: Final = {"password_hash", "password", "numbers", "sender", "destination", "client_certificate", "answers"}
_SECTIONS: Final = (("account", "accounts", "system_id"), ("upstream", "upstreams", "name"))
_RESTART: Final = ("store", "keys", "http", "node", "node_name", "control")


def changes(old: Settings, new: Settings) -> Changes:
    """What `new` would change of `old`. A reload applies all of it or, when there are refusals, nothing."""
    found: list[str] = []
    refused: list[str] = []
    before = {listener.address: listener for listener in old.listeners}
    after = {listener.address: listener for listener in new.listeners}
    for address in [*before, *after.keys() - before.keys()]:
        if address not in after or address not in before:
            refused.append(f"listener {address} {'added' if address in after else 'removed'}: needs a restart")
        elif (before[address].tls is None) != (after[address].tls is None):
            refused.append(
                f"listener {address}: tls switched {'off' if after[address].tls is None else 'on'}: needs a restart"
            )
        else:
            found += _differences(f"listener {address}", before[address], after[address])
    for what, section, key in _SECTIONS:
        found += _by_name(what, _named(getattr(old, section), key), _named(getattr(new, section), key))
    if old.routes != new.routes:
        found.append(f"routes changed ({len(old.routes)} before, {len(new.routes)} now)")
    found += _policies(old, new)
    found += _by_name("list", old.lists, new.lists)
    if old.watch_files != new.watch_files:
        found.append(f"watch_files {_shown('s', old.watch_files)} -> {_shown('s', new.watch_files)}")
    found += _by_name("brand", dict(old.brands), dict(new.brands))
    found += _senders(old, new)
    for section in (
        "opt_out",
        "quiet_hours",
        "consent",
        "dlt",
        "retention",
        "limits",
        "log",
        "shipping",
        "feed",
        "tracing",
        "traces",
    ):
        found += _differences(section, getattr(old, section), getattr(new, section))
    if old.region != new.region:
        found.append(f"region {old.region or 'none'} -> {new.region or 'none'}")
    if old.drain != new.drain:
        found.append(f"drain {_shown('drain', old.drain)} -> {_shown('drain', new.drain)}")
    refused += [f"{name} changed: needs a restart" for name in _RESTART if getattr(old, name) != getattr(new, name)]
    return Changes(found + refused, refused)


def _named(items: tuple[BaseModel, ...], key: str) -> dict[str, BaseModel]:
    return {getattr(item, key): item for item in items}


def _by_name(what: str, old: Mapping[str, BaseModel], new: Mapping[str, BaseModel]) -> Iterator[str]:
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            yield f"{what} {name} removed"
        elif name not in old:
            yield f"{what} {name} added"
        else:
            yield from _differences(f"{what} {name}", old[name], new[name])


def _policies(old: Settings, new: Settings) -> Iterator[str]:
    for name in [*old.policies, *(name for name in new.policies if name not in old.policies)]:
        if name not in new.policies:
            yield f"policy {name} removed"
        elif name not in old.policies:
            yield f"policy {name} added"
        else:
            before, after = old.policies[name], new.policies[name]
            if before.hold_parts != after.hold_parts:
                yield f"policy {name}: hold_parts {before.hold_parts} -> {after.hold_parts}"
            rules = {rule.name: rule for rule in before.rules}, {rule.name: rule for rule in after.rules}
            yield from (f"policy {name}: rule {rule} removed" for rule in rules[0] if rule not in rules[1])
            yield from (f"policy {name}: rule {rule} added" for rule in rules[1] if rule not in rules[0])
            both = [rule for rule in rules[0] if rule in rules[1]]
            yield from (f"policy {name}: rule {rule} changed" for rule in both if rules[0][rule] != rules[1][rule])
            if both != [rule for rule in rules[1] if rule in rules[0]]:
                yield f"policy {name}: order of rules changed"


def _senders(old: Settings, new: Settings) -> Iterator[str]:
    """Names and numbers of senders are not told, only how many there are."""
    for name in type(new.senders).model_fields:
        before, after = getattr(old.senders, name), getattr(new.senders, name)
        if before != after:
            counted = f" ({len(before or ())} before, {len(after or ())} now)"
            yield f"senders: {name} changed{counted}"


def _differences(what: str, old: Any, new: Any, prefix: str = "") -> Iterator[str]:
    for name in type(new).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        path = prefix + name
        if name in _HIDDEN or isinstance(before, dict):
            yield f"{what}: {path} changed"
        elif isinstance(before, BaseModel) and type(before) is type(after):
            yield from _differences(what, before, after, f"{path}.")
        else:
            yield f"{what}: {path} {_value(type(new), name, before)} -> {_value(type(new), name, after)}"


def _value(model: type[BaseModel], name: str, value: Any) -> str:
    if isinstance(value, BaseModel):
        return "set"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) if value else "none"
    schema = model.model_json_schema()
    properties = schema.get("anyOf", [schema])[-1].get("properties", {})
    return _shown(str(properties.get(name, "")), value)


def _shown(schema: str, value: Any) -> str:
    """The value as an operator writes it; its unit is known by the pattern in its JSON Schema."""
    if value is None:
        return "none"
    if isinstance(value, float) and "'type': 'number'" in schema:
        return f"{value:g}"
    if isinstance(value, float):
        return units.format_rate(value) if "/[smh]" in schema else units.format_duration(value)
    return units.format_size(value) if "KiB" in schema else str(value)
