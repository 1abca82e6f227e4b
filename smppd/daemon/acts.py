"""What an act is: what is asked for, what is answered, and which of them stand.

The control server reads a request, finds out who asks and whether his roles allow it, and calls the act's handler. One act is
done after another: the next one begins when the answer of the one before is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from twisted.internet.defer import Deferred

from smppd.operators.roles import Authority


class ActInForce(NamedTuple):
    """An act that stands. ``since``, ``until``: epoch seconds, None for an act that has no end of its own. ``by``: as the audit
    trail names him. ``survives``: a restart. ``configured``: False where its target is not in the configuration any more."""

    act: str
    target: str
    since: float
    by: str
    reason: str
    until: float | None
    survives: bool
    configured: bool = True


class ActRequest(NamedTuple):
    """What somebody asks for. ``target``: empty where the act needs none. ``reason``: 1 to 200 characters that print.
    ``fields``: the whole request, for what one act alone knows (`for`, `to`, `older_than`); nobody has looked at it yet."""

    act: str
    target: str
    reason: str
    fields: Mapping[str, Any]


class Done(NamedTuple):
    """What became of it. ``said``: a sentence. ``changed``: False where all was so already."""

    said: str
    changed: bool


ActHandler: TypeAlias = Callable[[ActRequest, Authority], "Done | Deferred[Done]"]
"""Does an act, on the reactor thread. ControlError, raised or by the Deferred, where it cannot be done: its code is UNKNOWN for
a target that does not exist, STATE for what cannot be done now, REQUEST for a field that makes no sense."""


class Acts:
    """The acts that stand."""

    def in_force(self) -> list[ActInForce]:
        """All of them, in the order in which they began."""
        return []
