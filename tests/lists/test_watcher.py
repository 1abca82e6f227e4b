"""What a look at files leads to, with a child that the test lets end and a clock of its own: compiled, in force, refused, tried
again, told once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from smppd.config import Settings, parse
from smppd.lists.compiler import Failed, ListSpec, Refused, compile_list, place_of
from smppd.lists.compiling import Outcome
from smppd.lists.lists import Lists, spec_of
from smppd.lists.watcher import FIRST_RETRY, LAST_RETRY, Watcher
from smppd.policy.listed import ListAbsent
from tests.lists.made import KEY

CONFIG = """
listeners: [{address: "127.0.0.1:2775"}]
store: {path: .}
keys: {file: kek}
watch_files: 5s
"""
ONE, TWO = b"447700900001", b"447700900002"


class World:
    """A watcher; what it does is done by the test."""

    def __init__(
        self, directory: Path, lists: str = "lists: {dnd: {file: dnd.txt, kind: numbers}}", more: str = ""
    ) -> None:
        self.directory = directory
        self.now = 1_000.0
        self.wall = 1_800_000_000.0
        self.told: list[tuple[str, str]] = []
        self.reasons: list[object] = []
        self.calls: list[Callable[[], None]] = []
        self.reloads = 0
        self.running: ListSpec | None = None
        self.ends: Outcome | None = None
        self.lists = Lists(directory, KEY)
        self.settings = self.read(lists, more)
        self.watcher = Watcher(self.lists, self.start, self.calls.append, self.reload, self.tell)
        self.use()

    def read(self, lists: str, more: str = "") -> Settings:
        self.settings = parse(f"{CONFIG}{lists}\n{more}\n".encode(), self.directory / "smppd.yaml")
        return self.settings

    def use(self) -> None:
        self.lists.use(self.settings, self.lists.of(self.settings))
        self.watcher.use(self.settings)

    def reload(self) -> None:
        self.reloads += 1

    def tell(self, what: str, name: str, fields: Mapping[str, object]) -> None:
        self.told.append((what, name))
        if "reason" in fields:
            self.reasons.append(fields["reason"])

    def write(self, *entries: bytes, name: str = "dnd.txt") -> None:
        """A file that another program puts in place now."""
        fresh = self.directory / "fresh"
        fresh.write_bytes(b"".join(one + b"\n" for one in entries))
        os.utime(fresh, (self.wall, self.wall))
        os.replace(fresh, self.directory / name)

    def works(self) -> bool:
        """Whether a list is being compiled."""
        return self.running is not None

    # -- the child -----------------------------------------------------------------------------------------------------

    def start(self, spec: ListSpec) -> World:
        assert self.running is None, "two children at once"
        self.running, self.ends = spec, None
        return self

    def poll(self) -> Outcome | None:
        if self.ends is not None:
            self.running = None
        return self.ends

    def stop(self) -> None:
        self.running = None
        self.told.append(("stopped", ""))

    def child_ends(self, outcome: Outcome | None = None) -> None:
        """The child has done its work, or what the test says came of it."""
        assert self.running is not None
        if outcome is None:
            try:
                done = compile_list(self.running, self.lists.directory, KEY, int(self.wall))
                outcome = Outcome("compiled", "", done.entries, done.skipped)
            except Refused as refused:
                outcome = Outcome("refused", str(refused))
            except Failed as failed:
                outcome = Outcome("failed", str(failed))
        self.ends = outcome

    # -- time ----------------------------------------------------------------------------------------------------------

    def look(self, seconds: float = 5.0) -> list[tuple[str, str]]:
        """Time passes; one look, and the reactor's turn. What was told."""
        self.now += seconds
        self.wall += seconds
        self.watcher.look(self.now, self.wall)
        for call in self.calls:
            call()
        self.calls.clear()
        told, self.told = self.told, []
        return told

    def has(self, number: bytes) -> bool:
        return number in self.lists.numbers("dnd")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(ONE)
    return made


@pytest.fixture
def current(world: World) -> World:
    """With the list in force."""
    world.look()
    world.child_ends()
    assert world.look(0.1) == [("compiled", "dnd"), ("in force", "dnd")]
    assert world.look() == [] and world.running is None and world.has(ONE)
    return world


def test_what_was_never_compiled_is_at_once_and_refuses_until_then(world: World) -> None:
    with pytest.raises(ListAbsent):
        world.has(ONE)
    assert world.look(0.0) == [] and world.running == spec_of(world.settings, "dnd")
    assert (world.watcher.busy, world.watcher.waiting) == (True, True)
    assert world.look(0.1) == []  # it goes on
    assert world.watcher.states()["dnd"] == (0, 0, True, True)
    world.child_ends()
    assert world.look(0.1) == [("compiled", "dnd"), ("in force", "dnd")]
    assert world.has(ONE) and not world.has(TWO)
    assert (world.watcher.busy, world.watcher.waiting) == (False, False)
    assert world.watcher.states()["dnd"] == (1, int(world.wall), False, False)


def test_a_change_is_compiled_once_it_is_at_rest(current: World) -> None:
    current.write(ONE, TWO)
    current.look(1.0)
    assert not current.works(), "it may be in the middle of being written"
    current.write(TWO)
    current.look(1.0)
    assert not current.works()
    assert current.watcher.states()["dnd"].stale
    current.look(1.0)
    assert current.works()
    current.child_ends()
    assert current.has(ONE), "the one before is in force until the new one is whole"
    assert current.look(0.1) == [("compiled", "dnd"), ("in force", "dnd")]
    assert current.has(TWO) and not current.has(ONE)
    assert not current.watcher.states()["dnd"].stale


def test_a_broken_file_keeps_the_one_before_and_is_told_once(current: World) -> None:
    current.write(b"not a number")
    current.look()
    current.child_ends()
    assert current.look() == [("refused", "dnd")]
    assert current.reasons == ["line 1: not a phone number"]
    for _ in range(3):
        assert current.look(LAST_RETRY) == [] and current.running is None
    assert current.has(ONE) and current.watcher.states()["dnd"].stale
    current.write(TWO)
    current.look(), current.look()
    current.child_ends()
    assert current.look() == [("compiled", "dnd"), ("in force", "dnd")] and current.has(TWO)


def test_what_failed_is_tried_again_less_and_less_often(current: World) -> None:
    current.write(TWO)
    waits = []
    for _ in range(10):
        waited = 0.0
        while current.running is None:
            current.look()
            waited += 5.0
        waits.append(waited)
        current.child_ends(Outcome("failed", "no space"))
        assert current.look() == [("failed", "dnd")]
    assert waits[1:4] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY] and waits[-1] == LAST_RETRY
    current.write(TWO)  # another file has its own chance
    current.look(), current.look(FIRST_RETRY)
    current.child_ends()
    current.look()
    assert current.has(TWO)


def test_a_file_that_is_gone_is_told_once_and_the_list_stays(current: World) -> None:
    (current.directory / "dnd.txt").unlink()
    assert current.look() == [("missing", "dnd")] and current.look() == []
    assert current.has(ONE) and current.watcher.states()["dnd"].stale


def test_what_a_command_compiled_comes_into_force(current: World) -> None:
    current.write(TWO)
    compile_list(spec_of(current.settings, "dnd"), current.lists.directory, KEY, 0)
    assert current.look() == [("in force", "dnd")] and current.running is None
    assert current.has(TWO)


def test_a_compiled_file_that_is_not_ours_is_never_believed(current: World) -> None:
    path = place_of(current.lists.directory, "dnd")
    other = current.directory / "other"
    other.write_bytes(b"447700900009\n")
    compile_list(ListSpec("dnd", "numbers", other, None, None, False), current.lists.directory, b"other".ljust(32), 0)
    assert current.look() == [("not believed", "dnd")] and current.look() == []
    assert current.reasons == ["was compiled under another installation's key"]
    assert current.has(ONE), "what is in force stays"
    path.write_bytes(b"cut")
    assert current.look() == [("not believed", "dnd")]


def test_a_reload_with_other_settings_compiles_anew_and_another_kind_is_another_list(current: World) -> None:
    before = current.lists.numbers("dnd")
    current.read("lists: {dnd: {file: dnd.txt, kind: numbers, region: GB, when_absent: pass}}")
    current.use()
    assert current.lists.numbers("dnd") is before and not before.refuses
    current.look()
    assert current.running == spec_of(current.settings, "dnd")
    current.child_ends()
    current.look()
    current.read("lists: {dnd: {file: dnd.txt, kind: senders}}")
    current.use()
    with pytest.raises(KeyError):
        current.lists.numbers("dnd")
    assert current.look() == [("not believed", "dnd")] and current.running is not None
    assert current.lists.by_name["dnd"].absent and not before.absent


def test_one_child_at_a_time(tmp_path: Path) -> None:
    world = World(tmp_path, "lists: {a: {file: dnd.txt, kind: numbers}, b: {file: dnd.txt, kind: senders}}")
    world.write(ONE)
    world.look()
    assert world.running is not None and world.running.name == "a"
    world.child_ends()
    world.look()
    assert world.running is not None and world.running.name == "b"
    world.watcher.stop()
    assert world.told[-1] == ("stopped", "")


def test_a_file_that_never_rests_shuts_no_other_out(tmp_path: Path) -> None:
    world = World(tmp_path, "lists: {a: {file: a.txt, kind: numbers}, b: {file: b.txt, kind: numbers}}")
    world.write(ONE, name="a.txt")
    world.write(TWO, name="b.txt")
    compiled: list[str] = []
    for _ in range(6):
        world.look(seconds=10.0)
        if world.running is None:
            continue
        compiled.append(world.running.name)
        world.write(ONE, name="a.txt")
        world.child_ends(Outcome("failed", "the file changed while it was read") if compiled[-1] == "a" else None)
    assert compiled == ["a", "b", "a"], "and itself it is tried each half minute"


def test_what_is_compiled_of_a_list_goes_with_it(current: World) -> None:
    current.write(ONE, TWO)
    current.look()
    current.look()
    directory = current.lists.directory
    (directory / ".dnd.work").mkdir()  # of a child that was killed
    assert current.works() and place_of(directory, "dnd").exists()
    current.read("")
    current.use()
    assert ("stopped", "") in current.look() and not current.works()
    assert [one.name for one in directory.iterdir()] == [".dnd.lock"]


def test_a_child_that_cannot_be_started_is_a_failure_like_any(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_spec: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(world.watcher, "_start", none)
    assert world.look() == [("failed", "dnd")] and world.look() == []
    assert world.reasons == ["no child process: Resource temporarily unavailable"]


class TestFilesOfRules:
    POLICY = "policies: {p: [{name: a, when: {keywords: {file: words.txt}}, do: refuse}]}"

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        (tmp_path / "words.txt").write_bytes(b"free prize\n")
        return World(tmp_path, "", self.POLICY)

    def test_a_change_at_rest_asks_for_a_reload_once(self, world: World) -> None:
        assert world.look() == [] and world.look() == []
        world.write(b"free", name="words.txt")
        assert world.look(1.0) == [] and world.reloads == 0
        assert world.look(1.0) == [("changed", "words.txt")] and world.reloads == 1
        for _ in range(3):  # refused, say: not again for the same file
            assert world.look() == [] and world.reloads == 1
        world.write(b"gratis", name="words.txt")
        world.look(1.0)
        assert world.look(1.0) == [("changed", "words.txt")] and world.reloads == 2

    def test_after_the_reload_the_new_file_is_the_known_one(self, world: World) -> None:
        world.write(b"free", name="words.txt")
        world.look()
        assert world.reloads == 1
        world.read("", self.POLICY)
        world.use()
        for _ in range(3):
            assert world.look() == []
        assert world.reloads == 1

    def test_one_that_is_gone_is_waited_for_a_look(self, world: World) -> None:
        (world.directory / "words.txt").unlink()
        assert world.look() == []
        assert world.look() == [("changed", "words.txt")]
