"""Messages of a time, newest first, in pages that neither skip nor repeat, and never look through more than they may."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from smppd.ids import id_time
from smppd.records.indexer import Indexer
from smppd.records.listing import Place, by_time
from smppd.records.lookup import LogReader
from smppd.store.log import LAST_ID
from smppd.vault.seal import RecordHeader
from tests.store.builder import DAY, Builder
from tests.store.houses import House

HOUR = 3600.0
ALL = float("inf")


@pytest.fixture
def log(house: House) -> Iterator[Builder]:
    builder = Builder(house)
    yield builder
    builder.close()


def index(builder: Builder) -> None:
    rows = builder.place.index()
    indexer = Indexer(rows, id_time, run=10, fan=3)
    while indexer.step():
        pass
    rows.close()


def fill(log: Builder, rows: int, every: float = 60.0) -> list[int]:
    """Rows of three records, of two accounts in turn."""
    ids = []
    for row in range(rows):
        log.now += every
        ids += [log.record(account="acme" if (row + n) % 2 else "other") for n in range(3)]
        log.commit()
    return ids


def every_page(
    reader: LogReader,
    since: float,
    until: float,
    limit: int,
    most: int,
    accounts: list[str] | None = None,
    asked: int = 0,
    wanted: object = None,
) -> tuple[list[int], int]:
    """All that is found page by page, and in how many pages."""
    found: list[int] = []
    place, pages = Place(), 0
    while True:
        page = by_time(reader, since, until, accounts, place, limit, most, wanted, asked)  # type: ignore[arg-type]
        assert len(page.found) <= limit
        found += [one.record.header.record_id for one in page.found]
        pages += 1
        if page.more is None:
            return found, pages
        assert Place.from_text(page.more.as_text()) == page.more
        place = page.more


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2, 5), (7, 1000), (1000, 4), (1000, 1000)])
def test_all_of_a_time_in_pages(log: Builder, indexed: bool, limit: int, most: int) -> None:
    start = log.now
    ids = fill(log, 20)
    if indexed:
        index(log)
    fill(log, 3)
    with log.reader() as reader:
        found, _ = every_page(reader, start, start + 20 * 60 + 1, limit, most)
        assert found == sorted(ids, reverse=True)
        found, _ = every_page(reader, start + 300, start + 600, limit, most)
        assert found == sorted(ids[12:27], reverse=True)


def test_of_some_accounts(log: Builder) -> None:
    ids = fill(log, 10)
    with log.reader() as reader:
        found, _ = every_page(reader, 0, ALL, 4, 1000, ["acme"])
        acme = [one for at, one in enumerate(ids) if (at // 3 + at % 3) % 2]
        assert found == sorted(acme, reverse=True)
        assert every_page(reader, 0, ALL, 4, 1000, [])[0] == []


def test_stretches_of_other_times_are_not_read(log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    start = log.now
    old = fill(log, 2)
    log.now += DAY
    fill(log, 400, 1.0)
    index(log)
    with log.reader() as reader:
        read: list[int] = []
        before = reader.records.before

        def counted(seq: int, limit: int) -> list[tuple[int, bytes]]:
            rows = before(seq, limit)
            read.append(len(rows))
            return rows

        monkeypatch.setattr(reader.records, "before", counted)
        found, pages = every_page(reader, start, start + HOUR, 50, 100_000)
        assert found == sorted(old, reverse=True) and pages == 1
        assert sum(read) < 100


def test_it_stops_where_it_was_asked_enough(log: Builder) -> None:
    ids = fill(log, 10)
    calls: list[int] = []

    def wanted(header: RecordHeader) -> bool:
        calls.append(header.record_id)
        return header.record_id == ids[1]

    with log.reader() as reader:
        page = by_time(reader, 0, ALL, None, Place(), 50, 1000, wanted, 8)
        assert page.found == [] and len(calls) == 8 and page.more is not None
        calls.clear()
        found, pages = every_page(reader, 0, ALL, 50, 1000, None, 8, wanted)
        assert found == [ids[1]] and pages == 4
        assert sorted(calls) == sorted(ids), "each was asked for once"


def test_nothing_in_an_empty_log(log: Builder) -> None:
    with log.reader() as reader:
        page = by_time(reader, 0, ALL, None, Place(), 50, 1000)
        assert (page.found, page.more, page.reached) == ([], None, None)


@pytest.mark.parametrize("text", ["", "1", "x-1", "1-x", "-1-1", f"{LAST_ID:x}-0", "1-" + "f" * 17])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError):
        Place.from_text(text)
