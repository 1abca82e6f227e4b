"""Answers on the control socket: a small one is a dict, a long one is made while it is written.

A long answer is made in pieces, one a turn of the reactor. A piece ends after `PIECE_SECONDS` or `ITEMS`, so that no list holds
messages up however long it is, and the next one is made when the one before was taken: a slow reader costs no memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from smppd.control.wire import VERSION

ITEMS: Final = 500
"""Items of a list that are written in one turn, at the most."""
PIECE_SECONDS: Final = 0.004
"""Seconds of a turn after which no further item is made."""

Pieces: TypeAlias = Generator[bytes, None, None]


class Listing(NamedTuple):
    """A long answer: `{"v": 1, FIELDS, NAME: ITEMS}`. ``items``: an iterable, which becomes a list, or a mapping of
    names to values. What is an iterator, or a mapping, is made and written item by item. ``fields``: what stands before it,
    small."""

    name: str
    items: Iterable[object] | Mapping[str, object]
    fields: Mapping[str, object] = {}

    def pieces(self, clock: Callable[[], float] = time.monotonic) -> Pieces:
        """The line, its end included. ``clock``: monotonic seconds."""
        head = json.dumps({"v": VERSION, **self.fields})[:-1] + ", " + json.dumps(self.name) + ": "
        parts = [head]
        count, until = 0, clock() + PIECE_SECONDS
        for part in _parts(self.items):
            parts.append(part)
            count += 1
            if count >= ITEMS or clock() >= until:
                yield "".join(parts).encode()
                parts.clear()
                count, until = 0, clock() + PIECE_SECONDS
        parts.append("}\n")
        yield "".join(parts).encode()


class Lazy(Mapping[str, object]):
    """A mapping whose values are made as they are asked for."""

    def __init__(self, names: Iterable[str], make: Callable[[str], object]) -> None:
        self._names = list(names)
        self._make = make

    def __getitem__(self, name: str) -> object:
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


Answer: TypeAlias = "dict[str, object] | Listing"


def _parts(value: object) -> Iterator[str]:
    """JSON of a value, an item at a time. Only what is made as it is written is taken apart."""
    if isinstance(value, Mapping):
        comma = "{"
        for name, one in value.items():
            head = comma + json.dumps(str(name)) + ": "
            comma = ", "
            if isinstance(one, Mapping | Iterator):
                yield head
                yield from _parts(one)
            else:
                yield head + json.dumps(one)
        yield "{}" if comma == "{" else "}"
    elif isinstance(value, Iterable) and not isinstance(value, str):
        comma = "["
        for one in value:
            yield comma + json.dumps(one)
            comma = ", "
        yield "[]" if comma == "[" else "]"
    else:
        yield json.dumps(value)
