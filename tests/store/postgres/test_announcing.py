"""What nodes tell each other: as it was told, in notes that the server takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.store.api import ColdRow, Kind
from smppd.store.postgres.announcing import FEW, Note, Told, changed, look, read, rows_are_there, rows_put

_NAMES = st.text(max_size=60)
_TOLD = st.tuples(
    st.integers(1, 7), _NAMES, st.lists(st.integers(0, (1 << 63) - 1), max_size=FEW).map(lambda ids: tuple(ids))
)


def row(identity: int, owner: str = "acme") -> ColdRow:
    return ColdRow(Kind.MAIL, owner, b"", identity, 1, b"", shared=True)


@given(st.lists(_TOLD, max_size=60))
def test_rows_are_told_in_notes_that_the_server_takes(told: list[Told]) -> None:
    notes = rows_are_there(3, told)
    assert all(len(note.encode()) < 8000 for note in notes)
    heard: list[Told] = []
    for note in map(read, notes):
        assert note is not None and note.node == 3 and note.topic is None and not note.look
        heard += note.rows
    assert heard == told


def test_of_many_rows_it_is_told_that_there_are_some() -> None:
    (note,) = rows_put(1, [row(one) for one in range(FEW + 1)], [(Kind.QUEUE, "lane")])
    assert read(note) == Note(1, ((Kind.MAIL, "acme", ()), (Kind.QUEUE, "lane", ())))
    (note,) = rows_put(1, [row(7), row(9), row(8, "beta")])
    assert read(note) == Note(1, ((Kind.MAIL, "acme", (7, 9)), (Kind.MAIL, "beta", (8,))))
    assert rows_put(1, [], []) == [] and rows_put(1, [row(1, "a" * 9000)]) == []


@given(st.text(max_size=600), st.text(max_size=20))
def test_what_changed_is_told_as_it_is(detail: str, topic: str) -> None:
    assert read(changed(None, topic, detail)) == Note(None, (), topic, detail)


def test_what_is_too_long_is_refused_where_it_is_said() -> None:
    assert read(changed(1, "opt-outs", "x" * 4000)) == Note(1, (), "opt-outs", "x" * 4000)
    with pytest.raises(ValueError, match="too long"):
        changed(1, "opt-outs", "x" * 8000)


def test_a_look_is_asked_for() -> None:
    assert read(look(5)) == Note(5, look=True)


@given(
    st.text()
    | st.recursive(
        st.none() | st.integers() | st.text(), lambda some: st.lists(some) | st.dictionaries(st.text(), some)
    ).map(str)
)
def test_what_others_put_into_the_channel_is_passed_over(payload: str) -> None:
    assert read(payload) is None or isinstance(read(payload), Note)


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "7",
        "[]",
        "{}",
        '{"from":"a"}',
        '{"from":1,"rows":7}',
        '{"from":1,"rows":[[1,"a"]]}',
        '{"from":1,"rows":[["1","a",[]]]}',
        '{"from":1,"rows":[[1,7,[]]]}',
        '{"from":1,"rows":[[1,"a",["x"]]]}',
        '{"from":1,"topic":7}',
        '{"from":1,"topic":"a","detail":7}',
        "[" * 100_000,
    ],
)
def test_what_is_not_ours_is_none(payload: str) -> None:
    assert read(payload) is None
