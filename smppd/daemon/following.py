"""What this daemon has in memory of what all nodes share follows what another node, or a command at another node, changes.

Whoever changes something tells the others of it when it is durable (`store.nodes.Nodes.tell`): they look at once. What is
told is lost where a connection is, so each looks by itself every half a minute too. Both read the store beside the reactor,
and both do nothing where nothing has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from typing import Any, Final, Protocol

from smppd.consent.register import Register as ConsentRegister
from smppd.consent.suppression import Register
from smppd.daemon.act_room import ActRoom
from smppd.daemon.consents import load
from smppd.daemon.standing import Standing, StandingActs
from smppd.daemon.traffic import TrafficMemory, Work
from smppd.metrics import Metrics
from smppd.store.api import OptOut, StoreError
from smppd.store.installation import ACTS, CONSENTS, OPT_OUTS, SUSPENSIONS, Installation
from smppd.traffic.suspension import Suspension

log = logging.getLogger("smppd.nodes")
EVERY: Final = 30.0
"""Seconds between two looks that nobody asked for."""
KEYS: Final = 120
"""Opt-outs that are told by their keys; where there are more, all is looked at."""


class Fellows(Protocol):
    """The other nodes (`daemon.nodes`)."""

    def listen(self, topic: str, heard: Callable[[str], object]) -> None:
        """``heard(detail)`` is called on the reactor thread when another node tells of this topic."""

    def tell(self, topic: str, detail: str = "") -> None:
        """Tells them. Any thread."""


class Follower:
    """One thing that is followed: one look at a time, and one more where somebody asked meanwhile."""

    def __init__(self, topic: str, worker: Work, metrics: Metrics) -> None:
        self.topic = topic
        self._worker = worker
        self._metrics = metrics
        self._busy = self._again = False

    def look(self) -> None:
        """Looks at the store, and takes over what has changed."""
        if self._busy:
            self._again = True
            return
        self._busy = True
        self._begin()
        self._worker.run(f"follow {self.topic}", self.read, self._done)

    def _begin(self) -> None:
        """Before a look, on the reactor thread."""

    def read(self) -> Any:
        """In another thread: what is stored, None where nothing has changed. StoreError."""
        raise NotImplementedError

    def take(self, stored: Any) -> None:
        """Takes it over; None where there is nothing."""
        raise NotImplementedError

    def _done(self, stored: Any, error: Exception | None) -> None:
        self._busy = False
        if error is not None:
            self.failed(error)
        self.take(stored)
        if self._again:
            self._again = False
            self.look()

    def failed(self, error: Exception) -> None:
        """It could not be read, and is looked at again with the next look."""
        self._metrics.chores_failed.labels("following").inc()
        reason = str(error) if isinstance(error, StoreError) else type(error).__name__
        log.warning(
            "cannot look at what other nodes have changed", extra={"fields": {"what": self.topic, "reason": reason}}
        )


class OptOuts(Follower):
    """The register of opt-outs. Few changes are taken one by one, and the whole is read where it is not known which."""

    def __init__(self, store: Installation, register: Register, worker: Work, metrics: Metrics) -> None:
        super().__init__(OPT_OUTS, worker, metrics)
        self._store = store
        self._register = register
        self._stored: Register | None = None
        self._seen = self._version()

    def _version(self) -> str:
        with closing(self._store.opt_outs()) as rows:
            return rows.version()

    def heard(self, detail: str) -> None:
        """Another node has told of some, by their keys in hexadecimal."""
        try:
            keys = [bytes.fromhex(one) for one in detail.split()][:KEYS]
        except ValueError:
            keys = []
        if not keys:
            self.look()
            return

        def done(stored: Sequence[tuple[bytes, OptOut | None]] | None, error: Exception | None) -> None:
            if error is not None:
                self.failed(error)
            for key, entry in stored or ():
                self._register.follow(key, entry)

        self._worker.run("follow opt-outs", lambda: self._some(keys), done)

    def _some(self, keys: Sequence[bytes]) -> list[tuple[bytes, OptOut | None]]:
        with closing(self._store.opt_outs()) as rows:
            return [(key, rows.get(key)) for key in keys]

    def _begin(self) -> None:
        self._stored = self._register.read_anew()

    def read(self) -> Register | None:
        """See `Follower`. Of the whole: what one was told by its key is in it too."""
        with closing(self._store.opt_outs()) as rows:
            version = rows.version()
            if version == self._seen or self._stored is None:
                return None
            self._stored.load(rows.all())
        self._seen = version
        return self._stored

    def take(self, stored: Register | None) -> None:
        """See `Follower`."""
        self._stored = None
        self._register.take_over(stored)


class Consents(Follower):
    """The register of consents: the whole is read."""

    def __init__(self, store: Installation, register: ConsentRegister, worker: Work, metrics: Metrics) -> None:
        super().__init__(CONSENTS, worker, metrics)
        self._store = store
        self._register = register
        self._stored: ConsentRegister | None = None
        self._seen = ""
        with closing(store.consents()) as consents:
            self._seen = consents.version()

    def _begin(self) -> None:
        self._stored = self._register.read_anew()

    def read(self) -> ConsentRegister | None:
        """See `Follower`."""
        with closing(self._store.consents()) as consents:
            version = consents.version()
            if version == self._seen or self._stored is None:
                return None
            self._stored.load(load(consents))
        self._seen = version
        return self._stored

    def take(self, stored: ConsentRegister | None) -> None:
        """See `Follower`."""
        self._stored = None
        self._register.take_over(stored)


class Suspensions(Follower):
    """Who may not submit."""

    def __init__(self, traffic: TrafficMemory, worker: Work, metrics: Metrics) -> None:
        super().__init__(SUSPENSIONS, worker, metrics)
        self._traffic = traffic
        self._at = 0

    def _begin(self) -> None:
        self._at = self._traffic.suspensions.changes

    def read(self) -> list[Suspension]:
        """See `Follower`."""
        return self._traffic.stored_suspensions()

    def take(self, stored: list[Suspension] | None) -> None:
        """See `Follower`."""
        if stored is None:
            return
        if self._traffic.suspensions.changes != self._at:
            self.look()  # what was read may be from before
        else:
            self._traffic.take_suspensions(stored)


class Acts(Follower):
    """Which upstreams are paused or drained."""

    def __init__(self, acts: StandingActs, room: ActRoom, worker: Work, metrics: Metrics) -> None:
        super().__init__(ACTS, worker, metrics)
        self._acts = acts
        self._room = room
        self._at = 0

    def _begin(self) -> None:
        self._at = self._acts.changes

    def read(self) -> list[Standing]:
        """See `Follower`."""
        return self._acts.stored()

    def take(self, stored: list[Standing] | None) -> None:
        """See `Follower`."""
        if stored is None:
            return
        if self._acts.changes != self._at:
            self.look()  # what was read may be from before
        else:
            self._room.follow(stored)


class Following:
    """See the module. For the reactor thread."""

    def __init__(self, fellows: Fellows, now: float) -> None:
        self._fellows = fellows
        self._looked = now
        self._followers: list[Follower] = []

    def follow(self, follower: Follower, heard: Callable[[str], object] | None = None) -> None:
        """Follows one thing; ``heard(detail)``: what is done when it is told of, a look where nothing else is said."""
        self._followers.append(follower)
        self._fellows.listen(follower.topic, heard or (lambda _detail: follower.look()))

    def tick(self, now: float) -> None:
        """Call about once a second."""
        if now - self._looked >= EVERY:
            self._looked = now
            for follower in self._followers:
                follower.look()

    def tell(self, topic: str) -> None:
        """Something of a topic is stored anew, for the others to look at. Any thread."""
        self._fellows.tell(topic)

    def tell_acts(self) -> None:
        """An act was written: an account may be suspended by one, or an upstream paused. Any thread."""
        self.tell(ACTS)
        self.tell(SUSPENSIONS)

    def tell_opt_outs(self, changes: Iterable[OptOut]) -> None:
        """These are on stable storage."""
        keys: Collection[str] = {one.key.hex() for one in changes}
        self._fellows.tell(OPT_OUTS, " ".join(keys) if len(keys) <= KEYS else "")


def followed(
    fellows: Fellows,
    store: Installation,
    worker: Work,
    metrics: Metrics,
    register: Register,
    consents: ConsentRegister,
    traffic: TrafficMemory,
    acts: StandingActs,
    room: ActRoom,
    *,
    several: bool,
    now: float,
) -> Following:
    """All that is followed; what this node changes of it the others are told. several: whether there may be other nodes.
    StoreError."""
    following = Following(fellows, now)
    if several:
        opt_outs = OptOuts(store, register, worker, metrics)
        following.follow(opt_outs, opt_outs.heard)
        register.durable = following.tell_opt_outs
        following.follow(Consents(store, consents, worker, metrics))
        consents.changed = lambda: following.tell(CONSENTS)
        following.follow(Suspensions(traffic, worker, metrics))
        traffic.changed = lambda: following.tell(SUSPENSIONS)
        following.follow(Acts(acts, room, worker, metrics))
        acts.changed = following.tell_acts
    return following
