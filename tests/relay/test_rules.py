"""What a policy's rules say of a message's time and of unknown answers: ``expire_after`` and ``on_unknown``."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.config.dlt import Content, Header, Template, read_template
from smppd.message import State
from smppd.policy.pipeline import PolicyError
from smppd.protocol.times import read as read_time
from smppd.protocol.times import write_absolute
from smppd.protocol.wire import Command, Fields, Status, address_field, build_sm, tlv
from smppd.relay.ledger.payload import StoredMessage
from tests.relay.accept.test_desk import part
from tests.relay.fakes import World, settings
from tests.relay.test_lateness import data_sm
from tests.relay.test_operations import asked, replace

DAY = b"000001000000000R"


def ruled(*actions: dict[str, Any], hold: bool = False, shadow: bool = False, **more: Any) -> World:
    """A world whose rules do these to messages that say "code"."""
    rules = [
        {"name": f"r{n}", "when": {"text": "code"}, "do": do, "mode": "shadow" if shadow else "enforce"}
        for n, do in enumerate(actions)
    ]
    acme = {"policies": ["p"], **more.pop("acme", {})}
    return World(settings(policies={"p": {"hold_parts": hold, "rules": rules}}, acme=acme, **more))


# -- set_tlv -------------------------------------------------------------------------------------------------------------

BROUGHT = tlv(0x1503, b"b") + tlv(0x1400, b"old") + tlv(0x3FFF, b"c")


@pytest.mark.parametrize("hold", [False, True])
def test_tlvs_are_set_and_the_others_keep_their_order(hold: bool) -> None:
    world = ruled({"set_tlv": {0x1400: "1101", 0x1402: "0x00FF"}}, {"drop_tlv": [0x1503]}, hold=hold)
    acme, a = world.customer(), world.carrier()
    acme.submits(b"code", tlvs=BROUGHT)
    if hold:
        acme.sends(part(b"a co", 1), part(b"de", 2))
    world.commits()
    wanted = [(0x1400, b"1101"), (0x3FFF, b"c"), (0x1402, b"\0\xff")]
    said = [sm.tlvs for sm in a.waiting]
    assert said == [wanted] + [[wanted[0], wanted[2]]] * 2 * hold
    world.check()


def test_of_setting_and_dropping_the_later_wins() -> None:
    for first, second, left in (
        ({"set_tlv": {0x1400: "x"}}, {"drop_tlv": 0x1400}, []),
        ({"drop_tlv": 0x1400}, {"set_tlv": {0x1400: "x"}}, [(0x1400, b"x")]),
        ({"set_tlv": {0x1400: "x"}}, {"set_tlv": {0x1400: "y"}}, [(0x1400, b"y")]),
    ):
        world = ruled(first, second)
        acme, a = world.customer(), world.carrier()
        acme.submits(b"code", tlvs=tlv(0x1400, b"old"))
        world.commits()
        assert [sm.tlvs for sm in a.waiting] == [left]


def test_a_carrier_of_3_3_gets_none() -> None:
    world = ruled({"set_tlv": {0x1400: "x"}}, a={"interface_version": "3.3"})
    acme, a = world.customer(), world.carrier()
    acme.submits(b"code")
    world.commits()
    (sm,) = a.waiting
    assert sm.at_tlvs == len(sm.raw) and sm.short_message == b"code"


def test_what_is_full_of_tlvs_lives_on_with_those_that_rules_add() -> None:
    """What the relay takes at most, and what rules add to it, is read back after a restart."""
    world = ruled({"set_tlv": {0x2000 + n: "x" for n in range(16)}}, limits={"tlvs": 1024})
    acme = world.customer()
    acme.submits(b"code", tlvs=tlv(0x1400, b"") * 1024)
    world.commits()
    world.restarts()
    a = world.carrier()
    world.commits()
    (sm,) = a.waiting
    assert len(sm.tlvs) == 1040


def test_rules_together_set_no_more_than_one_rule_may() -> None:
    """64 rules of 16 made a message of a megabyte, which was accepted and never reached a carrier after a restart."""
    ruled(*[{"set_tlv": {0x2000 + n: "x" * 1024 for n in range(16)}}] * 3)
    many = [{"set_tlv": {0x2000 + 16 * rule + n: "x" for n in range(16)}} for rule in range(2)]
    ruled(*many, shadow=True)
    with pytest.raises(PolicyError, match=r"policies.p\[1\].do.set_tlv: .* more than 16"):
        ruled(*many)


@pytest.mark.parametrize("hold", [False, True])
def test_what_a_registry_adds_leaves_with_the_message(hold: bool) -> None:
    """Of a long message the template is known with the last part: the parts before it have its id where they are held."""
    literals, variables = read_template("Your code is {#numeric#}. Do not tell it to anyone. -Acme", 30, False)
    template = Template("2001", "1101", frozenset(), "one_time_code", "active", literals, variables)
    content = Content({"1101": "active"}, {"ACMEBK": Header("ACMEBK", "1101", "T", "active")}, (template,))
    world = World(
        settings(
            dlt={"registries": {"r": {"file": "registry.csv", "content": content}}},
            policies={"p": {"hold_parts": hold, "rules": [{"name": "scrub", "unless": {"dlt": "ok"}, "do": "refuse"}]}},
            acme={"policies": ["p"], "dlt": {"registry": "r", "entity": "1101", "set": True}},
        )
    )
    acme, a = world.customer(), world.carrier()
    source, destination = address_field(5, 0, b"ACMEBK"), address_field(1, 1, b"910000000123")

    def message(text: bytes, esm_class: int = 0) -> bytes:
        return build_sm(Command.SUBMIT_SM, 0, source, destination, text, Fields(registered=1, esm_class=esm_class))

    acme.sends(message(b"Your code is 7. Do not tell it to anyone. -Acme"), message(b"Your code is seven. -Acme"))
    for number, text in enumerate((b"Your code is 12. Do ", b"not tell it to anyone. -Acme"), 1):
        acme.sends(message(bytes((5, 0, 3, 9, 2, number)) + text, 0x40))
    world.commits()
    assert acme.statuses() == [0, Status.RSUBMITFAIL, 0, 0]
    both = [(0x1400, b"1101"), (0x1401, b"2001")]
    assert [sm.tlvs for sm in a.waiting] == [both, both if hold else both[:1], both]
    world.check()


# -- expire_after --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validity", [DAY, b""])
@pytest.mark.parametrize("hot", [100_000, 1])
def test_a_code_expires_as_the_rule_says_with_one_receipt(validity: bytes, hot: int) -> None:
    world = ruled({"expire_after": "5m"}, hot=hot)
    acme = world.customer()
    acme.submits(b"news", validity=validity)
    acme.submits(b"code 0", validity=validity)
    world.commits()
    news, code = acme.ids()
    assert len(world.store.cold) == (hot == 1)
    world.passes(299)
    assert acme.receipts() == []
    world.passes(3)
    assert acme.receipts() == [(code, "EXPIRED")]
    a = world.carrier()
    world.passes(2)
    assert a.texts() == [b"news"]
    world.passes(600)
    assert acme.receipts() == [] and world.states(code).count(State.EXPIRED) == 1
    assert world.total("messages_expired", account="acme") == 1 and news != code
    world.check()


@pytest.mark.parametrize("hot", [100_000, 1])
def test_a_code_expires_in_time_across_a_restart(hot: int) -> None:
    world = ruled({"expire_after": "5m"}, hot=hot)
    acme = world.customer()
    acme.submits(b"news", b"code 0", validity=DAY)
    world.commits()
    _, code = acme.ids()
    world.passes(200)
    world.restarts()
    acme = world.customer()
    world.passes(98)
    assert acme.receipts() == []
    world.passes(4)
    assert acme.receipts() == [(code, "EXPIRED")]
    world.check()


def test_the_shortest_time_counts() -> None:
    world = ruled({"expire_after": "10m"}, {"expire_after": "5m"}, {"expire_after": "1h"})
    acme = world.customer()
    acme.submits(b"code", validity=b"000000000100000R")
    acme.submits(b"code", validity=DAY)
    world.commits()
    short, long = acme.ids()
    world.passes(62)
    assert acme.receipts() == [(short, "EXPIRED")], "what the message says itself, where that is less"
    world.passes(236)
    assert acme.receipts() == []
    world.passes(4)
    assert acme.receipts() == [(long, "EXPIRED")]


def test_a_rule_in_shadow_shortens_and_decides_nothing() -> None:
    world = ruled({"expire_after": "5m"}, {"on_unknown": "hold"}, shadow=True)
    acme = world.customer()
    acme.submits(b"code", validity=DAY)
    world.commits()
    world.passes(400)
    a = world.carrier()
    world.passes(1)
    a.cut()
    again = world.carrier()
    world.passes(63)
    assert again.texts() == [b"code"] and acme.receipts() == []
    assert world.total("rule_hits", policy="p", rule="r0", mode="shadow") == 1


def test_the_carrier_is_told_of_the_shorter_time() -> None:
    world = ruled({"expire_after": "5m"})
    acme = world.customer()
    acme.submits(b"code none")
    acme.submits(b"code relative", validity=DAY)
    acme.submits(b"code absolute", validity=write_absolute(world.wall + 86400))
    acme.submits(b"code short", validity=write_absolute(world.wall + 200))
    acme.submits(b"news")
    acme.sends(data_sm(600))
    world.commits()
    end = world.wall + 300
    world.passes(100)
    a = world.carrier()
    world.commits()
    ends = {sm.short_message: sm.validity and read_time(sm.validity, world.wall) for sm in a.waiting[:5]}
    assert ends == {
        b"code none": end,
        b"code relative": end,
        b"code absolute": end,
        b"code short": world.wall + 100,
        b"news": b"",
    }
    assert a.waiting[2].validity == write_absolute(end), "in the form that the customer chose"


def test_a_data_sm_is_shortened_as_well() -> None:
    world = World(settings(policies={"p": [{"name": "all", "do": {"expire_after": "5m"}}]}, acme={"policies": ["p"]}))
    acme = world.customer()
    acme.sends(data_sm(600))
    world.commits()
    world.passes(100)
    a = world.carrier()
    world.commits()
    assert int.from_bytes(a.waiting[0].tlv(0x17) or b"", "big") == 200


def test_held_parts_expire_as_the_whole_message_is_told() -> None:
    world = ruled({"expire_after": "5m"}, hold=True)
    acme = world.customer()
    acme.sends(part(b"your co", 1))
    world.commits()
    (one,) = acme.ids()
    world.passes(100)
    acme.sends(part(b"de is 0", 2))
    world.commits()
    (two,) = acme.ids()
    world.check()
    world.passes(198)
    assert acme.receipts() == []
    world.restarts()
    acme = world.customer()
    world.passes(5)
    assert acme.receipts() == [(one, "EXPIRED")], "each part's time begins when it is accepted"
    world.passes(100)
    assert acme.receipts() == [(two, "EXPIRED")]
    world.check()


def test_a_new_validity_does_not_undo_the_rule() -> None:
    world = ruled({"expire_after": "5m"}, {"on_unknown": "hold"})
    acme = world.customer()
    acme.submits(b"code 0", validity=b"000000000200000R")
    world.commits()
    (code,) = acme.ids()
    world.passes(60)
    assert asked(acme, replace(code, b"code 1", validity=DAY))[0] == 0
    world.passes(235)
    assert acme.receipts() == []
    world.passes(7)
    assert acme.receipts() == [(code, "EXPIRED")]
    world.check()


# -- on_unknown ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(("rule", "account"), [("hold", "resend"), ("resend", "hold")])
def test_a_rule_s_word_on_unknown_stands_before_the_account_s(rule: str, account: str, restart: bool) -> None:
    world = ruled({"on_unknown": rule}, {"on_unknown": account}, acme={"on_unknown": account})
    acme, a = world.customer(), world.carrier()
    acme.submits(b"news", b"code")
    world.commits()
    news, code = acme.ids()
    assert len(a.waiting) == 2
    a.cut()
    world.commits()
    if restart:
        world.restarts()
        acme = world.customer()
    again = world.carrier()
    world.passes(63)
    held, resent, text = (code, news, b"news") if rule == "hold" else (news, code, b"code")
    assert again.texts() == [text]
    assert acme.receipts() == [(held, "UNKNOWN")]
    assert State.RESENT in world.states(resent) and State.RESENT not in world.states(held)
    world.check()


def test_a_rule_s_word_survives_the_cold_rows() -> None:
    world = ruled({"on_unknown": "hold"}, hot=1)
    acme = world.customer()
    acme.submits(*[b"news"] * 3, b"code")
    world.commits()
    code = acme.ids()[-1]
    assert len(world.store.cold) == 3
    assert [StoredMessage(row.id, row.data).on_unknown for row in world.store.cold.values()] == ["", "", "hold"]
    world.restarts()
    acme, a = world.customer(), world.carrier()
    world.passes(3)
    assert a.texts()[-1] == b"code"
    a.cut()
    a = world.carrier()
    world.passes(63)
    assert acme.receipts() == [(code, "UNKNOWN")] and a.texts() == [b"news"] * 3
    world.check()


def test_held_parts_are_unknown_as_the_whole_message_is_told() -> None:
    world = ruled({"on_unknown": "hold"}, hold=True)
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"your co", 1))
    world.commits()
    acme.sends(part(b"de is 0", 2))
    world.commits()
    ids = acme.ids()
    assert len(a.waiting) == 2
    a.cut()
    a = world.carrier()
    world.passes(63)
    assert a.sent == [] and acme.receipts() == [(one, "UNKNOWN") for one in ids]
    world.check()


def test_an_authorised_sender_that_a_rule_refuses_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    senders = {"authorised": [{"account": "acme", "country": ["GB"], "sender": "ACME"}]}
    rules = [{"name": "none", "when": {"sender_kind": "alphanumeric"}, "do": "refuse"}]
    world = World(settings(policies={"p": rules}, acme={"policies": ["p"]}, senders=senders))
    acme = world.customer()
    frames = [
        build_sm(Command.SUBMIT_SM, 0, address_field(5, 0, sender), address_field(1, 1, to), b"x", Fields())
        for sender, to in ((b"ACME", b"447700900123"), (b"Acme", b"447700900123"), (b"Other", b"447700900123"))
    ]
    acme.sends(*frames)
    world.commits()
    assert acme.statuses() == [Status.RSUBMITFAIL] * 3
    assert world.total("authorised_sender_refused", account="acme") == 2
    world.passes(61)
    lines = [r for r in caplog.records if r.getMessage() == "authorised sender refused by a rule"]
    assert [vars(line)["fields"]["count"] for line in lines] == [1, 1] and "ACME" not in caplog.text
