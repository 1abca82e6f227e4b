"""The shipping of the trail as transcripts: a target that takes and fails as it is told, and a clock that stands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from random import Random

import pytest

from smppd.audit.shipping import Cursor, Line, Mark, SealReader, ShippingError, Source, cursor_path
from smppd.audit.trail import AuditTrail
from smppd.config import ShippedFile, Shipping
from smppd.daemon import shipper
from smppd.daemon.shipper import UNSURE, LoginCounter, NoSeals, Pump, Shipper
from smppd.metrics import Metrics
from smppd.store.opening import embedded
from smppd.vault.chain import seal_hash
from smppd.vault.keys import InstallSecrets
from tests.store.builder import Builder
from tests.vault.rows import kek as make_kek

KEY = b"k" * 32
NOON = 1_795_953_600.0


class Log:
    """Seals in memory: a reader of seals."""

    def __init__(self) -> None:
        self.rows: dict[int, bytes] = {}

    def seals_after(self, number: int, limit: int) -> list[tuple[int, bytes]]:
        return sorted((n, s) for n, s in self.rows.items() if n > number)[:limit]

    def newest_seal(self) -> tuple[int, bytes] | None:
        return max(self.rows.items(), default=None)

    def first_seal(self) -> int | None:
        return min(self.rows, default=None)

    def seal(self, number: int) -> bytes | None:
        return self.rows.get(number)


class Told:
    """A target that takes, refuses and loses as it is told."""

    name = "told"

    def __init__(self, lossy: bool = False) -> None:
        self.lossy = lossy
        self.took: list[str] = []
        self.refuses = self.cut = self.begun = False
        self.certain = True
        self.finished = 0

    def send(self, lines: Sequence[Line]) -> None:
        if self.refuses:
            refused = ShippingError("it takes nothing")
            refused.begun = self.begun
            raise refused
        self.took += [f"{_name(line)}{'*' if line.again else ''}" for line in lines]

    def watch(self) -> None:
        if self.cut:
            self.cut = False
            raise ShippingError("the link was cut")

    def finish(self) -> bool:
        self.finished += 1
        return self.certain

    def close(self) -> None:
        self.finished += 100

    def taken(self) -> str:
        """What came since the last time it was asked."""
        took, self.took = self.took, []
        return " ".join(took)


def _name(line: Line) -> str:
    return str(line.facts["id"]) if line.facts["kind"] == "audit" else f"s{line.facts['number']}"


class World:
    """A trail, a log, a target, a clock; and the pump between them."""

    def __init__(self, path: Path, lossy: bool = False, from_end: bool = False) -> None:
        self.path = path
        self.now = 1000.0
        self.trail = AuditTrail(path / "audit.db", KEY, clock=lambda: NOON + self.now - 1000)
        self.log = Log()
        self.target = Told(lossy)
        self.metrics = Metrics()
        self.from_end = from_end
        self.cursor = Cursor(cursor_path(path, "told"))
        self.starts()

    def starts(self) -> None:
        """The daemon, once more."""

        @contextmanager
        def seals() -> Iterator[SealReader]:
            yield self.log

        self.pump = Pump(
            self.target,
            self.cursor,
            Source(self.trail, lambda signed: int(NOON * 1000), "f" * 64),
            seals,
            now=lambda: self.now,
            wall=lambda: NOON + self.now - 1000,
            random=Random(1),
            metrics=self.metrics,
            from_end=self.from_end,
        )

    def writes(self, count: int = 1, **what: str) -> None:
        for _ in range(count):
            self.trail.append("show", "alice", what, "done")

    def seals(self, number: int) -> None:
        self.log.rows[number] = b"%d" % number * 20

    def goes_on(self, seconds: float = 0.0) -> str:
        """Lets the time pass in steps of a second, and gives what the target took."""
        until = self.now + seconds
        for _ in range(10_000):
            pause = self.pump.step()
            if pause:
                if self.now >= until:
                    break
                self.now = min(until, self.now + min(1.0, pause))
        return self.target.taken()

    def metric(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"smppd_shipping_{name}", {"target": "told"})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def link(tmp_path: Path) -> World:
    return World(tmp_path, lossy=True)


def test_all_goes_in_order_from_the_first_on(world: World) -> None:
    world.writes(3)
    world.seals(1)
    assert world.goes_on() == "1 2 3 s1"
    world.seals(2)
    world.writes()
    assert world.goes_on() == "4 s2"
    assert world.goes_on(5) == ""
    assert (world.metric("entries_total"), world.metric("backlog"), world.metric("oldest_seconds")) == (6, 0, 0)


def test_it_goes_on_where_it_was_after_a_start(world: World) -> None:
    world.writes(2)
    assert world.goes_on() == "1 2"
    world.starts()
    world.writes()
    assert world.goes_on() == "3"


def test_long_ones_go_in_batches(world: World) -> None:
    world.writes(200)
    assert world.pump.step() == 0.0
    assert len(world.target.took) == shipper.BATCH
    world.goes_on()
    big = {f"fact{n}": "x" * 4000 for n in range(60)}
    world.writes(10, **big)
    assert world.pump.step() == 0.0
    assert 1 <= len(world.target.taken().split()) < 10


def test_a_target_that_is_away_keeps_its_place(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world.writes()
    assert world.goes_on() == "1"
    world.target.refuses = True
    world.writes(2)
    assert world.goes_on(600) == ""
    assert world.metric("backlog") == 2
    assert world.metric("oldest_seconds") == pytest.approx(600, abs=2)
    failures = world.metric("failures_total")
    assert failures is not None and 10 <= failures <= 30, "the pauses grow"
    world.target.refuses = False
    assert world.goes_on(61) == "2 3"
    assert (world.metric("backlog"), world.pump.behind()) == (0, 0)
    said = [record.message for record in caplog.records]
    assert said == ["the trail cannot be shipped, it waits in the store", "the trail is shipped again"]


def test_what_was_refused_comes_once(world: World) -> None:
    world.writes(2)
    world.target.refuses = True
    world.goes_on(3)
    world.target.refuses = False
    assert world.goes_on(10) == "1 2"


def test_a_place_that_cannot_be_written_is_told_and_nothing_is_lost(world: World, tmp_path: Path) -> None:
    world.writes()
    assert world.goes_on() == "1"
    world.cursor.path = tmp_path / "nowhere" / "place"
    world.writes()
    assert world.goes_on(2) == "2"
    assert "cannot be written" in world.pump.reason
    world.cursor.path = cursor_path(tmp_path, "told")
    world.writes()
    assert world.goes_on(60) == "3"
    assert world.pump.reason == ""
    place = world.cursor.load()
    assert place is not None and place.sent.audit == 3


def test_a_place_that_is_not_ours_stops_it(world: World) -> None:
    world.cursor.path.write_text("{}")
    world.writes()
    assert world.goes_on(5) == ""
    assert "is not what smppd wrote" in world.pump.reason
    assert world.pump.behind() > 0


# -- a link that may lose what it took ---------------------------------------------------------------------------------


def test_after_a_cut_the_last_ones_come_again_and_flagged(link: World) -> None:
    link.writes(3)
    assert link.goes_on() == "1 2 3"
    link.target.cut = True
    assert link.goes_on(5) == "1* 2* 3*"
    link.writes()
    assert link.goes_on() == "4"


def test_after_a_kill_too(link: World) -> None:
    link.writes(2)
    assert link.goes_on() == "1 2"
    link.starts()
    link.writes()
    assert link.goes_on() == "1* 2* 3"


def test_only_the_last_ones_and_the_last_seconds(link: World) -> None:
    for _ in range(100):
        link.writes()
        link.goes_on()
    assert link.goes_on(30) == ""
    link.target.cut = True
    again = link.goes_on(5).split()
    assert again == [f"{number}*" for number in range(101 - UNSURE, 101)]
    for _ in range(200):
        link.writes()
        link.goes_on()
    link.target.cut = True
    again = link.goes_on(5).split()
    assert len(again) >= 200, "all of the last ten seconds"


def test_a_link_that_is_cut_again_and_again_gets_on(link: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short it stands each time: what its other end cannot have held is not sent again."""
    monkeypatch.setattr(shipper, "UNSURE_OCTETS", 200 * 600)
    link.writes(2000)
    for _ in range(20):
        link.pump.step()
        link.target.took.clear()
    for _ in range(40):
        link.target.refuses = True
        link.pump.step()
        link.target.refuses = False
        link.now += 2
        for _ in range(6):
            link.pump.step()
    assert "2000" in link.target.taken().split()


def test_a_seal_that_was_sent_is_flagged_and_a_new_entry_is_not(link: World) -> None:
    link.writes()
    link.seals(1)
    assert link.goes_on() == "1 s1"
    link.writes()
    link.target.cut = True
    assert link.goes_on() == "2", "whoever has something to send finds out by sending"
    assert link.goes_on(5) == "1* 2* s1*"


def test_what_was_being_sent_is_flagged(link: World) -> None:
    link.writes(2)
    link.target.refuses = link.target.begun = True
    link.goes_on(1)
    link.target.refuses = False
    assert link.goes_on(60) == "1* 2*"


def test_an_end_in_good_order_leaves_no_doubt(link: World) -> None:
    link.writes(2)
    link.pump.finish(link.now + 2)
    assert link.target.taken() == "1 2"
    link.starts()
    link.writes()
    assert link.goes_on() == "3"


def test_an_end_without_an_answer_leaves_it(link: World) -> None:
    link.target.certain = False
    link.writes(2)
    link.pump.finish(link.now + 2)
    assert link.target.taken() == "1 2"
    link.starts()
    assert link.goes_on() == "1* 2*"


def test_the_end_does_not_wait_for_what_is_away(link: World) -> None:
    link.target.refuses = True
    link.writes()
    link.goes_on(5)
    link.pump.finish(link.now + 2)
    assert link.target.finished == 1
    link.starts()
    link.target.refuses = False
    assert link.goes_on() == "1"


# -- a trail that was put back -----------------------------------------------------------------------------------------


def test_a_trail_that_was_put_back_is_sent_from_where_it_still_stands(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.writes(250)
    assert len(world.goes_on().split()) == 250
    rows = world.trail.rows_after(0, 240)
    world.trail.close()
    (world.path / "audit.db").unlink()
    world.trail = AuditTrail(world.path / "audit.db", KEY, clock=lambda: NOON)
    for _ in rows:
        world.writes()
    for _ in range(5):
        world.writes(other="trail")
    caplog.clear()
    world.starts()
    again = world.goes_on().split()
    assert again[-1] == "245" and 245 - int(again[0]) < 245
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert world.goes_on(5) == ""


def test_seals_that_a_purge_took_are_no_roll_back(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2, 3):
        world.seals(number)
    assert world.goes_on() == "s1 s2 s3"
    del world.log.rows[1], world.log.rows[2], world.log.rows[3]
    world.seals(4)
    assert world.goes_on() == "s4"
    world.log.rows[4] = b"another"
    assert "s4" in world.goes_on()
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert seal_hash(b"another") != seal_hash(b"4" * 20)


# -- acts without a login ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "who", "what", "counts"),
    [
        ("reveal", "alice (no login)", {}, True),
        ("reveal", "root", {"login": "none"}, True),
        ("reveal", "alice (root)", {"login": "totp"}, False),
        ("erasure", "root (no login)", {}, True),
        ("key", "root (no login)", {}, True),
        ("purge", "smppd", {}, False),
        ("purge", "root (as smppd) (no login)", {}, True),
        ("search", "root (no login)", {}, False),
        ("bind accepted", "smppd", {"login": "none"}, False),
        ("ban lifted", "smppd", {"login": "none"}, True),
        ("ban lifted", "smppd", {"operator": "emil"}, False),
        ("damaged", "root (no login)", {}, True),
        ("purge", "smppd", {}, False),
    ],
)
def test_who_acts_without_a_login_is_counted(
    tmp_path: Path, event: str, who: str, what: dict[str, str], counts: bool
) -> None:
    world = World(tmp_path, from_end=True)
    world.trail.append(event, who, what, "done")  # before the counting began
    metrics = Metrics()
    world.pump._target = LoginCounter(metrics)
    world.pump.step()
    world.trail.append(event, who, what, "done")
    while not world.pump.step():
        pass
    assert metrics.registry.get_sample_value("smppd_acts_without_login_total", {"event": event}) == (
        1 if counts else None
    )


def test_what_was_done_while_the_daemon_was_down_is_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    world = World(tmp_path, from_end=True)
    world.target = LoginCounter(metrics)  # type: ignore[assignment]
    world.starts()
    world.pump.step()
    world.trail.append("key", "root (no login)", {}, "done")
    world.starts()
    world.pump.step()
    assert metrics.registry.get_sample_value("smppd_acts_without_login_total", {"event": "key"}) == 1


def test_who_counts_asks_for_the_trail_alone_and_an_earlier_versions_place_stands(tmp_path: Path) -> None:
    metrics = Metrics()
    world = World(tmp_path, from_end=True)
    world.target = LoginCounter(metrics)  # type: ignore[assignment]
    world.trail.append("show", "alice", {}, "done")
    world.seals(7)
    world.starts()
    world.pump.step()
    kept = world.cursor.load()
    assert kept is not None and kept.sent.seal == 7
    world.starts()
    world.pump._seals = lambda: nullcontext(NoSeals())
    world.seals(8)
    world.trail.append("key", "root (no login)", {}, "done")
    world.pump.step()
    assert world.pump.step() > 0 and not world.pump.reason
    assert metrics.registry.get_sample_value("smppd_acts_without_login_total", {"event": "key"}) == 1
    kept = world.cursor.load()
    assert kept is not None and (kept.sent.audit, kept.sent.seal) == (2, 7), "a seal does not move it on"


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Path, InstallSecrets]]:
    builder = Builder(tmp_path / "store", make_kek())
    AuditTrail(tmp_path / "store" / "audit.db", builder.install.audit).close()
    yield tmp_path / "store", builder.install
    builder.close()


def test_threads_ship_what_others_wrote_and_a_reload_changes_targets(
    store: tuple[Path, InstallSecrets], tmp_path: Path
) -> None:
    directory, install = store
    metrics = Metrics()
    one, other = tmp_path / "one", tmp_path / "other"
    running = Shipper(embedded(directory), install, metrics)
    assert running.check() == "ok"
    running.use(Shipping(file=ShippedFile(path=one)), None)
    with AuditTrail(directory / "audit.db", install.audit) as trail:
        trail.append("show", "alice", {}, "done")
        running.wake()
        _wait(lambda: one.exists() and len(one.read_text().splitlines()) == 1)
        running.use(Shipping(file=ShippedFile(path=other)), None)
        for _ in range(100):  # the first of them may still go to the target before
            trail.append("show", "bob", {}, "done")
            if other.exists() and other.read_text():
                break
            time.sleep(0.1)
        _wait(lambda: _count(one) + _count(other) == trail.head()[0])
        running.use(Shipping(), None)
        running.stop()
        end = trail.head()[0]
    lines = [json.loads(line) for line in (one.read_text() + other.read_text()).splitlines()]
    assert [line["id"] for line in lines] == list(range(1, end + 1))
    assert other.read_text()
    samples = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    assert "smppd_shipping_backlog" not in samples, "nobody expects it to be up"


def test_a_target_that_is_far_behind_degrades(store: tuple[Path, InstallSecrets], tmp_path: Path) -> None:
    directory, install = store
    with AuditTrail(directory / "audit.db", install.audit, clock=lambda: 1.0) as trail:
        trail.append("show", "alice", {}, "done")
    running = Shipper(embedded(directory), install, Metrics())
    running.use(Shipping(file=ShippedFile(path=tmp_path / "no" / "such" / "directory")), None)
    _wait(lambda: running.check().startswith("degraded: file is "))
    running.stop()


def _count(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def _wait(done: object, seconds: float = 30.0) -> None:
    assert callable(done)
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_marks_are_compared_by_kind() -> None:
    assert Mark(audit=3, seal=2).covers(Mark(audit=3))
    assert not Mark(audit=3).covers(Mark(seal=1))
