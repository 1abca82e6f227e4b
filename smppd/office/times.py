"""Times as people type them: an ISO date or time, or an age."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Moment(int):
    """Epoch milliseconds, and how somebody typed them."""

    typed: str = ""


def moment_of(text: str, now: float) -> Moment:
    """Epoch milliseconds of an ISO 8601 date or time (UTC unless it says otherwise) or of an age such as `24h`. now: epoch
    seconds. ValueError, whose text is a sentence."""
    age = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    try:
        if age:
            return _moment(now - int(age[1]) * _UNITS[age[2]], text)
        at = datetime.fromisoformat(text)
        return _moment((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(), text)
    except (ValueError, OverflowError, OSError):
        raise ValueError("not an ISO date or time, nor an age like 24h") from None


def _moment(seconds: float, typed: str) -> Moment:
    datetime.fromtimestamp(seconds, UTC)  # what is beyond the calendar cannot be put down
    made = Moment(seconds * 1000)
    made.typed = typed
    return made
