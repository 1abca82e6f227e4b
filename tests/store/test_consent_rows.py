"""The register of consents in data.db."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from smppd.store.api import StoreError
from smppd.store.consents import FOREVER, ConsentRow, Consents
from tests.store.houses import House, embedded_only


@pytest.fixture
def rows(house: House) -> Iterator[Consents]:
    house.place.keys().close()
    made = house.place.consents()
    yield made
    made.close()


def row(digest: int, subject: int = 1, given: int = 100, account: str = "acme") -> ConsentRow:
    return ConsentRow(b"%016d" % digest, account, b"%016d" % subject, b"s" * 16, -given, FOREVER, b"sealed %d" % digest)


def test_rows_come_back_once_each(rows: Consents) -> None:
    assert rows.add([row(1), row(2, 2), row(1)]) == 2 and rows.add([row(1)]) == 0
    assert [(one.digest, one.withdrawn, one.until) for one in rows.of([row(1).subject, row(2, 2).subject])] == [
        (row(1).digest, 0, FOREVER),
        (row(2).digest, 0, FOREVER),
    ]
    assert [one.sealed for one in rows.named([row(2).digest, b"none"])] == [b"sealed 2"]
    assert rows.count() == 2 and rows.of([]) == []


def test_a_withdrawal_ends_what_is_older_and_comes_later(rows: Consents) -> None:
    rows.add([row(1)])
    (one,) = rows.of([row(1).subject])
    assert rows.withdraw([(one, one._replace(withdrawn=200, until=900, sealed=b"ended"))])
    assert not rows.withdraw([(one, one._replace(withdrawn=300))]), "it is not that any more"
    rows.add([row(2, given=150), row(3, given=250), row(4, subject=2, given=150)])
    assert [(found.digest[-1:], found.withdrawn) for found in rows.of([row(1).subject])] == [
        (b"1", 200),
        (b"2", 200),
        (b"3", 0),
    ]
    assert [number for number, _ in rows.standing(0, 10)] == [3, 4] and rows.standing(3, 10)[0][0] == 4
    assert rows.expire(899) == 0 and rows.expire(900) == 2 and rows.count() == 2


def test_what_is_removed_leaves_nothing(rows: Consents, house: House) -> None:
    rows.add([row(1), row(2)])
    assert rows.remove([1, 7]) == 1
    assert b"sealed 1" not in house.octets()


def test_accounts(rows: Consents) -> None:
    assert rows.accounts() == []
    rows.add([row(1), row(2, account="shop"), row(3, account="bank"), row(4)])
    assert rows.accounts() == ["acme", "bank", "shop"]


@embedded_only
def test_without_a_store(house: House) -> None:
    with pytest.raises(StoreError, match="no store here"):
        house.place.consents()
