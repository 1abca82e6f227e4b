"""A search by number that ends after each stretch and goes on later finds what one finds that goes through all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from smppd.ids import id_time
from smppd.records import search
from smppd.records.indexer import Indexer
from smppd.records.lookup import LogReader
from smppd.records.search import by_number
from smppd.store.log import LAST_ID
from tests.store.builder import DAY, Builder
from tests.store.houses import House

SUBJECT = b"447700900999"


@pytest.fixture
def log(house: House) -> Iterator[Builder]:
    builder = Builder(house)
    yield builder
    builder.close()


def fill(log: Builder) -> list[int]:
    """Six days of three accounts, indexed in many pieces; some behind them that are not. Ids of the subject's."""
    ids = []
    for row in range(60):
        log.now += DAY / 10
        for n in range(3):
            account = ("acme", "other", "third")[(row + n) % 3]
            if (row + n) % 4 == 0:
                ids.append(log.record(destination=SUBJECT, account=account))
            else:
                log.record(destination=b"4477009%05d" % row, account=account)
        log.commit()
        if row == 54:
            rows = log.place.index()
            indexer = Indexer(rows, id_time, run=10, fan=3)
            while indexer.step():
                pass
            rows.close()
    return sorted(ids, reverse=True)


def pages(reader: LogReader, stop: int) -> tuple[list[int], int]:
    """All ids by searches that end after `stop` stretches each, and how many searches that took."""
    found: list[int] = []
    before, count = LAST_ID, 0
    while True:
        calls: list[int] = []

        def reached(low: int, calls: list[int] = calls) -> bool:
            calls.append(low)
            return len(calls) == stop

        for one in by_number(reader, [SUBJECT], before=before, reached=reached):
            found.append(one.record.header.record_id)
            assert found[-1] < before
        count += 1
        if len(calls) < stop:
            return found, count
        assert calls[-1] < before
        before = calls[-1]


@pytest.mark.parametrize("keys", [1, 5, 2000])
@pytest.mark.parametrize("stop", [1, 3])
def test_pages_find_what_one_search_finds(log: Builder, monkeypatch: pytest.MonkeyPatch, keys: int, stop: int) -> None:
    ids = fill(log)
    monkeypatch.setattr(search, "_KEYS", keys)
    with log.reader() as reader:
        assert [one.record.header.record_id for one in by_number(reader, [SUBJECT])] == ids
        found, count = pages(reader, stop)
        assert found == ids
        assert count > 3 if (keys, stop) == (1, 1) else count >= 1


def test_it_goes_on_below_an_id(log: Builder) -> None:
    ids = fill(log)
    with log.reader() as reader:
        for at in (0, 7, len(ids) - 1):
            found = [one.record.header.record_id for one in by_number(reader, [SUBJECT], before=ids[at])]
            assert found == ids[at + 1 :]
