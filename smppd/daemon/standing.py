"""The acts that stand: what an operator has done to the running daemon and has not undone, over restarts and reloads.

An act that survives is a sealed document of the store. It is written beside the reactor, behind its entry on the audit trail
and before it takes effect; `ActRoom` (`daemon.act_room`) does the acts, this is their memory. A document that cannot be read
is left where it is, logged and counted; its act does not stand then, and can be asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any, Final, NamedTuple, TypeVar

from twisted.internet.defer import Deferred

from smppd.audit.trail import AuditTrail
from smppd.config import Settings
from smppd.control.wire import Code, ControlError
from smppd.daemon.acts import ActInForce, ActRequest, Acts
from smppd.daemon.worker import Worker
from smppd.events import AuditEvent
from smppd.metrics import Metrics
from smppd.operators.roles import Authority
from smppd.store.api import StoreError
from smppd.store.documents import Documents
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import VaultError
from smppd.vault.mask import mask_digits
from smppd.vault.seal import SealError

log = logging.getLogger("smppd.acts")
T = TypeVar("T")

KIND: Final = "act"
"""Of the documents (`store.documents`)."""
NODE: Final = "node"
"""In `Standing.more`: the node whose messages an act is about, or whose links are drained."""
SHARED: Final = ("pause", "drain")
"""Acts that are for all nodes; the others are their own node's."""


class Standing(NamedTuple):
    """An act that stands. ``name``: of its document, or another one that no other act has. ``since``, ``until``: epoch seconds.
    ``by``: as the audit trail names him. ``more``: what this kind of act needs beside that, as JSON has it. ``survives``: it
    has a document."""

    name: str
    act: str
    target: str
    since: float
    by: str
    reason: str
    more: Mapping[str, Any]
    until: float | None = None
    survives: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `of_dict` reads it back."""
        return {
            "act": self.act,
            "target": self.target,
            "since": self.since,
            "by": self.by,
            "reason": self.reason,
            "more": dict(self.more),
        }

    @classmethod
    def of_dict(cls, name: str, said: Any) -> Standing:
        """Out of a document. ValueError where it is none."""
        try:
            texts = [said[key] for key in ("act", "target", "by", "reason")]
            if not all(isinstance(one, str) for one in texts):
                raise TypeError
            act, target, by, reason = texts
            return cls(name, act, target, float(said["since"]), by, reason, dict(said["more"]))
        except (KeyError, TypeError, ValueError):
            raise ValueError("this is no act") from None


class StandingActs(Acts):
    """See the module. ``documents`` opens the store's documents and ``trail`` the audit trail, each for one thread; whoever
    opens closes. ``written`` is called in some thread when an entry is on the trail. ``settings``: those in force."""

    def __init__(
        self,
        documents: Callable[[], Documents],
        trail: Callable[[], AuditTrail],
        sealer: DocumentSealer,
        metrics: Metrics,
        worker: Worker,
        wall: Callable[[], float],
        written: Callable[[], object] = lambda: None,
        settings: Callable[[], Settings] | None = None,
    ) -> None:
        self._settings = settings
        self._documents = documents
        self._trail = trail
        self.sealer = sealer
        self._metrics = metrics
        self._worker = worker
        self._wall = wall
        self._written = written
        self._standing: dict[str, Standing] = {}
        self.changes = 0
        """Rises with each act that begins to stand, or ends."""
        self.changed: Callable[[], object] = lambda: None
        """Told in some thread when an act was written, for the other nodes."""
        self._shown: set[str] = set()

    # -- what stands ---------------------------------------------------------------------------------------------------

    def load(self) -> list[Standing]:
        """Reads all that is stored, before the relay goes on. StoreError."""
        self._standing.update((one.name, one) for one in self.stored())
        return self.all()

    def stored(self) -> list[Standing]:
        """What is stored: acts on messages are their own node's. Any thread. StoreError."""
        with closing(self._documents()) as documents:
            stored = documents.all(KIND)
        found = []
        for name, sealed in stored:
            try:
                one = Standing.of_dict(name, self.sealer.open(KIND, name, sealed))
            except (SealError, ValueError):
                self._metrics.errors.labels("acts").inc()
                log.error("a stored act cannot be read, and does not stand")
                continue
            if one.act in SHARED or one.more.get(NODE, self.node) == self.node:
                found.append(one)
        return found

    @property
    def node(self) -> int:
        """This one's number."""
        return 0 if self._settings is None else self._settings().node

    def all(self) -> list[Standing]:
        """In the order in which they began."""
        return sorted(self._standing.values(), key=lambda one: (one.since, one.name))

    def get(self, name: str) -> Standing | None:
        """One of them."""
        return self._standing.get(name)

    def alike(self, act: str, target: str) -> Standing | None:
        """The same act on the same target."""
        return next((one for one in self._standing.values() if (one.act, one.target) == (act, target)), None)

    def put(self, one: Standing) -> None:
        """It stands from now on."""
        self.changes += 1
        self._standing[one.name] = one

    def take(self, name: str) -> None:
        """It stands no more."""
        self.changes += 1
        self._standing.pop(name, None)

    def in_force(self) -> list[ActInForce]:
        """See `daemon.acts.Acts`."""
        return [
            ActInForce(
                one.act, one.target, one.since, one.by, one.reason, one.until, one.survives, self._is_configured(one)
            )
            for one in self.all()
        ]

    def _is_configured(self, one: Standing) -> bool:
        if self._settings is None or not one.survives:
            return True
        kind, mark, name = one.target.partition(":")
        settings = self._settings()
        if mark and kind == "message":
            return True
        if mark and kind == "account":
            return any(account.system_id == name for account in settings.accounts)
        upstream = name if mark else one.target
        return any(found.name == upstream for found in settings.upstreams)

    def set_gauges(self) -> None:
        """For a scrape."""
        counts = dict.fromkeys(self._shown, 0)
        for one in self._standing.values():
            counts[one.act] = counts.get(one.act, 0) + 1
        for act, number in counts.items():
            self._metrics.acts_in_force.labels(act).set(number)
        self._shown |= set(counts)

    # -- the trail and the disk ----------------------------------------------------------------------------------------

    def stand(self, name: str, asked: ActRequest, who: Authority, more: Mapping[str, Any]) -> Standing:
        """What would stand."""
        return Standing(name, asked.act, asked.target, self._wall(), who.who, mask_digits(asked.reason), more)

    def done(
        self,
        asked: ActRequest,
        who: Authority,
        then: Callable[[], T],
        *,
        facts: Mapping[str, str | int] | None = None,
        write: Callable[[Documents], object] | None = None,
    ) -> Deferred[T]:
        """Puts an act on the audit trail, writes what has to survive, and then does it: ``then()``, on the reactor thread.
        Fails with ControlError where one of the first two cannot be; then nothing was done."""
        answered: Deferred[T] = Deferred()

        def over(_none: None, error: Exception | None) -> None:
            if isinstance(error, StoreError | SealError | VaultError | OSError):
                answered.errback(ControlError(f"nothing was done, because it cannot be written down: {error}"))
            elif error is not None:
                answered.errback(error)
            else:
                log.warning("act", extra={"fields": {"act": asked.act, "target": asked.target, "by": who.who}})
                try:
                    answered.callback(then())
                except Exception:  # noqa: BLE001  whoever asked hears of it
                    answered.errback()

        said: dict[str, str | int] = {"act": asked.act, "target": asked.target, "reason": asked.reason}
        self._worker.run("act", lambda: self._write_down(said | dict(facts or {}), who, write), over)
        return answered

    def _write_down(
        self, said: dict[str, str | int], who: Authority, write: Callable[[Documents], object] | None
    ) -> None:
        """In the worker's thread."""
        with closing(self._trail()) as trail:
            trail.append(AuditEvent.ACT, who.who, said | who.facts, "done", source=who.actor.source)
            self._written()
            if write is None:
                return
            try:
                with closing(self._documents()) as documents:
                    write(documents)
                self.changed()
            except Exception:
                trail.append(AuditEvent.ACT, who.who, said | who.facts, "failed", source=who.actor.source)
                raise

    def save(self, one: Standing) -> Callable[[Documents], object]:
        """Writes its document."""
        return lambda documents: documents.put(KIND, {one.name: self.sealer.seal(KIND, one.name, one.as_dict())})

    def forget(self, name: str) -> Callable[[Documents], object]:
        """Deletes its document."""
        return lambda documents: documents.remove(KIND, name)

    def keep(
        self,
        write: Callable[[Documents], object],
        again: Callable[[], object],
        over: Callable[[], object] = lambda: None,
    ) -> None:
        """Writes what no one waits for; on the reactor thread ``over()`` at the end, and ``again()`` then where the disk does
        not take it now."""

        def work() -> None:
            with closing(self._documents()) as documents:
                write(documents)

        def written(_none: None, error: Exception | None) -> None:
            over()
            if error is not None:
                self._metrics.chores_failed.labels("acts").inc()
                log.error("an act cannot be written now", extra={"fields": {"reason": type(error).__name__}})
                again()

        self._worker.run("act", work, written)


def number_of(asked: ActRequest, name: str, default: float, most: float) -> float:
    """A number of seconds in a request. ControlError where it is none from 0 to ``most``."""
    value = asked.fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ControlError(f"`{name}` must be seconds, 0 to {most:.0f}", Code.REQUEST)
    return float(value)


def known(names: Iterable[str], name: str, what: str) -> str:
    """A name that exists. ControlError otherwise."""
    if name not in names:
        raise ControlError(f"there is no {what} {name[:64]!r}", Code.UNKNOWN)
    return name


__all__ = ["KIND", "NODE", "SHARED", "Standing", "StandingActs", "known", "number_of"]
