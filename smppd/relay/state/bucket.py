"""Token buckets: a rate in tokens a second, and a burst. A bucket may give tokens that it does not have yet to callers who
are willing to wait."""

from __future__ import annotations

from typing import Final

# So much of a token may be missing by rounding, so that a caller at exactly the rate is never refused. It is taken later.
_SLACK: Final = 1e-3


class Bucket:
    """``rate`` tokens a second, at most ``burst`` saved up. ``rate`` None: no limit.

    All tokens that were saved up may be taken at once: a burst is not spread over time. ``now``: monotonic seconds.
    """

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float | None, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = max(1.0, float(burst))
        self._tokens = self.burst
        self._at = now

    def take(self, now: float, patience: float = 0.0, number: int = 1) -> float:
        """Takes ``number`` tokens; returns the seconds to wait until they are really there (0 mostly), or -1 when that would be
        longer than ``patience``, and then takes none. More than ``burst`` at once are given where a full burst would be, and
        are owed: whoever comes next waits for them."""
        rate = self.rate
        if rate is None:
            return 0.0
        tokens = self._tokens
        if now > self._at:
            tokens = min(self.burst, tokens + (now - self._at) * rate)
            self._at = now
        if tokens >= number - _SLACK:
            self._tokens = tokens - number
            return 0.0
        if (min(float(number), self.burst) - tokens) / rate > patience:
            self._tokens = tokens
            return -1.0
        self._tokens = tokens - number
        return (number - tokens) / rate

    def ready_in(self, now: float) -> float:
        """Seconds until ``take`` succeeds without waiting."""
        rate = self.rate
        if rate is None:
            return 0.0
        tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * rate)
        return 0.0 if tokens >= 1.0 - _SLACK else (1.0 - tokens) / rate

    def change(self, rate: float | None, burst: float, now: float) -> None:
        """A new limit after a reload; what was saved up stays, within the new burst."""
        if self.rate is not None:
            self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now
        self.rate = rate
        self.burst = max(1.0, float(burst))
        self._tokens = min(self._tokens, self.burst)
