"""STOP, START and HELP: what a handset says holds from the next message on, for what waits, and after any crash; and nothing of
it holds where its carrier was not acknowledged."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.consent.register import ConsentScreen
from smppd.consent.register import Register as Consents
from smppd.consent.register_proof import ConsentKeys
from smppd.consent.screen import OptOutScreen
from smppd.consent.suppression import Hashes, Register
from smppd.message import State
from smppd.protocol.wire import Command, Fields, Status, Tag, address_field, build_sm, tlv
from smppd.relay.ledger.journal import Entry, read
from smppd.relay.receipts.opt_outs import DOUBTS
from smppd.store.committer import Ending
from smppd.store.consents import Standing
from tests.relay.accept.test_desk import part
from tests.relay.fakes import FROM, TO, FakeLink, World
from tests.relay.fakes import settings as configuration

OURS = b"447700900001"
ANOTHER = b"447700900124"
CONFIRMED = "You are opted out."
ANSWERS = {"stop": CONFIRMED, "start": "Welcome back.", "help": "Call us."}
REFUSED = Status.RINVDSTADR


def world(own: Any = None, *, acme: dict[str, Any] | None = None, **more: Any) -> World:
    section = {"opt_out": own} if own is not None else {}
    return World(configuration(acme={"numbers": ["+447700900001"], **section, **(acme or {})}, **more))


def said(text: bytes, *, sender: bytes = TO, to: bytes = OURS, tlvs: bytes = b"", **fields: Any) -> bytes:
    """A message from a handset."""
    ends = address_field(2 if sender[:1] == b"0" else 1, 1, sender), address_field(1, 1, to)
    return build_sm(Command.DELIVER_SM, 0, *ends, text, Fields(**fields), tlvs)


def opts_out(here: World, a: FakeLink, text: bytes = b"STOP", **more: Any) -> None:
    a.delivers(said(text, **more))
    here.commits()
    assert a.acknowledged() == [0]


# -- words ---------------------------------------------------------------------------------------------------------------


def test_stop_holds_from_the_next_message_on_and_before_it_is_acknowledged() -> None:
    here = world()
    acme, a = here.customer(), here.carrier()
    acme.submits(b"before")
    here.commits()
    a.answers(b"up-1")
    assert acme.statuses() == [0]
    a.delivers(said(b"Stop!"))
    acme.submits(b"after")
    assert a.acknowledged() == [] and acme.answered() == []
    here.commits()
    assert a.acknowledged() == [0] and acme.statuses() == [REFUSED]
    assert a.texts() == []
    assert [sm.short_message for sm in acme.takes()] == [b"Stop!"], "its owner hears it too"
    assert here.total("messages_refused", account="acme", reason="opt-out") == 1
    assert here.total("opt_out_words", account="acme", outcome="stop") == 1
    assert [event.state for event in here.store.events].count(State.REFUSED) == 1
    acme.submits(b"to another", to=ANOTHER)
    here.commits()
    assert a.texts() == [b"to another"] and acme.statuses() == [0]
    here.check()


def test_it_is_on_all_upstreams_and_after_a_restart() -> None:
    here = world()
    b = here.carrier("b")
    opts_out(here, b)
    here.restarts()
    acme, a = here.customer(), here.carrier("a")
    acme.submits(b"no")
    here.commits()
    assert acme.statuses() == [REFUSED] and a.texts() == [] and len(here.register) == 1


@pytest.mark.parametrize("durable", [True, False])
def test_killed_at_the_commit_it_holds_or_its_carrier_has_it_still(durable: bool) -> None:
    here = world()
    a = here.carrier()
    a.delivers(said(b"STOP"))
    here.store.die(durable)
    assert a.acknowledged() == []
    here.restarts()
    assert len(here.register) == int(durable)


def test_without_space_nobody_is_acknowledged_and_nothing_holds() -> None:
    here = world({"answers": ANSWERS})
    acme, a = here.customer(), here.carrier()
    here.fills()
    a.delivers(said(b"STOP"))
    here.store.fail()
    assert a.acknowledged() == [Status.RMSGQFUL] and len(here.register) == 0 and here.opted == []
    here.frees()
    here.passes(2)
    acme.submits(b"yes")
    here.commits()
    assert acme.statuses() == [0] and a.texts() == [b"yes"]
    assert not {State.OPTED_OUT, State.ACCEPTED} & {event.state for event in here.store.events}, "nothing is told of it"
    opts_out(here, a)  # the carrier sends it again
    assert [event.state for event in here.store.events].count(State.OPTED_OUT) == 1
    assert len(here.register) == 1 and a.texts() == [b"yes", CONFIRMED.encode()]
    here.check()


def test_start_lifts_it_whatever_it_was() -> None:
    here = world()
    acme, a = here.customer(), here.carrier()
    for word in (b"STOP", b"STOPALL"):
        opts_out(here, a, word)
        assert len(here.register) == 1
        opts_out(here, a, b"Start")
        assert len(here.register) == 0 and here.store.opted == {}
    acme.submits(b"yes")
    here.commits()
    assert acme.statuses() == [0]
    assert [(one.word, one.stands) for one in here.opted] == [
        ("stop", True),
        ("start", False),
        ("stop all", True),
        ("start", False),
    ]
    assert "4477" not in repr(here.opted)


@pytest.mark.parametrize(
    ("own", "word", "senders"),
    [
        (None, b"STOP", [OURS]),
        (None, b"stop all", [OURS, b"447700900002"]),
        ({"scope": "account"}, b"STOP", [OURS, b"447700900002"]),
    ],
)
def test_what_stop_ends(own: Any, word: bytes, senders: list[bytes]) -> None:
    here = world(own)
    acme, a = here.customer(), here.carrier()
    opts_out(here, a, word)
    for sender in (OURS, b"447700900002"):
        acme.sends(build_sm(Command.SUBMIT_SM, 0, address_field(1, 1, sender), address_field(1, 1, TO), b"x"))
    here.commits()
    assert acme.statuses() == [REFUSED if sender in senders else 0 for sender in (OURS, b"447700900002")]


def test_what_only_looks_like_it_waits_for_a_person() -> None:
    here = world()
    acme, a = here.customer(), here.carrier()
    opts_out(here, a, b"please stop texting me")
    opts_out(here, a, b"dur", sender=b"33199000001")
    acme.submits(b"still")
    here.commits()
    assert acme.statuses() == [0] and len(here.register) == 0 and here.relay.opt_outs.doubts == 2
    assert len(here.store.doubted) == 2 and "4477" not in repr(list(here.store.doubted.values()))
    here.restarts()
    assert here.relay.opt_outs.doubts == 2
    quiet = world({"review": False})
    opts_out(quiet, quiet.carrier(), b"please stop texting me")
    assert quiet.store.doubted == {}


def test_the_review_is_bounded() -> None:
    here = world()
    a = here.carrier()
    here.relay.opt_outs.doubts = DOUBTS - 1
    opts_out(here, a, b"please stop this")
    opts_out(here, a, b"please stop this", sender=ANOTHER)
    assert len(here.store.doubted) == 1
    assert here.total("opt_out_words", account="acme", outcome="review full") == 1


@pytest.mark.parametrize(
    ("frame", "holds"),
    [
        (said(b"", tlvs=tlv(Tag.MESSAGE_PAYLOAD, b"stop")), True),
        (said("STOP".encode("utf-16-be"), data_coding=8), True),
        (said(b"\x05\x00\x03\x01\x02\x01STOP", esm_class=0x40), False),
        (said(b"STOP" + b"\x20" * 200), False),
        (said(b"hello"), False),
        (said(b"STOP", sender=b""), True),
    ],
)
def test_only_a_whole_message_is_a_word(frame: bytes, holds: bool) -> None:
    here = world()
    a = here.carrier()
    a.delivers(frame)
    here.commits()
    assert a.acknowledged() == [0] and len(here.register) == int(holds)


def test_stop_to_a_number_that_accounts_share_is_said_to_all_of_them() -> None:
    hashed = configuration().accounts[0].password_hash
    other = {"system_id": "other", "networks": "any", "password_hash": hashed, "numbers": ["+447700900001"]}
    here = world(acme={"keywords": ["key"]}, more=[{**other, "keywords": ["club"]}])
    a = here.carrier()
    opts_out(here, a, b"club stop")
    assert not here.register.stands("acme", OURS, TO) and here.register.stands("other", OURS, TO)
    opts_out(here, a)
    assert here.register.stands("acme", OURS, TO)
    a.delivers(said(b"hello"))
    here.commits()
    assert a.acknowledged() == [Status.RX_P_APPN]
    assert here.total("mo_messages", upstream="a", outcome="opt-out") == 1
    opts_out(here, a, b"start")
    assert len(here.register) == 0, "START alone lifts what STOP alone said"


def test_a_national_number_of_a_carrier_without_a_country_is_read_by_the_accounts() -> None:
    here = world(acme={"region": "GB"})
    opts_out(here, here.carrier(), sender=b"07700900123")
    assert here.register.stands("acme", OURS, b"447700900123")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_consent_that_is_withdrawn_ends_what_waits_by_it(restarted: bool) -> None:
    keys = ConsentKeys(b"k" * 32)
    consents = Consents(keys)
    scope = keys.scope("promotional", b"*")
    mine, others = (Standing("acme", keys.subject("acme", number), scope) for number in (TO, ANOTHER))
    consents.add([mine, others])
    screen = ConsentScreen(consents, False, ["promotional"])
    here = World(configuration(acme={"class": "promotional"}), screens={"acme": (screen,)})
    acme = here.customer()
    acme.submits(b"waits", registered=1)
    acme.submits(b"goes", to=ANOTHER)
    here.commits()
    consents.remove([mine])
    if restarted:
        here.restarts()
        acme = here.customer()
    a = here.carrier()
    here.passes(2)
    here.commits()
    assert a.texts() == [b"goes"]
    assert here.total("messages_refused", account="acme", reason="consent") == 1
    assert [b"stat:REJECTD" in sm.short_message for sm in acme.takes()] == [True]
    here.check()


def test_help_to_a_shared_number_is_answered_once_by_who_has_a_text() -> None:
    hashed = configuration().accounts[0].password_hash
    other = {"networks": "any", "password_hash": hashed, "numbers": ["+447700900001"]}
    more = [
        {**other, "system_id": name, "keywords": [name], "opt_out": {"answers": {"help": f"I am {name}."}}}
        for name in ("club", "shop")
    ]
    here = world(acme={"keywords": ["key"]}, more=more)
    a = here.carrier()
    opts_out(here, a, b"help")
    assert a.texts() == [b"I am club."]


# -- answers -------------------------------------------------------------------------------------------------------------


def test_a_handset_is_answered_once() -> None:
    here = world({"answers": ANSWERS})
    acme, a = here.customer(), here.carrier()
    for _ in range(3):
        opts_out(here, a)
    assert a.texts() == [CONFIRMED.encode()]
    (sent,) = a.waiting
    assert (sent.source_digits, sent.destination_digits, sent.registered) == (OURS, TO, 0)
    a.answers(b"up-1")
    opts_out(here, a, b"START")
    opts_out(here, a, b"start")
    opts_out(here, a, b"HELP")
    opts_out(here, a, b"help")
    assert a.texts() == [b"Welcome back.", b"Call us."]
    here.passes(61)
    opts_out(here, a, b"help")
    assert a.texts() == [b"Welcome back.", b"Call us.", b"Call us."]
    assert [len(acme.takes()), acme.answered()] == [8, []], "they are not the customer's"
    assert here.total("messages_accepted", account="acme") == 0
    here.check()


def test_an_answer_is_durable_with_what_it_answers_and_gets_through() -> None:
    here = world({"answers": ANSWERS})
    a = here.carrier()
    a.cut()
    link = here.carrier(command=Command.BIND_RECEIVER)
    opts_out(here, link)
    here.restarts()
    a = here.carrier()
    here.passes(2)
    assert a.texts() == [CONFIRMED.encode()], "to somebody who has opted out, and after a restart"
    a.answers(b"up-1")
    here.passes(1)
    assert here.living == 2  # the answer, and the mail for the customer
    here.check()


def test_an_answer_that_comes_too_late_is_not_sent() -> None:
    here = world({"answers": ANSWERS})
    opts_out(here, here.carrier(command=Command.BIND_RECEIVER))
    here.passes(301, step=10)
    assert here.carrier().texts() == []
    here.check()


@pytest.mark.parametrize("sender", [b"61016", b"Bank", OURS])
def test_services_are_not_answered(sender: bytes) -> None:
    here = world({"answers": ANSWERS})
    a = here.carrier()
    opts_out(here, a, b"HELP", sender=sender)
    assert a.texts() == []


def test_an_answer_is_in_letters_that_the_link_has() -> None:
    here = world({"answers": {"stop": "\u0421\u0442\u043e\u043f \u2714"}})
    a = here.carrier()
    opts_out(here, a)
    (sent,) = a.waiting
    assert (sent.data_coding, sent.short_message.decode("utf-16-be")) == (8, "\u0421\u0442\u043e\u043f \u2714")


# -- what is told --------------------------------------------------------------------------------------------------------


def test_told_by_a_receipt() -> None:
    here = world("receipt")
    acme, a = here.customer(), here.carrier()
    opts_out(here, a)
    acme.takes()
    acme.submits(b"no", b"no", registered=1)
    assert acme.answered() == []
    here.commits()
    one, other = acme.ids()
    assert acme.receipts() == [(one, "REJECTD"), (other, "REJECTD")] and a.texts() == []
    assert here.states(one) == [State.REJECTED]
    here.commits()
    here.restarts()
    assert here.customer().receipts() == []
    quiet = here.customer()
    quiet.submits(b"no", registered=0)
    here.commits()
    assert len(quiet.ids()) == 1 and quiet.receipts() == []
    here.check()


def test_a_receipt_is_durable_with_its_answer_and_there_is_one() -> None:
    here = world("receipt")
    a = here.carrier()
    opts_out(here, a)
    acme = here.customer(command=Command.BIND_TRANSMITTER)
    acme.submits(b"no")
    here.commits()
    (name,) = acme.ids()
    here.restarts()
    later = here.customer()
    word, receipt = later.takes()
    assert word.short_message == b"STOP" and receipt.tlv(Tag.RECEIPTED_MESSAGE_ID) == name + b"\0"
    here.commits()
    here.restarts()
    assert here.customer().takes() == []


def test_without_space_there_is_no_receipt_either() -> None:
    here = world("receipt")
    acme, a = here.customer(), here.carrier()
    opts_out(here, a)
    acme.takes()
    acme.submits(b"no")
    here.fills()
    assert acme.statuses() == [Status.RMSGQFUL]
    here.frees()
    here.passes(3)
    assert acme.receipts() == []
    here.check()


def test_shadow_only_counts_and_off_asks_nothing() -> None:
    here = world("shadow")
    acme, a = here.customer(), here.carrier()
    opts_out(here, a)
    acme.submits(b"yes")
    here.commits()
    assert acme.statuses() == [0] and a.texts() == [b"yes"]
    assert here.total("rule_hits", policy="opt-out", rule="suppressed", mode="shadow") == 1
    off = world("off", acme={})
    opts_out(off, off.carrier())
    assert len(off.register) == 0 and off.account().screens == ()


def test_of_a_submit_multi_only_those_are_refused() -> None:
    here = world()
    acme, a = here.customer(), here.carrier()
    opts_out(here, a)
    number = b"\x01\x01\x01%b\x00"
    destinations = b"\x02" + number % TO + number % ANOTHER
    body = b"\0" + FROM + destinations + b"\0\0\0\0\0\1\0\0\0\2hi"
    acme.sends((16 + len(body)).to_bytes(4, "big") + b"\0\0\0\x21" + bytes(8) + body)
    here.commits()
    (response,) = [frame for frame in acme.heard if frame[4] & 0x80]
    assert response[8:12] == bytes(4) and response.endswith(b"\x01\x01\x01" + TO + b"\0" + REFUSED.to_bytes(4, "big"))
    assert [sm.destination_digits for sm in a.waiting] == [ANOTHER]
    here.check()


# -- what waits ----------------------------------------------------------------------------------------------------------


def waiting(here: World, *texts: bytes, **fields: Any) -> tuple[Any, FakeLink]:
    """Messages that wait since their carrier is away, and a link that only brings."""
    acme = here.customer()
    acme.submits(*texts, **fields)
    here.commits()
    return acme, here.carrier(command=Command.BIND_RECEIVER)


def test_what_waits_ends_with_its_receipt_when_its_carrier_is_back() -> None:
    here = world()
    acme, receiver = waiting(here, b"one", b"two")
    acme.submits(b"three", to=ANOTHER)
    here.commits()
    names = acme.ids()
    opts_out(here, receiver)
    acme.takes()
    a = here.carrier()
    here.commits()
    assert a.texts() == [b"three"]
    assert acme.receipts() == [(names[0], "REJECTD"), (names[1], "REJECTD")]
    assert State.REJECTED in here.states(names[0])
    kinds = [kind for _, block in here.store.blocks for kind, _, _ in read(block)]
    assert kinds.count(Entry.RELEASED) == 1, "the others took no place of the carrier"
    assert here.total("messages_refused", account="acme", reason="opt-out") == 2
    here.check()


@pytest.mark.parametrize("hot", [100_000, 1])
def test_after_a_restart_too_from_memory_and_from_rows(hot: int) -> None:
    here = world(hot=hot)
    acme, receiver = waiting(here, *[b"%d" % n for n in range(8)])
    names = acme.ids()
    if hot == 1:
        assert here.store.cold, "some are rows"
    opts_out(here, receiver)
    here.restarts()
    acme, a = here.customer(), here.carrier()
    here.passes(3)
    assert a.texts() == []
    assert sum(b"stat:REJECTD" in sm.short_message for sm in acme.takes()) == len(names)
    here.check()


def test_what_was_released_and_waits_for_a_slow_carrier_ends_too() -> None:
    here = world(a={"throughput": "1/s", "burst": 1})
    acme, a = here.customer(), here.carrier()
    acme.submits(*[b"%d" % n for n in range(5)])
    here.commits()
    assert a.texts() == [b"0"]
    names = acme.ids()
    opts_out(here, a)
    acme.takes()
    here.passes(6)
    assert a.texts() == [b"0"]
    assert acme.receipts() == [(name, "REJECTD") for name in names[1:]]
    here.check()


def test_more_than_a_step_of_them_end_without_holding_up_the_reactor() -> None:
    here = world()
    acme, receiver = waiting(here, *[b"x"] * 1200)
    opts_out(here, receiver)
    a = here.carrier()
    here.passes(3)
    assert a.texts() == [] and here.account().queued == 0
    assert len(acme.takes()) + len(acme.takes()) == 1201, "1,000 are its window"
    here.check()


def test_what_a_carrier_may_have_ends_as_unknown() -> None:
    here = world()
    acme, a = here.customer(), here.carrier()
    acme.submits(b"maybe")
    here.commits()
    (name,) = acme.ids()
    a.cut()
    receiver = here.carrier(command=Command.BIND_RECEIVER)
    opts_out(here, receiver)
    acme.takes()
    here.passes(61)
    a = here.carrier()
    here.passes(3)
    assert a.texts() == [] and acme.receipts() == [(name, "UNKNOWN")]
    here.check()


def test_a_customer_who_waits_for_the_carrier_is_told_so() -> None:
    here = world(acme={"acknowledge": "upstream"}, a={"throughput": "1/s", "burst": 1})
    acme, a = here.customer(), here.carrier()
    acme.submits(b"one", b"two")
    here.commits()
    a.answers(b"up-1")
    assert acme.statuses() == [0]
    opts_out(here, a)
    here.passes(3)
    assert acme.statuses() == [REFUSED] and a.texts() == []
    here.check()


def test_a_message_that_policy_gave_another_sender_is_known_by_both() -> None:
    rules = {"p": [{"name": "r", "do": {"replace_sender": {"address": "+447700900002"}}}]}
    here = world(acme={"policies": ["p"], "numbers": ["+447700900001", "+447700900002"]}, policies=rules)
    for to in (OURS, b"447700900002"):
        acme, receiver = waiting(here, b"waits")
        assert acme.statuses() == [0]
        opts_out(here, receiver, to=to)
        acme.submits(b"next")
        here.commits()
        assert acme.statuses() == [REFUSED]
        a = here.carrier()
        here.commits()
        assert a.texts() == []
        a.cut()
        opts_out(here, receiver, b"START", to=to)
        acme.leaves()
    here.check()


def test_held_parts_do_not_leave_when_their_last_comes() -> None:
    policies = {"p": {"hold_parts": True, "rules": [{"name": "r", "when": {"text": "prize"}, "do": "refuse"}]}}
    here = world(acme={"policies": ["p"]}, policies=policies)
    acme, a = here.customer(), here.carrier()
    acme.sends(part(b"hel", 1))
    here.commits()
    assert acme.statuses() == [0]
    opts_out(here, a)
    acme.takes()
    acme.sends(part(b"lo", 2))
    here.commits()
    assert acme.statuses() == [REFUSED] and a.texts() == []
    here.passes(301, step=10)
    assert a.texts() == [] and [state for _, state in acme.receipts()] == ["REJECTD"]
    here.check()


def test_a_reload_that_refuses_again_asks_what_waits() -> None:
    here = world("shadow")
    opts_out(here, here.carrier(command=Command.BIND_RECEIVER))
    waiting(here, b"waits")
    here.reloads(configuration(acme={"numbers": ["+447700900001"]}))
    a = here.carrier()
    here.commits()
    assert a.texts() == []


# -- commands ------------------------------------------------------------------------------------------------------------


def test_a_command_changes_the_register_and_is_told_when_it_is_durable() -> None:
    here = world()
    acme, a = here.customer(), here.carrier()
    opts_out(here, a, b"please stop")
    (record,) = here.store.doubted
    entry = here.register.entry("acme", OURS, TO, 1, "review")
    told: list[bool] = []
    here.relay.change_opt_outs([entry], [record], told.append)
    assert told == []
    here.commits()
    assert told == [True] and here.store.doubted == {} and here.relay.opt_outs.doubts == 0 and here.opted == []
    acme.submits(b"no")
    here.commits()
    assert acme.statuses() == [REFUSED]
    here.relay.change_opt_outs([entry], [], told.append)  # once more: nothing changes, and it is told
    here.commits()
    assert told == [True, True] and len(here.register) == 1


@pytest.mark.parametrize("how", [Ending.FULL, Ending.AWAY])
def test_a_command_is_told_that_there_was_no_space(how: Ending) -> None:
    here = world()
    told: list[bool] = []
    here.relay.change_opt_outs([here.register.entry("acme", OURS, TO, 1, "command")], [], told.append)
    here.store.fail(how)
    assert told == [False] and len(here.register) == 0
    here.commits()
    assert told == [False] and here.store.opted == {}


@pytest.mark.interpreted("exchanges a method")
def test_a_message_of_a_handset_is_still_passed_on_where_a_word_cannot_be_heard(monkeypatch: Any) -> None:
    here = world()
    acme, a = here.customer(), here.carrier()

    def fails(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(here.relay.opt_outs.words, "station", fails)
    a.delivers(said(b"hello"))
    here.commits()
    assert a.acknowledged() == [0] and [sm.short_message for sm in acme.takes()] == [b"hello"]


class GrowingList(set[bytes]):
    """A list of numbers that is exchanged while messages flow."""

    version = 1


def test_a_number_that_comes_on_a_list_stops_what_waits() -> None:
    numbers = GrowingList()
    world = World(screens={"acme": (OptOutScreen(Register(Hashes(bytes(32))), "refuse", [numbers]),)})
    acme = world.customer()
    acme.submits(b"one", b"two")
    world.commits()
    assert acme.statuses() == [0, 0]
    numbers.add(TO)
    numbers.version += 1
    a = world.carrier()
    world.passes(2)
    assert a.texts() == [] and [state for _, state in acme.receipts()] == ["REJECTD", "REJECTD"]
    world.check()
