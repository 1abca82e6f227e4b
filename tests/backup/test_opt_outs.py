"""Who opted out after a backup is still opted out when it is restored over the store that knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smppd.backup.restore import Restored, restore
from smppd.ids import id_time
from smppd.store.api import OptOut
from smppd.store.consents import FOREVER, ConsentRow
from smppd.store.sqlite.consent_rows import SqliteConsents
from smppd.store.sqlite.opt_outs import OptOutRows
from tests.backup.backups import ACTOR, House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    one = House(tmp_path)
    yield one
    one.close()


def says(house: House, number: int, *, stands: bool = True) -> None:
    house.log.store.batch.opt_outs.append(OptOut(bytes([number]) * 16, "acme", "*", number, "word stop", stands))
    house.log.commit()


def consent(number: int) -> ConsentRow:
    return ConsentRow(bytes([number]) * 16, "acme", bytes([number + 100]) * 16, b"s" * 16, 0, FOREVER, b"sealed")


def restored(house: House, directory: Path) -> Restored:
    return restore(
        house.data(), house.keys(), directory, house.kek, id_time, now=house.log.now, actor=ACTOR, force=True
    )


def kept(directory: Path) -> list[int]:
    with OptOutRows(directory) as rows:
        return [one.at for one in rows.all()]


def test_what_was_said_since_the_backup_is_taken_over(house: House) -> None:
    directory = house.log.directory
    says(house, 1)
    says(house, 2)
    house.take()
    says(house, 3)
    says(house, 2, stands=False)
    house.log.close()
    done = restored(house, directory)
    assert done.taken_over == (1, 0) and kept(directory) == [1, 2, 3], (
        "2 was lifted since: nobody can tell, so it stands"
    )


def test_a_consent_that_was_withdrawn_since_the_backup_is_withdrawn(house: House) -> None:
    directory = house.log.directory
    with closing(SqliteConsents(directory)) as consents:
        consents.add([consent(1), consent(2)])
        house.take()
        consents.add([consent(3)])
        for one in consents.named([consent(number).digest for number in (1, 3)]):
            consents.withdraw([(one, one._replace(withdrawn=5, until=9, sealed=b"ended"))])
    house.log.close()
    assert restored(house, directory).taken_over == (0, 2)
    with closing(SqliteConsents(directory)) as consents:
        kept = consents.named([consent(number).digest for number in (1, 2, 3)])
    assert sorted((one.digest[0], one.withdrawn, one.sealed) for one in kept) == [
        (1, 5, b"ended"),
        (2, 0, b"sealed"),
        (3, 5, b"ended"),
    ]


def test_without_a_store_that_knows_it_says_so(house: House, tmp_path: Path) -> None:
    says(house, 1)
    house.take()
    done = restored(house, tmp_path / "new")
    assert done.taken_over is None and kept(tmp_path / "new") == [1]


def test_a_store_that_cannot_be_read_stops_no_restore(house: House) -> None:
    directory = house.log.directory
    says(house, 1)
    house.take()
    house.log.close()
    (directory / "keys.db").write_bytes(b"no database at all")
    assert restored(house, directory).taken_over is None and kept(directory) == [1]
