"""What every back end's log does the same way: segments that stay in memory, rows that fit, what was seen."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.store import log_parts
from smppd.store.log_parts import EventSegments, SegmentKey, as_seen, fitting


class Stored:
    """Segments by their handles; which were read."""

    def __init__(self, **data: bytes) -> None:
        self.data = {int(name[1:]): octets for name, octets in data.items()}
        self.reads: list[int] = []

    def key(self, handle: int) -> SegmentKey:
        return handle, 1, 9, len(self.data[handle])

    def read(self, handle: int) -> bytes:
        self.reads.append(handle)
        return self.data[handle]


def test_a_segment_is_read_once_while_it_is_the_same() -> None:
    stored, segments = Stored(s1=b"one", s2=b"two"), EventSegments()
    assert segments.all([stored.key(1), stored.key(2)], stored.read) == [b"one", b"two"]
    assert segments.all([stored.key(2), stored.key(1)], stored.read) == [b"two", b"one"]
    assert stored.reads == [1, 2]
    stored.data[1] = b"another one"
    assert segments.all([stored.key(1)], stored.read) == [b"another one"], "the handle was given to another segment"


def test_what_was_asked_for_longest_ago_leaves_memory_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_parts, "EVENT_OCTETS", 10)
    stored, segments = Stored(s1=bytes(5), s2=bytes(5), s3=bytes(5), s4=bytes(50)), EventSegments()
    for handle in (1, 2, 1, 3):
        segments.all([stored.key(handle)], stored.read)
    assert stored.reads == [1, 2, 3]
    segments.all([stored.key(1), stored.key(2)], stored.read)
    assert stored.reads == [1, 2, 3, 2], "2 had gone for 3"
    for _ in range(2):
        segments.all([stored.key(4)], stored.read)
    assert stored.reads == [1, 2, 3, 2, 4], "one that is larger than all of it stays alone"
    segments.all([stored.key(2)], stored.read)
    assert stored.reads[-1] == 2


@pytest.mark.parametrize(
    ("sizes", "octets", "number"),
    [([], 10, 0), ([4, 6, 1], 10, 2), ([11, 1], 10, 1), ([4, 7], 10, 1), ([0, 0], 0, 2)],
)
def test_as_many_rows_as_fit_but_one_at_least(sizes: list[int], octets: int, number: int) -> None:
    assert fitting(sizes, octets) == number


def test_nothing_is_the_same_as_zero_and_as_an_empty_list() -> None:
    kept: dict[str, Any] = {"up to": 7, "none": 0}

    def remembered(name: str, default: Any) -> Any:
        return kept.get(name, default)

    assert as_seen(remembered, None)
    assert as_seen(remembered, {"up to": 7, "none": None, "never": []})
    assert not as_seen(remembered, {"up to": 6}) and not as_seen(remembered, {"never": 1})
