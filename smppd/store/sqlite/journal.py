"""The journal files of a store as its start finds them, and those who go through the spool: what is filed already and what is
not, what is damaged, what lives there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from smppd.store.api import StoreError
from smppd.store.journal.blocks import Block
from smppd.store.journal.files import JournalFiles
from smppd.store.journal.reader import Broken, Placed, numbers, read
from smppd.store.sqlite.cold_rows import ColdRows
from smppd.store.sqlite.damaged import DamagedRows
from smppd.store.sqlite.filer import AT_ONCE
from smppd.store.sqlite.filing import Filing, file_data, file_keys, filed, last_ended, segments_of, unpack
from smppd.vault.blocks import open_blob, row_id
from smppd.vault.keys import KeyRing

SPOOL: Final = b"spool"
"""Associated data of the spool's part of a block, and of the rows of table `spool`."""
CORE: Final = b"core %d"
"""Associated data of the core of a block, by its sequence."""
OVER: Final = "journal over"
"""Name in `meta`: of blocks up to this sequence all that lives stands in table `spool`."""

ASK_OVER: Final = f"SELECT value FROM meta WHERE name = '{OVER}'"


def over_of(row: Any) -> int:
    """What `ASK_OVER` gave."""
    return row[0] if row is not None and isinstance(row[0], int) else 0


def living(directory: Path, over: int) -> Iterator[Placed]:
    """Blocks above a sequence that have a part of the spool, in the order of commitment. StoreError."""
    try:
        for one in read(directory):
            if isinstance(one, Placed) and one.block.spool and one.block.sequence > over:
                yield one
    except OSError as error:
        raise StoreError(f"{directory}: {error.strerror or error}") from error


class Journal:
    """See the module. ``last``: the sequence of the last block."""

    def __init__(
        self, directory: Path, files: JournalFiles, data: sqlite3.Connection, secrets: sqlite3.Connection
    ) -> None:
        self._directory = directory
        self.files = files
        self._data = data
        self._secrets = secrets
        self._broken: list[Broken] = []
        self._unopened: list[bytes] = []
        self._living: set[int] = set()
        self._ended: set[int] = set()
        self.last = 0

    def over(self) -> int:
        """See `OVER`. sqlite3.Error."""
        return over_of(self._data.execute(ASK_OVER).fetchone())

    # -- the start -----------------------------------------------------------------------------------------------------

    def take_up(self, ring: KeyRing, cold: ColdRows, aside: DamagedRows, segment: Callable[[], int]) -> None:
        """Files what an earlier run has not filed. segment(): makes a segment, whose key is durable, for the cold rows and
        damaged items in it. sqlite3.Error; StoreError where the files cannot be read."""
        in_data, in_keys = filed(self._data, self._secrets)
        over = self.over()
        self._ended = set(last_ended(self._data))
        self.last = before = max(in_data, in_keys, over)
        found = 0
        waiting: list[Filing] = []
        octets = under = 0
        try:
            for one in read(self._directory):
                if isinstance(one, Broken):
                    self._broken.append(one)
                    continue
                block = one.block
                if not found and block.sequence > before + 1:
                    # The first that is left, and what should stand before it was never filed.
                    self._broken.append(Broken(one.file, one.at, b"", False, False, block.sequence - before - 1))
                found = block.sequence
                self.files.belongs(one.file, block.segment)
                self.last = max(self.last, block.sequence)
                if block.spool and block.sequence > over:
                    self._living.add(block.segment)
                if block.sequence <= in_data:
                    continue  # keys.db has its part, since that is filed first
                filing = self._core(ring, block)
                if (filing.cold or filing.damaged) and not under:
                    under = segment()
                filing.segment = filing.aside = under
                waiting.append(filing)
                octets += filing.octets
                if octets >= AT_ONCE:
                    self._file(waiting, cold, aside, in_data, in_keys)
                    waiting, octets = [], 0
        except OSError as error:
            raise StoreError(f"{self._directory}: {error.strerror or error}") from error
        self._file(waiting, cold, aside, in_data, in_keys)
        missing = in_data - max(found, over)
        if missing > 0:
            # They were filed, but what lived in them is gone: somebody removed a file.
            self._broken.append(Broken(0, 0, b"", False, True, missing))
        try:
            for ended in sorted(self._ended):
                self.files.drop(ended)
        except OSError as error:
            raise StoreError(f"{self._directory}: {error.strerror or error}") from error
        self._living -= self._ended

    def _core(self, ring: KeyRing, block: Block) -> Filing:
        """What is to be filed of a block: nothing but that it was there, where its core does not open."""
        try:
            aead = ring.segment(block.segment)
            filing = unpack(open_blob(aead, block.counter + 1, CORE % block.sequence, block.core))
        except Exception:  # noqa: BLE001  whatever is wrong with a block is wrong with that block alone
            self._unopened.append(block.core)  # what it has of the spool may open
            filing = Filing()
        filing.sequence = block.sequence
        return filing

    def _file(self, some: list[Filing], cold: ColdRows, aside: DamagedRows, in_data: int, in_keys: int) -> None:
        keys = [one for one in some if one.sequence > in_keys]
        if keys:
            file_keys(self._secrets, keys, again=True)
        data = [one for one in some if one.sequence > in_data]
        if data:
            file_data(self._data, cold, aside, data, again=True)
            self._ended |= set(segments_of(data))

    def set_aside(self, aside: DamagedRows, told: Callable[[str, int, str], object]) -> None:
        """Sets aside what is damaged, so that it is told once: told("block", 0, why). What a loss of power cut short is taken
        off. sqlite3.Error; StoreError."""
        for core in self._unopened:
            told("block", 0, "its core does not open")
            aside.take_broken(core, "Unopened")
        self._unopened.clear()
        try:
            for one in self._broken:
                if one.torn:
                    self.files.cut(one.file, one.at)
                    continue
                why = f"{one.missing} blocks are missing" if one.missing else "damaged"
                told("block", 0, why)
                # Where there is no space to keep it, it stays where it is.
                if not one.data or not aside.take_broken(one.data, "Damaged"):
                    continue
                if one.last:
                    self.files.cut(one.file, one.at)
                else:
                    self.files.blank(one.file, one.at, len(one.data))
        except OSError as error:
            raise StoreError(f"{self._directory}: {error.strerror or error}") from error
        self._broken.clear()

    # -- who lives in it -----------------------------------------------------------------------------------------------

    def spool(self) -> Iterator[tuple[int, bytes]]:
        """(row id, sealed) of the spool's parts, in the order of commitment, as rows of table `spool` have them. StoreError."""
        for one in living(self._directory, self.over()):
            yield row_id(one.block.segment, one.block.counter), one.block.spool

    @property
    def there(self) -> bool:
        """Whether there are files. StoreError."""
        try:
            return bool(numbers(self._directory))
        except OSError as error:
            raise StoreError(f"{self._directory}: {error.strerror or error}") from error

    def forget_empty(self) -> None:
        """Removes files of earlier runs in which nothing ever lived. StoreError."""
        try:
            self.files.rest(self._living)
        except OSError as error:
            raise StoreError(f"{self._directory}: {error.strerror or error}") from error

    def remove(self) -> None:
        """Removes all files: what lived in them stands in table `spool`. StoreError."""
        self._living.clear()
        try:
            self.files.remove_all()
        except OSError as error:
            raise StoreError(f"{self._directory}: {error.strerror or error}") from error
