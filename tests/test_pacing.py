"""Long work rests between its steps where it runs beside the reactor, and nowhere else."""

from __future__ import annotations

import threading

import pytest

from smppd import pacing
from smppd.pacing import REST, WORK, breathe, breathing


class Time:
    """What the module asks of `time`, without the time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rests: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    fake = Time()
    monkeypatch.setattr(pacing, "time", fake)
    return fake


def test_it_rests_after_so_much_work_and_then_works_again(time: Time) -> None:
    with breathing():
        breathe()
        assert time.rests == []
        time.now += WORK * 0.6
        breathe()
        assert time.rests == []
        time.now += WORK * 0.6
        breathe()
        assert time.rests == [REST]
        time.now += WORK * 0.9
        breathe()
        assert time.rests == [REST]


def test_one_within_another_is_the_same(time: Time) -> None:
    with breathing():
        with breathing():
            time.now += WORK * 2
            breathe()
        time.now += WORK * 2
        breathe()
    time.now += WORK * 2
    breathe()
    assert time.rests == [REST, REST]


def test_outside_it_never_rests(time: Time) -> None:
    breathe()
    with breathing():
        pass
    time.now += 10
    breathe()
    assert time.rests == []


def test_it_ends_with_an_error_too(time: Time) -> None:
    with pytest.raises(ZeroDivisionError), breathing():
        raise ZeroDivisionError
    time.now += 10
    breathe()
    assert time.rests == []


def test_another_thread_is_none_of_its_business(time: Time) -> None:
    with breathing():
        time.now += 10
        other = threading.Thread(target=breathe)
        other.start()
        other.join()
        assert time.rests == []
