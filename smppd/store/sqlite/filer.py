"""The filer's thread: files what the journal has into keys.db and data.db, a few times a second, and does there what reads
rows. No answer waits for it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

from smppd.store.journal.files import JournalFiles
from smppd.store.sqlite.checkpoint import Checkpointer, checkpoint
from smppd.store.sqlite.cold_rows import ColdRows
from smppd.store.sqlite.damaged import DamagedRows
from smppd.store.sqlite.files import truncate
from smppd.store.sqlite.filing import Filing, file_data, file_keys, segments_of

EVERY: Final = 0.25
"""Seconds after which what is durable is filed at the latest, if nobody is in the way."""
AT_ONCE: Final = 4 << 20
"""Octets that are filed at once, in one transaction of each file."""
MOST: Final = 16 << 20
"""Octets that may wait; more, and commits wait."""
_LATER: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Filer:
    """See the module. ``add``, ``wait`` are the writer's, in its thread; ``give`` anybody's."""

    def __init__(
        self,
        data: sqlite3.Connection,
        secrets: sqlite3.Connection,
        journal: JournalFiles,
        failed: Callable[[Exception], None],
    ) -> None:
        """data, secrets: connections of its own. failed(error): nothing may be acknowledged any more."""
        self._data = data
        self._secrets = secrets
        self._journal = journal
        self._failed = failed
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._pending: deque[Filing] = deque()
        self._octets = self._in_keys = 0
        self._since = 0.0
        self._jobs: deque[tuple[Callable[[], None], Filing | None]] = deque()  # and what has to be filed before each
        self._over = self._dead = self._hurry = False
        self._checkpointer: Checkpointer | None = None
        self._thread = threading.Thread(target=self._run, name="filer", daemon=True)
        self.full = False
        """Whether the last attempt found no space, or somebody who held a lock for a minute. Any thread."""

    def start(self, directory: Path, cold: ColdRows, aside: DamagedRows) -> None:
        """directory: of the files. What was given meanwhile is done now. Raises ``StoreError``."""
        self._cold = cold
        self._aside = aside
        self._checkpointer = Checkpointer(
            [(directory / "keys.db", "keys"), (directory / "data.db", "data")], self._give_checkpoint, self._failed
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def behind(self) -> int:
        """Octets that are not filed yet. Any thread."""
        return self._octets

    # -- what others ask -----------------------------------------------------------------------------------------------

    def add(self, filing: Filing) -> None:
        """To be filed, behind all that was added before."""
        with self._lock:  # the condition's own: a commit has no time for what wraps it
            if not self._pending:
                self._since = monotonic()
            self._pending.append(filing)
            before, self._octets = self._octets, self._octets + filing.octets
            if len(self._pending) == 1 or before < AT_ONCE <= self._octets or filing.gone:
                self._hurry = self._hurry or bool(filing.gone)
                self._condition.notify_all()

    def give(self, job: Callable[[], None]) -> None:
        """Does a job when all that was added before is filed, and nothing that is added after it. What it raises ends the
        thread and is told as ``failed``."""
        with self._condition:
            self._jobs.append((job, self._pending[-1] if self._pending else None))
            self._condition.notify_all()

    def wait(self) -> bool:
        """Waits while too much is to be filed; False where that does not get less, for want of space."""
        if self._octets <= MOST:  # nobody else adds to it
            return True
        with self._condition:
            while self._octets > MOST and not self.full and not self._dead:
                self._condition.wait(1.0)
            return self._octets <= MOST

    def stop(self) -> bool:
        """Ends the thread behind all that was given; whether all is filed."""
        if self._thread.is_alive():
            with self._condition:
                self._over = True
                self._condition.notify_all()
            self._thread.join(30.0)
        if self._checkpointer is not None:
            self._checkpointer.stop()
        return not self._pending and not self.alive

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:  # noqa: BLE001  the thread's edge: nothing may be acknowledged after it
            self._failed(error)
        finally:
            with self._condition:
                self._dead = True
                self._condition.notify_all()

    def _turn(self) -> bool:
        with self._condition:
            while (pause := self._pause()) is None or pause > 0:
                self._condition.wait(pause)
            over = self._over
            due = over or self._hurry or self._octets >= AT_ONCE or monotonic() - self._since >= EVERY
            self._hurry = False
            # What comes while this is filed waits for the next time.
            last = self._pending[-1] if self._pending and due else None
        while self._jobs:
            job, upto = self._jobs[0]
            if not self._file_up_to(upto):
                break
            self._jobs.popleft()
            job()
        else:
            self._file_up_to(last)
        if self.full and not over:
            time.sleep(EVERY)
        return not over or (not self.full and bool(self._jobs or self._pending))

    def _file_up_to(self, last: Filing | None) -> bool:
        """Files what waits, up to this one; False where there is no space, or another held a lock."""
        while last is not None and not last.filed:
            if not self._file(last):
                return False
        return True

    def _pause(self) -> float | None:
        """Seconds until there is something to do; None: when somebody says so."""
        if self._jobs or self._over or self._hurry or self._octets >= AT_ONCE:
            return 0.0
        return self._since + EVERY - monotonic() if self._pending else None

    def _file(self, last: Filing) -> bool:
        """Files the first of what waits, up to this one at most; False where there is no space, or another held a lock."""
        with self._condition:
            some: list[Filing] = []
            octets = 0
            for one in self._pending:
                some.append(one)
                octets += one.octets
                # What the files know of each other is one seal apart at most, wherever this is cut off.
                if one is last or octets >= AT_ONCE or one.seal is not None:
                    break
        try:
            # Where data.db had no space, keys.db has its part already.
            if file_keys(self._secrets, [one for one in some if one.sequence > self._in_keys or not one.sequence]):
                # A destroyed key is not to linger in the write-ahead log. Where a reader is in the way, the next one does it.
                truncate(self._secrets)
            self._in_keys = max(self._in_keys, *(one.sequence for one in some))
            written = file_data(self._data, self._cold, self._aside, some)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _LATER:
                raise
            with self._condition:
                self.full = True
                self._condition.notify_all()
            return False
        for segment in segments_of(some):
            self._journal.drop(segment)
        with self._condition:
            for one in some:
                self._pending.popleft().filed = True
                self._octets -= one.octets
            self._since = monotonic()
            self.full = False
            self._condition.notify_all()
        if self._checkpointer is not None:
            self._checkpointer.wrote(written)
        return True

    def _give_checkpoint(self) -> None:
        self.give(self._checkpoint_rest)

    def _checkpoint_rest(self) -> None:
        checkpoint((self._secrets, self._data))
        if self._checkpointer is not None:
            self._checkpointer.finished()
