"""Lives of messages as transcripts: events in, spans out; which messages are sampled; what is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.message import Event, State
from smppd.spans import lives as module
from smppd.spans.lives import AGE_MS, LINGER_MS, NOTES_MOST, Kind, Lives, Sampler, Span, trace_of

ONE = 0x0CA8A21246000001
T = 1_796_000_000_000
ALL = Sampler(1.0)


def event(state: int, at: int, upstream: str = "", error: int = 0, identity: int = ONE) -> Event:
    return Event(identity, T + at, state, False, error, upstream, b"447700900123")


def shown(spans: list[Span]) -> list[tuple[object, ...]]:
    return [(one.kind.name, one.start_ms - T, one.end_ms - T, one.upstream, one.state, one.failed) for one in spans]


@pytest.fixture
def lives() -> Lives:
    made = Lives(ALL)
    made.record(ONE, T, "acme", False)
    return made


def play(lives: Lives, *events: Event) -> list[Span]:
    return [span for one in events for span in lives.event(one)]


def test_a_message_from_end_to_end(lives: Lives) -> None:
    spans = play(
        lives,
        event(State.SUBMITTED, 20, "carrier-a"),
        event(State.ENROUTE, 100, "carrier-a"),
        event(State.DELIVERED, 500, "carrier-a"),
        event(State.RECEIPT_DONE, 510),
    )
    assert shown(spans) == [
        ("SUBMIT", 0, 20, "carrier-a", "SUBMITTED", False),
        ("CARRIER", 20, 500, "carrier-a", "DELIVERED", False),
        ("DELIVER", 500, 510, "", "RECEIPT_DONE", False),
        ("MESSAGE", 0, 510, "carrier-a", "DELIVERED", False),
    ]
    whole = spans[-1]
    assert whole.parent == 0 and {one.parent for one in spans[:-1]} == {whole.span}
    assert {one.trace for one in spans} == {trace_of(ONE)} and len({one.span for one in spans}) == 4
    assert (whole.tries, whole.complete, whole.account, whole.message) == (1, True, "acme", ONE)
    assert [note.name for note in whole.notes] == ["SUBMITTED", "ENROUTE", "DELIVERED", "RECEIPT_DONE"]
    assert lives.open == 0 and lives.event(event(State.DELIVERED, 900, "carrier-a")) == []


def test_the_same_life_has_the_same_ids(lives: Lives) -> None:
    other = Lives(ALL)
    other.record(ONE, T, "acme", False)
    told = (event(State.SUBMITTED, 20, "a"), event(State.DELIVERED, 50, "a"), event(State.RECEIPT_DONE, 60))
    assert play(lives, *told) == play(other, *told)


def test_no_answer_and_a_resend(lives: Lives) -> None:
    spans = play(
        lives,
        event(State.UNANSWERED, 60, "carrier-a"),
        event(State.RESENT, 100, "carrier-b"),
        event(State.SUBMITTED, 130, "carrier-b"),
        event(State.UNDELIVERABLE, 200, "carrier-b", error=34),
        event(State.RECEIPT_EXPIRED, 900),
    )
    assert shown(spans) == [
        ("SUBMIT", 0, 60, "carrier-a", "UNANSWERED", True),
        ("SUBMIT", 100, 130, "carrier-b", "SUBMITTED", False),
        ("CARRIER", 130, 200, "carrier-b", "UNDELIVERABLE", True),
        ("DELIVER", 200, 900, "", "RECEIPT_EXPIRED", True),
        ("MESSAGE", 0, 900, "carrier-b", "UNDELIVERABLE", True),
    ]
    assert (spans[-1].error, spans[-1].tries) == (34, 2)
    assert len({one.span for one in spans}) == 5, "the second of a kind has an id of its own"


def test_a_late_answer_is_no_second_try_and_nothing_comes_behind_the_end(lives: Lives) -> None:
    spans = play(
        lives,
        event(State.UNANSWERED, 60, "a"),
        event(State.SUBMITTED, 70, "a"),
        event(State.UNKNOWN, 80, "a"),
        event(State.ENROUTE, 85, "a", error=9),
        event(State.DELIVERED, 90, "a"),
        event(State.ENROUTE, 95, "a", error=9),
        event(State.RECEIPT_DONE, 100),
    )
    assert shown(spans)[2:] == [
        ("CARRIER", 70, 80, "a", "UNKNOWN", True),
        ("DELIVER", 90, 100, "", "RECEIPT_DONE", False),
        ("MESSAGE", 0, 100, "a", "DELIVERED", False),
    ]
    assert (spans[-1].tries, spans[-1].error) == (1, 0)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([event(State.REFUSED, 0, error=11)], [("MESSAGE", 0, 0, "", "REFUSED", True)]),
        ([event(State.SKIPPED, 9)], [("MESSAGE", 0, 9, "", "SKIPPED", False)]),
        (
            [event(State.SCHEDULED, 1), event(State.EXPIRED, 70), event(State.RECEIPT_DONE, 80)],
            [("DELIVER", 70, 80, "", "RECEIPT_DONE", False), ("MESSAGE", 0, 80, "", "EXPIRED", True)],
        ),
        (
            [event(State.REJECTED, 30, "a", error=8), event(State.RECEIPT_DONE, 31)],
            [
                ("SUBMIT", 0, 30, "a", "REJECTED", True),
                ("DELIVER", 30, 31, "", "RECEIPT_DONE", False),
                ("MESSAGE", 0, 31, "a", "REJECTED", True),
            ],
        ),
        ([event(State.RECEIPT_DONE, 5)], []),
        ([event(99, 5)], []),
    ],
    ids=["refused", "replaced", "expired here", "rejected", "an acknowledgement of a receipt in between", "unknown"],
)
def test_other_ends(lives: Lives, events: list[Event], expected: list[tuple[object, ...]]) -> None:
    assert shown(play(lives, *events)) == expected


def test_a_handset_s_message() -> None:
    lives = Lives(ALL)
    lives.record(ONE, T, "acme", True)
    spans = play(lives, event(State.ACCEPTED, 0, "carrier-a"), event(State.OPTED_OUT, 0, "acme"))
    spans += play(lives, event(State.RECEIPT_DONE, 40))
    assert shown(spans) == [
        ("DELIVER", 0, 40, "", "RECEIPT_DONE", False),
        ("MESSAGE", 0, 40, "", "STORED", False),
    ]
    assert spans[-1].mo


def test_whoever_asked_for_no_receipt_is_not_waited_for(lives: Lives) -> None:
    play(lives, event(State.SUBMITTED, 20, "a"), event(State.DELIVERED, 50, "a"))
    assert lives.overdue(T + 50 + LINGER_MS) == []
    (whole,) = lives.overdue(T + 51 + LINGER_MS)
    assert (whole.end_ms - T, whole.complete) == (50, True) and lives.open == 0


def test_what_comes_to_no_end_is_said_to_be_so(lives: Lives) -> None:
    play(lives, event(State.SUBMITTED, 20, "a"))
    (whole,) = lives.overdue(T + AGE_MS + 1)
    assert (whole.state, whole.complete, whole.failed) == ("SUBMITTED", False, False)
    lives.record(ONE + 1, T, "acme", False)
    (whole,) = lives.end()
    assert not whole.complete and lives.open == 0


def test_a_clock_that_was_set_back_gives_no_span_of_less_than_nothing(lives: Lives) -> None:
    spans = play(lives, event(State.SUBMITTED, -500, "a"), event(State.DELIVERED, -400, "a"), event(26, -300))
    assert len(spans) == 4 and all(one.start_ms == one.end_ms == T for one in spans)


def test_too_many_and_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_MOST", 3)
    lives = Lives(ALL)
    for number in range(5):
        lives.record(ONE + number, T, "acme", False)
    assert (lives.open, lives.given_up) == (3, 2)
    assert lives.event(event(State.SUBMITTED, 1, "a")) == [], "the oldest is the one that was given up"
    for at in range(2 * NOTES_MOST):
        lives.event(event(State.ENROUTE, at, "a", identity=ONE + 4))
    assert max(len(one.notes) for one in lives.end()) == NOTES_MOST


def test_of_one_account() -> None:
    lives = Lives(ALL, ["beta"])
    lives.record(ONE, T, "acme", False)
    lives.record(ONE + 1, T, "beta", False)
    assert [one.account for one in lives.end()] == ["beta"]


def test_no_octet_of_a_carrier_s_id_gets_into_a_span(lives: Lives) -> None:
    spans = play(lives, event(State.SUBMITTED, 20, "a"), event(State.DELIVERED, 50, "a"), event(26, 60))
    assert "447700900123" not in repr(spans)


@given(st.integers(1, 2**63 - 1), st.floats(0.0001, 1.0), st.floats(0.0001, 1.0))
def test_who_is_in_a_smaller_sample_is_in_a_larger_one(identity: int, one: float, other: float) -> None:
    small, large = Sampler(min(one, other)), Sampler(max(one, other))
    assert small.trace(identity) in (0, trace_of(identity))
    if small.trace(identity):
        assert large.trace(identity) == small.trace(identity)


@given(st.integers(1, 2**62), st.sampled_from([1.0, 0.5, 0.1, 0.01]))
def test_the_share_is_the_one_that_was_asked_for(first: int, share: float) -> None:
    sampler = Sampler(share)
    found = sum(bool(sampler.trace(first + number)) for number in range(4000))
    assert abs(found - 4000 * share) <= 6 * (4000 * share * (1 - share)) ** 0.5 + 1


def test_kinds_are_operations() -> None:
    assert [kind.value for kind in Kind] == ["message", "submit_sm", "receipt", "deliver_sm"]
