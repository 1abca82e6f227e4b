"""Plans, one after another: who gets which, what a reload in between means, and that nothing changes. With a real daemon:
e2e/test_plan.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smppd import config
from smppd.control.wire import ControlError
from smppd.daemon import plan as module
from smppd.daemon.plan import KEPT, Plans
from smppd.daemon.reload import ReloadTargets
from smppd.net.tls import TlsError
from smppd.relay.relay import Routing
from tests.daemon.test_reload import World, changed
from tests.relay.fakes import settings


class Link:
    """A session of a customer, as a plan sees it."""

    def __init__(self, number: int) -> None:
        self.account = type("Account", (), {"name": "acme"})
        self.number = number
        self.peer = f"192.0.2.{number}"
        self.mode = "transceiver"
        self.tls_version = ""


class House(World):
    """A daemon with so many sessions that would end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.ends = 0
        self.turns: list[Callable[[], None]] = []
        self.bad_certificate = False
        targets: Any = self.reload._targets
        parts: Any = targets._replace(
            relay=self, door=self, customers=self, upstreams=self, lists=type("Lists", (), {"by_name": {}})()
        )
        aside: Any = self
        made: ReloadTargets = parts
        self.plans = Plans(self.reload, made, aside)
        self.requests = self.plans.requests()

    # -- relay, door, customers, upstreams

    def later(self, _seconds: float, function: Callable[[], None]) -> None:
        self.turns.append(function)

    def stranded(self, _settings: object, routing: Routing, _pipelines: object) -> list[Any]:
        assert routing
        return []

    def unrouted(self, _routing: object) -> list[str]:
        return []

    def try_listeners(self, _new: object) -> None:
        if self.bad_certificate:
            raise TlsError("certificate x cannot be read")

    def endings(self, _wanted: object) -> Iterator[Any]:
        for number in range(self.ends):
            yield type("Ending", (), {"link": Link(number), "why": "because"}) if number % 2 else None

    def changes(self, _upstreams: object) -> list[Any]:
        return []

    # -- who asks

    def ask(self, do: str, **values: Any) -> Any:
        return self.requests[do]({"do": do, **values}, 0)

    def begins(self) -> int:
        job = self.ask("plan")["job"]
        assert isinstance(job, int)
        return job

    def state(self, job: int) -> Any:
        return self.ask("plan state", job=job)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return House(monkeypatch)


def test_a_plan_says_what_would_change_and_changes_nothing(house: House) -> None:
    before = house.reload.settings
    changed(house, acme={"queue": 7})
    job = house.begins()
    assert house.state(job) == {"over": False}
    house.read()
    plan = house.state(job)["plan"]
    assert plan["changes"] == ["account acme: queue 1000000 -> 7"] and plan["faults"] == []
    assert house.reload.settings is before and house.told() == [] and house.reload.last is None


def test_what_a_reload_would_refuse_is_refused_in_the_plan(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(house, hot=7)
    job = house.begins()
    house.read()
    plan = house.state(job)["plan"]
    assert plan["faults"] == plan["restart"] == plan["changes"] == ["store changed: needs a restart"]
    changed(house)
    house.bad_certificate = True
    job = house.begins()
    house.read()
    assert house.state(job)["plan"]["faults"] == ["certificate x cannot be read"]
    house.bad_certificate = False
    monkeypatch.setattr(config, "load", lambda _path: 1 / 0)
    job = house.begins()
    house.read()
    assert house.state(job)["plan"]["faults"] == ["ZeroDivisionError"]
    assert house.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "plan"}) == 1


def test_a_log_file_that_a_reload_could_not_open_is_a_fault_and_none_is_made(house: House, tmp_path: Path) -> None:
    for place, fault in ((tmp_path / "none" / "log", "No such file"), (tmp_path, "Is a directory")):
        changed(house, log={"file": place})
        job = house.begins()
        house.read()
        (said,) = house.state(job)["plan"]["faults"]
        assert fault in said
    changed(house, log={"file": tmp_path / "log"})
    job = house.begins()
    house.read()
    assert house.state(job)["plan"]["faults"] == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["stranded", "endings"])
def test_a_bug_of_ours_holds_up_no_later_plan(house: House, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def breaks(*_given: object) -> Iterator[Any]:
        yield 1 // 0

    with monkeypatch.context() as broken:
        broken.setattr(house, where, breaks if where == "endings" else lambda *_given: 1 // 0)
        job, later = house.begins(), house.begins()
        house.read()
        assert house.state(job)["plan"]["faults"] == ["ZeroDivisionError"]
    house.read()
    assert house.state(later)["plan"]["faults"] == []
    assert house.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "plan"}) == 1


def test_lists_are_compiled_anew_where_what_is_compiled_of_them_is_another(house: House, tmp_path: Path) -> None:
    source = {"file": str(tmp_path / "a.csv"), "kind": "numbers"}
    house.reload.settings = changed(house, lists={"a": source, "b": source})
    changed(house, lists={"a": source | {"when_absent": "pass"}, "b": source | {"bad_lines": "skip"}, "c": source})
    job = house.begins()
    house.read()
    assert house.state(job)["plan"]["lists"] == ["b", "c"]


def test_one_is_made_at_a_time_and_whoever_asks_meanwhile_gets_the_next(house: House) -> None:
    first, second, third = house.begins(), house.begins(), house.begins()
    assert second == third != first and len(house.reading) == 1
    house.read()
    assert house.state(first)["over"] and not house.state(second)["over"] and len(house.reading) == 1
    changed(house, acme={"queue": 7})
    house.read()
    assert house.state(second)["plan"]["changes"] and not house.state(first)["plan"]["changes"]


def test_a_reload_in_between_has_it_made_again(house: House) -> None:
    changed(house, acme={"queue": 7})
    job = house.begins()
    work, then = house.reading.pop(0)
    fresh = work()
    house.reload.settings = house.file  # what a reload took meanwhile
    then(fresh, None)
    assert not house.state(job)["over"]
    house.read()
    assert house.state(job)["plan"]["changes"] == []


def test_many_sessions_are_looked_at_in_slices(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 0.0)
    house.ends = 6
    job = house.begins()
    house.read()
    number = 0
    while house.turns:
        assert not house.state(job)["over"]
        house.turns.pop(0)()
        number += 1
    assert number == 6
    assert house.state(job)["plan"]["sessions"] == 3
    sessions = list(house.ask("plan sessions", job=job).items)
    assert [one["id"] for one in sessions] == ["c1", "c3", "c5"]


def test_the_newest_few_are_remembered(house: House) -> None:
    jobs = []
    for _ in range(KEPT + 2):
        jobs.append(house.begins())
        house.read()
    for job in (jobs[0], None, "x", 99):
        with pytest.raises(ControlError, match="does not know this plan"):
            house.ask("plan state", job=job)
    assert house.state(jobs[-1])["over"]


def test_the_hash_in_force_is_told_beside_the_one_that_would_be(house: House) -> None:
    job = house.begins()
    house.read()
    plan = house.state(job)["plan"]
    assert (plan["in_force"], plan["hash"]) == (house.reload.settings.digest, settings().digest)
