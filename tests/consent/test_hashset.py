"""The set of hashes against a plain set."""

from __future__ import annotations

import random

from smppd.consent.hashset import HashSet


def test_the_compact_set_is_a_set() -> None:
    draw = random.Random(5)
    ours, plain = HashSet(), set[bytes]()
    # Few values of each octet: rests that overlap each other are found where none stands.
    keys = [bytes([draw.randrange(2), 0]) + bytes(draw.randrange(2) for _ in range(14)) for _ in range(3000)]
    for key in keys:
        assert ours.has(key) == (key in plain)
        if key in plain and draw.random() < 0.5:
            ours.remove(key)
            plain.remove(key)
        elif key not in plain:
            ours.add(key)
            plain.add(key)
        assert len(ours) == len(plain)
    assert all(ours.has(key) for key in plain)
