"""SMPP time format, absolute and relative (SMPP 3.4 section 7.1.1), to and from epoch seconds."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

from smppd.protocol.wire import BodyError, Status

TIME_TO_LIVE: Final = 0x0017
"""Tag of qos_time_to_live: how a data_sm says for how long it is valid."""
_FORM = re.compile(rb"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d)(\d\d)([+\-R])")


def read(value: bytes, now: float, status: int = Status.RINVEXPIRY) -> float | None:
    """Epoch seconds of a time field, None for an empty one.

    Relative times (``R``) count from ``now``, a month as 30 days and a year as 365. Raises ``BodyError(status)``.
    """
    if not value:
        return None
    match = _FORM.fullmatch(value)
    if match is None:
        raise BodyError(status, "not a time in SMPP's format")
    year, month, day, hour, minute, second, tenths, quarters = (int(match[i]) for i in range(1, 9))
    if match[9] == b"R":
        return now + ((year * 365 + month * 30 + day) * 24 + hour) * 3600 + minute * 60 + second + tenths / 10
    if quarters > 48:
        raise BodyError(status, "no such time")
    try:
        seconds = datetime(2000 + year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        raise BodyError(status, "no such time") from None
    return seconds + tenths / 10 - (quarters * 900 if match[9] == b"+" else -quarters * 900)


def check(schedule: bytes, validity: bytes, now: float) -> float | None:
    """Epoch seconds of a validity_period beside a schedule_delivery_time, None where it is empty.

    Raises ``BodyError``: ESME_RINVSCHED where ``schedule`` is no time, ESME_RINVEXPIRY where ``validity`` is none or a message
    could never be delivered within it: it is over by ``now``, of length zero, or over before ``schedule``. A schedule that
    has passed means at once.
    """
    begins = read(schedule, now, Status.RINVSCHED)
    ends = read(validity, now)
    if ends is not None and ends <= max(now, begins or 0.0):
        raise BodyError(Status.RINVEXPIRY, "the validity period ends before the message could be delivered")
    return ends


def to_live(value: bytes | None) -> int | None:
    """Seconds in the qos_time_to_live of a data_sm (SMPP 3.4 section 5.3.2.9), None where there is none."""
    return int.from_bytes(value, "big") or None if value is not None and len(value) == 4 else None


def is_relative(value: bytes) -> bool:
    """Whether a time field counts from the moment it is read."""
    return value.endswith(b"R")


def write_relative(seconds: float) -> bytes:
    """A relative time of whole ``seconds``, at least one and 62 days at most. From 30 days on a month stands for 30 days."""
    left = max(1, min(int(seconds), 62 * 86400))
    days, left = divmod(left, 86400)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    months, days = divmod(days, 30)
    return b"00%02d%02d%02d%02d%02d000R" % (months, days, hours, minutes, left)


def write_absolute(when: float) -> bytes:
    """An absolute time in UTC."""
    moment = time.gmtime(when)
    return b"%02d%02d%02d%02d%02d%02d000+" % (
        moment.tm_year % 100,
        moment.tm_mon,
        moment.tm_mday,
        moment.tm_hour,
        moment.tm_min,
        moment.tm_sec,
    )
