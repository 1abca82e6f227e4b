"""What a policy's rules say of a message's time and of unknown answers: ``expire_after`` and ``on_unknown``."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.message import State
from smppd.protocol.times import read as read_time
from smppd.protocol.times import write_absolute
from smppd.protocol.wire import Command, Fields, Status, address_field, build_sm
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
