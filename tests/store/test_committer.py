"""When a batch is committed and how its end is told: transcripts, with a back end and a clock that the test holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smppd.store.api import Availability, Batch, ColdRow, Damaged, Kind
from smppd.store.committer import GATHER, STORED, Committer, End, Ending

FULL, AWAY, BROKEN = End(Ending.FULL, "no space"), End(Ending.AWAY, "no answer"), End(Ending.BROKEN, "I/O error")


class Desk:
    """A committer with all around it: what the back end was given, how the sink heard of it, and the reactor's turns."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.given: list[Batch] = []
        self.heard: list[str] = []
        self.timed: list[tuple[float, int]] = []
        self.looks = Availability.OK
        self.pending = False
        self._ended: Callable[[End], None] | None = None
        self.it = Committer(
            self,
            later=lambda seconds, call: self.timers.append((self.now + seconds, call)),
            soon=lambda call: self.timers.append((self.now, call)),
            timed=lambda *told: self.timed.append(told),
            now=lambda: self.now,
        )
        self.it.begin(self)

    # -- the back end --

    def commit(self, batch: Batch, ended: Callable[[End], None]) -> None:
        assert self._ended is None, "one at a time"
        assert self.it.batch is not batch
        self.given.append(batch)
        self._ended = ended

    def look(self) -> Availability:
        return self.looks

    # -- the sink --

    def batch_committed(self, batch: Batch) -> None:
        self.heard.append(f"committed {said(batch)}")

    def batch_refused(self, batch: Batch, reason: str) -> None:
        self.heard.append(f"failed {said(batch)}: {reason}")

    def store_broken(self, reason: str) -> None:
        self.heard.append(f"broken: {reason}")

    # -- what the test says --

    def mark(self, *texts: bytes) -> None:
        self.it.batch.marks.extend(texts)

    def commits(self, *texts: bytes) -> None:
        """A commit that somebody waits for, from its beginning to its end."""
        self.mark(*texts)
        self.it.kick()
        self.passes(0)
        self.ends()

    def turn(self) -> None:
        """One end of a turn."""
        due, self.timers = [one for one in self.timers if one[0] <= self.now], []
        for _, call in due:
            call()

    def passes(self, seconds: float) -> None:
        """Time goes by; what is due happens."""
        self.now += seconds
        while due := [one for one in self.timers if one[0] <= self.now + 1e-9]:
            self.timers.remove(due[0])
            due[0][1]()

    def ends(self, end: End = STORED) -> str:
        """The batch under way ends; what the sink heard."""
        ended, self._ended = self._ended, None
        assert ended is not None
        ended(end)
        return self.heard[-1]

    def state(self) -> Availability:
        assert self.it.takes is (self.it.availability is Availability.OK)
        return self.it.availability

    def writing(self) -> bool:
        """Whether a batch is under way."""
        return self._ended is not None


def said(batch: Batch) -> str:
    return b"".join(batch.accepts + batch.marks).decode()


def test_a_batch_goes_at_the_end_of_the_turn_with_all_that_the_turn_brought() -> None:
    desk = Desk()
    desk.mark(b"1")
    desk.it.kick()
    desk.it.kick()
    desk.mark(b"2")
    assert not desk.writing() and desk.it.busy
    desk.passes(0)
    assert desk.writing() and said(desk.given[0]) == "12" and not desk.it.batch
    desk.mark(b"3")
    assert desk.ends() == "committed 12"
    assert desk.it.commits == 1 and desk.it.busy
    desk.passes(0.01)
    assert desk.ends() == "committed 3"
    assert desk.heard == ["committed 12", "committed 3"]


def test_an_empty_batch_is_not_committed_unless_the_back_end_has_something() -> None:
    desk = Desk()
    desk.it.kick()
    desk.it.nudge()
    desk.passes(1)
    assert not desk.given and not desk.it.busy
    desk.pending = True
    desk.it.kick()
    desk.passes(0)
    assert desk.ends() == "committed "


def test_what_nobody_waits_for_goes_with_what_somebody_does() -> None:
    desk = Desk()
    # Alone, it goes at once.
    desk.mark(b"1")
    desk.it.nudge()
    desk.passes(0)
    desk.ends()
    assert desk.it.commits == 1
    # So it does the second time: what nobody waits for is no sign that more is coming.
    desk.passes(0.001)
    desk.mark(b"2")
    desk.it.nudge()
    desk.passes(0)
    desk.ends()
    assert desk.it.commits == 2
    # After one commit that somebody asked for it goes at once too: nobody knows of a next one.
    desk.commits(b"x")
    desk.passes(0.001)
    desk.mark(b"y")
    desk.it.nudge()
    desk.passes(0)
    assert desk.ends() == "committed y"
    # After two of them close together it waits for the next of those,
    desk.passes(0.001)
    desk.commits(b"3")
    desk.passes(0.001)
    desk.mark(b"4")
    desk.it.nudge()
    desk.passes(0)
    assert not desk.writing()
    desk.passes(0.001)
    desk.mark(b"5")
    desk.it.kick()
    desk.passes(0)
    assert desk.ends() == "committed 45"
    assert desk.it.commits == 6 and not desk.it.batch
    # three milliseconds at the most.
    desk.passes(0.003)
    desk.mark(b"6")
    desk.it.kick()
    desk.passes(0)
    desk.ends()
    desk.mark(b"7")
    desk.it.nudge()
    desk.passes(0.002)
    assert not desk.writing()
    desk.passes(0.001)
    desk.ends()
    assert desk.it.commits == 8


def test_one_message_at_a_time_gathers_nothing() -> None:
    desk = Desk()
    for n in range(3):
        desk.passes(0.02)
        desk.commits(b"%d" % n)
        desk.passes(0.001)
        desk.mark(b"receipt")
        desk.it.nudge()
        desk.passes(0)
        assert desk.ends() == "committed receipt", "3 ms later it would be alone as well"


def test_what_came_behind_a_commit_has_three_milliseconds_of_its_own() -> None:
    desk = Desk()
    for mark in (b"1", b"2"):
        desk.commits(mark)
        desk.passes(0.002)
    desk.mark(b"a")
    desk.it.nudge()
    desk.passes(0.001)
    desk.commits(b"3")
    assert desk.heard[-1] == "committed a3"
    desk.passes(0.001)
    desk.mark(b"b")
    desk.it.nudge()
    desk.passes(0.001)  # the first one's three are over
    assert not desk.writing()
    desk.passes(0.001)
    desk.commits(b"4")
    assert desk.heard[-1] == "committed b4", "so at 500 messages a second a message has one commit"
    desk.passes(1)
    assert not desk.writing() and desk.it.commits == 4 and not desk.timers


def test_the_next_commit_follows_at_once_only_for_those_who_wait() -> None:
    desk = Desk()
    desk.mark(b"1")
    desk.it.kick()
    desk.passes(0)
    desk.mark(b"2")
    desk.it.nudge()
    desk.ends()
    assert not desk.writing() and desk.it.batch
    desk.passes(0.003)
    assert desk.writing()
    desk.mark(b"3")
    desk.it.kick()
    desk.ends()
    assert not desk.writing(), "the sockets are looked at before"
    desk.turn()
    assert not desk.writing()
    desk.mark(b"4")
    desk.it.kick()
    desk.turn()
    assert desk.writing(), "somebody waits"
    assert not desk.it.batch, "what came with that look goes along"
    desk.ends()
    assert desk.it.commits == 3 and not desk.it.batch


def test_how_long_it_took_and_how_many_records_it_had_is_told() -> None:
    desk = Desk()
    desk.it.batch.records.append(b"record")
    desk.it.kick()
    desk.passes(0)
    desk.passes(0.25)
    desk.ends()
    assert desk.timed == [(0.25, 1)]
    desk.mark(b"1")
    desk.it.kick()
    desk.passes(0)
    desk.ends(FULL)
    assert len(desk.timed) == 1, "only of what is stored"


@pytest.mark.parametrize(("end", "state"), [(FULL, Availability.FULL), (AWAY, Availability.AWAY)])
def test_what_is_refused_keeps_what_has_happened_and_loses_what_is_answered(end: End, state: Availability) -> None:
    desk = Desk()
    refused = desk.it.batch
    row, moved = ColdRow(Kind.QUEUE, "acme", b"", 1, 9, b"1"), ColdRow(Kind.MAIL, "acme", b"", 2, 9, b"2")
    item = Damaged("frame", "acme", 3, "send", "ValueError", 1, 2, b"3")

    def then() -> None:
        raise AssertionError("nothing is stored")

    refused.accepts.append(b"accept")
    refused.accepted.append("message")
    refused.records.append(b"record")
    refused.secrets.append(b"secrets")
    refused.put.append(row)
    refused.mails.append("mail")
    refused.acks.append("ack")
    desk.mark(b"mark")
    refused.events.append(b"event")
    refused.moves.append(moved)
    refused.drop.append((1, "acme", b"", 4))
    refused.segments.append(5)
    refused.meta.append(("number", 6))
    refused.damaged.append(item)
    refused.released.append("released")
    refused.then.append(then)
    desk.it.kick()
    desk.passes(0)
    desk.mark(b"newer")
    assert desk.ends(end) == f"failed acceptmark: {end.reason}"
    assert desk.state() is state and desk.it.commits == 0
    following = desk.it.batch
    assert following.marks == [b"mark", b"newer"], "in the order in which it happened"
    assert (following.events, following.moves, following.drop) == ([b"event"], [moved], [(1, "acme", b"", 4)])
    assert (following.segments, following.meta, following.damaged) == ([5], [("number", 6)], [item])
    assert (following.released, following.then) == (["released"], [then])
    assert not (following.accepts or following.accepted or following.records or following.secrets)
    assert not (following.put or following.mails or following.acks)
    desk.passes(10)
    assert not desk.writing(), "it is tried again when somebody says so"


def test_a_refused_batch_is_tried_again_until_there_is_room() -> None:
    desk = Desk()
    desk.mark(b"1")
    desk.it.kick()
    desk.passes(0)
    desk.looks = Availability.FULL
    desk.ends(FULL)
    desk.it.watch()
    assert not desk.writing() and desk.state() is Availability.FULL
    desk.looks = Availability.OK
    desk.it.watch()
    assert desk.writing()
    desk.it.watch()
    assert len(desk.given) == 2, "one at a time"
    desk.ends(FULL)
    desk.it.watch()
    assert desk.ends() == "committed 1"
    assert desk.state() is Availability.OK
    assert desk.heard == ["failed 1: no space", "failed 1: no space", "committed 1"]


def test_room_for_a_small_batch_is_not_the_reserve() -> None:
    desk = Desk()
    desk.looks = Availability.FULL
    desk.it.watch()
    assert desk.state() is Availability.FULL, "known before the first message"
    desk.mark(b"1")
    desk.it.kick()
    desk.passes(0)
    assert desk.ends() == "committed 1"
    assert desk.state() is Availability.FULL
    desk.looks = Availability.OK
    desk.mark(b"2")
    desk.it.kick()
    desk.passes(0)
    desk.ends()
    assert desk.state() is Availability.OK


def test_where_nothing_was_refused_it_is_ok_again_with_a_look() -> None:
    desk = Desk()
    desk.looks = Availability.AWAY
    desk.it.watch()
    assert desk.state() is Availability.AWAY
    desk.looks = Availability.OK
    desk.it.watch()
    assert desk.state() is Availability.OK and not desk.given


def test_after_an_error_nothing_is_committed_any_more() -> None:
    desk = Desk()
    desk.mark(b"1")
    desk.it.kick()
    desk.passes(0)
    desk.mark(b"2")
    assert desk.ends(BROKEN) == "broken: I/O error"
    assert desk.it.batch.marks == [b"2"], "of the first nobody knows, so it is not written twice"
    desk.it.kick()
    desk.it.watch()
    desk.passes(10)
    assert desk.heard == ["broken: I/O error"] and len(desk.given) == 1


def test_what_the_sink_puts_into_the_next_batch_goes_on() -> None:
    desk = Desk()
    told = desk.batch_committed

    def committed(batch: Batch) -> None:
        told(batch)
        if len(desk.heard) == 1:
            desk.mark(b"2")
            desk.it.kick()

    desk.batch_committed = committed  # type: ignore[method-assign]
    desk.mark(b"1")
    desk.it.kick()
    desk.passes(0)
    desk.ends()
    desk.passes(0)
    assert desk.ends() == "committed 2"


def test_a_gathering_that_is_overtaken_is_called_off() -> None:
    class Timer:
        def __init__(self, after: float, call: Callable[[], None]) -> None:
            self.after, self.call, self.off = after, call, False

        def cancel(self) -> None:
            self.off = True

    desk = Desk()
    timers: list[Timer] = []

    def later(after: float, call: Callable[[], None]) -> Timer:
        timers.append(Timer(after, call))
        return timers[-1]

    desk.it._later = later
    desk.commits(b"1")
    desk.now += 0.002
    desk.commits(b"2")
    desk.mark(b"3")
    desk.it.nudge()
    assert [timer.off for timer in timers] == [False] and not desk.writing()
    desk.now += 0.001
    desk.commits(b"4")
    assert desk.heard[-1] == "committed 34" and [timer.off for timer in timers] == [True]
    desk.mark(b"5")
    desk.it.nudge()
    assert [(timer.after, timer.off) for timer in timers] == [(GATHER, True), (GATHER, False)]
    timers[-1].call()
    desk.passes(0)
    assert desk.ends() == "committed 5" and not timers[-1].off


def test_a_timer_that_fires_early_ends_the_gathering() -> None:
    desk = Desk()
    for mark in (b"1", b"2"):
        desk.commits(mark)
        desk.passes(0.001)
    desk.mark(b"3")
    desk.it.nudge()
    ((_, fire),) = desk.timers
    desk.timers.clear()
    fire()
    desk.passes(0)
    assert desk.ends() == "committed 3" and not desk.timers
