"""A place in the log: how many of the things of a row, its records and then its events, somebody has taken.

Places stay what they are: a purge takes records out of a row and leaves the count of those that were written with it, an
erasure leaves the record itself, and new rows have higher ids than all before them.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self

_FORM: Final = re.compile(r"([0-9a-f]{16})-([0-9]{1,9})")
_HIGHEST: Final = (1 << 63) - 1


class BadPlace(ValueError):
    """A text that names no place. The message says what one looks like."""


class Place(NamedTuple):
    """``seq``: the row; ``taken``: so many of its things are over. `Place()` is before everything."""

    seq: int = 0
    taken: int = 0

    def __str__(self) -> str:
        return f"{self.seq:016x}-{self.taken}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`. Raises BadPlace."""
        found = _FORM.fullmatch(text)
        if found is None or int(found[1], 16) > _HIGHEST:
            raise BadPlace("a cursor is 16 hexadecimal digits, a hyphen and a number, as it was given")
        return cls(int(found[1], 16), int(found[2]))
