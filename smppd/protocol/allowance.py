"""How many PDUs of a kind a peer may still send now: so many a second, and a burst of them at once."""

from __future__ import annotations


class Allowance:
    """Full at first. Time is an argument, in monotonic seconds."""

    __slots__ = ("at", "left")

    def __init__(self, burst: float, now: float) -> None:
        self.left = burst
        self.at = now

    def take(self, rate: float, burst: float, now: float) -> bool:
        """Takes one; False when there is none."""
        self.left = min(burst, self.left + (now - self.at) * rate)
        self.at = now
        if self.left < 0.999:  # less what rounding takes
            return False
        self.left -= 1.0
        return True
