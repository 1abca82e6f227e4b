"""Sessions as transcripts: bytes in; what is to be handled, what is said, and the state out. The table, binds, framing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol.session import Role, Timers
from smppd.protocol.wire import Command, Fields, Status, Tag, build_sm, pdu, tlv
from tests.protocol.sessions import DESTINATION, SOURCE, S, bind, enquire, numbers, said, sm, standing

# -- the table -----------------------------------------------------------------------------------------------------------

SEND = "submit_sm data_sm submit_multi query_sm cancel_sm replace_sm enquire_link unbind"
DELIVER = "deliver_sm data_sm alert_notification enquire_link unbind"
BINDS = "bind_receiver bind_transmitter bind_transceiver"
MAY_COME = {
    Role.SMSC: {
        S.OPEN: BINDS,
        S.BINDING: "",
        S.BOUND_TX: SEND,
        S.BOUND_RX: "enquire_link unbind",
        S.BOUND_TRX: SEND,
        S.UNBINDING: "enquire_link unbind",
        S.CLOSED: "",
    },
    Role.ESME: {
        S.OPEN: "outbind",
        S.BINDING: "",
        S.BOUND_TX: DELIVER,  # some carriers bring receipts on either session of a pair
        S.BOUND_RX: DELIVER,
        S.BOUND_TRX: DELIVER,
        S.UNBINDING: "enquire_link unbind",
        S.CLOSED: "",
    },
}
REQUESTS = [command for command in Command if command < 0x80000000]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", S)
@pytest.mark.parametrize("command", REQUESTS, ids=lambda command: command.name.lower())
def test_each_request_in_each_state(role: Role, state: S, command: Command) -> None:
    session = standing(role, state)
    name = command.name.lower()
    got = session.receive(pdu(command, 0, 77), 1.0)
    out = said(session)
    if state is S.CLOSED or (role is Role.SMSC and state is S.BINDING):
        # Nothing is read on a closed session, and nothing before a bind is decided.
        assert (got.messages, got.others, out) == ([], [], [])
        assert session.blocked is (state is S.BINDING)
        return
    if name not in MAY_COME[role][state].split():
        assert (got.messages, got.others) == ([], [])
        if name in ("alert_notification", "outbind"):  # they have no response
            assert out == []
        else:
            again = role is Role.SMSC and name.startswith("bind") and state in (S.BOUND_RX, S.BOUND_TX, S.BOUND_TRX)
            assert out == [(f"{name}_resp", Status.RALYBND if again else Status.RINVBNDSTS, 77)]
        assert session.state is state
    elif name in ("submit_sm", "data_sm", "submit_multi", "deliver_sm"):
        assert (numbers(got.messages), got.others, out, session.unanswered) == ([77], [], [], 1)
    elif name == "enquire_link":
        assert (got.messages, got.others, out) == ([], [], [("enquire_link_resp", 0, 77)])
    elif name == "unbind":
        assert (out, session.state, session.close_reason) == ([("unbind_resp", 0, 77)], S.CLOSED, "unbound by the peer")
    else:
        assert (got.messages, got.others, out) == ([], [(command, pdu(command, 0, 77))], [])
        assert session.state is (S.BINDING if name.startswith("bind") else state)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", [S.OPEN, S.BOUND_TX, S.BOUND_RX, S.BOUND_TRX, S.UNBINDING])
@pytest.mark.parametrize("command", [0, 0x0A, 0x111, 0x112, 0x10000, 0x7FFFFFFF])
def test_an_unknown_request_is_told_so_and_the_session_lives(role: Role, state: S, command: int) -> None:
    session = standing(role, state)
    session.receive(pdu(command, 0, 9, b"whatever"), 1.0)
    assert said(session) == [("generic_nack", Status.RINVCMDID, 9)]
    assert session.state is state


def test_states_follow_each_other_only_as_the_table_says() -> None:
    session = standing(Role.SMSC, S.OPEN)
    with pytest.raises(AssertionError, match="no transition from open to bound_trx"):
        session.accept_bind(Command.BIND_TRANSCEIVER, window=1, outstanding_limit=1)
    with pytest.raises(AssertionError, match="no transition from closed to binding"):
        standing(Role.ESME, S.CLOSED).bind(bind(), None, 0.0)


@pytest.mark.parametrize(("state", "receives", "sends"), [(S.BOUND_TX, False, True), (S.BOUND_RX, True, False)])
def test_what_a_bind_is_good_for(state: S, receives: bool, sends: bool) -> None:
    session = standing(Role.SMSC, state)
    assert (session.can_receive, session.can_send, session.bound) == (receives, sends, True)
    both = standing(Role.SMSC, S.BOUND_TRX)
    assert (both.can_receive, both.can_send) == (True, True)


def test_a_session_prints_nothing_of_what_passes() -> None:
    assert repr(standing()) == "<Session smsc bound_trx>"


# -- binding -------------------------------------------------------------------------------------------------------------


def test_bind_and_submits_in_one_chunk() -> None:
    session = standing(Role.SMSC, S.OPEN)
    got = session.receive(bind(1) + sm(2, text=b"x" * 254) + sm(3) + enquire(4), 0.0)
    assert [command for command, _ in got.others] == [Command.BIND_TRANSCEIVER]
    assert (got.messages, session.blocked) == ([], True)
    session.accept_bind(Command.BIND_TRANSCEIVER, window=10, outstanding_limit=10)
    got = session.receive(b"", 0.1)
    assert (numbers(got.messages), session.blocked) == ([2, 3], False)
    assert said(session) == [("enquire_link_resp", 0, 4)]


def test_a_large_pdu_behind_a_bind_is_judged_by_the_limit_after_it() -> None:
    payload = sm(2, text=b"")[:-1] + b"\0" + tlv(Tag.MESSAGE_PAYLOAD, b"x" * 60_000)
    large = pdu(Command.SUBMIT_SM, 0, 2, payload[16:])
    session = standing(Role.SMSC, S.OPEN)
    session.receive(bind(1) + large, 0.0)
    session.accept_bind(Command.BIND_TRANSCEIVER, window=10, outstanding_limit=10)
    assert session.receive(b"", 0.0).messages == [large]
    early = standing(Role.SMSC, S.OPEN)
    early.receive(large, 0.0)
    assert early.state is S.CLOSED


def test_alert_notifications_over_the_rate_of_strays_wait() -> None:
    # They need no answer, so nothing else would hold a carrier's flood of them back.
    session = standing(Role.ESME, timers=Timers(stray_rate=10.0, stray_burst=20.0))
    alert = pdu(Command.ALERT_NOTIFICATION, 0, 7, b"\1\1447700900123\0\1\1447700900001\0")
    got = session.receive(alert * 50, 0.0)
    assert (len(got.others), session.blocked) == (20, True)
    got = session.receive(b"", 1.0)
    assert (len(got.others), session.blocked) == (10, True)
    got = session.receive(sm(9, command=Command.DELIVER_SM), 4.0)
    assert (len(got.others), numbers(got.messages), session.blocked) == (20, [9], False)


def test_nothing_behind_a_bind_is_judged_even_after_a_flood() -> None:
    # Unknown requests over the control rate are held; the bind among them must still stop what follows it.
    session = standing(Role.SMSC, S.OPEN)
    stream = b"".join(pdu(0x666, 0, n) for n in range(25)) + bind(100) + sm(101, text=b"y" * 254)
    assert session.receive(stream, 0.0).others == []
    assert session.blocked
    got = session.receive(b"", 2.0)
    assert [command for command, _ in got.others] == [Command.BIND_TRANSCEIVER]
    assert {name for name, *_ in said(session)} == {"generic_nack"}
    session.accept_bind(Command.BIND_TRANSCEIVER, window=10, outstanding_limit=10)
    assert numbers(session.receive(b"", 2.0).messages) == [101]


def test_what_waits_behind_a_bind_stays_whole_in_small_pieces() -> None:
    session = standing(Role.SMSC, S.OPEN)
    stream = bind(1) + sm(2) + sm(3)
    binds: list[int] = []
    for at in range(len(stream)):
        binds += [command for command, _ in session.receive(stream[at : at + 1], 0.0).others]
    assert binds == [Command.BIND_TRANSCEIVER]
    session.accept_bind(Command.BIND_TRANSCEIVER, window=10, outstanding_limit=10)
    assert numbers(session.receive(b"", 0.0).messages) == [2, 3]


def test_a_refused_bind_may_be_tried_again_until_the_timer_ends() -> None:
    session = standing(Role.SMSC, S.OPEN)
    session.receive(bind(1) + bind(2, Command.BIND_RECEIVER), 0.0)
    session.refuse_bind()
    got = session.receive(b"", 9.0)
    assert [command for command, _ in got.others] == [Command.BIND_RECEIVER]
    assert session.sweep(10.0) == []
    session.accept_bind(Command.BIND_RECEIVER, window=10, outstanding_limit=10)
    session.sweep(30.0)
    assert session.state is S.BOUND_RX
    late = standing(Role.SMSC, S.OPEN)
    late.receive(bind(1), 0.0)
    late.refuse_bind()
    late.sweep(10.1)
    assert (late.state, late.close_reason) == (S.CLOSED, "no bind in time")


def test_the_carriers_answer_to_our_bind_stops_what_follows_it() -> None:
    session = standing(Role.ESME, S.BINDING)
    got = session.receive(
        enquire(5) + pdu(Command.BIND_TRANSCEIVER_RESP, 0, 1, b"smsc\0") + sm(6, Command.DELIVER_SM), 0.1
    )
    # The PDU out of place in front does not keep the answer waiting.
    assert [answer[:3] for answer in got.answers] == [("bind", Command.BIND_TRANSCEIVER_RESP, 0)]
    assert (got.messages, session.blocked) == ([], True)
    session.bound_as(Command.BIND_TRANSCEIVER)
    assert numbers(session.receive(b"", 0.1).messages) == [6]
    assert said(session) == [("enquire_link_resp", Status.RINVBNDSTS, 5)]


def test_a_carriers_bind_that_is_never_answered_expires() -> None:
    session = standing(Role.ESME, S.BINDING)
    assert session.sweep(29.0) == []
    assert session.sweep(30.0) == ["bind"]


# -- framing -------------------------------------------------------------------------------------------------------------

WRONG = {
    "0": bytes(4),
    "4": b"\0\0\0\x04",
    "15": b"\0\0\0\x0f",
    "70000": (70_000).to_bytes(4),
    "0xFFFFFFFF": b"\xff" * 4,
    "HTTP": b"GET / HTTP/1.1\r\nHost: example.net\r\n\r\n",
    "AMQP": b"AMQP\x00\x00\x09\x01",
    "TLS": bytes.fromhex("16030102000100 01fc0303"),
    "SSH": b"SSH-2.0-example\r\n",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("state", [S.OPEN, S.BOUND_TRX, S.UNBINDING])
def test_wrong_framing_ends_the_session_at_once(wrong: bytes, state: S) -> None:
    session = standing(Role.SMSC, state)
    session.receive(wrong, 1.0)
    assert session.close_reason is not None and session.close_reason.startswith("framing: command_length ")
    assert (session.state, session.garbage, session.take()) == (S.CLOSED, state is S.OPEN, b"")
    got = session.receive(b"x" * 100_000, 1.1)
    assert (got.messages, session._splitter.pending, session._held) == ([], 0, [])


@pytest.mark.parametrize("length", [513, 60_000])
def test_before_a_bind_only_512_octets(length: int) -> None:
    session = standing(Role.SMSC, S.OPEN)
    session.receive(length.to_bytes(4), 0.0)
    assert session.garbage
    bound = standing()
    bound.receive(length.to_bytes(4), 1.0)
    assert (bound.state, bound._splitter.pending) == (S.BOUND_TRX, 4)


def test_what_came_before_the_fault_is_still_handled() -> None:
    session = standing()
    got = session.receive(sm(1) + sm(2) + b"\0\0\0\x01", 1.0)
    assert (numbers(got.messages), session.state, session.garbage) == ([1, 2], S.CLOSED, False)


def test_what_was_held_back_goes_with_the_session() -> None:
    session = standing(window=1)
    got = session.receive(sm(1) + sm(2) + b"\0\0\0\x01", 1.0)
    assert (numbers(got.messages), session.state, session._held) == ([1], S.CLOSED, [])


def test_nothing_is_read_after_the_end() -> None:
    session = standing()
    got = session.receive(pdu(Command.UNBIND, 0, 1) + sm(2), 1.0)
    assert (got.messages, session.state) == ([], S.CLOSED)
    assert session.receive(sm(3), 1.0).messages == []
    assert session.sweep(1000.0) == []


@settings(deadline=None, max_examples=150)
@given(role=st.sampled_from(list(Role)), state=st.sampled_from(list(S)), data=st.binary(max_size=300))
def test_no_bytes_raise_anything(role: Role, state: S, data: bytes) -> None:
    session = standing(role, state)
    session.receive(data, 1.0)
    session.sweep(2.0)
    framed = standing(role, state)
    framed.receive(pdu(int.from_bytes(data[:4]), 0, 1, data) + data, 1.0)


@settings(deadline=None, max_examples=60)
@given(
    frames=st.lists(
        st.sampled_from([*(int(c) for c in Command), 0x666, 0x80000666]).flatmap(
            lambda command: st.builds(
                pdu, st.just(command), st.sampled_from([0, 8]), st.integers(0, 6), st.binary(max_size=8)
            )
        ),
        max_size=15,
    ),
    size=st.integers(1, 40),
    role=st.sampled_from(list(Role)),
)
def test_any_split_of_a_bound_stream_is_the_same_conversation(frames: list[bytes], size: int, role: Role) -> None:
    def talk(pieces: list[bytes]) -> tuple[object, ...]:
        session = standing(role, window=100, timers=Timers(control_burst=100.0))
        for n in range(3):
            session.request(build_sm(4, 0, SOURCE, DESTINATION, b"", Fields()), n, 0.0)
        seen: list[object] = []
        for piece in pieces:
            got = session.receive(piece, 1.0)
            seen += [*got.messages, *got.answers, *got.others]
        return sorted(map(repr, seen)), session.take(), session.state, session.unknown_responses

    stream = b"".join(frames)
    assert talk([stream]) == talk([stream[at : at + size] for at in range(0, len(stream), size)])


# -- what is counted ---------------------------------------------------------------------------------------------------


def test_a_session_counts_messages_and_answers_once_a_chunk() -> None:
    session = standing(Role.SMSC, S.BOUND_TRX, window=2)
    assert (session.messages_received, session.latest_command, session.opened_at) == (0, Command.BIND_TRANSCEIVER, 0.0)
    session.receive(sm(2) + sm(3) + sm(4), 5.0)
    assert (session.messages_received, session.heard_at) == (2, 5.0), "the third waits"
    session.answered(2)
    session.receive(b"", 6.0)
    assert (session.messages_received, session.latest_command) == (3, Command.SUBMIT_SM)
    session.receive(sm(5) + enquire(6), 7.0)
    assert (session.messages_received, session.latest_command) == (4, Command.ENQUIRE_LINK)
    session.answered(2)
    session.receive(pdu(Command.UNBIND, 0, 7), 8.0)
    assert session.latest_command == Command.UNBIND and session.close_reason is not None
    carrier = standing(Role.ESME, S.BOUND_TRX)
    number = carrier.request(sm(0), object(), 1.0)
    carrier.receive(pdu(Command.SUBMIT_SM_RESP, 0, number, b"x\0"), 2.0)
    assert (carrier.answers_received, carrier.messages_received) == (1, 0)
