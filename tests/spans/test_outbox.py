"""Spans on their way: batches, what is tried again, what is dropped."""

from __future__ import annotations

import threading

import pytest

from smppd.spans import outbox as module
from smppd.spans.lives import Kind, Span
from smppd.spans.outbox import BATCH, TRIES, WAITING_MOST, Outbox


def span(number: int) -> Span:
    return Span(Kind.MESSAGE, 1, number, 0, 0, 1, number, "acme", False, "", "DELIVERED", False)


class Far:
    """A collector that is there or not."""

    def __init__(self) -> None:
        self.reason = ""
        self.taken: list[int] = []
        self.asked = 0

    def send(self, spans: list[Span]) -> str:
        self.asked += 1
        if not self.reason:
            self.taken += [one.span for one in spans]
        return self.reason


@pytest.fixture
def far() -> Far:
    return Far()


def test_batches_in_order(far: Far) -> None:
    outbox = Outbox(far.send)
    assert not outbox.turn() and far.asked == 0
    outbox.put([span(number) for number in range(BATCH + 1)])
    assert outbox.turn() and far.taken == list(range(BATCH))
    assert outbox.turn() and not outbox.turn()
    assert (outbox.sent, outbox.reason, far.asked) == (BATCH + 1, "", 2)


def test_what_was_not_taken_goes_again_and_nothing_twice(far: Far) -> None:
    outbox = Outbox(far.send)
    far.reason = "away"
    outbox.put([span(1)])
    assert not outbox.turn() and outbox.reason == "away"
    outbox.put([span(2)])
    assert not outbox.turn() and outbox.failures == 2
    far.reason = ""
    assert outbox.turn() and far.taken == [1, 2]
    assert (outbox.reason, outbox.sent, outbox.refused) == ("", 2, 0)


def test_a_batch_that_is_never_taken_is_dropped_and_the_next_one_goes(far: Far) -> None:
    outbox = Outbox(far.send)
    far.reason = "the collector answers with status 400"
    outbox.put([span(1)])
    for _ in range(TRIES):
        assert not outbox.turn()
    assert outbox.refused == 1
    far.reason = ""
    outbox.put([span(2)])
    assert outbox.turn() and far.taken == [2]


def test_the_queue_has_an_end(far: Far) -> None:
    outbox = Outbox(far.send)
    for number in range(3):
        outbox.put([span(number)] * (WAITING_MOST // 2))
    assert outbox.overflowed == WAITING_MOST // 2
    while outbox.turn():
        pass
    assert far.taken == [0] * (WAITING_MOST // 2) + [1] * (WAITING_MOST // 2), "the newest did not fit"


def test_the_thread_sends_until_its_end_and_waits_for_nobody(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 3600.0)
    outbox = Outbox(far.send)
    thread = threading.Thread(target=outbox.run, daemon=True)
    thread.start()
    outbox.put([span(1)])
    outbox.end()
    thread.join(10)
    assert not thread.is_alive() and far.taken == [1]
    far.reason = "away"
    failing = Outbox(far.send)
    thread = threading.Thread(target=failing.run, daemon=True)
    failing.put([span(2)])
    thread.start()
    failing.end()
    thread.join(10)
    assert not thread.is_alive() and failing.sent == 0
