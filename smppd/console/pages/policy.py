"""What decides about messages: the rules with their hits, and the configuration in force."""

from __future__ import annotations

from typing import Any, Final

from smppd.console.page import Answer, Asked, Page, show
from smppd.console.paging import named, slice_of
from smppd.operators.roles import Act

_LINES: Final = 5000
"""Lines of the configuration that are shown; it names each account."""


def _rules(asked: Asked) -> Answer:
    wanted = asked.query.get("policy", "")
    found = named(asked.daemon.show("rules"), "policy", wanted)
    return show("rules", rules=slice_of(found, asked.query), wanted=wanted)


def _config(asked: Asked) -> Answer:
    found = asked.daemon.show("config")
    lines = outline(found.get("settings"))
    return show("config", config=found, lines=lines[:_LINES], all_lines=len(lines), acts=found.get("acts") or [])


def outline(value: Any, depth: int = 0) -> list[tuple[int, str, str]]:
    """A value of JSON as lines: (depth, key, text). What stands in a list has a dash for its key."""
    lines: list[tuple[int, str, str]] = []
    items = value.items() if isinstance(value, dict) else [("-", one) for one in value or ()]
    for key, one in items:
        if isinstance(one, dict | list) and one:
            if isinstance(one, list) and not any(isinstance(part, dict | list) for part in one):
                lines.append((depth, str(key), ", ".join(map(_word, one))))
            else:
                lines.append((depth, str(key), ""))
                lines += outline(one, depth + 1)
        else:
            lines.append((depth, str(key), _word(one)))
    return lines


def _word(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in ({}, []) else str(value)


PAGES: Final = (
    Page("/rules", "Rules", Act.SEARCH, _rules, "Policy", live=True, also=frozenset({Act.RUNTIME, Act.REPORT})),
    Page("/config", "Configuration", Act.RUNTIME, _config, "Policy", also=frozenset({Act.AUDIT})),
)
