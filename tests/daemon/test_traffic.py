"""Traffic and suspensions in a daemon: with customers, over reloads and kills, on a disk that is slow or full."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from smppd.config import Settings
from smppd.control.wire import ControlError
from smppd.daemon.answers import Listing
from smppd.daemon.traffic import CAPS, EVERY, TRAFFIC, TrafficMemory
from smppd.events import AuditEvent
from smppd.metrics import Metrics
from smppd.protocol.receipt import MessageState
from smppd.protocol.wire import Command, Status, address_field, pdu
from smppd.traffic.suspension import KIND, Suspension
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import create_install, load_install
from tests.records.memorylog import FillingDocuments
from tests.relay.fakes import FROM, TO, World, settings
from tests.vault.rows import MemoryRows, kek

RULES = {"spam": [{"name": "prize", "when": {"text": "prize"}, "do": "refuse"}]}
AFTER = {"hits": 3, "within": "1h", "rules": ["spam", "traffic"]}


class House:
    """A world whose accounts have their screens, in one process after another on the same disk."""

    def __init__(self, **acme: Any) -> None:
        self.settings = settings(policies=RULES, acme={"policies": ["spam"], **acme})
        self.disk = FillingDocuments()
        rows = MemoryRows()
        create_install(kek(), rows)
        self.install = load_install(kek(), rows)
        self.told: list[tuple[str, dict[str, str | int]]] = []
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any, Exception | None], None]]] = []
        self.world = World(self.settings)
        self.begins()

    def begins(self) -> None:
        """A process begins: with what is on the disk."""
        self.jobs.clear()
        self.metrics = Metrics()
        self.memory = TrafficMemory(
            lambda: self.disk,
            self.install,
            self.metrics,
            lambda event, facts: self.told.append((event, facts)),
            self,
            lambda: self.world.wall,
            lambda: self.world.now,
        )
        self.memory.load()
        self.world.given = self.screens(self.settings)
        self.world.restarts()

    def screens(self, configuration: Settings) -> dict[str, Any]:
        made = self.memory.screens(configuration)
        self.memory.use(made.values())
        return made

    def reloads(self, **acme: Any) -> None:
        self.settings = settings(policies=RULES, acme={"policies": ["spam"], **acme})
        self.world.given = self.screens(self.settings)
        self.world.reloads(self.settings)

    def run(self, _name: str, work: Callable[[], Any], then: Callable[[Any, Exception | None], None]) -> None:
        """`daemon.worker.Worker`: the test says when it is done."""
        self.jobs.append((work, then))

    def writes(self, seconds: float = 1.0) -> int:
        """Time passes, and the worker does what it was given; how much that was."""
        self.world.passes(seconds)
        done = 0
        for _ in range(10):
            self.memory.tick(self.world.now)
            if not self.jobs:
                break
            work, then = self.jobs.pop(0)
            try:
                work()
            except Exception as error:  # noqa: BLE001  as the worker does
                then(None, error)
            else:
                then(None, None)
            done += 1
        return done

    def value(self, name: str, **labels: str) -> float:
        self.memory.set_gauges()
        return self.metrics.registry.get_sample_value(f"smppd_{name}", labels) or 0.0

    def suspended(self) -> list[str]:
        return [one.account for one in self.memory.suspensions.suspended()]


def told(customer: Any) -> list[int]:
    """Statuses in the order of sending: what is refused without a record is answered before the batch."""
    return [status for _, status, _ in sorted(customer.answered())]


def suspended_house(**more: Any) -> tuple[House, Any, Any]:
    house = House(suspend_after=AFTER, **more)
    acme, a = house.world.customer(), house.world.carrier()
    acme.submits(b"hello", b"a prize", b"a prize", b"a prize", b"hello")
    house.world.commits()
    assert told(acme) == [0, *[Status.RSUBMITFAIL] * 4]
    return house, acme, a


# -- suspension ----------------------------------------------------------------------------------------------------------


def test_the_message_after_the_last_hit_is_refused_at_once_without_a_record() -> None:
    house, acme, a = suspended_house()
    assert a.texts() == [b"hello"]
    before = house.world.store.records
    acme.submits(b"hello", b"a prize")
    assert acme.statuses() == [Status.RSUBMITFAIL] * 2, "before the batch is durable: nothing is stored of it"
    house.world.commits()
    assert house.world.store.records == before
    assert house.world.total("messages_refused", account="acme", reason="suspended") == 3
    assert house.value("suspended", account="acme") == 1
    assert house.value("suspensions_total", account="acme") == 1
    house.world.check()


def test_the_bind_stays_and_receipts_go_on() -> None:
    _house, acme, a = suspended_house()
    a.answers(b"id-1")
    a.reports(b"id-1")
    _house.world.commits()
    assert [stat for _, stat in acme.receipts()] == ["DELIVRD"]
    assert acme.session.bound


def test_every_way_to_submit_is_closed() -> None:
    house, acme, _a = suspended_house()
    one = b"\1" + b"\1\1" + TO + b"\0"
    multi = b"\0" + FROM + b"\2" + one * 2 + b"\0\0\0" + b"\0\0" + b"\0\0\0\0" + b"\2hi"
    data = b"\0" + FROM + address_field(1, 1, TO) + b"\0\1\0"
    acme.sends(pdu(Command.SUBMIT_MULTI, 0, 0, multi), pdu(Command.DATA_SM, 0, 0, data))
    house.world.commits()
    assert [status for _, status, _ in acme.answered()] == [Status.RSUBMITFAIL] * 2
    assert house.world.total("messages_refused", account="acme", reason="suspended") == 3, "the submit_multi as a whole"


def test_a_waiting_message_is_not_given_another_text() -> None:
    house = House(suspend_after=AFTER)
    acme = house.world.customer()
    acme.submits(b"hello")
    house.world.commits()
    (name,) = acme.ids()
    acme.submits(b"a prize", b"a prize", b"a prize")
    house.world.commits()
    acme.answered()
    body = name + b"\0" + FROM + b"\0\0" + b"\1\0\2hi"
    acme.sends(pdu(Command.REPLACE_SM, 0, 0, body))
    assert acme.statuses() == [Status.RREPLACEFAIL]
    a = house.world.carrier()
    house.world.commits()
    assert a.texts() == [b"hello"], "what was accepted goes its way"


def test_the_evidence_is_on_the_trail_and_holds_no_number() -> None:
    house, _acme, _a = suspended_house()
    ((event, facts),) = house.told
    assert event is AuditEvent.SUSPENSION and facts["rules"] == "spam/prize 3" and facts["hits"] == 3
    refused = {f"{one.id:016x}" for one in house.world.store.events if one.error == Status.RSUBMITFAIL}
    assert set(str(facts["records"]).split()) == refused and len(refused) == 3
    assert "7700" not in str(facts)


def test_it_is_durable_soon_and_outlives_a_kill() -> None:
    house, _acme, _a = suspended_house()
    assert house.writes() >= 1
    house.begins()
    acme = house.world.customer()
    acme.submits(b"hello")
    assert acme.statuses() == [Status.RSUBMITFAIL]
    (stands,) = house.memory.suspensions.suspended()
    assert stands.hits == 3 and len(stands.records) == 3
    assert house.world.total("messages_refused", account="acme", reason="suspended") == 1


def test_a_kill_before_it_is_durable_leaves_the_trail_only() -> None:
    house, _acme, _a = suspended_house()
    house.begins()
    assert house.suspended() == [] and len(house.told) == 1


def test_a_full_disk_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    house, _acme, _a = suspended_house()
    house.disk.full = True
    for _ in range(3):
        house.writes(2.0)
    assert house.disk.get(KIND, "acme") is None
    assert house.value("chores_failed_total", chore="traffic") == 1
    assert [one.message for one in caplog.records].count("traffic cannot be written now") == 1
    house.disk.full = False
    house.writes(2.0)
    assert house.disk.get(KIND, "acme") is not None


def test_a_command_lifts_it_and_the_daemon_is_told() -> None:
    house, acme, _a = suspended_house()
    house.writes()
    house.disk.remove(KIND, "acme")
    assert house.memory.requests()["suspensions read"]({}, 0) == {"suspended": []}
    acme.submits(b"hello")
    house.world.commits()
    assert acme.statuses() == [0] and house.value("suspended", account="acme") == 0


def test_a_command_suspends_by_hand_accounts_without_the_setting_too() -> None:
    house = House()
    assert house.world.account().screens == (), "no question is asked of it"
    acme = house.world.customer()
    made = Suspension("acme", 1.0, "anna", "a complaint")
    house.disk.add(KIND, "acme", DocumentSealer(house.install).seal(KIND, "acme", made.as_dict()))
    assert house.memory.requests()["suspensions read"]({}, 0) == {"suspended": ["acme"]}
    acme.submits(b"hello")
    assert acme.statuses() == [Status.RSUBMITFAIL]
    house.reloads()
    acme.submits(b"hello")
    assert acme.statuses() == [Status.RSUBMITFAIL], "a reload lifts nothing"


def test_a_document_that_was_altered_is_told_and_stops_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    house, _acme, _a = suspended_house()
    house.writes()
    for kind in (KIND, TRAFFIC, CAPS):
        house.disk.put(kind, {"acme": b"\1" + bytes(40)})
    house.begins()
    assert house.suspended() == []
    assert [one.message for one in caplog.records].count("what was stored cannot be read") == 3


# -- traffic -------------------------------------------------------------------------------------------------------------


def runs(acme: Any, count: int, begin: int = 0) -> None:
    for one in range(count):
        acme.submits(b"your code", to=b"447700900%03d" % (begin + one))


def test_a_block_refuses_with_its_reason_and_suspends_in_the_end() -> None:
    house = House(traffic={"runs": "block"}, suspend_after=AFTER)
    acme = house.world.customer()
    runs(acme, 20)
    house.world.commits()
    assert told(acme) == [0] * 12 + [Status.RSUBMITFAIL] * 8
    assert house.world.total("messages_refused", account="acme", reason="traffic/runs") == 3
    assert house.world.total("messages_refused", account="acme", reason="suspended") == 5
    house.world.check()


def test_it_is_counted_and_logged_once_a_minute_without_a_number(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smppd.traffic")
    house = House(traffic={})
    acme = house.world.customer()
    for minute in range(3):
        runs(acme, 30, 40 * minute)
        for _ in range(60):
            house.writes(1.0)
    assert house.value("traffic_hits_total", account="acme", signal="runs", action="alert") == 90 - 12
    assert house.value("traffic_decisions", account="acme", signal="runs", action="alert") == 1
    lines = [(one.message, one.fields) for one in caplog.records]  # type: ignore[attr-defined]
    assert [message for message, _ in lines] == ["unusual traffic"] + ["unusual traffic goes on"] * 2
    assert {fields["target"] for _, fields in lines} == {"GB 44***"}
    assert not [line for line in lines if "7700" in str(line)]


def test_a_decision_is_listed_and_released() -> None:
    house = House(traffic={"runs": "block"})
    acme = house.world.customer()
    runs(acme, 20)
    requests = house.memory.requests()
    listing = requests["traffic list"]({}, 0)
    assert isinstance(listing, Listing)
    ((one),) = listing.items
    assert isinstance(one, dict) and (one["account"], one["signal"], one["action"]) == ("acme", "runs", "block")
    for wrong in ({}, {"account": "acme", "number": 99}, {"account": "no", "number": 1}, {"account": "acme"}):
        with pytest.raises(ControlError, match="does not stand"):
            requests["traffic release"](wrong, 0)
    assert house.told == []
    requests["traffic release"]({"account": "acme", "number": one["number"], "reason": "a staff list"}, 0)
    ((event, facts),) = house.told
    assert event is AuditEvent.TRAFFIC and facts["reason"] == "a staff list" and facts["target"] == "GB 44***"
    acme.submits(b"your code", to=b"447700900900")
    house.world.commits()
    assert acme.statuses()[-1] == 0


def test_caps_go_on_after_a_kill_and_a_restart() -> None:
    house = House(traffic={"caps": {"GB": "8/d"}})
    for _ in range(3):
        acme = house.world.customer()
        acme.submits(b"hello")
        house.world.commits()
        assert acme.statuses() == [0]
        house.writes(0.1)
        house.begins()
    acme = house.world.customer()
    acme.submits(*[b"hello"] * 6)
    house.world.commits()
    # Three were sent; each kill costs a portion at the most, which is one message of so small a cap.
    assert told(acme) == [0] * 2 + [Status.RSUBMITFAIL] * 4
    house.memory.stop()
    house.begins()
    acme = house.world.customer()
    acme.submits(b"hello")
    house.world.commits()
    assert acme.statuses() == [Status.RSUBMITFAIL]
    house.world.passes(86_400, step=3600)
    acme.submits(b"hello")
    house.world.commits()
    assert acme.statuses() == [0]


def test_caps_that_a_full_disk_did_not_take_are_written_when_it_does() -> None:
    house = House(traffic={"caps": {"GB": "1/d"}})
    acme = house.world.customer()
    house.disk.full = True
    acme.submits(b"hello")
    house.writes(2.0)
    house.disk.full = False
    house.writes(2.0)
    house.begins()
    acme = house.world.customer()
    acme.submits(b"hello")
    house.world.commits()
    assert acme.statuses() == [Status.RSUBMITFAIL]


def test_a_reload_forgets_nothing() -> None:
    house = House(traffic={"caps": {"GB": "2/d"}})
    acme = house.world.customer()
    acme.submits(b"hello", b"hello")
    house.reloads(traffic={"caps": {"GB": "3/d"}})
    acme.submits(b"hello", b"hello")
    house.reloads()
    acme.submits(b"hello")
    house.world.commits()
    assert acme.statuses() == [0, 0, 0, Status.RSUBMITFAIL, 0]


def test_what_is_known_is_written_every_minute_and_taken_up() -> None:
    house = House(traffic={"learn": "1s"})
    acme = house.world.customer()
    for _ in range(3):
        acme.submits(b"hello")
        house.writes(30.0)
    stored = house.disk.get(TRAFFIC, "acme")
    assert stored is not None and len(stored) < 4096
    acme.submits(b"hello")
    house.writes(EVERY)
    assert house.disk.get(TRAFFIC, "acme") != stored
    assert house.writes(EVERY) == 0, "nothing has changed"
    house.begins()
    acme = house.world.customer()
    acme.submits(b"hello", to=b"12125550123")
    acme.submits(b"hello")
    decisions = house.memory.account("acme").standing(house.world.now)
    assert [(one.signal, one.target) for one in decisions] == [("new_countries", "US")], "GB is known"


def test_receipts_are_heard() -> None:
    house = House(
        traffic={"learn": "1s", "runs": "off", "velocity": "off", "receipts": {"action": "block", "least": 10}}
    )
    acme, a = house.world.customer(), house.world.carrier()
    for number in range(80):
        acme.submits(b"hello", to=b"447700900%03d" % number)
        house.world.commits()
        if not a.waiting:
            break
        a.answers(b"id-%d" % number)
        house.world.passes(3.0)
        to = b"447700900%03d" % number
        state = MessageState.DELIVERED if number < 60 else MessageState.UNDELIVERABLE
        a.reports(b"id-%d" % number, state=state, to=to)
        house.world.commits()
    standing = house.memory.account("acme").standing(house.world.now)
    assert {(one.signal, one.target) for one in standing} == {("receipts", "GB"), ("receipts", "GB 44***")}
    assert 63 < number < 79 and told(acme)[-1] == Status.RSUBMITFAIL


def test_an_orderly_end_writes_all_and_a_full_disk_ends_too(caplog: pytest.LogCaptureFixture) -> None:
    house = House(traffic={"caps": {"GB": "1000/d"}})
    acme = house.world.customer()
    acme.submits(b"hello")
    house.memory.stop()
    assert house.disk.get(TRAFFIC, "acme") and house.disk.get(CAPS, "acme")
    house.disk.full = True
    house.memory.stop()
    assert "traffic cannot be written" in caplog.text
