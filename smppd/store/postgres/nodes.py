"""`store.nodes.Nodes` on PostgreSQL: a thread that renews this node's lease, looks at the others', listens, and takes over.

The thread does in turns what is due, and waits in between for the server to tell something, for this process to want
something, or for the next beat. Where the database is away it tries to come back, and has seen nothing of the others meanwhile.
A take-over is done in a thread of its own, since it may take longer than a lease lasts.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic, time
from typing import Any, Final

from smppd.store.api import StoreBusy, StoreError
from smppd.store.nodes import BEAT, Convert, Hears
from smppd.store.postgres import leases
from smppd.store.postgres.announcing import CHANNEL, NOTIFY, Note, changed, look, read
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.keys import NodeKeys
from smppd.store.postgres.leases import DOWN, Facts, Lease, Watch
from smppd.store.postgres.session import FENCED, MEANS, application, nodes_in_use
from smppd.store.postgres.takeover import Taken, TakeOver
from smppd.vault.keys import KeyRing

log = logging.getLogger("smppd.store")

AGAIN: Final = 1.0
"""Seconds between two tries to reach the server."""
PAUSE: Final = 0.02
"""Seconds between two looks that others asked for, and between two times that this node says something new of itself."""
FACTS: Final = 1 << 20
"""Octets of what a node may say of itself."""
TOLD: Final = 1000
"""Things that wait to be told, while the server is slow; more, and the oldest are lost."""
_ANSWER: Final = 4.0
"""Seconds for a statement here: a beat that takes longer is as good as none."""
_SETTINGS: Final = {"lock_timeout": "2000"}
_AFTER_FAULT: Final = 30.0
"""Seconds after which a take-over that failed is tried again."""
_LAST: Final = 30.0
"""Seconds for which the end waits for what is under way."""


class PostgresNodes:
    """See the module."""

    def __init__(
        self,
        server: Server,
        node: int,
        epoch: int,
        keys: NodeKeys,
        ring: KeyRing,
        notify: Callable[[Callable[[], None]], object],
        *,
        lifetime: Callable[[str], float],
        now: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        beside: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """node, epoch, keys, ring: of the store that this process has. notify(function): runs it on the reactor thread.
        lifetime: see `api.Store`. now: monotonic seconds; wall: of the epoch. beside(function): runs a take-over, None for a
        thread."""
        self._server = server
        self._node = node
        self._epoch = epoch
        self._keys = keys
        self._ring = ring
        self._notify = notify
        self._lifetime = lifetime
        self._now = now
        self._wall = wall
        self._beside = beside or self._in_a_thread
        self._watch = Watch(node)
        self._facts = Facts()
        self._db: Connection | None = None
        self._lock = threading.Lock()
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None
        self._heir: threading.Thread | None = None
        self._stopping = threading.Event()
        self._leaving = self._over = self._away = False
        self._taking = False
        self._faults: dict[int, float] = {}
        self._said: bytes | None = None
        self._to_say: bytes | None = None
        self._to_tell: deque[str] = deque(maxlen=TOLD)
        self._heard: list[Note] = []
        self._beat_at = self._look_at = self._say_at = self._reach_at = 0.0

    def __repr__(self) -> str:
        return f"<PostgresNodes node {self._node} epoch {self._epoch}>"

    # -- store.nodes.Nodes, any thread ---------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """See `store.nodes.Nodes`."""
        return self._node

    def start(self, hears: Hears, convert: Convert) -> None:
        """See `store.nodes.Nodes`."""
        self.begin(hears, convert)
        self._thread = threading.Thread(target=self._run, name="nodes", daemon=True)
        self._thread.start()

    def begin(self, hears: Hears, convert: Convert) -> None:
        """As `start`, without the thread: `turn` is called by who wants it done."""
        self._hears = hears
        self._take_over = TakeOver(
            self._server,
            self._node,
            self._epoch,
            self._keys,
            self._ring,
            convert,
            lifetime=self._lifetime,
            wall=self._wall,
        )

    def publish(self, facts: Mapping[str, Any]) -> None:
        """See `store.nodes.Nodes`. ValueError where it is more than `FACTS` octets."""
        made = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
        if len(made) > FACTS:
            raise ValueError(f"{len(made)} octets of facts, and {FACTS} are the most")
        with self._lock:
            if made == (self._said if self._to_say is None else self._to_say):
                return
            self._to_say = made
        self._wake()

    def tell(self, topic: str, detail: str = "") -> None:
        """See `store.nodes.Nodes`. ValueError where it is too long."""
        note = changed(self._node, topic, detail)
        with self._lock:
            self._to_tell.append(note)
        self._wake()

    def leave(self) -> bool:
        """See `store.nodes.Nodes`."""
        heir = self._heir
        if heir is not None:
            heir.join(_LAST)  # what this one inherits meanwhile it gives up too
        with self._lock:
            alive = self._watch.alive(self._now())
            if not alive or self._over:
                return False
            self._leaving = True
        for other in alive:
            try:
                taken = self._take_over.own(other.node, other.epoch)
            except StoreError as error:
                log.warning("the node could not give up what it holds", extra={"fields": {"reason": str(error)}})
                break
            except Exception as error:  # noqa: BLE001  at the end: what it holds is taken over, or waits for its next start
                log.error("the node could not give up what it holds", extra={"fields": {"error": type(error).__name__}})
                break
            if taken is not None:
                self._over = True
                log.info(
                    "the node has given up what it held", extra={"fields": {"rows": taken.rows, "heir": other.node}}
                )
                return True
        self._leaving = False
        return False

    def stop(self) -> None:
        """See `store.nodes.Nodes`."""
        self._stopping.set()
        self._wake()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_LAST)
            if thread.is_alive():
                return
        self.end()

    def _wake(self) -> None:
        with suppress(OSError, ValueError):  # it is full, which wakes as well, or closed
            os.eventfd_write(self._waker, 1)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._waker, selectors.EVENT_READ)
            while not self._stopping.is_set() and not self._over:
                seconds = self.turn()
                try:
                    file = None if self._db is None else self._db.fileno()
                except StoreError:
                    file = None
                if file is not None:
                    selector.register(file, selectors.EVENT_READ)
                selector.select(max(0.0, seconds))
                if file is not None:
                    selector.unregister(file)
                with suppress(BlockingIOError):
                    os.eventfd_read(self._waker)

    def end(self) -> None:
        """Says that this node beats no more, and lets go."""
        with suppress(StoreError):
            if self._db is not None and not self._over:
                leases.end(self._db, self._node, self._epoch)
                self._db.one(NOTIFY, (look(self._node),))
        if self._db is not None:
            self._db.close()
            self._db = None
        waker, self._waker = self._waker, -1
        if waker >= 0:
            os.close(waker)

    def turn(self) -> float:
        """Does what is due; seconds until the next is."""
        if self._over:
            return AGAIN
        try:
            return self._turn()
        except StoreBusy:  # a take-over of this very node has its lease, or it is leaving
            self._beat_at = self._now() + AGAIN
        except StoreError as error:
            self._lost(str(error))
        except Exception:  # the thread's edge
            log.exception("a fault in the thread of nodes")
            self._lost("a fault")
        return AGAIN

    def _turn(self) -> float:
        db = self._reach()
        if db is None:
            return self._reach_at - self._now()
        db.hear()
        now = self._now()
        if now >= self._beat_at:
            if not leases.renew(db, self._node, self._epoch):
                return self._fenced()
            now = self._now()
            self._beat_at, self._look_at = now + BEAT, now
            with self._lock:
                self._watch.beaten(now)
        self._tell(db)
        if self._to_say is not None and now >= self._say_at and not self._say(db):
            return self._fenced()
        self._hear()
        if now >= self._look_at:
            self._look(db)
        if self._heard:  # that came with the answer to something else: nothing would wake this thread for it
            return 0.0
        due = min(self._beat_at, self._look_at)
        if self._to_say is not None:
            due = min(due, self._say_at)
        return max(0.0, due - self._now())

    def _reach(self) -> Connection | None:
        """The connection; makes one, not too often, where there is none."""
        if self._db is not None and self._db.usable:
            return self._db
        if self._now() < self._reach_at:
            return None
        self._reach_at = self._now() + AGAIN
        db = Connection(
            self._server, application=application(self._node, "nodes"), statement_seconds=_ANSWER, settings=_SETTINGS
        )
        self._db = db
        db.listen(CHANNEL, self._noted)
        with self._lock:
            self._watch.forget()
        self._beat_at = 0.0
        if self._away:
            self._away = False
            log.warning("the other nodes can be seen again")
        return db

    def _lost(self, reason: str) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        self._reach_at = self._now() + AGAIN
        with self._lock:
            self._watch.forget()
            self._to_tell.clear()
        if not self._away and not self._leaving:
            self._away = True
            log.warning("the other nodes cannot be seen", extra={"fields": {"reason": reason}})

    def _fenced(self) -> float:
        """Its epoch is over: another has this one's place, or what it held."""
        self._over = True
        if not self._leaving:
            reason = f"{self._server.name}: {MEANS[FENCED]}"
            self._notify(lambda: self._hears.fenced(reason))
        return AGAIN

    # -- telling and hearing -------------------------------------------------------------------------------------------

    def _tell(self, db: Connection) -> None:
        while self._to_tell:
            with self._lock:
                note = self._to_tell.popleft() if self._to_tell else None
            if note is not None:
                db.one(NOTIFY, (note,))

    def _say(self, db: Connection) -> bool:
        with self._lock:
            facts, self._to_say = self._to_say, None
        if facts is None:
            return True
        try:
            with db.writing():
                done = leases.say(db, self._node, self._epoch, facts)
                db.one(NOTIFY, (look(self._node),))
        except BaseException:
            with self._lock:
                self._to_say = facts if self._to_say is None else self._to_say
            raise
        self._said = facts
        self._say_at = self._now() + PAUSE
        return done

    def _noted(self, payload: str) -> None:
        note = read(payload)
        if note is not None and note.node != self._node:
            self._heard.append(note)

    def _hear(self) -> None:
        heard, self._heard = self._heard, []
        for note in heard:
            if note.look:
                self._look_at = min(self._look_at, self._now() + PAUSE)
            for kind, owner, ids in note.rows:
                self._rows_unheld(kind, owner, ids)
            if note.topic is not None:
                self._changed(note.topic, note.detail)

    def _rows_unheld(self, kind: int, owner: str, ids: tuple[int, ...]) -> None:
        self._notify(lambda: self._hears.rows_unheld(kind, owner, ids))

    def _changed(self, topic: str, detail: str) -> None:
        self._notify(lambda: self._hears.changed(topic, detail))

    # -- looking -------------------------------------------------------------------------------------------------------

    def _look(self, db: Connection) -> None:
        found = leases.all_leases(db)
        self._facts.read(db, found)
        now = self._now()
        with self._lock:
            self._watch.look(found, now)
        self._look_at = self._beat_at
        views = self._watch.views(self._facts, now)
        self._notify(lambda: self._hears.nodes_changed(views))
        dead = [lease for lease in self._watch.dead(now) if self._faults.get(lease.node, 0.0) <= now]
        if dead and not self._taking and not self._leaving:
            used = nodes_in_use(db) if any(lease.life == DOWN for lease in dead) else []
            ended = [lease for lease in dead if lease.life != DOWN or lease.node not in used]
            if ended:
                self._taking = True
                self._beside(lambda: self._inherit(ended))

    def _in_a_thread(self, job: Callable[[], None]) -> None:
        self._heir = threading.Thread(target=job, name="take-over", daemon=True)
        self._heir.start()

    def _inherit(self, dead: list[Lease]) -> None:
        """Takes over one after another."""
        try:
            for lease in dead:
                if not self._stopping.is_set():
                    self._inherit_one(lease)
        finally:
            self._taking = False
            self._look_at = 0.0
            self._wake()

    def _inherit_one(self, lease: Lease) -> None:
        began = self._now()
        try:
            taken = self._take_over.of(lease.node, lease.epoch, lease.beat)
        except Exception as error:  # noqa: BLE001  the thread's edge: this node is tried again, the others' turn comes
            self._faults[lease.node] = self._now() + _AFTER_FAULT
            reason = str(error) if isinstance(error, StoreError) else type(error).__name__
            log.error("a take-over failed", extra={"fields": {"node": lease.node, "reason": reason}})
            return
        self._faults.pop(lease.node, None)
        if taken is not None:
            self._inherited(lease, taken, self._now() - began)

    def _inherited(self, lease: Lease, taken: Taken, seconds: float) -> None:
        about = {
            "rows": taken.rows,
            "blocks": taken.blocks,
            "unreadable": taken.unreadable,
            "seconds": round(seconds, 3),
        }
        log.warning("another node is dead, and was taken over", extra={"fields": {"node": lease.node, **about}})
        for kind, owner, ids in taken.told:
            self._rows_unheld(kind, owner, ids)
