"""Messages a day by country: hard limits, which a restart does not begin anew.

The count on disk runs ahead: it is the real one and a portion more, written again when half of the portion is used. So after a
kill counting goes on at or above where it was, unless the disk was slower than half a portion; then what was accepted meanwhile
is not counted.
"""

from __future__ import annotations

from typing import Any, Final

DAY: Final = 86400
_PORTIONS: Final = 200
"""A portion is so manieth of a cap: a kill costs an account half a percent of its day at the most."""
_NAMES: Final = 300
"""More countries than there are."""


class Caps:
    """The counts of one account. A day is one of UTC."""

    def __init__(self) -> None:
        self._day = 0
        self._used: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._portion: dict[str, int] = {}
        self.lifted: set[str] = set()
        """Countries whose cap an operator lifted for the day."""
        self.due = False
        """Whether counts are to be written."""

    def used(self, country: str) -> int:
        """Messages of the day that was begun last."""
        return self._used.get(country, 0)

    def is_over(self, wall: float) -> bool:
        """Whether the day of these counts is over (epoch seconds), though nothing has begun the next one yet."""
        return int(wall) // DAY > self._day

    def begin_day(self, wall: float) -> bool:
        """Looks at the clock (epoch seconds); whether a new day has begun. A clock that is put back forgets nothing:
        the earlier day goes on with the counts there are."""
        day = int(wall) // DAY
        if day == self._day:
            return False
        later = day > self._day
        self._day = day
        if later:
            self._used.clear()
            self._written.clear()
            self.lifted.clear()
        self.due = self.due or bool(self._used)
        return later

    def count(self, country: str, cap: int) -> None:
        """A message under a cap."""
        used = self._used.get(country, 0) + 1
        if used == 1 and len(self._used) >= _NAMES:
            return
        self._used[country] = used
        written = self._written.get(country, 0)
        portion = max(1, cap // _PORTIONS)
        if used + portion // 2 >= written:
            self._portion[country] = portion
            self.due = True

    def take_back(self, country: str) -> None:
        """The message that was counted last was none."""
        used = self._used.get(country, 0)
        if used:
            self._used[country] = used - 1

    def to_write(self, exactly: bool = False) -> dict[str, Any]:
        """What is to be on disk. ``exactly``: at an orderly end, without portions."""
        self.due = False
        counts = {
            country: used if exactly else used + self._portion.get(country, 0) for country, used in self._used.items()
        }
        return {"day": self._day, "used": counts, "lifted": sorted(self.lifted)}

    def was_written(self, said: dict[str, Any]) -> None:
        """What `to_write` gave is durable."""
        if said["day"] == self._day:
            self._written = dict(said["used"])

    def load(self, said: Any) -> None:
        """Takes what was on disk. ValueError where it is nothing of ours: then nothing is changed."""
        try:
            day = int(said["day"])
            used = {str(country): int(count) for country, count in said["used"].items()}
            lifted = {str(country) for country in said["lifted"]}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError("no counts of caps") from None
        if len(used) > _NAMES or any(count < 0 for count in used.values()):
            raise ValueError("no counts of caps")
        self._day, self._used, self._written, self.lifted = day, used, dict(used), lifted
