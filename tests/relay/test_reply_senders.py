"""Replies to a replaced sender reach the account at the sender that it used for that handset last."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.config import Settings
from smppd.protocol.wire import Command, Fields, Sm, Status, address_field, build_sm
from smppd.relay import reply_senders
from smppd.store.api import Kind
from tests.relay.fakes import World, settings

REPLY_TO = b"447700900555"
ONE, OTHER = b"447700900123", b"447700900124"
RULE = {
    "name": "reply",
    "when": {"sender_kind": "alphanumeric"},
    "do": {"replace_sender": {"address": "+447700900555", "restore": True}},
}


def world(*rules: dict[str, Any], **acme: Any) -> World:
    return World(configuration(*rules, **acme))


def configuration(*rules: dict[str, Any], **acme: Any) -> Settings:
    return settings(
        policies={"p": list(rules or (RULE,))}, acme={"policies": ["p"], "numbers": ["+447700900555"], **acme}
    )


def sent(sender: bytes, to: bytes = ONE, text: bytes = b"hello", ton: int = 5) -> bytes:
    return build_sm(
        Command.SUBMIT_SM, 0, address_field(ton, 0, sender), address_field(1, 1, to), text, Fields(registered=1)
    )


def reply(who: bytes = ONE, to: bytes = REPLY_TO, text: bytes = b"yes") -> bytes:
    return build_sm(Command.DELIVER_SM, 0, address_field(1, 1, who), address_field(1, 1, to), text, Fields())


def reached(given: World, *frames: bytes) -> list[tuple[int, bytes]]:
    """(TON, destination) of what a customer gets of texts from handsets."""
    customer = given.customers[-1]
    customer.takes()
    given.links[-1].delivers(*frames)
    given.commits()
    return [(sm.destination_ton, sm.destination_digits) for sm in customer.takes()]


def rows(given: World) -> list[Any]:
    return [row for row in given.store.cold.values() if row.kind == Kind.REPLY]


def test_a_reply_reaches_the_sender_used_last_for_that_handset() -> None:
    given = world()
    acme, carrier = given.customer(), given.carrier()
    acme.sends(sent(b"ACME"), sent(b"Shop", OTHER), sent(b"Bank"))
    given.commits()
    assert {sm.source_digits for sm in carrier.sent} == {REPLY_TO}
    assert reached(given, reply(ONE)) == [(5, b"Bank")]
    assert reached(given, reply(OTHER)) == [(5, b"Shop")]
    assert reached(given, reply(b"447700900199")) == [(1, REPLY_TO)], "nobody knows him: as it came"
    assert carrier.acknowledged() == [0, 0, 0]
    given.check()


def test_two_replacements_have_a_sender_each() -> None:
    def rule(name: str, address: str) -> dict[str, Any]:
        do = {"replace_sender": {"address": address, "restore": True}}
        return {"name": name, "when": {"sender_pattern": f"^{name}"}, "do": do}

    given = world(rule("a", "+447700900555"), rule("b", "+447700900556"), numbers=["+447700900555", "+447700900556"])
    given.customer().sends(sent(b"acme"), sent(b"bank"))
    given.carrier()
    given.commits()
    assert len(rows(given)) == 2
    assert reached(given, reply(to=b"447700900556")) == [(5, b"bank")]
    assert reached(given, reply(to=b"447700900555")) == [(5, b"acme")]


def test_it_survives_a_restart_and_no_number_is_stored() -> None:
    given = world()
    given.customer().sends(sent(b"ACME"))
    given.carrier()
    given.commits()
    (row,) = rows(given)
    assert len(row.key) == 16 and ONE not in row.key + row.data and ONE[2:] not in row.key + row.data
    given.restarts()
    given.customer(), given.carrier()
    assert reached(given, reply()) == [(5, b"ACME")]


def test_receipts_go_back_to_the_sender_that_was_used() -> None:
    given = world()
    acme, carrier = given.customer(), given.carrier()
    acme.sends(sent(b"ACME"))
    given.commits()
    carrier.answers(b"id-1")
    given.commits()
    carrier.reports(b"id-1")
    given.commits()
    (receipt,) = acme.takes()
    assert (receipt.destination_digits, receipt.source_digits) == (b"ACME", ONE)


def test_without_restore_nothing_is_remembered() -> None:
    given = world({**RULE, "do": {"replace_sender": "+447700900555"}})
    given.customer().sends(sent(b"ACME"))
    given.carrier()
    given.commits()
    assert rows(given) == [] and reached(given, reply()) == [(1, REPLY_TO)]


def test_one_sender_for_one_replacement_needs_no_memory() -> None:
    given = world({"name": "one", "when": {"sender": "ACME"}, "do": RULE["do"]})
    given.customer().sends(sent(b"acme"))
    given.carrier()
    given.commits()
    assert rows(given) == []
    assert reached(given, reply(b"447700900177")) == [(5, b"ACME")], "whoever replies"


@pytest.mark.parametrize(
    "other",
    [
        {"name": "more", "when": {"sender": "Shop"}, "do": RULE["do"]},
        {"name": "more", "when": {"country": "GB"}, "do": RULE["do"]},
    ],
)
def test_two_senders_for_one_replacement_are_remembered(other: dict[str, Any]) -> None:
    given = world({"name": "one", "when": {"sender": "ACME"}, "unless": {"tag": "never"}, "do": RULE["do"]}, other)
    given.customer().sends(sent(b"ACME"))
    given.carrier()
    given.commits()
    assert len(rows(given)) == 1 and reached(given, reply()) == [(5, b"ACME")]


def test_the_same_sender_is_not_written_twice_a_day() -> None:
    given = world()
    acme, _ = given.customer(), given.carrier()
    acme.sends(sent(b"ACME"))
    given.commits()
    (first,) = rows(given)
    given.passes(3600, step=3600)
    acme.sends(sent(b"ACME"))
    given.commits()
    assert rows(given) == [first]
    given.passes(86400, step=86400)
    acme.sends(sent(b"ACME"))
    given.commits()
    (later,) = rows(given)
    assert later.expires > first.expires


def test_it_ends_after_thirty_days() -> None:
    given = world()
    acme, _ = given.customer(), given.carrier()
    acme.sends(sent(b"ACME"))
    given.commits()
    given.wall += reply_senders.KEPT - 10
    given.passes(2)
    assert len(rows(given)) == 1
    given.passes(20)
    assert rows(given) == []


def test_those_used_longest_ago_go_when_there_are_too_many() -> None:
    given = world()
    replies = given.relay.reply_senders
    replies._most, replies._enough = 600, 590
    acme, _ = given.customer(), given.carrier()
    for number in range(700):
        given.wall += 1
        acme.sends(sent(b"ACME", b"4477009%05d" % number))
    given.commits()
    assert len(rows(given)) == 700
    given.passes(5)
    assert len(rows(given)) == 590 and replies.count == 590
    assert reached(given, reply(b"447700900000")) == [(1, REPLY_TO)]
    assert reached(given, reply(b"447700900699")) == [(5, b"ACME")]


def test_a_recount_comes_before_anything_goes() -> None:
    """A row in the place of another counts twice until it is counted anew."""
    given = world()
    replies = given.relay.reply_senders
    replies._most, replies._enough = 5, 4
    acme, _ = given.customer(), given.carrier()
    for _ in range(10):
        acme.sends(sent(b"ACME"))
        given.commits()
        replies.batch_refused()  # nobody knows any more what is written
    assert replies.count == 10
    given.passes(3)
    assert len(rows(given)) == 1 and replies.count == 1


def test_a_row_that_is_written_anew_while_it_ends_stays() -> None:
    given = world()
    acme, _ = given.customer(), given.carrier()
    acme.sends(sent(b"ACME"))
    given.commits()
    given.wall += reply_senders.KEPT + 5
    given.now += 1
    given.relay.tick(given.now)  # asks for what ended
    acme.sends(sent(b"Shop"))
    given.commits()
    assert [row.data for row in rows(given)] == [address_field(5, 0, b"Shop")]


def test_a_full_disk_loses_the_message_and_what_it_left() -> None:
    given = world()
    acme, _ = given.customer(), given.carrier()
    acme.sends(sent(b"ACME"))
    given.fills()
    assert acme.statuses() == [Status.RMSGQFUL]
    given.frees()
    given.passes(3)
    acme.sends(sent(b"ACME"))
    given.commits()
    assert len(rows(given)) == 1, "it is written, though it was just tried"


def test_parts_that_were_held_are_remembered_too() -> None:
    given = World(
        settings(
            policies={
                "p": {"hold_parts": True, "rules": [{"name": "spam", "when": {"text": "prize"}, "do": "refuse"}, RULE]}
            },
            acme={"policies": ["p"], "numbers": ["+447700900555"]},
        )
    )
    acme, carrier = given.customer(), given.carrier()

    def part(seq: int) -> bytes:
        body = bytes((5, 0, 3, 7, 2, seq)) + b"hello"
        fields = Fields(registered=1, esm_class=0x40)
        return build_sm(Command.SUBMIT_SM, 0, address_field(5, 0, b"ACME"), address_field(1, 1, ONE), body, fields)

    acme.sends(part(1))
    given.commits()
    assert rows(given) == []
    acme.sends(part(2))
    given.commits()
    assert len(carrier.sent) == 2 and reached(given, reply()) == [(5, b"ACME")]


def test_it_goes_with_the_person() -> None:
    given = world()
    acme, _ = given.customer(), given.carrier()
    acme.sends(sent(b"ACME"), sent(b"ACME", OTHER))
    given.commits()
    before = {row.key for row in rows(given)}
    found: list[Any] = []
    for acts in (False, True):
        given.relay.erase_person([ONE], None, found.append, acts=acts)
        given.passes(20)
    assert [one.replies for one in found] == [1, 1]
    gone = before - {row.key for row in rows(given)}
    assert len(gone) == 1 and [one.reply_keys for one in found] == [gone, gone], "by these a restore erases them again"
    assert len(rows(given)) == 1 and reached(given, reply()) == [(1, REPLY_TO)]
    assert reached(given, reply(OTHER)) == [(5, b"ACME")]


def test_texts_of_a_handset_stay_in_order() -> None:
    given = world()
    acme, carrier = given.customer(), given.carrier()
    acme.sends(sent(b"ACME"))
    given.commits()
    acme.takes()
    carrier.delivers(*[reply(text=b"%d" % number) for number in range(5)])
    given.commits()
    assert [sm.short_message for sm in acme.takes()] == [b"0", b"1", b"2", b"3", b"4"]


def test_another_accounts_memory_is_not_asked() -> None:
    given = World(
        settings(
            policies={"p": [RULE]},
            acme={"policies": ["p"], "numbers": ["+447700900555"]},
            more=[
                {
                    "system_id": "shop",
                    "password_hash": settings().accounts[0].password_hash,
                    "networks": "any",
                    "numbers": ["+447700900666"],
                }
            ],
        )
    )
    given.customer().sends(sent(b"ACME"))
    given.carrier()
    given.commits()
    shop = given.customer("shop")
    given.links[-1].delivers(reply(to=b"447700900666"))
    given.commits()
    assert [Sm(sm.raw).destination_digits for sm in shop.takes()] == [b"447700900666"]


def test_stop_ends_what_comes_from_the_number_that_the_handset_knows() -> None:
    """Not only messages of the sender that stood behind it last."""
    given = world()
    acme = given.customer()
    given.carrier()
    acme.sends(sent(b"Bank"))
    given.commits()
    assert acme.statuses() == [0]
    assert reached(given, reply(text=b"STOP")) == [(5, b"Bank")]
    acme.sends(sent(b"Bank"), sent(b"Shop"), sent(b"Shop", OTHER))
    given.commits()
    assert acme.statuses() == [Status.RINVDSTADR, Status.RINVDSTADR, 0]
    given.check()
