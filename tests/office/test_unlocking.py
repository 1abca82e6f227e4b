"""Before a command or the console reads, what was acknowledged is brought to where it is read."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from smppd.office.unlocking import file_everything
from smppd.store.api import StoreError
from smppd.store.lock import Lock
from smppd.store.sqlite.installation import SqliteInstallation
from smppd.vault.kek import Kek
from tests.vault.rows import kek


class Behind(SqliteInstallation):
    """A store of which something is not filed yet."""

    def __init__(self, directory: Path, settles: bool | StoreError, files: StoreError | None = None) -> None:
        super().__init__(directory, settle=True)
        self._settles = settles
        self._files = files
        self.filed = 0

    def settled(self) -> bool:
        if isinstance(self._settles, StoreError):
            raise self._settles
        return self._settles

    def file_rest(self, kek: Kek) -> None:
        assert self.in_use(), "nobody else may begin meanwhile"
        if self._files is not None:
            raise self._files
        self.filed += 1


def test_where_a_daemon_has_filed_everything_nothing_is_left_to_do(tmp_path: Path) -> None:
    store = Behind(tmp_path, True)
    file_everything(store, kek())
    assert not store.filed and not store.was_used()


def test_what_a_killed_daemon_left_is_filed_under_the_lock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Behind(tmp_path, False)
    file_everything(store, kek())
    assert store.filed == 1 and not store.in_use() and not caplog.records


@pytest.mark.parametrize("settles", [False, StoreError("no")])
def test_a_daemon_that_is_behind_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settles: bool | StoreError
) -> None:
    daemon = Lock(tmp_path)
    store = Behind(tmp_path, settles)
    file_everything(store, kek())
    daemon.release()
    assert not store.filed and [one.levelno for one in caplog.records] == [logging.WARNING]
    assert "are not filed yet and are not seen" in caplog.text


def test_the_lock_is_given_back_where_it_cannot_be_filed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Behind(tmp_path, False, StoreError("the disk is full"))
    file_everything(store, kek())
    assert not store.in_use() and "are not seen" in caplog.text
