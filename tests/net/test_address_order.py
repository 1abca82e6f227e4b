"""Which address comes next: transcripts of what happens to a link."""

from __future__ import annotations

import pytest

from smppd.net.address_order import AddressOrder


def told(count: int, *events: str) -> list[int]:
    """The address that is tried after each event."""
    order = AddressOrder(count)
    found = []
    for event in events:
        if event == "bound":
            order.bound()
        elif event == "failed":
            order.failed()
        else:
            order.lost(by_us=event == "ours")
        found.append(order.at)
    return found


@pytest.mark.parametrize(
    ("count", "events", "addresses"),
    [
        (1, ["failed", "bound", "lost", "bound", "ours"], [0, 0, 0, 0, 0]),
        (3, ["failed", "failed", "failed"], [1, 2, 0]),
        (3, ["bound", "lost"], [0, 1]),
        (3, ["failed", "bound", "lost"], [1, 1, 0]),
        (3, ["failed", "failed", "bound", "lost"], [1, 2, 2, 0]),
        (2, ["bound", "ours"], [0, 0]),
        (2, ["failed", "bound", "ours"], [1, 1, 0]),
    ],
)
def test_the_next_one(count: int, events: list[str], addresses: list[int]) -> None:
    assert told(count, *events) == addresses


def test_a_round_is_over_when_all_have_failed_and_a_bind_begins_anew() -> None:
    order = AddressOrder(2)
    rounds = []
    for _ in range(5):
        order.failed()
        rounds.append(order.rounds)
    assert rounds == [0, 1, 1, 2, 2]
    order.bound()
    assert order.rounds == 0
