"""The daemon's entries of the audit trail: nobody can flood it, and nobody can push out what somebody else did."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from smppd.audit.trail import AuditTrail
from smppd.daemon import audit_log as module
from smppd.daemon.audit_log import QUEUE, Audit
from smppd.events import AuditEvent
from smppd.metrics import Metrics
from smppd.vault.kek import VaultError
from tests.vault.rows import some


class Disk(AuditTrail):
    """A trail whose disk stands still, or is full, for as long as a test wants."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, some("audit"))
        self.works = threading.Event()
        self.full = threading.Event()
        self.asked = threading.Event()

    def append(self, event: str, who: str, what: Mapping[str, str | int], result: str, *, source: str = "") -> int:
        self.asked.set()
        self.works.wait(30)
        if self.full.is_set():
            raise VaultError("disk full")
        return super().append(event, who, what, result, source=source)

    def told(self, event: str) -> list[dict[str, str | int]]:
        return [entry.what for entry in self.entries(events=(event,))]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "audit.db")


@pytest.fixture
def audit(disk: Disk) -> Iterator[Audit]:
    made = Audit(disk, Metrics())
    yield made
    disk.works.set()
    disk.full.clear()
    made.close()


def errors(audit: Audit) -> float:
    return audit._metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "audit"}) or 0.0


def accepted(peer: str = "192.0.2.7", count: str = "1") -> dict[str, str]:
    return {"account": "acme", "peer": peer, "mode": "transceiver", "tls": "", "count": count}


def refused(peer: str, count: str = "1") -> dict[str, str]:
    return {"peer": peer, "reason": "wrong_password", "count": count}


def test_a_guesser_is_on_the_trail_whatever_else_binds_on_a_slow_disk(audit: Audit, disk: Disk) -> None:
    audit(AuditEvent.BIND_ACCEPTED, accepted())
    assert disk.asked.wait(10)  # the disk has this one, and does not come back
    for number in range(60_000):
        audit(AuditEvent.BIND_ACCEPTED, accepted(f"2001:db8::{number % 5000:x}"))
        if not number % 100:
            audit(AuditEvent.BIND_REFUSED, refused(f"198.51.100.{number // 100 % 50}"))
    disk.works.set()
    assert audit.drain()
    guesses = disk.told("bind refused")
    assert {entry["peer"] for entry in guesses} == {f"198.51.100.{last}" for last in range(50)}
    assert sum(int(entry["count"]) for entry in guesses) == 600
    binds = disk.told("bind accepted")
    assert sum(int(entry["count"]) for entry in binds) == 60_001, (
        "none dropped: those that had no room are counted together"
    )
    assert len(binds) == QUEUE + 2 and binds[-1]["count"] == 60_000 - 12 * QUEUE and binds[-1]["peer"] == "others"
    _first, *others = disk.entries()
    assert [entry.event for entry in others[:50]] == ["bind refused"] * 50, "they do not wait behind the accepted"
    assert errors(audit) == 0 and disk.verify().ok


def test_a_bind_loop_on_a_slow_disk_is_one_entry(audit: Audit, disk: Disk) -> None:
    audit(AuditEvent.RELOAD, {"changes": ""})
    assert disk.asked.wait(10)
    for _ in range(50_000):
        audit(AuditEvent.BIND_ACCEPTED, accepted())
    disk.works.set()
    assert audit.drain()
    assert [entry["count"] for entry in disk.told("bind accepted")] == [50_000]


def test_guessers_beyond_the_room_are_counted_by_reason(audit: Audit, disk: Disk) -> None:
    audit(AuditEvent.RELOAD, {"changes": ""})
    assert disk.asked.wait(10)
    for number in range(3 * QUEUE):
        audit(AuditEvent.BIND_REFUSED, refused(f"2001:db8::{number:x}", "2"))
    audit(AuditEvent.BIND_REFUSED, {"peer": "192.0.2.1", "reason": "banned", "count": "1"})
    disk.works.set()
    assert audit.drain()
    told = disk.told("bind refused")
    assert sum(int(entry["count"]) for entry in told) == 6 * QUEUE + 1 and len(told) == QUEUE + 2
    assert {(entry["reason"], entry["count"]) for entry in told if entry["peer"] == "others"} == {
        ("wrong_password", 4 * QUEUE),
        ("banned", 1),
    }


def test_what_is_dropped_is_counted_and_said_on_the_trail(
    audit: Audit, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    audit(AuditEvent.RELOAD, {"changes": "0"})
    assert disk.asked.wait(10)
    for number in range(QUEUE + 7):
        audit(AuditEvent.RELOAD, {"changes": str(number)})
    assert errors(audit) == 7 and "an entry was dropped" in caplog.text
    audit(AuditEvent.BIND_REFUSED, refused("198.51.100.1"))
    disk.works.set()
    assert audit.drain()
    assert disk.told("entries dropped") == [{"reload": 7}]
    assert len(disk.told("reload")) == QUEUE + 1 and disk.told("bind refused")[0]["count"] == 1


def test_a_full_disk_loses_nothing(
    audit: Audit, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.001)
    disk.full.set()
    disk.works.set()
    audit(AuditEvent.BIND_REFUSED, refused("198.51.100.1", "3"))
    audit(AuditEvent.RELOAD, {"changes": "a"})
    assert disk.asked.wait(10)
    audit(AuditEvent.BIND_REFUSED, refused("198.51.100.1", "4"))
    assert not audit.drain(), "nobody waits for a disk that takes nothing"
    disk.full.clear()
    while not audit.drain():
        pass  # tried again each millisecond
    assert sum(int(entry["count"]) for entry in disk.told("bind refused")) == 7
    assert disk.told("reload")[0]["changes"] == "a"
    assert caplog.text.count("the audit trail cannot be written now") == 1 and "Traceback" not in caplog.text
    assert audit._metrics.registry.get_sample_value("smppd_audit_delays_total") == 1 and errors(audit) == 0


def test_the_end_waits_for_a_full_disk_no_longer_than_it_takes_to_say_so(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.full.set()
    disk.works.set()
    audit = Audit(disk, Metrics())
    for number in range(5):
        audit(AuditEvent.RELOAD, {"changes": str(number)})
    audit.close()
    assert "was not written to its end" in caplog.text


def test_guessers_do_not_push_out_what_the_daemon_does_itself(audit: Audit, disk: Disk) -> None:
    audit(AuditEvent.BIND_ACCEPTED, accepted())
    assert disk.asked.wait(10)
    for number in range(2 * QUEUE):
        audit(AuditEvent.BIND_REFUSED, refused(f"2001:db8::{number:x}"))
    audit(AuditEvent.INTEGRITY, {"faults": 1}, "found")
    disk.works.set()
    assert audit.drain()
    assert [entry.event for entry in disk.entries()][1] == "integrity" and errors(audit) == 0


def test_what_waited_says_since_when(disk: Disk) -> None:
    now = [1000.0]
    audit = Audit(disk, Metrics(), wall=lambda: now[0])
    audit(AuditEvent.RELOAD, {"changes": ""})
    assert disk.asked.wait(10)
    audit(AuditEvent.BIND_REFUSED, refused("198.51.100.1"))
    now[0] += 90
    audit(AuditEvent.BIND_REFUSED, refused("198.51.100.1"))
    disk.works.set()
    assert audit.drain()
    assert disk.told("bind refused") == [
        {"count": 2, "peer": "198.51.100.1", "reason": "wrong_password", "since": "1970-01-01T00:16:40Z"}
    ]
    audit.close()
