"""What is found in an account's traffic, and what is not: simulated customers (`bench.traffic`) on a clock of their own."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.traffic import DAY, NEW, SHAPES, Shop, flash_sale, learned, pumped
from smppd.message import Refusal
from smppd.protocol.wire import Command, Fields, Sm, Status, address_field, build_sm
from smppd.traffic.account import DECISIONS, TEXTS, WATCHED, AccountTraffic, prefix_of, text_key
from smppd.traffic.sketches import PrefixCounts

RATE = 8.0
Known = Callable[..., Shop]


@pytest.fixture(scope="module")
def known() -> Known:
    """A shop whose traffic is known, taken over from one that learned it: so each test begins after a restart."""
    teacher = learned(1, RATE, days=1.0, slow=0.02, customers=6000)

    def made(**settings: Any) -> Shop:
        shop = Shop(1, RATE, customers=6000, learn="12h", **settings)
        shop.wall = teacher.wall
        said = teacher.traffic.snapshot(teacher.now, teacher.wall)
        shop.traffic.load(said, shop.now, shop.wall)
        shop.passes(60.0)
        assert shop.traffic.standing(shop.now) == []
        return shop

    return made


def send(shop: Shop, number: bytes, text: bytes = b"hello", after: float = 0.1) -> Refusal | None:
    shop.now += after
    shop.wall += after
    return shop.screen.look(shop.question(number, text))


def fresh(**settings: Any) -> Shop:
    return Shop(3, 1.0, customers=50, **settings)


# -- shapes of pumping ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_pumping_among_twenty_times_as_much_is_found_within_a_minute(known: Known, shape: str) -> None:
    outcome = pumped(known(), SHAPES[shape])
    assert outcome.signals and min(outcome.signals.values()) <= 60, shape
    assert outcome.refused == 0, "the defaults only alert"


def test_a_flash_sale_is_not_found(known: Known) -> None:
    """One text to the account's own customers at ten times its rate."""
    outcome = flash_sale(known(velocity="block", runs="block", same_text="block", receipts="block"), 1.0)
    assert outcome.messages > 5000 and outcome.decisions == [] and outcome.refused == 0


def test_a_day_of_ordinary_traffic_is_not_found(known: Known) -> None:
    outcome = known().passes(DAY, times=0.01)
    assert outcome.messages > 5000 and outcome.decisions == []


def test_one_text_to_many_strangers_is_found(known: Known) -> None:
    shop = known(same_text={"action": "block", "least": 100}, velocity="off", new_countries="off")
    rnd = random.Random(5)
    answers = [send(shop, b"3530%08d" % rnd.randrange(10**8), b"You won! Call now, code %d" % n) for n in range(400)]
    first = next(place for place, one in enumerate(answers) if one is not None)
    assert 100 <= first < 200
    refusal = answers[first]
    assert refusal is not None and refusal.rule == "traffic/same_text"
    assert all(one == refusal for one in answers[first:])
    assert send(shop, shop.everybody[0], b"Your code is 123") is None, "other texts pass"


def test_delivery_that_is_reported_too_soon_is_found(known: Known) -> None:
    shop = known(new_countries="off", velocity="off")
    for number in shop.everybody[:400]:
        send(shop, number, after=0.2)
        shop.screen.ended(number, 1, True, 5.0, shop.now)
    for _ in range(80):
        number = b"3530%08d" % shop.random.randrange(10**8)
        send(shop, number)
        shop.screen.ended(number, 1, True, 0.1, shop.now)
    assert [one.signal for one in shop.traffic.standing(shop.now)] == ["receipts"]


# -- what is done --------------------------------------------------------------------------------------------------------


def run_of(shop: Shop, count: int, begin: int = 0) -> list[Refusal | None]:
    return [send(shop, b"440555%06d" % (begin + one)) for one in range(count)]


@pytest.mark.parametrize(
    ("action", "statuses"),
    [
        ("alert", {None}),
        ("shadow", {None}),
        ("block", {None, Status.RSUBMITFAIL}),
        ("limit", {None, Status.RTHROTTLED}),
    ],
)
def test_actions(action: str, statuses: set[int | None]) -> None:
    shop = fresh(runs=action)
    answers = [one and one.status for one in run_of(shop, 40)]
    assert set(answers) == statuses
    assert answers[:12] == [None] * 12, "ten within runs of four or more"
    if action == "block":
        assert answers[13:] == [Status.RSUBMITFAIL] * 27
    assert [(one.signal, one.action, one.target) for one in shop.traffic.standing(shop.now)] == [
        ("runs", action, "GB 44***")
    ]
    assert shop.traffic.take_hits() == {("runs", action): 40 - 12}


def test_under_limit_a_few_pass() -> None:
    shop = fresh(runs="limit", limit="30/m")
    run_of(shop, 40)
    answers = [send(shop, b"440555%06d" % (1000 + 10 * one), after=1.0) for one in range(60)]
    assert 28 <= answers.count(None) <= 32
    assert send(shop, b"440777000001") is None, "other prefixes pass"


def test_a_block_ends_by_itself_and_begins_anew() -> None:
    shop = fresh(runs="block", **{"for": "10m"})
    run_of(shop, 40)
    assert send(shop, b"440555000999") is not None
    assert send(shop, b"440555000999", after=601.0) is None and shop.traffic.standing(shop.now) == []
    assert run_of(shop, 40, 5000)[-1] is not None


def test_an_operator_releases_it() -> None:
    shop = fresh(runs="block")
    run_of(shop, 40)
    (standing,) = shop.traffic.standing(shop.now)
    assert shop.traffic.release(standing.number + 1) is None
    assert shop.traffic.release(standing.number) is not None
    assert send(shop, b"440555000999") is None


@pytest.mark.parametrize(("action", "status"), [("block", Status.RINVDSTADR), ("limit", Status.RTHROTTLED)])
def test_a_new_country_stays_new_until_it_is_released(known: Known, action: str, status: int) -> None:
    shop = known(new_countries=action, limit="1/h", **{"for": "10m"})
    first = [send(shop, NEW + b"%08d" % one) for one in range(0, 900, 100)]
    assert first[-1] is not None and first[-1].status == status and first[-1].rule == "traffic/new_countries"
    assert send(shop, shop.everybody[0]) is None
    (standing,) = shop.traffic.standing(shop.now)
    assert standing.target == "NL"
    shop.traffic.release(standing.number)
    assert send(shop, NEW + b"00001234") is None


def test_a_blocked_new_country_is_new_after_its_time_too(known: Known) -> None:
    shop = known(new_countries="block", **{"for": "10m"})
    assert send(shop, NEW + b"00001234") is not None
    assert send(shop, NEW + b"00001234", after=700.0) is not None


def test_what_is_off_is_not_looked_for() -> None:
    off = dict.fromkeys(("runs", "velocity", "same_text", "receipts", "new_countries"), "off")
    shop = fresh(learn="1s", **off)
    assert set(run_of(shop, 100)) == {None} and shop.traffic.standing(shop.now) == []
    for _ in range(100):
        shop.screen.ended(b"440555000001", 1, False, 1.0, shop.now)
    assert shop.traffic.standing(shop.now) == []


def test_an_account_that_is_learned_has_no_new_country_and_nothing_fast() -> None:
    shop = fresh(learn="3d")
    for one in range(300):
        send(shop, b"440555%06d" % (one * 7919 % 10_000))
        send(shop, NEW + b"%08d" % (one * 7919 % 10**8))
    assert shop.traffic.standing(shop.now) == []


# -- caps ----------------------------------------------------------------------------------------------------------------


def test_caps_are_hard_and_by_country() -> None:
    shop = fresh(caps={"GB": "5/d", "default": "2/d"})
    answers = [send(shop, b"440555%06d" % (one * 10)) for one in range(8)]
    assert [one and (one.status, one.rule) for one in answers] == [None] * 5 + [(Status.RSUBMITFAIL, "traffic/cap")] * 3
    assert [send(shop, NEW + b"%08d" % one) is None for one in range(0, 90, 30)] == [True, True, False]
    assert send(shop, b"80808") is None, "a short code has no country: `default` counts"
    assert "refused: 5 of 5" in shop.screen.explain(shop.question(b"440555000001", b"x"))
    shop.now += DAY / 2
    shop.wall += DAY / 2
    assert "; 0 of 5 to GB today" in shop.screen.explain(shop.question(b"440555000001", b"x")), (
        "before the first message too"
    )
    assert send(shop, b"440555000001") is None, "the next day (UTC)"


def test_a_cap_is_lifted_for_the_day() -> None:
    shop = fresh(caps={"GB": "1/d"})
    send(shop, b"440555000000")
    assert send(shop, b"440555000010") is not None
    (standing,) = shop.traffic.standing(shop.now)
    assert standing.signal == "cap" and standing.left <= DAY / 2
    shop.traffic.release(standing.number)
    assert send(shop, b"440555000020") is None


def test_what_is_refused_uses_no_cap() -> None:
    shop = fresh(caps={"GB": "100/d"}, runs="block")
    run_of(shop, 40)
    assert shop.traffic.caps.used("GB") < 20


def test_what_is_refused_elsewhere_uses_no_cap_and_is_not_usual() -> None:
    shop = fresh(caps={"GB": "3/d"})
    for _ in range(200):  # a customer who tries again and again while no way is open
        shop.now += 0.1
        question = shop.question(b"440555000000", b"hello")
        assert shop.screen.look(question) is None
        shop.screen.not_taken(question)
    assert shop.traffic.caps.used("GB") == 0
    send(shop, NEW + b"00000000", after=120.0)
    counts = shop.traffic.snapshot(shop.now, shop.wall)
    assert counts["countries"]["GB"][1:4] == [0, 0, 0.0]
    assert [send(shop, b"440555%06d" % (one * 10)) is None for one in range(4)] == [True] * 3 + [False]


# -- what is compared ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digits", "prefix"),
    [
        (b"447700900123", b"44770090"),
        (b"12125550123", b"1212555"),
        (b"8613800138000", b"861380013"),
        (b"88213123456789", b"882131234"),
        (b"80808", b""),
        (b"1234567", b""),
        (b"acme", b""),
        (b"", b""),
    ],
)
def test_prefixes(digits: bytes, prefix: bytes) -> None:
    assert prefix_of(digits) == prefix


def sm(body: bytes, esm_class: int = 0) -> Sm:
    to = address_field(1, 1, b"447700900123")
    return Sm(build_sm(Command.SUBMIT_SM, 0, address_field(5, 0, b"SHOP"), to, body, Fields(esm_class=esm_class), b""))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"Your code is 123456.", b"Your code is 98.", True),
        (b"YOUR CODE is 1", b"your code is 2", True),
        (b"Pay 12.50 by 3 May", b"Pay 1,200.00 by 17 May", True),
        ("Dein Code: 12 ü".encode("utf-16-be"), "Dein Code: 9876 ü".encode("utf-16-be"), True),
        (b"Your code is 1", b"Your pin is 1", False),
        (b"Hello Ann", b"Hello Bob", False),
    ],
)
def test_digits_do_not_make_another_text(one: bytes, other: bytes, same: bool) -> None:
    assert (text_key(sm(one)) == text_key(sm(other))) is same


def test_the_header_of_a_part_is_no_text() -> None:
    first = b"\x05\x00\x03\x10\x02\x01hello there"
    again = b"\x05\x00\x03\x77\x02\x01hello there"
    assert text_key(sm(first, esm_class=0x40)) == text_key(sm(again, esm_class=0x40)) == text_key(sm(b"hello there"))
    assert text_key(sm(b"123")) == text_key(sm(b"")) == 0


# -- clocks, restarts, bounds --------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_finds_nothing_and_breaks_nothing(known: Known) -> None:
    shop = known()
    for jump in (3600.0, -7200.0, 40 * DAY, -41 * DAY, 86_399.0):
        shop.wall += jump
        outcome = shop.passes(30.0)
        assert outcome.decisions == [], jump
    shop.now += 10 * DAY  # the steady clock while the host slept
    assert shop.passes(30.0).decisions == []


def test_decisions_outlive_a_restart_and_end_in_time() -> None:
    shop = fresh(runs="block", **{"for": "10m"})
    run_of(shop, 40)
    said = json.loads(json.dumps(shop.traffic.snapshot(shop.now, shop.wall) | {"counts": ""})) | {"counts": b""}
    again = fresh(runs="block")
    again.wall = shop.wall + 60
    again.traffic.load(said, again.now, again.wall)
    assert send(again, b"440555000999") is not None
    (standing,) = again.traffic.standing(again.now)
    assert 500 < standing.left < 541
    late = fresh(runs="block")
    late.wall = shop.wall + 601
    late.traffic.load(said, late.now, late.wall)
    assert send(late, b"440555000999") is None


@pytest.mark.parametrize("broken", ["since", "countries", "decisions", "receipts", "counts"])
@pytest.mark.parametrize("by", [None, "x", [1], {"GB": [1]}, b"x"])
def test_a_broken_snapshot_is_refused_and_changes_nothing(broken: str, by: Any) -> None:
    shop = fresh(runs="block")
    run_of(shop, 40)
    said = shop.traffic.snapshot(shop.now, shop.wall)
    if broken in ("decisions", "counts") and by is None:
        by = 7
    again = fresh()
    with pytest.raises(ValueError, match=r"snapshot"):
        again.traffic.load(said | {broken: by}, again.now, again.wall)
    assert again.traffic.standing(again.now) == []


def test_nothing_of_a_number_or_text_is_in_a_snapshot() -> None:
    shop = fresh(runs="block", learn="1s")
    for one in range(100):
        send(shop, b"447700900%03d" % one, b"secret words")
    said = shop.traffic.snapshot(shop.now, shop.wall)
    assert b"7700900" not in repr(said).replace("44770090", "").encode() and "secret" not in repr(said)
    assert "7700900" not in repr(shop.traffic) + repr(shop.traffic.standing(shop.now)) + repr(shop.traffic.take_fresh())


def test_explain_says_what_stands_and_changes_nothing() -> None:
    shop = fresh(runs="block", caps={"GB": "1000/d"})
    question = shop.question(b"440555000001", b"hello")
    assert shop.screen.explain(question) == "nothing unusual, which is still being learned; 0 of 1000 to GB today"
    run_of(shop, 40)
    before = shop.traffic.standing(shop.now)
    said = shop.screen.explain(shop.question(b"440555000001", b"hello"))
    assert said.startswith("refused: runs of GB 44***, 10 messages of a minute within runs, the longest now 13; for 6")
    assert shop.traffic.standing(shop.now) == before


def everything(shop: Shop, count: int) -> Iterator[None]:
    rnd = random.Random(9)
    for one in range(count):
        number = b"440%09d" % (one * 7919 % 10**9)
        send(shop, number, b"text %c%c %d" % (97 + one % 26, 97 + one // 26 % 26, one), after=0.002)
        for _ in range(6 if one % 50 == 0 else 0):
            send(shop, number[:8] + b"%04d" % rnd.randrange(10**4), after=0.002)
        shop.screen.ended(number, 1, one % 2 == 0, 3.0, shop.now)
        yield


def test_very_many_numbers_take_what_is_stated(known: Known) -> None:
    """20,000 numbers in 20,000 prefixes; with ten million the same (`python -m bench.traffic --numbers`)."""
    shop = known(velocity={"action": "block", "minute": 5}, runs="block")
    for _ in everything(shop, 20_000):
        pass
    traffic = shop.traffic
    assert len(traffic._watched) <= WATCHED and len(traffic._texts) <= TEXTS and len(traffic._decisions) <= DECISIONS
    assert len(traffic._countries) <= 300
    held = traffic._counts
    assert isinstance(held, PrefixCounts) and len(held._touched) <= 4096
    assert sys.getsizeof(traffic._decisions) + sys.getsizeof(traffic._watched) < 64 << 10


def test_more_decisions_than_fit_end_the_one_that_would_end_next() -> None:
    shop = fresh(runs="block")
    for block in range(DECISIONS + 20):
        for one in range(14):
            send(shop, b"440%04d1%04d" % (block, one), after=0.01)
    standing = shop.traffic.standing(shop.now)
    assert len(standing) == DECISIONS
    assert standing[-1].number == DECISIONS + 20
    assert len(shop.traffic.take_fresh()) == DECISIONS and shop.traffic.take_fresh() == []


def test_two_accounts_know_nothing_of_each_other() -> None:
    one, other = fresh(runs="block"), fresh(runs="block")
    run_of(one, 40)
    assert send(other, b"440555000999") is None
    assert isinstance(other.traffic, AccountTraffic)
