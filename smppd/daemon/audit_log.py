"""Writes the daemon's own entries of the audit trail, in a thread beside the reactor's.

While the disk is slow, equal entries that wait become one entry with a count. So a loop of binds costs a few entries and
little memory, and the entries about a guesser are kept however many customers bind meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from smppd.audit.trail import AuditTrail
from smppd.events import AuditEvent
from smppd.metrics import Metrics
from smppd.vault.keys import VaultError

log = logging.getLogger("smppd.audit")
QUEUE: Final = 1_000
"""Different entries of each class that may wait for the disk. Further binds are counted together without their peer; any
other entry is dropped, logged, counted, and said on the trail when there is room."""
RETRY: Final = 1.0
"""Seconds until an entry that could not be written is tried again."""
CLOSING: Final = 30.0
"""Seconds that the end of the daemon waits for the disk."""

_OWN, _OPT_OUTS, _REFUSED, _ACCEPTED = 0, 1, 2, 3
_CLASSES: Final[dict[str, int]] = {
    AuditEvent.OPT_OUT: _OPT_OUTS,  # after a campaign there may be thousands
    AuditEvent.BIND_REFUSED: _REFUSED,
    AuditEvent.BIND_ACCEPTED: _ACCEPTED,
}
_GATHERED: Final = frozenset({AuditEvent.BIND_REFUSED, AuditEvent.BIND_ACCEPTED})
_OTHERS: Final = "others"

_Key = tuple[str, str, tuple[tuple[str, str | int], ...]]


class _Waiting:
    """An entry that waits, and how many equal ones it stands for."""

    __slots__ = ("count", "event", "first", "result", "what")

    def __init__(self, event: str, what: dict[str, str | int], result: str, first: float) -> None:
        self.event = event
        self.what = what
        self.result = result
        self.first = first
        self.count = 0


class Audit:
    """Appends to the audit trail in a thread of its own. A failure is logged and counted. What the daemon did itself,
    opt-outs, refused and accepted binds have a queue each, and are written in this order: entries of one queue cannot push
    out those of another."""

    def __init__(self, trail: AuditTrail, metrics: Metrics, wall: Callable[[], float] = time.time) -> None:
        self._trail = trail
        self._metrics = metrics
        self._wall = wall
        self.written: Callable[[], object] = lambda: None
        """Called in the thread when an entry is on the disk."""
        self._changed = threading.Condition()
        self._queues: tuple[OrderedDict[_Key, _Waiting], ...] = tuple(OrderedDict() for _ in range(4))
        self._dropped: dict[str, int] = {}
        self._serial = 0
        self._busy = self._closing = self._failing = False
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def __call__(self, event: str, what: Mapping[str, str | int], result: str = "done") -> None:
        """One entry. The field `count` of a bind's entry says for how many binds it stands (1 without it)."""
        facts = dict(what)
        gathered = event in _GATHERED
        count = int(facts.pop("count", 1)) if gathered else 1
        with self._changed:
            queue = self._queues[_CLASSES.get(event, _OWN)]
            if not gathered:
                self._serial += 1
            key = (event, result, tuple(facts.items()) if gathered else (("", self._serial),))
            waiting = queue.get(key)
            if waiting is None:
                if len(queue) >= QUEUE:
                    if not gathered:
                        self._drop(event, count)
                        return
                    facts = {name: value for name, value in facts.items() if name == "reason"} | {"peer": _OTHERS}
                    key = (event, result, tuple(facts.items()))
                waiting = queue.setdefault(key, _Waiting(event, facts, result, self._wall()))
            waiting.count += count
            self._changed.notify_all()

    def _drop(self, event: str, count: int) -> None:
        self._dropped[event] = self._dropped.get(event, 0) + count
        self._metrics.errors.labels("audit").inc()
        log.error("the audit trail cannot keep up, an entry was dropped", extra={"fields": {"event": event}})

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while (taken := self._take()) is None:
                    self._busy = False
                    self._changed.notify_all()
                    if self._closing:
                        return
                    self._changed.wait()
                self._busy = True
            queue, key, waiting = taken
            written = self._append(waiting, self._failing)
            with self._changed:
                self._failing = not written
                if written:
                    continue
                self._put_back(queue, key, waiting)
                self._changed.notify_all()
                if self._closing:
                    return
                self._changed.wait_for(lambda: self._closing, RETRY)

    def _take(self) -> tuple[OrderedDict[_Key, _Waiting], _Key, _Waiting] | None:
        """Takes the entry that is to be written next. The caller holds the lock."""
        own = self._queues[_OWN]
        if self._dropped and not own:
            key: _Key = (AuditEvent.ENTRIES_DROPPED, "dropped", ())
            own[key] = _Waiting(AuditEvent.ENTRIES_DROPPED, {**self._dropped}, "dropped", self._wall())
            self._dropped = {}
        for queue in self._queues:
            if queue:
                key, waiting = queue.popitem(last=False)
                return queue, key, waiting
        return None

    def _put_back(self, queue: OrderedDict[_Key, _Waiting], key: _Key, waiting: _Waiting) -> None:
        """Puts an entry back that could not be written: it is the next again. The caller holds the lock."""
        newer = queue.get(key)
        if newer is not None:
            waiting.count += newer.count
        queue[key] = waiting
        queue.move_to_end(key, last=False)

    def _append(self, waiting: _Waiting, failing: bool) -> bool:
        what = dict(waiting.what)
        if waiting.event in _GATHERED:
            what["count"] = waiting.count
        if self._wall() - waiting.first > 1.0:
            at = datetime.fromtimestamp(waiting.first, UTC)
            what["since"] = at.isoformat(timespec="seconds").replace("+00:00", "Z")
        try:
            self._trail.append(waiting.event, "smppd", what, waiting.result)
        except VaultError as error:  # a full disk, or another process that holds the file
            if not failing:  # said once, until it works again
                self._metrics.audit_delays.inc()
                log.error(
                    "the audit trail cannot be written now, entries wait", extra={"fields": {"reason": str(error)}}
                )
            return False
        except Exception:  # the thread's edge
            if not failing:
                self._metrics.errors.labels("audit").inc()
                log.exception("the audit trail could not be written")
            return False
        self.written()
        return True

    def drain(self, patience: float = CLOSING) -> bool:
        """Waits until all entries are written; returns whether they are. Does not wait for a disk that takes nothing."""
        with self._changed:
            self._changed.wait_for(lambda: self._failing or self._idle(), patience)
            return self._idle()

    def _idle(self) -> bool:
        return not self._busy and not any(self._queues)

    def close(self) -> None:
        """Writes what waits, within CLOSING seconds, and ends."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSING)
        left = sum(one.count for queue in self._queues for one in queue.values())
        if left or self._dropped:
            self._metrics.errors.labels("audit").inc()
            log.error("the audit trail was not written to its end", extra={"fields": {"entries": left}})
        if not self._thread.is_alive():  # otherwise its statement is still under way
            self._trail.close()
