"""Sessions as transcripts: the window, answers, sequence numbers, and the deadlines of a clock that the test holds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol.session import Received, Role, Timers
from smppd.protocol.wire import Command, Status, pdu
from tests.protocol.sessions import S, bind, enquire, numbers, said, sm, standing

LAST = 0x7FFFFFFF


# -- the window ----------------------------------------------------------------------------------------------------------


def test_at_the_window_reading_stops_and_goes_on_in_order() -> None:
    session = standing(window=2)
    got = session.receive(sm(1) + sm(2) + sm(3) + enquire(4) + sm(5, Command.DATA_SM) + sm(6), 1.0)
    assert (numbers(got.messages), session.blocked, said(session)) == ([1, 2], True, [])
    assert session.receive(sm(7), 1.1).messages == []  # one more read may be under way already
    session.answered()
    got = session.receive(b"", 1.2)
    assert (numbers(got.messages), session.blocked) == ([3], True)
    assert said(session) == [("enquire_link_resp", 0, 4)]
    session.answered(2)
    assert numbers(session.receive(b"", 1.3).messages) == [5, 6]
    session.answered(2)
    got = session.receive(b"", 1.4)
    assert (numbers(got.messages), session.blocked, session.unanswered) == ([7], False, 1)


@settings(deadline=None, max_examples=100)
@given(
    role=st.sampled_from(list(Role)),
    window=st.integers(1, 4),
    kinds=st.lists(st.sampled_from([4, 4, 0x103, 0x15]), max_size=30),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
)
def test_any_window_and_any_split_give_each_message_once_and_in_order(
    role: Role, window: int, kinds: list[int], cuts: list[int]
) -> None:
    session = standing(role, window=window, timers=Timers(control_burst=100.0))
    plain = 4 if role is Role.SMSC else 5
    stream = b"".join(pdu(plain if kind == 4 else kind, 0, n, b"body") for n, kind in enumerate(kinds, 1))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    seen: list[int] = []

    def take(got: Received) -> None:
        assert len(got.messages) <= window and session.unanswered <= window
        seen.extend(numbers(got.messages))

    for start, stop in pairwise(edges):
        take(session.receive(stream[start:stop], 1.0))
        while session.blocked:
            session.answered(1)
            take(session.receive(b"", 1.0))
    assert seen == [n for n, kind in enumerate(kinds, 1) if kind != 0x15]


def test_control_pdus_over_their_rate_wait() -> None:
    session = standing()
    session.receive(b"".join(enquire(n) for n in range(1, 31)) + sm(40), 1.0)
    assert [sequence for _, _, sequence in said(session)] == list(range(1, 21))
    assert session.blocked
    assert session.receive(b"", 1.1).messages == []
    assert said(session) == []
    session.receive(b"", 1.2)
    assert said(session) == [("enquire_link_resp", 0, 21)]
    got = session.receive(b"", 4.0)
    assert (numbers(got.messages), session.blocked, len(said(session))) == ([40], False, 9)


@pytest.mark.parametrize(
    "frame",
    [pdu(0x666, 0, 1), pdu(0x80000666, 0, 1), pdu(Command.BIND_RECEIVER, 0, 1), pdu(Command.DELIVER_SM, 0, 1)],
)
def test_every_refusal_counts_as_control(frame: bytes) -> None:
    session = standing()
    session.receive(frame * 100, 1.0)
    assert (len(said(session)), session.blocked) == (20, True)


def test_stray_responses_before_a_bind_are_bounded() -> None:
    session = standing(Role.SMSC, S.OPEN)
    session.receive(pdu(Command.SUBMIT_SM_RESP, 0, 1) * 100, 0.0)
    assert (session.unknown_responses, session.blocked) == (20, True)


STRAY = sorted(int(command) for command in Command if command & 0x80000000)


@pytest.mark.parametrize("command", STRAY)
@pytest.mark.parametrize("state", [S.BOUND_TX, S.BOUND_RX, S.BOUND_TRX, S.UNBINDING])
def test_responses_to_nothing_count_as_control_whatever_they_are(command: int, state: S) -> None:
    session = standing(Role.SMSC, state)
    session.unknown_responses = 0
    session.receive(b"".join(pdu(command, 0, number) for number in range(1000, 1100)), 1.0)
    assert (session.unknown_responses, session.blocked, session.close_reason) == (20, True, None)
    session.receive(b"", 2.0)
    assert (session.unknown_responses, session.blocked) == (25, True)


def test_answers_to_what_was_asked_are_never_held_up_however_late() -> None:
    session = standing(timers=Timers(response=30.0))
    session.outstanding_limit = 100
    for number in range(100):
        session.request(pdu(Command.DELIVER_SM, 0, 0, b"x"), number, 1.0)
    session.sweep(40.0)
    got = session.receive(b"".join(pdu(Command.DELIVER_SM_RESP, 0, number) for number in range(1, 101)), 41.0)
    assert [token for token, *_ in got.answers] == list(range(100))
    assert (session.unknown_responses, session.blocked) == (0, False)


def test_a_carrier_that_answers_everything_twice_is_served_up_to_a_rate_of_its_own() -> None:
    timers = Timers(stray_rate=100.0, stray_burst=500.0, control_rate=1.0, control_burst=1.0)
    session = standing(Role.ESME, timers=timers)
    session.outstanding_limit = 1000
    sequences = [session.request(pdu(Command.SUBMIT_SM, 0, 0), number, 1.0) for number in range(600)]
    twice = b"".join(2 * pdu(Command.SUBMIT_SM_RESP, 0, sequence) for sequence in sequences)
    got = session.receive(twice, 1.0)
    assert (len(got.answers), session.unknown_responses, session.blocked) == (501, 500, True)
    answers = len(got.answers) + len(session.receive(b"", 2.0).answers)
    assert (answers, session.unknown_responses, session.close_reason) == (600, 600, None)
    session.take()
    session.receive(enquire(9), 2.0)
    assert said(session) == [("enquire_link_resp", 0, 9)], "its control PDUs are counted apart"


def test_an_unbind_waits_for_the_answers_before_it() -> None:
    session = standing()
    session.receive(sm(1) + sm(2) + pdu(Command.UNBIND, 0, 3), 1.0)
    assert (session.blocked, said(session)) == (True, [])
    session.answered()
    session.receive(b"", 1.1)
    assert (session.state, said(session)) == (S.BOUND_TRX, [])
    session.answered()
    session.receive(b"", 1.2)
    assert (session.state, session.close_reason) == (S.CLOSED, "unbound by the peer")
    assert said(session) == [("unbind_resp", 0, 3)]


def test_a_drain_still_takes_all_answers() -> None:
    session = standing(Role.ESME, S.BOUND_TRX)
    sequences = [session.request(sm(), token, 1.0) for token in "abc"]
    session.unbind(1.5)
    asked = said(session)[-1]
    assert asked[0] == "unbind"
    answers = b"".join(pdu(Command.SUBMIT_SM_RESP, 0, n, b"id\0") for n in sequences)
    got = session.receive(answers + pdu(Command.UNBIND_RESP, 0, asked[2]), 2.0)
    assert [answer[0] for answer in got.answers] == ["a", "b", "c"]
    assert (session.state, session.close_reason) == (S.CLOSED, "unbound")


def test_both_ends_unbind_at_once() -> None:
    session = standing()
    session.unbind(1.0)
    session.unbind(1.0)  # asking twice is asking once
    session.receive(pdu(Command.UNBIND, 0, 8), 1.0)
    assert said(session) == [("unbind", 0, 1), ("unbind_resp", 0, 8)]
    assert session.state is S.CLOSED


def test_an_unbind_before_a_bind_closes() -> None:
    session = standing(Role.SMSC, S.OPEN)
    session.unbind(0.0)
    assert (session.state, session.close_reason, said(session)) == (S.CLOSED, "closed before a bind", [])


def test_an_unbind_that_is_not_answered_ends_the_session() -> None:
    session = standing()
    session.unbind(1.0)
    session.sweep(31.0)
    assert session.close_reason == "unbind not answered"


# -- our own requests ----------------------------------------------------------------------------------------------------


def test_answers_come_with_what_was_asked() -> None:
    session = standing(Role.ESME)
    first, second = session.request(sm(99), "first", 1.0), session.request(sm(98), "second", 1.0)
    assert said(session) == [("submit_sm", 0, first), ("submit_sm", 0, second)]
    assert session.room == 8
    answer = pdu(Command.SUBMIT_SM_RESP, 0, second, b"0123\0")
    got = session.receive(answer + pdu(Command.SUBMIT_SM_RESP, Status.RTHROTTLED, first), 1.1)
    assert got.answers == [
        ("second", Command.SUBMIT_SM_RESP, 0, answer),
        ("first", Command.SUBMIT_SM_RESP, Status.RTHROTTLED, pdu(Command.SUBMIT_SM_RESP, Status.RTHROTTLED, first)),
    ]
    assert session.room == 10


@pytest.mark.parametrize(("status", "told"), [(0, Status.RSYSERR), (Status.RINVCMDID, Status.RINVCMDID)])
def test_a_generic_nack_is_an_answer_and_never_success(status: int, told: int) -> None:
    session = standing(Role.ESME)
    sequence = session.request(sm(), "it", 1.0)
    got = session.receive(pdu(Command.GENERIC_NACK, status, sequence), 1.0)
    assert [answer[:3] for answer in got.answers] == [("it", Command.GENERIC_NACK, told)]


@pytest.mark.parametrize("frame", [pdu(Command.SUBMIT_SM_RESP, 0, 4711), pdu(Command.DATA_SM_RESP, 0, 2)])
def test_an_answer_to_nothing_is_counted_and_changes_nothing(frame: bytes) -> None:
    session = standing(Role.ESME)
    session.request(sm(), "it", 1.0)
    session.take()
    got = session.receive(frame, 1.0)
    assert (got.answers, session.unknown_responses, len(session.outstanding), said(session)) == ([], 1, 1, [])


def test_an_unknown_response_is_told_so() -> None:
    session = standing()
    session.receive(pdu(0x8000000A, 0, 7), 1.0)
    assert said(session) == [("generic_nack", Status.RINVCMDID, 7)]


def test_a_late_answer_still_tells_what_became_of_it() -> None:
    session = standing(Role.ESME)
    first, second = session.request(sm(), "first", 1.0), session.request(sm(), "second", 5.0)
    assert session.sweep(30.9) == []
    assert session.sweep(31.0) == ["first"]
    session.take()
    assert next(iter(session.outstanding.values())).token == "second"  # the slot of the first is free again
    got = session.receive(pdu(Command.SUBMIT_SM_RESP, 0, first, b"id\0"), 33.0)
    assert [answer[0] for answer in got.answers] == ["first"]
    assert session.sweep(35.0) == ["second"]
    again = session.receive(pdu(Command.SUBMIT_SM_RESP, 0, first, b"id\0"), 36.0)
    assert (again.answers, session.unknown_responses) == ([], 1)
    assert session.receive(pdu(Command.SUBMIT_SM_RESP, 0, second, b"id\0"), 36.0).answers[0][0] == "second"


def test_no_more_late_answers_are_waited_for_than_a_window() -> None:
    session = standing(Role.ESME)
    sequences = [session.request(sm(), n, 1.0) for n in range(15)]
    assert session.sweep(31.0) == list(range(15))
    got = session.receive(b"".join(pdu(Command.SUBMIT_SM_RESP, 0, n, b"\0") for n in sequences), 32.0)
    assert [answer[0] for answer in got.answers] == list(range(5, 15))


def test_sequence_numbers_begin_anew_and_step_over_what_is_outstanding() -> None:
    session = standing(Role.ESME)
    old = session.request(sm(), "old", 1.0)
    assert old == 2
    session._sequence = LAST - 1
    assert [session.request(sm(), n, 1.0) for n in range(4)] == [LAST, 1, 3, 4]
    got = session.receive(pdu(Command.SUBMIT_SM_RESP, 0, old, b"\0"), 1.0)
    assert [answer[0] for answer in got.answers] == ["old"]


def test_a_number_used_again_forgets_the_late_one() -> None:
    session = standing(Role.ESME)
    session.request(sm(), "old", 1.0)
    assert session.sweep(31.0) == ["old"]
    session._sequence = 1
    again = session.request(sm(), "new", 32.0)
    got = session.receive(pdu(Command.SUBMIT_SM_RESP, 0, again, b"\0") * 2, 32.0)
    assert [answer[0] for answer in got.answers] == ["new"]


def test_abandon_gives_back_what_will_have_no_answer() -> None:
    session = standing(Role.ESME)
    tokens = ["a", "b", "c"]
    sequences = [session.request(sm(), token, 1.0) for token in tokens]
    session.receive(pdu(Command.SUBMIT_SM_RESP, 0, sequences[1], b"\0"), 1.0)
    session.unbind(2.0)
    assert session.abandon() == ["a", "c"]
    assert (session.state, session.close_reason) == (S.CLOSED, "connection lost")
    assert session.abandon() == []


def test_the_first_reason_stands() -> None:
    session = standing()
    session.close("evicted")
    session.close("something else")
    assert session.abandon() == []
    assert session.close_reason == "evicted"


# -- time ----------------------------------------------------------------------------------------------------------------


def test_a_silent_customer_is_asked_and_cut_at_inactivity() -> None:
    session = standing()
    asked = []
    for now in range(1, 151):
        assert session.sweep(float(now)) == []
        asked += [now for name, *_ in said(session) if name == "enquire_link"]
    assert asked == [31, 61, 91, 121]
    assert session.state is S.BOUND_TRX
    session.sweep(150.5)
    assert session.close_reason == "silent"


def test_a_dead_carrier_is_left_when_it_does_not_answer() -> None:
    session = standing(Role.ESME)
    session.sweep(30.5)
    session.sweep(60.4)
    assert session.state is S.BOUND_TRX
    session.sweep(60.5)
    assert session.close_reason == "enquire_link not answered"


def test_a_carrier_that_speaks_but_does_not_answer_is_alive() -> None:
    session = standing(Role.ESME)
    session.sweep(30.5)
    session.receive(sm(1, Command.DELIVER_SM), 40.0)
    session.sweep(60.5)
    assert session.state is S.BOUND_TRX


def test_an_answered_enquire_link_keeps_the_session_and_tells_nobody() -> None:
    session = standing()
    session.sweep(30.5)
    [(name, _, sequence)] = said(session)
    got = session.receive(pdu(Command.ENQUIRE_LINK_RESP, 0, sequence), 31.0)
    assert (name, got.answers, session.outstanding) == ("enquire_link", [], {})
    for now in (60.0, 61.0):
        session.sweep(now)
    assert said(session) == []
    session.sweep(61.5)
    assert [name for name, *_ in said(session)] == ["enquire_link"]


@pytest.mark.parametrize("role", Role)
def test_who_is_held_back_by_us_is_not_silent(role: Role) -> None:
    session = standing(role, window=1)
    command = Command.SUBMIT_SM if role is Role.SMSC else Command.DELIVER_SM
    session.sweep(30.5)
    session.receive(sm(1, command) + sm(2, command), 31.0)
    assert session.blocked
    session.sweep(500.0)
    assert session.state is S.BOUND_TRX
    session.answered()
    session.receive(b"", 500.5)
    session.sweep(501.0)
    assert (session.state, session.blocked) == (S.BOUND_TRX, False)


@pytest.mark.parametrize("state", [S.OPEN, S.BINDING])
def test_a_bind_in_time(state: S) -> None:
    session = standing(Role.SMSC, state)
    session.sweep(10.0)
    assert session.state is state
    session.sweep(10.01)
    assert session.close_reason == "no bind in time"


@pytest.mark.parametrize("state", [S.BOUND_TRX, S.UNBINDING])
def test_an_unfinished_pdu_has_ten_seconds_however_it_dribbles(state: S) -> None:
    session = standing(Role.SMSC, state)
    frame = sm(1)
    for n in range(11):
        session.receive(frame[n : n + 1], 1.0 + n)
        session.sweep(1.0 + n)
        assert session.state is state
    session.receive(frame[11:12], 11.5)
    session.sweep(11.5)
    assert session.close_reason == "an unfinished PDU"


def test_finishing_a_pdu_renews_the_deadline() -> None:
    session = standing(window=100)
    frame = sm(1)
    session.receive(frame[:20], 1.0)
    for now in range(2, 60):
        session.receive(frame[20:] + frame[:20], float(now))
        session.sweep(now + 0.5)
    assert (session.state, session.unanswered) == (S.BOUND_TRX, 58)
    session.receive(frame[20:], 60.0)
    session.sweep(80.0)
    assert session.state is S.BOUND_TRX  # nothing is unfinished


def test_going_on_without_having_been_held_back_renews_nothing() -> None:
    session = standing()
    session.receive(sm(1)[:20], 1.0)
    for now in range(2, 11):
        session.receive(b"", float(now))
    session.sweep(11.5)
    assert session.close_reason == "an unfinished PDU"


def test_an_unfinished_pdu_behind_a_full_window_is_our_doing() -> None:
    session = standing(window=1)
    frame = sm(2)
    session.receive(sm(1) + frame + frame[:20], 1.0)
    session.sweep(20.0)
    assert (session.state, session.blocked) == (S.BOUND_TRX, True)
    session.receive(frame[20:21], 20.0)  # dribbled while held back
    session.answered()
    session.receive(b"", 25.0)
    assert not session.blocked
    session.sweep(35.0)
    assert session.state is S.BOUND_TRX
    session.receive(frame[21:22], 35.0)
    session.sweep(35.1)
    assert session.close_reason == "an unfinished PDU"


def test_an_unfinished_pdu_behind_a_bind_waits_for_us() -> None:
    session = standing(Role.SMSC, S.OPEN)
    session.receive(bind(1) + sm(2)[:20], 0.0)
    session.accept_bind(Command.BIND_TRANSCEIVER, window=10, outstanding_limit=10)
    session.receive(b"", 9.0)
    session.sweep(19.0)
    assert session.bound
    session.sweep(19.1)
    assert session.close_reason == "an unfinished PDU"


def test_bad_bodies_are_forgiven_ten_times_a_minute() -> None:
    session = standing()
    for minute in range(3):
        for _ in range(10):
            session.bad_body(minute * 61.0)
    assert session.state is S.BOUND_TRX
    session.bad_body(130.0)
    assert session.close_reason == "too many PDUs with a bad body"
