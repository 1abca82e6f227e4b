"""The names of what the audit trail records: one list, for whoever writes an entry and whoever looks for one.

docs/data-protection.md has the same list as a table, held to this one by tests/test_docs.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class AuditEvent(StrEnum):
    """The event of an entry."""

    START = "start"
    STOP = "stop"
    RELOAD = "reload"
    BIND_ACCEPTED = "bind accepted"
    BIND_REFUSED = "bind refused"
    BAN_BEGAN = "ban began"
    BAN_LIFTED = "ban lifted"
    SEARCH = "search"
    SHOW = "show"
    REVEAL = "reveal"
    KEY = "key"
    PURGE = "purge"
    BACKUP = "backup"
    RESTORE = "restore"
    STORE = "store"
    CHECKPOINT = "checkpoint"
    INTEGRITY = "integrity"
    DAMAGED = "damaged"
    OPERATOR = "operator"
    LOGIN = "login"
    LOGIN_REFUSED = "login refused"
    APPROVAL = "approval"
    EXPORT = "export"
    ERASURE = "erasure"
    HOLD = "hold"
    EVIDENCE = "evidence"
    REPORT = "report"
    OPT_OUT = "opt out"
    SUSPENSION = "suspension"
    TRAFFIC = "traffic"
    CONSENT = "consent"
    ACT = "act"
    TRACE = "trace"
    ENTRIES_DROPPED = "entries dropped"


class UnknownEvent(ValueError):
    """No event has this name, nor a name that begins so; the text lists those there are."""


def matching(asked: str, also: Iterable[str] = ()) -> frozenset[str]:
    """The events meant by `asked`: that of exactly this name, or all whose name begins so (`bind`: accepted and refused).
    also: names that stand on a trail of another version. Raises UnknownEvent: a name that nothing can have would find
    nothing and look like an answer."""
    name = " ".join(asked.split()).lower()
    known = sorted({*AuditEvent, *also})
    if name in known:
        return frozenset((name,))
    found = frozenset(one for one in known if name and one.startswith(name))
    if not found:
        raise UnknownEvent(f"no event of the audit trail is called {asked[:40]!r}; there are: {', '.join(known)}")
    return found
