"""Who opted out after a backup is still opted out when it is restored over the store that knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.backup.restore import Restored, restore
from smppd.ids import id_time
from smppd.store.api import OptOut
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
    assert done.opt_outs == 1 and kept(directory) == [1, 2, 3], "2 was lifted since: nobody can tell, so it stands"


def test_without_a_store_that_knows_it_says_so(house: House, tmp_path: Path) -> None:
    says(house, 1)
    house.take()
    done = restored(house, tmp_path / "new")
    assert done.opt_outs is None and kept(tmp_path / "new") == [1]


def test_a_store_that_cannot_be_read_stops_no_restore(house: House) -> None:
    directory = house.log.directory
    says(house, 1)
    house.take()
    house.log.close()
    (directory / "keys.db").write_bytes(b"no database at all")
    assert restored(house, directory).opt_outs is None and kept(directory) == [1]
