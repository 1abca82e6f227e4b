"""Taking messages: what is answered when, limits, policy, long messages, short ids, submit_multi, resends."""

from __future__ import annotations

import pytest

from smppd.message import State
from smppd.protocol.wire import Command, Fields, Sm, Status, address_field, build_sm, pdu, read_tlvs, tlv
from tests.relay.fakes import FROM, TO, World, settings

SPAM = {"spam": [{"name": "prize", "when": {"text": "prize"}, "do": "refuse"}]}


def part(words: bytes, seq: int, total: int = 2, ref: int = 7, registered: int = 1) -> bytes:
    text = bytes((5, 0, 3, ref, total, seq)) + words
    fields = Fields(esm_class=0x40, registered=registered)
    return build_sm(Command.SUBMIT_SM, 0, FROM, address_field(1, 1, TO), text, fields)


def test_nothing_is_answered_before_its_commit() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"one", b"two")
    assert acme.answered() == [] and a.texts() == []
    world.store.hand_over()
    acme.submits(b"three")
    world.commits_once()
    assert len(acme.ids()) == 2 and a.texts() == [b"one", b"two"]
    world.commits()
    assert len(acme.ids()) == 1 and a.texts() == [b"one", b"two", b"three"]
    world.check()


def test_the_carrier_gets_the_same_bytes() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    frame = build_sm(4, 0, FROM, address_field(1, 1, TO), b"hello", Fields(registered=1), tlv(0x1400, b"pe-id"))
    acme.sends(frame)
    world.commits()
    assert a.waiting[0].raw[16:] == frame[16:]


def test_acknowledge_upstream_answers_with_the_carrier_s_word() -> None:
    world = World(settings(acme={"acknowledge": "upstream"}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"one", b"two", b"three")
    world.commits()
    assert acme.answered() == []
    a.answers(b"id-1")
    a.answers(status=Status.RTHROTTLED)
    a.answers(status=Status.RINVDSTADR)
    assert acme.statuses() == [0, Status.RTHROTTLED, Status.RINVDSTADR]
    world.commits()
    world.passes(5)
    assert acme.receipts() == [], "refused in the answer: no receipt beside it"
    assert world.account().queued == 0
    world.check()


def test_acknowledge_upstream_without_an_upstream_is_refused_at_once() -> None:
    world = World(settings(acme={"acknowledge": "upstream"}))
    acme = world.customer()
    acme.submits(b"one")
    assert acme.statuses() == [Status.RMSGQFUL]


def test_acknowledge_upstream_never_waits_for_a_row_on_disk() -> None:
    world = World(settings(acme={"acknowledge": "upstream"}, hot=2, a={"window": 1}))
    acme, a = world.customer(), world.carrier(window=1)
    for _ in range(10):
        acme.submits(b"one")
    world.commits()
    refused = acme.statuses()
    assert set(refused) <= {Status.RMSGQFUL} and world.store.cold == {}
    while a.waiting:
        a.answers(b"id-%d" % len(a.sent))
        world.commits()
    assert len(refused) + len(acme.ids()) == 10, "each was answered"


def test_a_late_answer_is_passed_on_at_once() -> None:
    world = World(settings(acme={"acknowledge": "upstream"}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"one")
    world.commits()
    late = a.waiting[0]
    world.passes(31)
    a.silent()
    assert world.upstream().unknown
    a.answers_late(late, b"id-1")
    assert acme.statuses() == [0]


def test_the_queue_s_limit() -> None:
    world = World(settings(acme={"queue": 3}))
    acme = world.customer()
    acme.submits(b"1", b"2", b"3", b"4")
    world.commits()
    assert sorted(acme.statuses()) == [0, 0, 0, Status.RMSGQFUL]
    assert world.account().queued == 3


def test_over_the_rate_answers_are_delayed_then_refused() -> None:
    world = World(settings(acme={"throughput": 10.0, "burst": 2}))
    acme = world.customer()
    acme.submits(*[b"x"] * 10)
    world.commits()
    assert acme.statuses() == [0, 0]
    world.passes(0.49, step=0.1)
    assert acme.statuses() == [0, 0, 0, 0]
    world.passes(0.1, step=0.05)
    assert sorted(acme.statuses()) == [0, 88, 88, 88]
    assert acme.session.unanswered == 0


def test_a_bad_body_is_answered_and_the_session_lives() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"one", validity=b"000000000000000X")
    acme.sends(pdu(Command.SUBMIT_SM, 0, 0, b"\0\1"))
    acme.submits(b"one", to=b"")
    assert acme.statuses() == [Status.RINVEXPIRY, Status.RINVMSGLEN, Status.RINVDSTADR]
    assert acme.session.bound and world.store.records == 0


def test_no_route() -> None:
    world = World(settings(routes=[{"destination": ["+1"], "upstreams": ["a"]}]))
    acme = world.customer()
    acme.submits(b"one")
    assert acme.statuses() == [Status.RINVDSTADR]


def test_policy_s_refusal_is_recorded_and_answered_with_the_commit() -> None:
    world = World(settings(policies=SPAM, acme={"policies": ["spam"]}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"your prize")
    assert acme.answered() == []
    world.commits()
    assert acme.statuses() == [Status.RSUBMITFAIL]
    assert world.store.records == 1 and a.texts() == [] and world.account().queued == 0
    assert [event.state for event in world.store.events] == [State.REFUSED]
    world.restarts()
    assert world.living == 0


# -- full ---------------------------------------------------------------------------------------------------------------


def test_a_full_disk_keeps_nothing_and_recovers() -> None:
    world = World(settings(hot=1))
    acme = world.customer()
    acme.submits(b"one", b"two", b"three")
    world.fills()
    assert acme.statuses() == [Status.RMSGQFUL] * 3
    assert world.account().queued == 0 and world.relay.context.ledger.alive_in(world.store.segment) == 0
    world.check()
    acme.submits(b"four")
    assert acme.statuses() == [Status.RMSGQFUL], "not ready: refused at once"
    world.frees()
    world.passes(2)
    acme.submits(b"five")
    world.commits()
    assert len(acme.ids()) == 1
    a = world.carrier()
    world.commits()
    assert a.texts() == [b"five"]
    world.check()


def test_full_while_on_the_way_to_a_carrier() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"one")
    world.fills()
    world.frees()
    world.passes(2)
    assert acme.statuses() == [Status.RMSGQFUL] and a.texts() == [] and world.upstream().reserved == 0
    world.check()


def test_below_the_reserve_nothing_is_taken() -> None:
    world = World()
    acme = world.customer()
    world.store.room = False
    world.passes(1, commit=False)
    acme.submits(b"one")
    assert acme.statuses() == [Status.RMSGQFUL]


# -- resends -------------------------------------------------------------------------------------------------------------


def test_a_resend_gets_the_same_id_and_is_not_sent_again() -> None:
    world = World(settings(acme={"deduplicate": "60s"}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"one", b"one", b"two")
    assert acme.answered() == []
    world.commits()
    first, two, again = acme.ids()
    assert first == again != two, "the echo is answered last, when the commit is over"
    acme.submits(b"one")
    assert acme.ids() == [first]
    assert a.texts() == [b"one", b"two"] and acme.session.unanswered == 0
    world.restarts()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"one")
    assert acme.ids() == [first]
    world.passes(61)
    acme.submits(b"one")
    world.commits()
    assert acme.ids() != [first]


def test_a_resend_of_what_was_not_stored_is_a_new_message() -> None:
    world = World(settings(acme={"deduplicate": "60s"}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"one")
    world.fills()
    world.frees()
    world.passes(2)
    acme.answered()
    acme.submits(b"one")
    world.commits()
    assert len(acme.ids()) == 1 and a.texts() == [b"one"]


# -- submit_multi, data_sm, short ids -------------------------------------------------------------------------------------


def multi(*numbers: bytes, text: bytes = b"hello") -> bytes:
    body = b"\0" + FROM + bytes((len(numbers),)) + b"".join(b"\1" + address_field(1, 1, n) for n in numbers)
    body += b"\0\0\0" + b"\0\0" + b"\1\0\0\0" + bytes((len(text),)) + text
    return pdu(Command.SUBMIT_MULTI, 0, 0, body)


def test_submit_multi_fans_out_and_answers_once() -> None:
    routes = [{"destination": ["+44"], "upstreams": ["a"]}]
    world = World(settings(routes=routes))
    acme, a = world.customer(), world.carrier()
    acme.sends(multi(b"447700900111", b"12125550100", b"447700900112"))
    assert acme.answered() == []
    world.commits()
    ((_, status, body),) = acme.answered()
    assert status == 0 and body[16:18] == b"\0\1" and b"12125550100" in body
    assert [sm.destination_digits for sm in a.waiting] == [b"447700900111", b"447700900112"]
    assert acme.session.unanswered == 0


def test_a_submit_multi_of_which_nothing_was_taken_is_refused() -> None:
    world = World(settings(routes=[{"destination": ["+44"], "upstreams": ["a"]}]))
    acme = world.customer()
    acme.sends(multi(b"12125550100", b"12125550101"))
    assert acme.statuses() == [Status.RINVDSTADR]
    acme.sends(multi(b"447700900111"))
    world.fills()
    assert acme.statuses() == [Status.RMSGQFUL]


def test_data_sm_goes_its_way_and_is_told_why_not() -> None:
    no = {"refuse": {"reason": "no prizes"}}
    rules = {"spam": [{"name": "prize", "when": {"text": "prize"}, "do": no}]}
    world = World(settings(policies=rules, acme={"policies": ["spam"]}))
    acme, a = world.customer(), world.carrier()

    def data(text: bytes) -> bytes:
        body = b"\0" + FROM + address_field(1, 1, TO) + b"\0\1\0" + tlv(0x0424, text)
        return pdu(Command.DATA_SM, 0, 0, body)

    acme.sends(data(b"hello"), data(b"a prize"))
    world.commits()
    (_, first, _), (_, second, info) = acme.answered()
    assert (first, second) == (0, Status.RSUBMITFAIL)
    assert read_tlvs(info + b"\0", 1) == [(0x001D, b"no prizes\0")]
    assert a.waiting[0].command == Command.DATA_SM


@pytest.mark.parametrize(
    ("account", "version", "form"),
    [({}, 0x33, b"%08X"), ({"message_id": "hex8"}, 0x34, b"%08X"), ({"message_id": "decimal10"}, 0x34, b"%010d")],
)
def test_short_ids_survive_a_restart(account: dict[str, str], version: int, form: bytes) -> None:
    world = World(settings(acme=account))
    acme, a = world.customer(version=version), world.carrier()
    acme.submits(b"one", b"two")
    world.commits()
    assert acme.ids() == [form % 1, form % 2]
    a.answers(b"id-1")
    world.commits()
    a.reports(b"id-1")
    world.commits()
    assert acme.receipts() == [(form % 1, "DELIVRD")]
    world.restarts()
    acme = world.customer(version=version)
    acme.submits(b"three")
    world.commits()
    (name,) = acme.ids()
    assert name not in (form % 1, form % 2)


# -- held parts ----------------------------------------------------------------------------------------------------------

HOLD = {"spam": {"hold_parts": True, "rules": SPAM["spam"]}}


def holding() -> World:
    return World(settings(policies=HOLD, acme={"policies": ["spam"]}))


def test_parts_are_held_until_the_message_is_whole_and_go_together() -> None:
    world = holding()
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"good ", 1))
    world.commits()
    assert len(acme.ids()) == 1 and a.waiting == [] and world.account().queued == 1
    world.check()
    acme.sends(part(b"news", 2))
    world.commits()
    assert len(acme.ids()) == 1
    assert [sm.short_message[6:] for sm in a.waiting] == [b"good ", b"news"]
    world.check()


def test_parts_that_come_in_one_chunk_are_not_held() -> None:
    world = holding()
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"good ", 1), part(b"news", 2))
    world.commits()
    assert [sm.short_message[6:] for sm in a.waiting] == [b"good ", b"news"]


def test_a_refused_long_message_ends_each_held_part_with_a_receipt() -> None:
    world = holding()
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"your pri", 1, 3))
    acme.sends(part(b"!!", 3, 3))
    world.commits()
    one, two = acme.ids()
    acme.sends(part(b"ze is here", 2, 3))
    world.commits()
    assert acme.statuses() == [Status.RSUBMITFAIL]
    assert sorted(acme.receipts()) == sorted([(one, "REJECTD"), (two, "REJECTD")])
    assert a.waiting == [] and world.account().queued == 0
    world.check()


def test_parts_are_refused_after_five_minutes() -> None:
    world = holding()
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"good ", 1))
    world.passes(298)
    assert a.sent == []
    (one,) = acme.ids()
    world.passes(4)
    assert a.sent == [] and acme.receipts() == [(one, "REJECTD")], "never without a verdict on the whole"
    acme.sends(part(b"news", 2))
    world.passes(302)
    (two,) = acme.ids()
    assert a.sent == [] and acme.receipts() == [(two, "REJECTD")], "what comes later is a message of its own"
    assert world.total("messages_refused", account="acme", reason="incomplete") == 2
    world.check()


def test_held_parts_survive_a_restart_and_are_joined_again() -> None:
    world = holding()
    acme = world.customer()
    acme.sends(part(b"your pri", 1))
    world.commits()
    (one,) = acme.ids()
    world.restarts()
    acme, a = world.customer(), world.carrier()
    assert world.account().queued == 1 and a.sent == []
    acme.sends(part(b"ze", 2))
    world.commits()
    assert acme.statuses() == [Status.RSUBMITFAIL]
    assert acme.receipts() == [(one, "REJECTD")]
    world.check()


def test_a_held_part_expires_in_time() -> None:
    world = holding()
    acme = world.customer()
    acme.sends(
        build_sm(
            4,
            0,
            FROM,
            address_field(1, 1, TO),
            part(b"x", 1)[-7:],
            Fields(b"", 0x40, 0, 0, b"", b"000000000010000R", 1),
        )
    )
    world.commits()
    (one,) = acme.ids()
    world.passes(12)
    assert acme.receipts() == [(one, "EXPIRED")]
    world.passes(400)
    assert acme.receipts() == [] and world.account().queued == 0


def test_a_held_part_that_was_not_stored_is_forgotten() -> None:
    world = holding()
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"good ", 1))
    world.fills()
    world.frees()
    world.passes(2)
    assert acme.statuses() == [Status.RMSGQFUL] and len(world.relay.context.phases.held) == 0
    world.passes(310)
    assert a.sent == [] and world.account().queued == 0
    world.check()


def test_the_policy_s_changes_reach_every_held_part() -> None:
    rules = [
        {"name": "brand", "when": {"text": "good news"}, "do": {"replace_sender": "ACME"}},
        {"name": "prize", "when": {"text": "prize"}, "do": "refuse"},
    ]
    world = World(settings(policies={"p": {"hold_parts": True, "rules": rules}}, acme={"policies": ["p"]}))
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"good ", 1))
    acme.sends(part(b"news", 2))
    world.commits()
    assert [sm.source_digits for sm in a.waiting] == [b"ACME", b"ACME"]
    ids = acme.ids()
    a.answers(b"x", b"y")
    world.commits()
    a.reports(b"x", b"y")
    world.commits()
    deliveries = acme.takes()
    assert [sm.destination_digits for sm in deliveries] == [FROM[2:-1]] * 2, "to the sender it knows"
    assert len(ids) == len(deliveries)
    assert Sm(deliveries[0].raw).source_digits == TO


def test_limits_of_tlvs_and_strict_fields() -> None:
    world = World(settings(acme={"strict_fields": True}, limits={"tlvs": 2}))
    acme = world.customer()
    acme.submits(b"x", tlvs=tlv(0x1400, b"x") * 2)
    acme.submits(b"x", tlvs=tlv(0x1400, b"x") * 3)
    acme.submits(b"x" * 255)
    world.commits()
    assert sorted(acme.statuses()) == [Status.ROK, Status.RINVMSGLEN, Status.RINVOPTPARSTREAM]
