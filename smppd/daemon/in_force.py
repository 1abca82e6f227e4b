"""The settings in force as they may be seen: without secrets, hashes of passwords and people's numbers.

What is shown is what stands in the configuration, defaults filled in. A place of a secret (a file, a credential) is no secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from itertools import islice
from typing import Any, Final

from pydantic import BaseModel

from smppd.config import PasswordHash, Settings
from smppd.daemon.answers import Lazy
from smppd.message import masked

LONGEST: Final = 100
"""Items of a list that are shown, outside the lists of accounts and the like."""
HIDDEN: Final = "***"
_SECRET: Final = frozenset({"password_hash"})
_COMMAND: Final = frozenset({"command"})  # its arguments may be a token
_NUMBER: Final = re.compile(r"\+?[0-9]{7,}\*?")
_MANY: Final = frozenset({"accounts", "upstreams", "routes", "listeners"})
_NAMED: Final = frozenset({"policies", "lists", "brands"})


def shown_settings(settings: Settings, names: Container[str] | None) -> Mapping[str, object]:
    """What stands in each section; long ones are iterators, each item of which is made as it is asked for. ``names``: of the
    accounts that may be seen, and nothing else is then; None: all."""
    accounts = (_plain(one) for one in settings.accounts if names is None or one.system_id in names)
    if names is not None:
        return {"accounts": accounts}
    found: dict[str, object] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if name == "accounts":
            found[name] = accounts
        elif name in _MANY:
            found[name] = map(_plain, value)
        elif name in _NAMED:
            found[name] = _named(value)
        elif name != "path":
            found[name] = _plain(value)
    return found


def _named(items: Mapping[str, object]) -> Lazy:
    return Lazy(items, lambda name: _plain(items[name]))


def _plain(value: Any, name: str = "") -> Any:
    """A value as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if name in _SECRET or isinstance(value, PasswordHash):
        return HIDDEN
    if isinstance(value, str):
        return masked(value) if _NUMBER.fullmatch(value) else value
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {field.alias or key: _plain(getattr(value, key), key) for key, field in fields.items()}
    if isinstance(value, Mapping):
        return {_key(key): _plain(one) for key, one in islice(value.items(), LONGEST)}
    if isinstance(value, tuple | list | set | frozenset):
        if name in _COMMAND:
            return [*map(str, islice(value, 1)), *[HIDDEN] * (len(value) > 1)]
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        shown = [_plain(one) for one in islice(items, LONGEST)]
        return shown if len(value) <= LONGEST else [*shown, f"... and {len(value) - LONGEST} more"]
    text = str(value)
    return masked(text) if _NUMBER.fullmatch(text) else text


def _key(key: object) -> str:
    text = str(key)
    return masked(text) if _NUMBER.fullmatch(text) else text
