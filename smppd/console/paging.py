"""A long list on pages of its own, and which of it is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

ON_A_PAGE: Final = 100
FIELD: Final = "page"


class Slice(NamedTuple):
    """A part of a list. first: the number of its first item, from 1; 0 where there is none. before, after: queries of the pages
    beside it, empty where there is none."""

    items: Sequence[Any]
    first: int
    total: int
    before: str
    after: str

    @property
    def last(self) -> int:
        """The number of its last item."""
        return self.first + len(self.items) - 1 if self.items else 0


def slice_of(items: Sequence[Any], query: Mapping[str, str], most: int = ON_A_PAGE) -> Slice:
    """The part that a query asks for; the first where it asks for none that exists."""
    pages = max(1, -(-len(items) // most))
    typed = query.get(FIELD, "")
    number = int(typed) if typed.isascii() and typed.isdigit() and len(typed) < 7 else 1
    number = min(max(number, 1), pages)
    start = (number - 1) * most
    shown = items[start : start + most]
    return Slice(
        shown,
        start + 1 if shown else 0,
        len(items),
        _query(query, number - 1) if number > 1 else "",
        _query(query, number + 1) if number < pages else "",
    )


def _query(query: Mapping[str, str], number: int) -> str:
    return "?" + urlencode({**query, FIELD: str(number)})


def named(items: Sequence[Mapping[str, Any]], field: str, wanted: str) -> list[Mapping[str, Any]]:
    """Those whose name contains what was typed, whatever the case; all where nothing was."""
    part = wanted.strip().casefold()
    return [one for one in items if part in str(one.get(field) or "").casefold()] if part else list(items)
