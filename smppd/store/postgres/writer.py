"""The writer's thread: commits, what becomes of one whose connection breaks, and queries between them.

A commit is one call of one stored function, and ends in one of these ways. The server says that it is stored. The server
refuses it, or was never reached: then nothing of it is stored. Or the connection breaks before the answer: then it is asked
for again with the same values, as often as it takes, and the function says whether it was stored the first time. Meanwhile
the store is away.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, TypeVar

from smppd.store.api import Availability, StoreBusy, StoreError, StoreFull
from smppd.store.chain_writer import ChainWriter
from smppd.store.committer import STORED, End, Ending
from smppd.store.postgres import batches
from smppd.store.postgres.batches import Values, Work
from smppd.store.postgres.binary import int4, int8
from smppd.store.postgres.connection import Connection, ServerError, StoreAway
from smppd.store.postgres.session import CONFLICT, MEANS, Session
from smppd.store.seals import Made
from smppd.vault.chain import SealKind
from smppd.vault.keys import KeyRing

log = logging.getLogger("smppd.store")

AGAIN: Final = 0.25
"""Seconds between two tries to reach the server."""
SLOW: Final = 10.0
"""Seconds after which a commit that has no answer means that the store is away."""
IDLE: Final = 5.0
"""Seconds without a statement after which a look asks the server whether it is there."""
LAST: Final = 10.0
"""Seconds for which a commit is asked for again when the store is to end."""
PATIENCE: Final = 2.0
"""Seconds for which the reactor thread waits for an answer, which it has to but seldom."""
_BUSY_TRIES: Final = 5

Job = Callable[[Connection], None]
T = TypeVar("T")


class Writer:
    """See the module. ``certain``: whether all that was to be written either is written or is not."""

    def __init__(self, session: Session, broken: Callable[[str], object]) -> None:
        """broken(reason): called in this thread when nothing may be acknowledged any more."""
        self._session = session
        self._broken = broken
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._parked: deque[Job] = deque()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._stopping = threading.Event()
        self._try_at = 0.0
        self._used = monotonic()
        self._began: float | None = None
        self._away = ""
        self._probing = False
        self.certain = True

    def start(self, ring: KeyRing, chain: ChainWriter) -> None:
        """What was given meanwhile is done now."""
        self._ring = ring
        self._chain = chain
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def give(self, job: Job) -> None:
        """Does a job behind all that was given before; where the server is away, when it is back, so a job may be begun
        more than once. What else it raises ends the thread and is told as ``broken``."""
        self._jobs.put(lambda: self._query(job))

    def commit(self, work: Work, ended: Callable[[End], object]) -> None:
        """Makes a commit; ``ended`` is called in the thread."""

        def job() -> None:
            ended(self._commit(work))

        self._jobs.put(job)

    def seal_alone(self, kind: SealKind) -> None:
        """Makes a seal of the log's chain without a commit, unless the server is away."""
        self._jobs.put(lambda: self._chain.seal_alone(kind))

    def look(self) -> Availability:
        """Whether the server can be reached, as of the last statement; asks it, in the thread, where that is long ago. Any
        thread."""
        began = self._began
        slow = began is not None and monotonic() - began > SLOW
        if not self._probing and (self._away or monotonic() - self._used > IDLE):
            self._probing = True
            self._jobs.put(self._probe)
        return Availability.AWAY if self._away or slow else Availability.OK

    def stop(self) -> bool:
        """Ends the thread behind all that was given; whether it had been started. Where the server is away it ends
        without."""
        begun = self._thread.is_alive()
        self._stopping.set()
        if begun:
            self._jobs.put(None)
            self._thread.join(30.0)
        return begun

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=AGAIN if self._parked else None)
            except queue.Empty:
                job = self._unpark
            if job is None:
                return
            try:
                job()
                if self._parked:
                    self._unpark()
            except Exception as error:  # noqa: BLE001  the thread's edge: nothing may be acknowledged after it
                self._broken(f"{type(error).__name__}: {error}")
                return

    def _reach(self) -> bool:
        """Whether there is a connection; tries to make one where there is none, not too often."""
        if self._session.connected:
            return True
        if monotonic() < self._try_at:
            return False
        try:
            self._session.reconnect()
        except StoreError as error:
            self._try_at = monotonic() + AGAIN
            self._lost(str(error))
            return False
        self._reached()
        return True

    def _reached(self) -> None:
        self._used = monotonic()
        if self._away:
            self._away = ""
            log.warning("the database is back")

    def _lost(self, reason: str) -> None:
        """What comes next connects anew: after a failover the server behind an address may be another one."""
        self._session.leave()
        if not self._away:
            log.warning("the database is away", extra={"fields": {"reason": reason}})
        self._away = reason

    def _probe(self) -> None:
        try:
            if self._reach():
                self._session.db.one("SELECT 1")
                self._reached()
        except StoreError as error:
            self._lost(str(error))
        finally:
            self._probing = False

    # -- queries -------------------------------------------------------------------------------------------------------

    def _query(self, job: Job) -> None:
        self._parked.append(job)
        self._unpark()

    def _unpark(self) -> None:
        while self._parked and self._reach():
            try:
                self._parked[0](self._session.db)
            except StoreAway as error:
                self._lost(str(error))
                return
            except (StoreBusy, StoreFull):  # or no space for what the server sorts
                return
            self._used = monotonic()
            self._parked.popleft()

    def ask(self, question: Callable[[Connection], T]) -> T:
        """The answer to a question, waited for; before the thread is started, too. StoreError where it does not come
        soon."""
        if not self.alive:
            return question(self._session.db)
        answers: queue.SimpleQueue[T | StoreError] = queue.SimpleQueue()

        def job() -> None:
            try:
                answers.put(question(self._session.db))
            except StoreError as error:
                answers.put(error)

        self._jobs.put(job)
        try:
            answer = answers.get(timeout=PATIENCE)
        except queue.Empty:
            raise StoreError(f"{self._session.server.name}: gives no answer") from None
        if isinstance(answer, StoreError):
            raise answer
        return answer

    # -- commits -------------------------------------------------------------------------------------------------------

    def _commit(self, work: Work) -> End:
        if not self._reach():
            return End(Ending.AWAY, self._away)
        events = b"".join(work.batch.events)
        link = self._chain.next(work.seq, None, work.batch.records, events)
        made = link.seal if link is not None else None
        name, values = "plain", batches.common(work, link, events)
        if made is not None or not batches.plain(work):
            name = "batch"
            values += batches.more(work, self._ring, made)
            shared = batches.shared(work.batch)
            if shared or work.batch.handed:
                name = "shared"
                values += batches.sharing(work, self._ring, shared, self._session.node)
        self._began = monotonic()
        end = self._store(name, values)
        self._began = None
        if end.how is Ending.STORED:
            if link is not None:
                self._chain.committed(link)
        elif end.how is Ending.AWAY and not self._away:
            work.winners = self._others(work)
        return end

    def _others(self, work: Work) -> dict[bytes, bytes]:
        """The keys that others made in place of ours."""
        if not work.keys:
            return {}
        try:
            asked = "SELECT scope, wrapped FROM keys WHERE scope = ANY ($1)"
            stored: dict[bytes, bytes] = dict(self._session.db.all(asked, ([scope for scope, _ in work.keys],)))
        except StoreError:
            return {}  # the next try meets the same
        return {scope: stored[scope] for scope, wrapped in work.keys if stored.get(scope, wrapped) != wrapped}

    def store_seal(self, made: Made | None, state: bytes) -> bool:
        """Makes a seal and the log's state durable; False where there is no space, or the server is away. In the thread, or
        before it was started. Raises StoreError where nobody can say."""
        end = self._store("batch", batches.seal_alone(made, state))
        if end.how is Ending.BROKEN:
            raise StoreError(end.reason)
        return end.how is Ending.STORED

    def _store(self, name: str, values: Values) -> End:
        """Calls the function until it is known what became of it."""
        session = self._session
        session.sequence += 1
        values = [int4(session.node), int8(session.epoch), int8(session.sequence), *values]
        doubtful = False  # whether an earlier call may have stored it
        busy = 0
        until = math.inf
        while True:
            try:
                if not session.connected:
                    session.reconnect()
                db = session.db
                warnings = db.warnings
                db.execute(name, values)
                if db.warnings == warnings:
                    self._reached()
                    return STORED
                # It is stored, but a replica that it had to wait for may not have it: the next call waits for that again.
                doubtful = True
                reason = f"{session.server.name}: gave a warning with a commit"
            except StoreFull as error:
                reason = str(error)
                if not doubtful:
                    return End(Ending.FULL, reason)
            except StoreBusy as error:
                reason = str(error)
                busy += 1
                if not doubtful and busy >= _BUSY_TRIES:
                    return End(Ending.AWAY, reason)
            except StoreAway as error:
                reason = str(error)
                doubtful = doubtful or not error.certain
                self._lost(reason)
                if not doubtful:
                    return End(Ending.AWAY, reason)
            except ServerError as error:
                if error.code == CONFLICT:
                    return End(Ending.AWAY, f"{session.server.name}: another node made a key at the same time")
                self.certain = False
                meant = MEANS.get(error.code)
                return End(Ending.BROKEN, str(error) if meant is None else f"{session.server.name}: {meant}")
            except StoreError as error:  # it can be reached, and is not as it should be (`Connection`)
                reason = str(error)
                self._lost(reason)
                if not doubtful:
                    return End(Ending.AWAY, reason)
            if self._stopping.is_set():
                until = min(until, monotonic() + LAST)
            if monotonic() > until:
                self.certain = False
                return End(Ending.BROKEN, f"{reason}: whether the last commit is stored is not known")
            time.sleep(AGAIN)
