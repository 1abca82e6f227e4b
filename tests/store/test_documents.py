"""Documents beside the messages: several processes work on them at once."""

from __future__ import annotations

from contextlib import closing

import pytest

from smppd.store.api import StoreError
from tests.store.houses import House, embedded_only


@pytest.fixture
def store(house: House) -> House:
    with closing(house.place.keys()):
        return house


@embedded_only
def test_there_must_be_a_store(house: House) -> None:
    with pytest.raises(StoreError, match="no store here yet"):
        house.place.documents()


def test_what_was_added_is_there_once(store: House) -> None:
    one, other = store.opened("documents"), store.opened("documents")
    assert one.add("operator", "ana", b"1") and not other.add("operator", "ana", b"2")
    assert other.get("operator", "ana") == b"1" and other.get("hold", "ana") is None
    assert other.add("operator", "Ben", b"3")
    assert one.all("operator") == [("Ben", b"3"), ("ana", b"1")]


def test_only_who_knows_what_it_was_changes_it(store: House) -> None:
    one, other = store.opened("documents"), store.opened("documents")
    one.add("operator", "ana", b"1")
    assert one.replace("operator", "ana", b"1", b"2")
    assert not other.replace("operator", "ana", b"1", b"3")
    assert other.get("operator", "ana") == b"2"
    assert one.remove("operator", "ana") and not other.remove("operator", "ana")


def test_what_has_ended_goes(store: House) -> None:
    one = store.opened("documents")
    one.add("session", "a", b"1", until=100)
    one.add("session", "b", b"2", until=200)
    one.add("operator", "ana", b"3")
    assert one.expire(100.5) == 1
    assert [name for name, _ in one.all("session")] == ["b"] and one.get("operator", "ana") == b"3"


def test_no_number_is_given_twice(store: House) -> None:
    one, other = store.opened("documents"), store.opened("documents")
    assert [one.number("hold"), other.number("hold"), one.number("approval"), one.number("hold")] == [1, 2, 1, 3]


def test_nothing_of_what_was_deleted_is_left_in_the_file(store: House) -> None:
    one = store.opened("documents")
    secret = b"canary of a document " * 900
    one.add("hold", "1", secret)
    one.remove("hold", "1")
    one.close()
    assert b"canary" not in store.settled()
