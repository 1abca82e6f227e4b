"""Who is dead, by what one node has seen of the others: transcripts with a clock of their own."""

from __future__ import annotations

from smppd.store.nodes import BEAT, DEAD, Life
from smppd.store.postgres.leases import DOWN, LIVE, Facts, Lease, Watch


def lease(node: int, beat: int = 1, life: str = LIVE, *, epoch: int = 1, heir: int | None = None) -> Lease:
    return Lease(node, f"node {node}", epoch, beat, life, heir, 0)


class Onlooker:
    """Node 0, who beats and looks every two seconds unless the test lets time pass."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.watch = Watch(0)
        self.beats = 0

    def looks(self, *others: Lease, after: float = BEAT) -> None:
        self.now += after
        self.beats += 1
        self.watch.beaten(self.now)
        self.watch.look([lease(0, self.beats), *others], self.now)

    @property
    def dead(self) -> list[int]:
        return [one.node for one in self.watch.dead(self.now)]

    @property
    def lives(self) -> list[Life]:
        return [view.life for view in self.watch.views(Facts(), self.now)]


def test_who_beats_lives() -> None:
    one = Onlooker()
    for beat in range(30):
        one.looks(lease(1, beat))
        assert one.dead == [] and one.lives == [Life.LIVE, Life.LIVE]
        assert [other.node for other in one.watch.alive(one.now)] == [1]


def test_who_is_not_seen_to_beat_is_late_and_then_dead() -> None:
    one = Onlooker()
    one.looks(lease(1, 7))
    told = []
    for _ in range(6):
        told.append((one.lives[1], one.dead, one.watch.silent(1, one.now)))
        one.looks(lease(1, 7))
    assert told == [
        (Life.LIVE, [], 0.0),
        (Life.LIVE, [], 2.0),
        (Life.LIVE, [], 4.0),
        (Life.LATE, [], 6.0),
        (Life.LATE, [], 8.0),
        (Life.LATE, [1], DEAD),
    ]
    assert one.watch.alive(one.now) == []
    one.looks(lease(1, 8))
    assert one.dead == [] and one.lives[1] is Life.LIVE, "it was only slow"


def test_silence_starts_anew_where_the_onlooker_could_not_beat_himself() -> None:
    one = Onlooker()
    one.looks(lease(1, 7))
    for _ in range(4):
        one.looks(lease(1, 7))
    one.looks(lease(1, 7), after=6.0)
    assert one.dead == [] and one.watch.silent(1, one.now) == 0.0, "he slept too, or the database did"
    for _ in range(4):
        one.looks(lease(1, 7))
        assert one.dead == []
    one.looks(lease(1, 7))
    assert one.dead == [1]


def test_silence_starts_anew_where_the_database_was_away() -> None:
    one = Onlooker()
    one.looks(lease(1, 7))
    for _ in range(4):
        one.looks(lease(1, 7))
    one.watch.forget()
    one.looks(lease(1, 7))
    assert one.dead == []


def test_who_begins_again_is_seen_anew() -> None:
    one = Onlooker()
    one.looks(lease(1, 7))
    for _ in range(4):
        one.looks(lease(1, 7))
    one.looks(lease(1, 0, DOWN, epoch=2))
    assert one.dead == [] and one.lives == [Life.LIVE, Life.DOWN]
    one.looks(lease(1, 1, epoch=2))
    assert one.lives == [Life.LIVE, Life.LIVE]


def test_who_left_or_was_taken_over_is_not_dead_once_more() -> None:
    one = Onlooker()
    for _ in range(10):
        one.looks(lease(1, 7, "left", heir=2), lease(2, 9, "taken", heir=0), lease(3, 1, "something younger"))
    assert one.dead == [] and one.lives == [Life.LIVE, Life.LEFT, Life.TAKEN, Life.DOWN]
    assert [view.heir for view in one.watch.views(Facts(), one.now)] == [None, 2, 0, None]


def test_who_never_began_to_beat_is_for_others_to_look_at_after_the_same_time() -> None:
    one = Onlooker()
    for _ in range(6):
        assert one.dead == []
        one.looks(lease(1, 0, DOWN))
    assert one.dead == [1]


def test_a_node_that_is_gone_from_the_table_is_forgotten() -> None:
    one = Onlooker()
    one.looks(lease(1), lease(2))
    one.looks(lease(2))
    assert one.lives == [Life.LIVE, Life.LIVE] and one.watch.silent(1, one.now + 99) == 0.0
