"""Reloads, one after another: what is read when, who is told in which order, and what an error leaves as it was. With a real
daemon: test_daemon.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smppd import config
from smppd.config import Settings
from smppd.consent.suppression import Hashes, Register
from smppd.daemon import reload as module
from smppd.daemon.reload import LastReload, Reload, ReloadTargets
from smppd.daemon.screens import Screens
from smppd.events import AuditEvent
from smppd.lists.lists import Lists
from smppd.metrics import Metrics
from tests.relay.fakes import settings

Then = Callable[[Any, Exception | None], None]
USED = [
    "ring.use",
    "relay.take_configuration",
    "door.use",
    "customers.reload",
    "keys.use",
    "upstreams.use",
    "shipper.use",
    "feeding.use",
    "spans.use",
    "files.use",
    "relay.flush",
    "notifier.ready",
]


class Part:
    """A part of the daemon that notes what it is told."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    def __getattr__(self, verb: str) -> Callable[..., None]:
        return lambda *_given, **_more: self._world.hears(f"{self._name}.{verb}")


class World:
    """A reload whose reading the test lets happen. ``heard``: what the parts were told, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = settings().model_copy(update={"path": Path("smppd.yaml")})
        self.heard: list[str] = []
        self.fails = ""
        self.reading: list[tuple[Callable[[], Any], Then]] = []
        self.metrics = Metrics()
        self.audited: list[str] = []
        monkeypatch.setattr(config, "load", lambda _path: self.file)
        monkeypatch.setattr(module, "load_kek", lambda _keys: "kek")
        monkeypatch.setattr(module, "opened_by", lambda _kek, _directory: {})
        names = ("relay", "ring", "keys", "door", "customers", "upstreams")
        make: Any = ReloadTargets
        parts = make(
            *(Part(self, name) for name in names),
            self.metrics,
            self._audit,
            Part(self, "notifier"),
            Part(self, "shipper"),
            Part(self, "feeding"),
            Part(self, "spans"),
            Screens(Register(Hashes(bytes(32)))),
            Lists(Path(), b"k" * 32),
            Part(self, "files"),
        )
        aside: Any = self
        self.reload = Reload(self.file, parts, aside, self.hears, lambda: 1_796_000_000.0)

    def hears(self, what: str) -> None:
        if what == self.fails:
            raise OSError("the port is in use")
        self.heard.append(what)

    def _audit(self, event: AuditEvent, _facts: dict[str, str], outcome: str = "done") -> None:
        assert event is AuditEvent.RELOAD
        self.audited.append(outcome)

    def run(self, _name: str, work: Callable[[], Any], then: Then) -> None:
        """`worker.Aside`: the test says when it is done."""
        self.reading.append((work, then))

    def read(self) -> None:
        """What was asked for first is read."""
        work, then = self.reading.pop(0)
        try:
            fresh = work()
        except Exception as error:  # noqa: BLE001  as `Aside` does
            then(None, error)
        else:
            then(fresh, None)

    def told(self) -> list[str]:
        told, self.heard = self.heard, []
        return told


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def changed(world: World, **sections: Any) -> Settings:
    """The file says something else now."""
    world.file = settings(**sections).model_copy(update={"path": world.file.path})
    return world.file


def test_all_of_it_is_taken_in_one_order(world: World) -> None:
    new = changed(world, acme={"queue": 7})
    world.reload.ask()
    assert world.told() == ["notifier.reloading"] and world.reload.settings is not new
    world.read()
    assert world.told() == ["door.reload_listeners", *USED]
    assert world.reload.settings is new and world.audited == ["done"]


def test_what_needs_a_restart_or_raises_changes_nothing(world: World) -> None:
    before = world.reload.settings
    changed(world, hot=7)
    world.reload.ask()
    world.read()
    assert world.told() == ["notifier.reloading", "notifier.ready"]
    changed(world, acme={"queue": 7})
    world.fails = "door.reload_listeners"
    world.reload.ask()
    world.read()
    assert world.told() == ["notifier.reloading", "notifier.ready"]
    assert world.reload.settings is before and world.audited == ["refused"] * 2


def test_a_log_file_that_cannot_be_opened_and_a_bad_certificate_leave_the_log_as_it_was(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(module, "configure", lambda log, *, count: taken.append(log))
    changed(world, log={"file": tmp_path / "none" / "smppd.log"})
    world.reload.ask()
    world.read()
    changed(world, log={"level": "debug"})
    world.fails = "door.try_listeners"
    world.reload.ask()
    world.read()
    assert world.audited == ["refused"] * 2 and taken == []
    world.fails = ""
    world.reload.ask()
    world.read()
    assert world.audited[-1] == "done" and [one.level for one in taken] == ["debug"]


def test_how_the_last_one_ended_is_remembered_and_shown(world: World) -> None:
    def value(name: str) -> float | None:
        return world.metrics.registry.get_sample_value(f"smppd_config_{name}")

    def last() -> LastReload | None:
        return world.reload.last

    assert last() is None and world.reload.picture()["last_reload"] is None
    assert (value("last_reload_successful"), value("last_reload_success_timestamp_seconds")) == (1, 1_796_000_000)
    changed(world, hot=7)
    world.reload.ask()
    world.read()
    assert last() == (1_796_000_000, "refused", ("store changed: needs a restart",))
    assert value("last_reload_successful") == 0
    changed(world, acme={"queue": 7})
    world.reload.ask()
    world.read()
    assert last() == (1_796_000_000, "done", ()) and value("last_reload_successful") == 1


def test_a_bug_of_ours_in_it_is_counted_and_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "load", lambda _path: 1 / 0)
    world.reload.ask()
    world.read()
    assert world.told() == ["notifier.reloading", "reload", "notifier.ready"] and world.audited == ["refused"]


def test_asked_for_while_one_is_read_it_is_read_once_more(world: World) -> None:
    changed(world, acme={"queue": 7})
    for _ in range(3):
        world.reload.ask()
    assert len(world.reading) == 1
    world.read()
    assert len(world.reading) == 1
    new = changed(world, acme={"queue": 8})
    world.read()
    assert world.reading == [] and world.reload.settings is new


def test_before_the_end_nothing_changes_any_more(world: World) -> None:
    before = world.reload.settings
    changed(world, acme={"queue": 7})
    world.reload.ask()
    world.told()
    world.reload.stop()
    world.read()
    world.reload.ask()
    assert world.told() == [] and world.reading == [] and world.reload.settings is before
