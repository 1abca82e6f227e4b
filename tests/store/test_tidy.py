"""What every back end tidies by: blocks that are read one after another, and a thread that looks whether somebody asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from smppd.store import tidy
from smppd.store.api import StoreError
from smppd.store.tidy import ASKED, DONE, Requests, Sealed, TidyThread, kept


class Everything:
    """``tidy.Entries``: nothing is over."""

    dead = 0

    def look(self, block: bytes) -> None:
        """Nothing to say."""

    def doubt(self) -> None:
        """Nothing to say."""

    def keep(self, block: bytes) -> bytes:
        return block


def test_a_long_journal_is_never_in_memory_as_a_whole() -> None:
    read: list[int] = []

    def blocks() -> Iterator[Sealed]:
        for counter in range(8):
            read.append(counter)
            yield 1, counter, bytes(tidy._BLOCK // 2)

    made = kept(blocks(), lambda block: block[2], Everything(), frozenset({(1, 2)}))
    assert len(next(made)) == tidy._BLOCK and read == [0, 1]
    assert len(next(made)) == tidy._BLOCK and read == [0, 1, 2, 3, 4], "what does not open is passed over"
    assert [len(block) for block in made] == [tidy._BLOCK, tidy._BLOCK // 2]


class Table:
    """``tidy.Requests``; ``wrong``: what stands in the way of the next look."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.wrong: list[str] = []
        self.opened = self.closed = 0

    def connect(self) -> Requests:
        self.opened += 1
        return self

    def number(self, name: str) -> int:
        if self.wrong:
            raise StoreError(self.wrong.pop())
        return self.numbers.get(name, 0)

    def close(self) -> None:
        self.closed += 1


def test_what_is_wrong_is_told_and_the_thread_goes_on_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "_LOOK", 0.001)
    table, stop, asked = Table(), threading.Event(), threading.Event()
    table.wrong.append("no more files can be opened")
    tokens: list[int] = []
    told: list[str] = []

    def wanted(token: int) -> None:
        tokens.append(token)
        asked.set()

    def failed(reason: str) -> None:
        told.append(reason)
        table.numbers[ASKED] = 7

    thread = TidyThread(table.connect, stop, wanted, failed)
    thread.start()
    assert asked.wait(20)
    table.numbers[DONE] = 7
    stop.set()
    thread.join(20)
    assert tokens == [7] and told == ["no more files can be opened"]
    assert table.opened == table.closed == 2
