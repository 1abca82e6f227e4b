"""Copies of stores, whatever is in them: odd values, and sides that are not as they should be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from smppd.store import copying
from smppd.store.api import StoreError
from smppd.store.copying import COUNTERS, INDEXED, PURGE, TABLES, Different, Mark, Row, Side, Table, Type, What, rows_of
from smppd.store.postgres.copying import PostgresSide
from smppd.store.sqlite.copying import SqliteSide
from tests import postgres
from tests.cli.killed import EVERY

LARGE = st.integers(-(1 << 63), (1 << 63) - 1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(("", "\0", "a\0b", "\ufffd", "é", "'"))
VALUES: dict[Type, st.SearchStrategy[Any]] = {
    Type.NUMBER: LARGE,
    Type.SMALL: LARGE,
    Type.TEXT: TEXTS,
    Type.OCTETS: st.binary(max_size=20),
    Type.MAYBE: st.none() | st.binary(max_size=20),
    Type.MAYBE_NUMBER: st.none() | LARGE,
}
UNIQUE = {"consents": 1}
"""Besides the key, the column of which there are no two the same."""


def _rows(table: Table) -> st.SearchStrategy[list[Row]]:
    if table.whole:
        return st.just([])
    columns = [VALUES[kind] for _, kind in table.columns]
    if table.name == "journal":
        columns[:2] = [st.integers(1, (1 << 31) - 1), st.integers(0, (1 << 32) - 1)]
    rows = st.lists(st.tuples(*columns), max_size=7)
    return rows.map(lambda found: _distinct(table, found))


def _distinct(table: Table, rows: list[Row]) -> list[Row]:
    """Without rows whose keys would be the same where a text has no U+0000 and a number 32 bits."""
    found: dict[Any, Row] = {}
    for row in rows:
        fitting: list[Any] = [
            str(value).replace("\0", "\ufffd") if isinstance(value, str) else value for value in row[: table.key]
        ]
        key = tuple(
            copying.small(one) if kind is Type.SMALL else one
            for one, (_, kind) in zip(fitting, table.columns, strict=False)
        )
        found[key] = row
    if table.name in UNIQUE:
        return list({row[UNIQUE[table.name]]: row for row in found.values()}.values())
    return list(found.values())


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).map(
    lambda name: "n" + name
)
STORES = st.fixed_dictionaries(
    {table.name: _rows(table) for table in TABLES}
    | {
        "states": st.lists(st.sampled_from(copying.CHAIN_STATES), unique=True).map(
            lambda names: [(name, name.encode() + b"\0") for name in names]
        ),
        "numbers": st.dictionaries(NAMES, LARGE, max_size=3).map(lambda found: list(found.items())),
        "counters": st.lists(st.tuples(st.sampled_from(COUNTERS), st.integers(0, 1 << 62)), max_size=1),
        "anchors": st.lists(st.tuples(LARGE, st.binary(min_size=1, max_size=32)), max_size=1),
        "facts": st.tuples(
            st.dictionaries(st.sampled_from(INDEXED), st.integers(0, 1 << 62).map(lambda number: b"%d" % number)),
            st.dictionaries(NAMES.map(lambda name: PURGE + "p" + name), st.just(b'{"a": [1]}'), max_size=3),
        ).map(lambda both: [*both[0].items(), *both[1].items()]),
    }
)


def _filled(directory: Path, store: dict[str, list[Row]]) -> SqliteSide:
    side = SqliteSide(directory)
    directory.mkdir(parents=True)
    side.prepare()
    _hasty(side)
    for table in TABLES:
        side.put(table, store[table.name], None, complete=True)
    side.settle()
    return side


def _hasty(side: SqliteSide) -> None:
    """Nothing of these stores has to be there after a loss of power."""
    for kind in ("keys", "data"):
        side._file(kind).run("PRAGMA synchronous = OFF")


def _all(side: Side) -> dict[str, list[Row]]:
    return {table.name: sorted((row for page in rows_of(side, table) for row in page), key=repr) for table in TABLES}


def _quiet(_what: str, _done: int, _all: int) -> None:
    """Nobody looks."""


@pytest.fixture
def server() -> Iterator[Any]:
    yield postgres.server()


NUMBERED = itertools.count()


# Each example makes stores: to make a failing one smaller would take minutes.
@settings(
    max_examples=100 if EVERY else 8,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(store=STORES, page=st.integers(1, 4))
def test_whatever_is_stored_is_the_same_there_and_back(
    store: dict[str, list[Row]], page: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Any
) -> None:
    monkeypatch.setattr(copying, "PAGE", page)
    number = next(NUMBERED)
    address = server.empty()
    with (
        closing(_filled(tmp_path / f"from{number}", store)) as ours,
        closing(PostgresSide(address, 5)) as theirs,
        closing(SqliteSide(tmp_path / f"back{number}")) as back,
    ):
        for source, destination in ((ours, theirs), (theirs, back)):
            destination.write_mark(Mark(What.COMING, "1", "other"))
            destination.prepare()
            _hasty(ours)
            _hasty(back)
            with source.frozen():
                copying.copy_rows(source, destination, _quiet)
                assert copying.copy_rows(source, destination, _quiet) == 0  # all is there
                copying.compare(source, destination, _quiet)
            destination.settle()
        expected = {
            table.name: sorted((theirs.fits(table, row) for row in store[table.name]), key=repr) for table in TABLES
        }
        assert _all(theirs) == expected
        assert _all(back) == expected
    server.give_back(address)


def test_something_else_is_found(tmp_path: Path, server: Any) -> None:
    empty: dict[str, list[Row]] = {table.name: [] for table in TABLES}
    some = empty | {"erasures": [(1, "{}"), (2, "{}")], "opt_outs": [(b"k", "acme", "*", 1, "word")]}
    with closing(_filled(tmp_path / "a", some)) as ours, closing(_filled(tmp_path / "b", some)) as theirs:
        copying.compare(ours, theirs, _quiet)
        theirs._file("data").run("UPDATE erasures SET facts = ? WHERE number = 2", ("{ }",))
        with pytest.raises(Different, match=r"erasures: .* has 2 rows"):
            copying.compare(ours, theirs, _quiet)


def test_a_frozen_store_is_written_by_nobody_else(tmp_path: Path, server: Any) -> None:
    empty: dict[str, list[Row]] = {table.name: [] for table in TABLES}
    address = server.empty()
    with closing(_filled(tmp_path / "a", empty)) as ours, closing(SqliteSide(tmp_path / "a")) as other:
        other._file("keys").run("PRAGMA busy_timeout = 10")
        with ours.frozen(), pytest.raises(StoreError), other.frozen():
            pass
        with other.frozen():
            pass
    with closing(PostgresSide(address, 0)) as here, closing(PostgresSide(address, 0)) as there:
        there._db.run("SET lock_timeout = 10")
        with here.frozen(), pytest.raises(StoreError, match="somebody is writing"), there.frozen():
            pass
        with there.frozen():
            pass
    server.give_back(address)


def test_a_mark_that_was_altered_is_no_mark(tmp_path: Path) -> None:
    for text in (b"", b"{}", b"[1]", b'{"what": "away", "id": "1", "other": "x"}'):
        (tmp_path / "copied.json").write_bytes(text)
        with closing(SqliteSide(tmp_path)) as side, pytest.raises(StoreError, match="was altered"):
            side.read_mark()
