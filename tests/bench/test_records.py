"""The benchmark of a big log, on a small one: what it fills is what it says, and its page has every figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import records
from smppd.config import load
from smppd.records.lookup import LogReader
from smppd.records.search import accounts, by_number
from smppd.store.sqlite.log_rows import SqliteRecords
from smppd.vault.kek import load_kek
from smppd.vault.numbers import search_forms


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = records.prepare(tmp_path_factory.mktemp("bench") / "small")
    told = records.fill(path, 2000, 1, lambda _line: None)
    assert told["octets"] > 2000 * 300 and told["fill_seconds"] > 0
    return path


def test_the_log_is_as_it_is_said(filled: Path) -> None:
    settings = load(filled)
    with LogReader(SqliteRecords(settings.store.directory), load_kek(settings.keys)) as reader:
        assert len(accounts(reader.records)) == records.ACCOUNTS
        periods = [scope for scope, _ in reader.records.keys.scan(b"period/")]
        assert len(periods) == 2 * records.ACCOUNTS * records.DAYS

        def count(number: str) -> int:
            return len(list(by_number(reader, search_forms(number).exact)))

        assert count(records.RARE) == records.RARE_RECORDS and count(records.NOBODY) == 0
        assert count(records.COMMON) == pytest.approx(200, abs=25)
        found = next(by_number(reader, search_forms(records.RARE).exact))
        assert [event.state for event in reader.events(found.record.header.record_id)] == [22, 2, 26]


def test_a_command_is_timed_and_a_failure_is_told(filled: Path) -> None:
    figure = records.timed(("keys", "list", "--config", str(filled)))
    assert figure.seconds >= 0 and figure.cpu > 0 and figure.mib > 10
    records.forget_pages(load(filled).store.directory)
    with pytest.raises(RuntimeError, match="failed"):
        records.timed(("keys", "list", "--config", "/nowhere"))


def test_the_page_has_every_figure() -> None:
    run = {
        "records": 2000, "label": "before", "fill_seconds": 2.0, "index_seconds": 1.0, "octets": 1 << 20,
        "figures": {"search, rare, cold": records.Figure(1.25, 1.5, 70.2)},
    }  # fmt: skip
    page = records.page([run])
    assert "## 2,000 records, before" in page and "| search, rare, cold | 1.25 | 1.50 | 70 |" in page
    assert "524 octets a record" in page
