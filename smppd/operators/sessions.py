"""Sessions: somebody logged in a moment ago, at this place, and need not do so again for each command.

A session is known by a random token, of which the store has a keyed hash. It ends by itself, and with any change of its
operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from smppd.operators.desk import Desk
from smppd.operators.people import Operator, People

KIND: Final = "session"
DEFAULT: Final = 900.0
LONGEST: Final = 3600.0
"""Seconds that a session may last."""
_TOKEN_BYTES: Final = 32
_CLOCK: Final = 5.0


class Session(NamedTuple):
    """A session that stands. until: epoch seconds."""

    operator: Operator
    until: float


def begin(
    desk: Desk, operator: Operator, place: str, now: float, seconds: float, draw: Callable[[int], bytes]
) -> tuple[str, float]:
    """Opens a session; its token, and when it ends (epoch seconds). place: where it may be used, as the kernel knows it."""
    token = draw(_TOKEN_BYTES).hex()
    until = now + min(seconds, LONGEST)
    value = {"operator": operator.name, "version": operator.version, "place": place, "since": now, "until": until}
    if not desk.add(KIND, desk.hash("session", token), value, until + 1):
        raise AssertionError("256 random bits came twice")
    return token, until


def current(desk: Desk, token: str, place: str, address: str, now: float) -> Session | None:
    """The session of a token; None where it has ended, is another place's, or its operator was changed, disabled or comes
    from where he may not."""
    paper = desk.get(KIND, desk.hash("session", token))
    if paper is None:
        return None
    value = paper.value
    operator = People(desk).get(value["operator"])
    good = (
        operator is not None
        and operator.version == value["version"]
        and not operator.disabled
        and value["place"] == place
        # A clock that was set back does not make it longer.
        and value["since"] - _CLOCK <= now < value["until"]
        and operator.comes_from(address)
    )
    return Session(operator, value["until"]) if good and operator is not None else None


def end(desk: Desk, token: str) -> bool:
    """Ends a session; False where there is none."""
    return desk.remove(KIND, desk.hash("session", token))
