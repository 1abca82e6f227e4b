"""What readers and the purge of the sealed log do the same way in every back end (`store.log`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

EVENT_OCTETS: Final = 48 << 20
"""Octets of index segments of events that stay in memory."""

SegmentKey = tuple[int, ...]
"""Handle, first row, last row, octets: a handle alone may belong to another segment once the first is merged away."""


class EventSegments:
    """Index segments of events that were read, as many as `EVENT_OCTETS` holds, but one at least. For one thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[SegmentKey, bytes] = OrderedDict()
        self._octets = 0

    def all(self, keys: Iterable[SegmentKey], read: Callable[[int], bytes]) -> list[bytes]:
        """The segments of these keys. read(handle): one of them. Inside a snapshot: the indexer may merge some meanwhile."""
        found = []
        for key in keys:
            data = self._kept.get(key)
            if data is None:
                data = read(key[0])
                self._keep(key, data)
            else:
                self._kept.move_to_end(key)
            found.append(data)
        return found

    def _keep(self, key: SegmentKey, data: bytes) -> None:
        self._kept[key] = data
        self._octets += len(data)
        while self._octets > EVENT_OCTETS and len(self._kept) > 1:
            self._octets -= len(self._kept.popitem(last=False)[1])


def fitting(sizes: Sequence[int], octets: int) -> int:
    """How many of the first of these rows fit into so many octets, but one at least where there are any."""
    number = 0
    for size in sizes:
        octets -= size
        if octets < 0 and number:
            break
        number += 1
    return number


def as_seen(remembered: Callable[[str, Any], Any], seen: Mapping[str, object] | None) -> bool:
    """Whether what is remembered is what the caller found (`store.log.PurgeRows.remember`)."""
    return all((remembered(name, None) or None) == (value or None) for name, value in (seen or {}).items())
