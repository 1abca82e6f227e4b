"""Messages that wait for the recipient's hour: they leave in the morning, in order, at the upstream's rate, or end with a
receipt; neither a restart nor a clock that is set changes that. One-time codes overtake all others."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from smppd.config import Settings
from smppd.message import State
from smppd.protocol.wire import Command, Fields, Status, address_field, build_sm, pdu
from smppd.relay.state.model import Message
from smppd.relay.state.phase import Phase
from tests.relay.fakes import FROM, World, settings

NEW_YORK = b"12125550100"
DENVER = b"13035550100"
TOLL_FREE = b"18005550100"


def at(text: str, zone: str = "America/New_York") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def hold(**sections: Any) -> Settings:
    acme = {"class": "promotional", **sections.pop("acme", {})}
    return settings(acme=acme, **sections)


def part(body: bytes, number: int, ref: int = 7) -> bytes:
    """A part of two of a long message to New York."""
    udh = bytes((5, 0, 3, ref, 2, number))
    return build_sm(
        Command.SUBMIT_SM, 0, FROM, address_field(1, 1, NEW_YORK), udh + body, Fields(esm_class=0x40, registered=1)
    )


class Night(World):
    """A world at 23:00 in New York, on a Monday in June, unless told otherwise."""

    def __init__(self, configuration: Settings | None = None, when: str = "2026-06-01 23:00", **more: Any) -> None:
        configuration = configuration or hold()
        super().__init__(configuration, **more)
        self.wall = at(when)

    def until(self, text: str, zone: str = "America/New_York", step: float = 60.0) -> None:
        """Time passes until then, and the last minutes second by second."""
        self.passes(max(0.0, at(text, zone) - self.wall - 60), step)
        self.passes(max(0.0, at(text, zone) - self.wall), 1.0)

    def gauge(self, name: str, account: str = "acme") -> float:
        self.relay.set_gauges()
        return self.metrics.registry.get_sample_value(f"smppd_{name}", {"account": account}) or 0.0


def test_held_until_the_morning_and_others_pass() -> None:
    world = Night()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"sale", to=NEW_YORK)
    acme.submits(b"open", to=b"46701740605")  # Sweden has no hours
    world.commits()
    ours = acme.ids()
    assert a.texts() == [b"open"] and len(ours) == 2
    assert world.gauge("messages_held_for_hours") == 1 and world.gauge("oldest_waiting_seconds") == 0
    assert world.states(ours[0]) == [State.SCHEDULED]
    assert world.total("rule_hits", policy="hours", rule="held", mode="enforce") == 1
    world.until("2026-06-02 07:59")
    assert a.texts() == [b"open"] and world.gauge("oldest_waiting_seconds") == 0
    world.until("2026-06-02 08:00")
    world.passes(2)
    assert a.texts() == [b"open", b"sale"]
    assert world.gauge("messages_held_for_hours") == 0
    world.check()


def test_by_day_it_leaves_at_once() -> None:
    world = Night(when="2026-06-01 12:00")
    acme, a = world.customer(), world.carrier()
    acme.submits(b"sale", to=NEW_YORK)
    world.commits()
    assert a.texts() == [b"sale"] and State.SCHEDULED not in world.states(acme.ids()[0])
    world.check()


def test_ten_thousand_leave_in_order_at_the_upstream_s_rate() -> None:
    """Restarted in the night, with most of them on disk by then."""
    world = Night(hold(acme={"queue": 20_000}, a={"throughput": "500/s", "window": 1000}, hot=8000))
    acme = world.customer()
    world.carrier()
    for chunk in range(20):
        acme.submits(*[b"%05d" % (500 * chunk + n) for n in range(500)], to=NEW_YORK)
        world.commits()
    ours = acme.ids()
    assert len(ours) == 10_000 and world.gauge("messages_held_for_hours") == 10_000
    assert sum(lane.cold for lane in world.account().lanes.values()) >= 6000, "others need the memory"
    world.restarts()
    world.customer()
    a = world.carrier(window=1000)
    assert world.gauge("messages_held_for_hours") == 10_000
    world.until("2026-06-02 07:59:59")
    assert a.sent == []
    world.passes(1)
    sent: list[bytes] = []
    counts = []
    for _ in range(30):
        before = len(sent)
        for _ in range(10):
            world.passes(0.1, 0.1)
            while a.waiting:
                sent.append(a.waiting[0].short_message)
                a.answers(b"c%d" % len(sent))
        counts.append(len(sent) - before)
        if len(sent) == 10_000:
            break
    assert sent == [b"%05d" % n for n in range(10_000)]
    assert counts[0] <= 560 and set(counts[1:-1]) == {500}, counts  # the first second has the burst too
    world.check()


def test_what_expires_while_it_is_held_has_its_receipt() -> None:
    """The hour comes within the validity, but the carrier is away until that is over; in memory and on disk."""
    world = Night(hold(hot=20))
    acme = world.customer()
    acme.submits(*[b"%d" % n for n in range(30)], to=NEW_YORK, validity=b"260602131000000+")  # 09:10 in New York
    world.commits()
    ours = acme.ids()
    assert any(lane.cold for lane in world.account().lanes.values())
    world.until("2026-06-02 09:09")
    assert acme.receipts() == []
    world.passes(120)
    assert sorted(acme.receipts()) == sorted((one, "EXPIRED") for one in ours)
    world.carrier()
    world.passes(3)
    assert world.links[0].sent == [] and world.account().queued == 0
    world.check()


def test_what_could_only_expire_is_refused_at_once() -> None:
    world = Night()
    acme = world.customer()
    acme.submits(b"late", to=NEW_YORK, validity=b"000000030000000R")  # three hours
    acme.submits(b"good", to=NEW_YORK, validity=b"000000100000000R")
    world.commits()
    assert acme.statuses() == [Status.RINVEXPIRY, 0]
    assert world.total("messages_refused", account="acme", reason="quiet hours") == 1


def test_an_hour_that_never_comes() -> None:
    configuration = hold(acme={"expire_after": None}, quiet_hours={"countries": {"US": "none"}})
    world = Night(configuration)
    acme = world.customer()
    acme.submits(b"never", to=NEW_YORK)
    world.commits()
    assert acme.statuses() == [Status.RINVEXPIRY]


@pytest.mark.parametrize(("mode", "statuses", "sent"), [("refuse", [0x45], 0), ("shadow", [0], 1), ("off", [0], 1)])
def test_the_other_modes(mode: str, statuses: list[int], sent: int) -> None:
    world = Night(hold(acme={"quiet_hours": mode}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"sale", to=NEW_YORK)
    world.commits()
    assert acme.statuses() == statuses and len(a.sent) == sent
    kind = {"refuse": ("refused", "enforce"), "shadow": ("quiet", "shadow")}.get(mode)
    if kind is not None:
        assert world.total("rule_hits", policy="hours", rule=kind[0], mode=kind[1]) == 1


def test_who_waits_for_the_carrier_is_refused() -> None:
    world = Night(hold(acme={"acknowledge": "upstream"}))
    acme = world.customer()
    world.carrier()
    acme.submits(b"sale", to=NEW_YORK)
    world.commits()
    assert acme.statuses() == [Status.RSUBMITFAIL]


def test_it_does_not_leave_when_the_hours_end_before_its_turn() -> None:
    """Accepted by day while the carrier is away, and released at 20:59 to a slow one: the rest waits until the morning."""
    world = Night(hold(a={"throughput": "1/s", "burst": 1}), when="2026-06-01 20:50")
    acme = world.customer()
    acme.submits(*[b"%03d" % n for n in range(200)], to=NEW_YORK)
    world.commits()
    world.until("2026-06-01 20:59")
    a = world.carrier()
    world.until("2026-06-01 21:05", step=1)
    gone = len(a.sent)
    assert 55 <= gone <= 65
    assert world.gauge("messages_held_for_hours") == 200 - gone
    world.check()
    world.until("2026-06-02 07:59")
    assert len(a.sent) == gone
    world.until("2026-06-02 08:05", step=1)
    assert [sm.short_message for sm in a.sent] == [b"%03d" % n for n in range(200)]
    world.check()


@pytest.mark.parametrize("count", [4, 9])
def test_nothing_leaves_after_the_last_second(count: int) -> None:
    """What is released, and what is still to be, before anything has looked at the clock."""
    world = Night(when="2026-06-01 20:59:59")
    acme, a = world.customer(), world.carrier(window=2)
    acme.submits(*[b"%d" % n for n in range(count)], to=NEW_YORK)
    world.commits()
    assert a.texts() == [b"0", b"1"]
    world.wall += 1
    a.answers(b"x", b"y")
    world.commits()
    assert a.waiting == [] and world.gauge("messages_held_for_hours") == count - 2
    world.check()
    world.until("2026-06-02 08:01")
    assert a.texts() == [b"2", b"3"]
    world.check()


def test_a_part_whose_release_was_under_way_waits_too() -> None:
    """Though its first part went, and it has to follow that to the same carrier."""
    world = Night(when="2026-06-01 20:59:58")
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"one", 1))
    world.commits()
    acme.sends(part(b"two", 2))
    world.passes(2.5, 0.5, commit=False)
    world.commits()
    assert len(a.sent) == 1
    world.check()
    world.until("2026-06-02 08:01")
    assert len(a.sent) == 2


def test_each_zone_has_its_own_morning_and_keeps_its_order() -> None:
    """And by day the newer ones stay behind those that waited."""
    world = Night(hold(a={"throughput": "1/s", "burst": 1}), when="2026-06-02 01:00")
    acme, a = world.customer(), world.carrier()
    for n in range(3):
        acme.submits(b"east %d" % n, to=NEW_YORK)
        acme.submits(b"west %d" % n, to=DENVER)
    world.commits()
    world.until("2026-06-02 08:00:01")
    acme.submits(b"east 3", to=NEW_YORK)
    world.until("2026-06-02 09:59")
    assert [sm.short_message for sm in a.sent] == [b"east %d" % n for n in range(4)]
    world.until("2026-06-02 10:01")
    assert [sm.short_message for sm in a.sent][4:] == [b"west %d" % n for n in range(3)]


@pytest.mark.parametrize(
    ("evening", "morning"),
    [
        ("2026-03-07 23:00", "2026-03-08 08:00"),  # nine hours less one
        ("2026-10-31 23:00", "2026-11-01 08:00"),  # nine hours and one
        ("2026-12-31 23:59", "2027-01-01 08:00"),
        ("2026-06-01 00:00", "2026-06-01 08:00"),
    ],
)
def test_over_midnight_and_both_changes_of_the_clocks(evening: str, morning: str) -> None:
    world = Night(when=evening)
    acme, a = world.customer(), world.carrier()
    acme.submits(b"sale", to=NEW_YORK)
    world.commits()
    world.passes(at(morning) - world.wall - 61, 300)
    world.passes(60)
    assert a.sent == []
    world.passes(3)
    assert len(a.sent) == 1


def test_a_clock_that_is_set_forward_and_back() -> None:
    world = Night()
    acme, a = world.customer(), world.carrier(window=1)
    acme.submits(b"1", b"2", b"3", to=NEW_YORK)
    world.commits()
    world.wall += 10 * 3600  # 09:00: they leave, one at a time
    world.passes(2)
    assert a.texts() == [b"1"]
    world.wall -= 10 * 3600  # 23:00 again: what has not left waits
    world.passes(2)
    a.answers(b"x")
    world.passes(30)
    assert a.texts() == [] and world.gauge("messages_held_for_hours") == 2
    world.check()
    world.until("2026-06-02 08:01")
    assert a.texts() == [b"2"]
    a.answers(b"y")
    world.passes(2)
    assert a.texts() == [b"3"]
    world.check()


def test_spill_restart_and_another_carrier_in_the_night() -> None:
    world = Night()
    acme = world.customer()
    world.carrier()
    acme.submits(*[b"%d" % n for n in range(5)], to=NEW_YORK)
    world.commits()
    world.spills()
    world.restarts()
    world.check()
    gone = hold(a={"enabled": False})
    world.reloads(gone)
    b = world.carrier("b")
    world.until("2026-06-02 07:59")
    world.restarts(gone)
    b = world.carrier("b")
    world.passes(5)
    assert b.sent == []
    world.until("2026-06-02 08:01")
    assert b.texts() == [b"%d" % n for n in range(5)]
    world.check()


def test_it_takes_the_present_route_and_still_waits() -> None:
    """All upstreams of its route left the configuration: it gets the new route, and keeps its hours."""
    world = Night(hold(routes=[{"upstreams": ["a"]}]))
    acme = world.customer()
    acme.submits(b"sale", to=NEW_YORK)
    world.commits()
    other = hold(a={"enabled": False}, routes=[{"upstreams": ["b"]}])
    world.reloads(other)
    b = world.carrier("b")
    world.passes(10)
    assert b.sent == [] and world.gauge("messages_held_for_hours") == 1
    assert [lane.route for lane in world.account().lanes.values() if len(lane)] == [
        "b;hours=promotional.US.America/New_York"
    ]
    world.restarts(other)
    b = world.carrier("b")
    world.until("2026-06-02 08:01")
    assert b.texts() == [b"sale"]
    world.check()


def test_other_hours_count_for_what_waits_already() -> None:
    world = Night()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"sale", to=NEW_YORK)
    world.commits()
    world.reloads(hold(quiet_hours={"countries": {"US": "10:00-12:00"}}))
    world.until("2026-06-02 09:59")
    assert a.sent == []
    world.reloads(hold(acme={"quiet_hours": "off"}))
    world.passes(2)
    assert a.texts() == [b"sale"]


def test_query_cancel_and_replace_in_the_night() -> None:
    world = Night()
    acme, five = world.customer(), world.customer(version=0x50)
    a = world.carrier()
    acme.submits(b"one", b"two", to=NEW_YORK)
    world.commits()
    first, second = acme.ids()
    source = b"\1\1" + b"447700900001\0"

    def asked(customer: Any, command: int, body: bytes) -> tuple[int, bytes]:
        customer.sends(pdu(command, 0, 0, body))
        world.commits()
        _, status, answer = customer.answered()[-1]
        return status, answer

    query = first + b"\0" + source
    assert asked(acme, Command.QUERY_SM, query) == (0, first + b"\0\0\1")  # ENROUTE; error_code 0 is stripped
    assert asked(five, Command.QUERY_SM, query)[1].rstrip(b"\0") == first  # SCHEDULED is 0
    replaced = second + b"\0" + source + b"\0\0\1\0" + b"\3new"
    assert asked(acme, Command.REPLACE_SM, replaced)[0] == 0
    dest = b"\1\1" + NEW_YORK + b"\0"
    assert asked(acme, Command.CANCEL_SM, b"\0" + first + b"\0" + source + dest)[0] == 0
    world.until("2026-06-02 08:01")
    assert a.texts() == [b"new"]
    world.check()


def test_a_text_that_might_not_leave_does_not_replace_one_that_may() -> None:
    rules = {"p": [{"name": "ad", "when": {"text": "sale"}, "do": {"class": "promotional"}}]}
    world = Night(settings(policies=rules, acme={"policies": ["p"]}))
    acme = world.customer()
    acme.submits(b"hello", to=NEW_YORK)
    world.commits()
    (one,) = acme.ids()
    for text, status in ((b"a sale", Status.RREPLACEFAIL), (b"a word", 0)):
        body = one + b"\0" + FROM + b"\0\0\1\0" + bytes((len(text),)) + text
        acme.sends(pdu(Command.REPLACE_SM, 0, 0, body))
        world.commits()
        assert acme.statuses() == [status]
    a = world.carrier()
    world.passes(2)
    assert a.texts() == [b"a word"]


def test_parts_that_are_held_leave_together() -> None:
    """The text is known with the last part, and is promotional: all parts wait, also after a restart."""
    policies = {
        "p": {"hold_parts": True, "rules": [{"name": "ad", "when": {"text": "sale"}, "do": {"class": "promotional"}}]}
    }
    configuration = settings(policies=policies, acme={"policies": ["p"]})
    world = Night(configuration)
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"a sa", 1), part(b"le now", 2))
    acme.sends(part(b"hello ", 1, 9), part(b"you", 2, 9))
    world.commits()
    assert len(a.sent) == 2
    a.answers(b"1", b"2")
    world.commits()
    world.restarts()
    a = world.carrier()
    world.until("2026-06-02 07:59")
    assert a.sent == []
    world.until("2026-06-02 08:01")
    assert len(a.sent) == 2
    world.check()


def test_parts_that_are_judged_after_a_restart_wait_too() -> None:
    """The policy that held the part is gone: it goes, at its hour."""
    policies = {"p": {"hold_parts": True, "rules": [{"name": "ad", "when": {"text": "sale"}, "do": "refuse"}]}}
    world = Night(hold(policies=policies, acme={"policies": ["p"]}))
    acme = world.customer()
    acme.sends(part(b"hello ", 1))
    world.commits()
    world.restarts(hold())
    a = world.carrier()
    world.passes(5)
    assert a.sent == [] and world.gauge("messages_held_for_hours") == 1
    world.until("2026-06-02 08:01")
    assert len(a.sent) == 1
    world.check()


def test_a_screen_s_refusal_of_the_last_part_lets_no_part_go() -> None:
    policies = {
        "p": {"hold_parts": True, "rules": [{"name": "ad", "when": {"text": "sale"}, "do": {"class": "promotional"}}]}
    }
    world = Night(settings(policies=policies, acme={"policies": ["p"], "quiet_hours": "refuse"}))
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"a sa", 1), part(b"le now", 2))
    world.commits()
    answers = acme.answered()
    assert [status for _, status, _ in answers] == [0, Status.RSUBMITFAIL]
    world.passes(400)
    assert a.sent == []
    assert world.states(answers[0][2])[-1] == State.REJECTED, "the rest of its message never came"
    world.check()


def test_the_queue_limit_counts_what_is_held() -> None:
    world = Night(hold(acme={"queue": 3}))
    acme = world.customer()
    acme.submits(*[b"x"] * 5, to=NEW_YORK)
    world.commits()
    assert sorted(acme.statuses()) == [0, 0, 0, Status.RMSGQFUL, Status.RMSGQFUL]


def test_numbers_that_nobody_knows() -> None:
    for unknown, region, statuses in (
        ("allow", None, [0]),
        ("refuse", None, [Status.RSUBMITFAIL]),
        ("hold", None, [Status.RSUBMITFAIL]),
        ("hold", "FR", [0]),
    ):
        acme = {"region": region} if region else {}
        world = Night(hold(acme=acme, quiet_hours={"unknown": unknown}))
        customer, a = world.customer(), world.carrier()
        customer.submits(b"sale", to=b"36184")
        world.commits()
        assert customer.statuses() == statuses, unknown
        assert len(a.sent) == (unknown == "allow")
        world.check()


def test_many_zones_are_few_lanes() -> None:
    world = Night(hold(acme={"queue": 5000}))
    acme = world.customer()
    for area in range(201, 990):
        acme.submits(b"x", to=b"1%03d5550100" % area)
    world.commits()
    assert len(world.account().lanes) < 130
    world.check()


# -- one-time codes ----------------------------------------------------------------------------------------------------

CODES = {"c": [{"name": "code", "when": {"text": "code"}, "do": {"class": "one_time_code"}}]}


def codes(**sections: Any) -> Settings:
    return settings(policies=CODES, acme={"policies": ["c"], **sections.pop("acme", {})}, **sections)


def test_a_code_overtakes_a_campaign_of_its_own_account_and_of_others() -> None:
    other = {
        "system_id": "news",
        "password_hash": settings().accounts[0].password_hash,
        "networks": "any",
        "throughput": None,
    }
    world = World(codes(a={"throughput": "10/s", "burst": 1}, more=[other | {"window": 1000}]))
    acme, news, a = world.customer(), world.customer("news"), world.carrier()
    news.submits(*[b"n%d" % n for n in range(300)])
    acme.submits(*[b"a%d" % n for n in range(300)])
    world.commits()
    before = len(a.sent)
    acme.submits(b"code 1")
    world.commits()
    world.passes(0.3, 0.1)
    assert b"code 1" in [sm.short_message for sm in a.sent[before : before + 4]]
    world.check()


def test_codes_leave_a_tenth_to_others() -> None:
    world = World(codes(a={"throughput": "10/s", "burst": 1}))
    acme, a = world.customer(), world.carrier()
    acme.submits(*[b"a%d" % n for n in range(100)])
    acme.submits(*[b"code %d" % n for n in range(100)])
    world.commits()
    world.passes(10, 0.1)
    sent = [sm.short_message for sm in a.sent]
    kinds = [text.startswith(b"code") for text in sent]
    assert 80 <= sum(kinds) <= 95
    assert all(not all(kinds[at : at + 11]) for at in range(len(kinds) - 11)), "never eleven codes in a row"
    assert [one for one in sent if one[:4] == b"code"] == [b"code %d" % n for n in range(sum(kinds))], "in order"
    world.check()


def test_places_of_the_window_are_kept_for_codes() -> None:
    world = World(codes(a={"window": 10, "reserve_for_codes": "20%"}))
    acme, a = world.customer(), world.carrier(window=10)
    acme.submits(*[b"a%d" % n for n in range(50)])
    world.commits()
    assert len(a.waiting) == 8
    acme.submits(b"code 1", b"code 2", b"code 3")
    world.commits()
    assert a.texts()[8:] == [b"code 1", b"code 2"]
    a.answers(*[b"%d" % n for n in range(10)])
    world.commits()
    assert a.texts()[0] == b"code 3" and len(a.waiting) == 8
    world.check()


def test_a_full_line_of_codes_does_not_shut_the_others_out() -> None:
    """Neither at the release, nor at the window."""
    world = World(codes())
    acme, a = world.customer(), world.carrier(window=4)
    acme.submits(*[b"code %d" % n for n in range(60)])
    acme.submits(*[b"a%d" % n for n in range(10)])
    for n in range(70):
        world.commits()
        if a.waiting:
            a.answers(b"%d" % n)
    world.commits()
    sent = [sm.short_message for sm in a.sent]
    assert len(sent) == 70 and sent.index(b"a0") < 15
    world.check()


def test_a_code_expires_in_minutes() -> None:
    world = World(codes())
    acme = world.customer()
    acme.submits(b"code 1", b"news")
    acme.submits(b"code 2", validity=b"000000000100000R")  # one minute is less
    world.commits()
    first, _, second = acme.ids()
    world.passes(62)
    assert acme.receipts() == [(second, "EXPIRED")]
    world.passes(240)
    assert acme.receipts() == [(first, "EXPIRED")]
    a = world.carrier()
    world.passes(2)
    assert a.texts() == [b"news"]
    world.check()


def test_the_carrier_hears_how_long_a_code_lives() -> None:
    world = World(settings(acme={"class": "one_time_code", "one_time_codes": {"expire_after": 120.0}}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"1234")
    world.commits()
    assert a.waiting[0].validity == b"000000000200000R"


def test_a_code_stays_one_over_a_restart_and_another_route() -> None:
    world = World(codes(routes=[{"upstreams": ["a"]}]))
    acme = world.customer()
    acme.submits(b"news", b"code 1")
    world.commits()
    other = codes(a={"enabled": False}, routes=[{"upstreams": ["b"]}])
    world.restarts(other)
    world.passes(3)
    assert {lane.route for lane in world.account().lanes.values() if len(lane)} == {"b", "b;code"}
    b = world.carrier("b")
    world.passes(1)
    assert sorted(b.texts()) == [b"code 1", b"news"]
    assert all(isinstance(m, Message) and m.phase is Phase.SENT for m in world.relay.context.ledger.living())
    world.check()


def test_a_carrier_that_goes_gives_codes_back() -> None:
    world = World(codes())
    acme, a = world.customer(), world.carrier(window=2)
    acme.submits(*[b"a%d" % n for n in range(5)], *[b"code %d" % n for n in range(5)])
    world.commits()
    a.cut()
    world.commits()
    world.check()
    b = world.carrier("b")
    world.passes(1)
    assert len(b.texts()) == 8, "two were sent, and nobody knows of them"
    world.check()
