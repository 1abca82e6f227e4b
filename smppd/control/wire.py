"""What both ends of the control socket know: its name, its version, its limits, and how a request is refused.

docs/control.md has the interface as its users see it.
"""

from __future__ import annotations

import grp
from enum import StrEnum
from typing import Final

NAME: Final = "control.sock"
VERSION: Final = 1
"""Of requests and answers. Fields may be added under the same number; a field keeps its meaning."""
REQUEST_MAX: Final = 1 << 20
"""Octets of a request, its end included. An erasure names all holds in force in one, some 150 octets each."""
STRANGERS_MAX: Final = 16 << 10
"""The same of a user who has to log in: he asks for less."""
ANSWER_MAX: Final = 16 << 20
WITHIN: Final = 5.0
"""Seconds until a request is whole."""
ANSWERED_WITHIN: Final = 30.0
"""Seconds from then on until its answer is taken. Both ends keep to it."""


class Code(StrEnum):
    """What kind of error an answer is. VERSION: of the request. REQUEST: it is malformed. LOGIN: one for all failed logins.
    ROLE: no role allows it. UNKNOWN: there is no such thing. STATE: not now. FAILED: a bug of ours; it is in the log."""

    VERSION = "version"
    REQUEST = "request"
    LOGIN = "login"
    ROLE = "role"
    UNKNOWN = "unknown"
    STATE = "state"
    FAILED = "failed"


CHANGES: Final = 500
"""Items in one request that changes a register (opt-outs, consents): some 3 ms of the reactor."""

EXPLAIN: Final = "explain screens"
"""The request by which the running daemon is asked what its screens say of a message (`daemon.explaining`)."""


class ControlError(Exception):
    """A request that cannot be done, or a daemon that cannot be asked. The text is one clear sentence. ``code``: of the
    daemon's answer; empty where there is no daemon that answers."""

    def __init__(self, message: str, code: str = Code.STATE) -> None:
        super().__init__(message)
        self.code = str(code)


def group_number(name: str | None) -> int | None:
    """The number of a group of this host, None for none. ValueError where there is none of this name."""
    try:
        return None if name is None else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"control.group: there is no group {name!r} on this host") from None
