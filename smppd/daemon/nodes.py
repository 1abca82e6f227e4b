"""This daemon as one of several on one store: what it says of itself, and what it makes of what the others say
(`store.nodes`, docs/adr/0028).

What all nodes share is kept by what each publishes: others' binds count against `max_binds`, a rate is divided by binds or
links, mail goes to where its account is bound. Where there is one node, or the embedded store, nothing here does anything.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

from smppd import __version__
from smppd.metrics import Metrics
from smppd.net.bound import Bound, BoundAccounts
from smppd.relay.gauges import Load
from smppd.store.nodes import BEAT, Convert, Life, Nodes, NodeView

log = logging.getLogger("smppd.nodes")
MOST: Final = 5000
"""Accounts that a node names in what it publishes; the binds of more are not counted at the other nodes."""
UPSTREAMS: Final = 1000
"""The same of upstreams, and their links. With both it is less than the store takes (`store.postgres.nodes.FACTS`)."""
COUNTS: Final = 5.0
"""Seconds between two times that counts are published which others only show."""
_SOON: Final = 0.01
"""Seconds for which a bind's news wait for other binds'."""
_EACH: Final = 20e-6
"""And seconds for each account that is named, so that many binds one after another do not keep a node busy with telling."""
_OVERDUE: Final = 3 * BEAT
"""Seconds without a look after which this node does not serve: others may soon think that it is dead."""
DRAINING: Final = "draining"
"""The state of a node that is about to end."""
_EVICT: Final = "evict"
_FORM: Final = 1

There = (Life.LIVE, Life.LATE)
"""How a node stands whose binds and links count."""


class Shares(Protocol):
    """What of the relay is told about other nodes."""

    def rows_unheld(self, kind: int, owner: str, ids: Sequence[int]) -> None:
        """Rows that nobody holds are there."""

    def set_elsewhere(self, receivers: Collection[str]) -> None:
        """Accounts that take mail at other nodes."""

    def set_alone(self, alone: bool) -> None:
        """Whether no other node is there."""

    def set_shares(self, accounts: Mapping[str, float], upstreams: Mapping[str, float]) -> None:
        """This node's part of rates."""


class Facts(NamedTuple):
    """What a node says of itself, as far as it can be read. ``since``: epoch seconds of its start."""

    version: str = ""
    state: str = ""
    since: float | None = None
    accounts: Mapping[str, Bound] = {}
    upstreams: Mapping[str, int] = {}
    waiting: int | None = None
    mail: int | None = None
    unknown: int | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Facts:
        """What another node has published, which may be of another version: what is not as it should be is left out."""
        accounts = said.get("accounts")
        upstreams = said.get("upstreams")
        since = said.get("since")
        return cls(
            str(said.get("version", ""))[:32],
            str(said.get("state", ""))[:32],
            float(since) if isinstance(since, int | float) else None,
            {name: Bound(*two) for name, two in accounts.items() if _numbers(two, 2)}
            if isinstance(accounts, dict)
            else {},
            {name: one for name, one in upstreams.items() if _number(one)} if isinstance(upstreams, dict) else {},
            *(said[name] if _number(said.get(name)) else None for name in ("waiting", "mail", "unknown")),
        )


def _number(value: object) -> bool:
    return type(value) is int and value >= 0


def _numbers(value: object, count: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == count and all(map(_number, value))


class Membership:
    """See the module. For the reactor thread, but `is_housekeeper` and `tell`.

    ``nodes``: None where the store is one node's alone. ``state``: how this node does, in a word. ``load``: what waits here;
    ``links``: to which upstream how many stand. ``fenced(reason)``: this node has to end. ``now``: monotonic seconds,
    ``later(seconds, function)`` runs something on the reactor thread, ``wall``: epoch seconds."""

    def __init__(
        self,
        nodes: Nodes | None,
        shares: Shares,
        metrics: Metrics,
        *,
        state: Callable[[], str],
        load: Callable[[], Load],
        links: Callable[[], Mapping[str, int]],
        fenced: Callable[[str], object],
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], Any],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._nodes = nodes
        self._shares = shares
        self._metrics = metrics
        self._state = state
        self._load = load
        self._links = links
        self._fenced = fenced
        self._now = now
        self._later = later
        self._since = round(wall(), 3)
        self._bound = BoundAccounts()
        self._evict: Callable[[str, int], object] = lambda _account, _places: None
        self._listeners: dict[str, list[Callable[[str], object]]] = {}
        self._housekeeper = nodes is None
        self._views: tuple[NodeView, ...] = ()
        self._facts: dict[int, tuple[Mapping[str, Any], Facts]] = {}
        self._heard: float | None = None
        self._alone: bool | None = None
        self._elsewhere: frozenset[str] = frozenset()
        self._shared: tuple[dict[str, float], dict[str, float]] = ({}, {})
        self._told: dict[str, Any] = {}
        self._counted = self._asked = float("-inf")
        self._word = "starting"
        self._counts: dict[str, Any] = {}
        self._timer: Any = None  # IDelayedCall: news of binds
        self._lives: dict[int, tuple[Life, int]] = {}
        self._over = False
        self.listen(_EVICT, self._evict_here)
        metrics.node_lease.set(int(nodes is None))
        metrics.node_housekeeper.set(int(nodes is None))

    # -- the beginning and the end -------------------------------------------------------------------------------------

    def start(self, convert: Convert) -> None:
        """Begins to renew the lease, when what was on its way is read back: until then this node is `Life.DOWN` for the others,
        and nobody takes it over."""
        if self._nodes is not None:
            self._nodes.start(self, convert)

    def serve(self, bound: BoundAccounts, evict: Callable[[str, int], object]) -> None:
        """Customers may bind from here on. ``evict(account, places)``: so many of an account's oldest sessions give way to a
        bind at another node."""
        self._bound, self._evict = bound, evict
        if self._nodes is not None:
            bound.changed = self._binds_changed
            bound.wanted = self._want_places
            self._look_at_others()
            self._publish()

    def tick(self, now: float) -> None:
        """Ten times a second: publishes what has changed."""
        if self._nodes is None or self._over:
            return
        if now - self._asked >= 1.0:
            self._asked = now
            self._word = self._state()
        if now - self._counted >= COUNTS or self._told.get("state") != self._word or self._links_changed():
            self._publish()
        if self._heard is not None and now - self._heard > _OVERDUE:
            self._metrics.node_lease.set(0)

    def drain(self) -> None:
        """This node is about to end: another does the housekeeping, at once."""
        if self._nodes is not None:
            self._word, self._asked = DRAINING, float("inf")
            self._publish()

    def leave(self) -> None:
        """At the end, when the store is closed: others get what this node holds."""
        if self._nodes is None:
            return
        try:
            left = self._nodes.leave()
        except Exception as error:  # noqa: BLE001  the daemon's edge: what this node holds is there at its next start
            log.warning("what this node holds stays with it", extra={"fields": {"reason": type(error).__name__}})
            return
        if left:
            log.info("the other nodes have what this one held")

    def stop(self) -> None:
        """Ends all of it."""
        self._over = True
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._nodes is not None:
            self._nodes.stop()

    # -- for the rest of the daemon ------------------------------------------------------------------------------------

    @property
    def number(self) -> int | None:
        """This node's; None where the store is one node's alone."""
        return None if self._nodes is None else self._nodes.number

    def is_housekeeper(self) -> bool:
        """Whether this node does what one of all does: purge, index, the end of an erasure. Any thread. Two may think so for
        some seconds, so what they do has to bear that."""
        return self._housekeeper

    def listen(self, topic: str, heard: Callable[[str], object]) -> None:
        """``heard(detail)`` is called on the reactor thread when another node tells of this topic."""
        self._listeners.setdefault(topic, []).append(heard)

    def tell(self, topic: str, detail: str = "") -> None:
        """Tells the other nodes (`Nodes.tell`). Any thread."""
        if self._nodes is not None:
            self._nodes.tell(topic, detail)

    def check(self) -> str | None:
        """For /readyz: whether the lease is held; None where there is none."""
        if self._nodes is None:
            return None
        if self._heard is None:
            return "failed: the lease was not renewed yet"
        mine = self._own()
        late = max(self._now() - self._heard, 0.0 if mine is None else mine.silent)
        if late > _OVERDUE or mine is None or mine.life not in There:
            return f"failed: the lease was not renewed for {late:.0f} s"
        return "ok"

    def others(self) -> str | None:
        """For /readyz: other nodes that want a look; None where the store is one node's alone."""
        if self._nodes is None:
            return None
        wrong = [
            f"node {one.number} ({one.name}) is {one.life.value}"
            for one in self._views
            if one.number != self._nodes.number and one.life in (Life.LATE, Life.DOWN)
        ]
        return f"degraded: {'; '.join(wrong)}" if wrong else "ok"

    def views(self) -> list[dict[str, Any]]:
        """All nodes, as docs/control.md says it: `show nodes`."""
        shown = []
        for one in self._views:
            facts = self._facts_of(one)
            there = one.life in There
            shown.append(
                {
                    "node": one.number,
                    "name": one.name,
                    "here": one.number == self.number,
                    "life": one.life.value,
                    "silent": round(one.silent, 1) if there else None,
                    "state": facts.state if there else None,
                    "version": facts.version or None,
                    "since": facts.since,
                    "epoch": one.epoch,
                    "heir": one.heir,
                    "housekeeper": one.number == self._keeper(),
                    "accounts": len(facts.accounts) if there else 0,
                    "binds": sum(two.binds for two in facts.accounts.values()) if there else 0,
                    "links": sum(facts.upstreams.values()) if there else 0,
                    "waiting": facts.waiting if there else None,
                    "mail": facts.mail if there else None,
                    "unknown": facts.unknown if there else None,
                }
            )
        return shown

    def binds_elsewhere(self, names: Collection[str] | None) -> list[dict[str, Any]]:
        """Who is bound at other nodes: of some accounts alone, or all (None)."""
        return [
            {
                "node": one.number,
                "name": one.name,
                "account": account,
                "sessions": two.binds,
                "receivers": two.receivers,
            }
            for one, facts in self._fellows()
            for account, two in sorted(facts.accounts.items())
            if names is None or account in names
        ]

    def links_elsewhere(self, upstream: str | None) -> list[dict[str, Any]]:
        """The links that other nodes have: to one upstream, or all (None)."""
        return [
            {"node": one.number, "name": one.name, "upstream": name, "links": links}
            for one, facts in self._fellows()
            for name, links in sorted(facts.upstreams.items())
            if upstream is None or name == upstream
        ]

    # -- what is published ---------------------------------------------------------------------------------------------

    def _binds_changed(self) -> None:
        """A bind came or ended. Others count it, so they are told soon."""
        if self._timer is None and not self._over:
            self._timer = self._later(_SOON + _EACH * len(self._bound.here), self._tell_of_binds)

    def _tell_of_binds(self) -> None:
        self._timer = None
        self._publish()

    def _links_changed(self) -> bool:
        return _first(self._links(), UPSTREAMS) != self._counts.get("upstreams")

    def _publish(self) -> None:
        if self._nodes is None or self._over:
            return
        now = self._now()
        if now - self._counted >= COUNTS:
            self._counted = now
            self._counts = self._load()._asdict()
        self._counts["upstreams"] = _first(self._links(), UPSTREAMS)
        facts = {
            "v": _FORM,
            "version": __version__,
            "state": self._word,
            "since": self._since,
            "accounts": _first(self._bound.here, MOST),
            **self._counts,
        }
        if facts != self._told:
            self._told = facts
            self._nodes.publish(facts)
            self._divide()

    # -- what is heard (`store.nodes.Hears`) ---------------------------------------------------------------------------

    def nodes_changed(self, nodes: Sequence[NodeView]) -> None:
        """See `store.nodes.Hears`."""
        if self._over:
            return
        now = self._now()
        if self._heard is not None and now - self._heard > 2 * BEAT:
            self._metrics.node_beats_late.inc()
        self._heard = now
        self._views = tuple(nodes)
        self._metrics.node_lease.set(1)
        self._note_lives()
        self._look_at_others()

    def rows_unheld(self, kind: int, owner: str, ids: Sequence[int]) -> None:
        """See `store.nodes.Hears`."""
        if not self._over:
            self._shares.rows_unheld(kind, owner, ids)

    def changed(self, topic: str, detail: str) -> None:
        """See `store.nodes.Hears`. A listener's error is its own."""
        for heard in self._listeners.get(topic, ()):
            try:
                heard(detail)
            except Exception:  # the edge of a listener
                self._metrics.errors.labels("nodes").inc()
                log.exception("what another node told was not taken", extra={"fields": {"topic": topic}})

    def fenced(self, reason: str) -> None:
        """See `store.nodes.Hears`."""
        if not self._over:
            self._fenced(reason)

    # -- what is made of it --------------------------------------------------------------------------------------------

    def _own(self) -> NodeView | None:
        return next((one for one in self._views if one.number == self.number), None)

    def _facts_of(self, one: NodeView) -> Facts:
        known = self._facts.get(one.number)
        if known is None or (known[0] is not one.facts and known[0] != one.facts):
            known = self._facts[one.number] = (one.facts, Facts.of(one.facts))
        return known[1]

    def _fellows(self) -> list[tuple[NodeView, Facts]]:
        """The other nodes that are there."""
        return [(one, self._facts_of(one)) for one in self._views if one.number != self.number and one.life in There]

    def _keeper(self) -> int | None:
        """The node that does the housekeeping: the lowest that lives and does not drain; where all drain, the lowest."""
        live = [one for one in self._views if one.life is Life.LIVE]
        staying = [one for one in live if self._facts_of(one).state != DRAINING]
        return min((one.number for one in staying or live), default=None)

    def _note_lives(self) -> None:
        """Sets the gauges, and says what became of the others."""
        counts = dict.fromkeys(Life, 0)
        for one in self._views:
            counts[one.life] += 1
            stood = self._lives.get(one.number)
            self._lives[one.number] = (one.life, one.epoch)
            if stood is None or stood[0] is one.life or one.number == self.number:
                continue
            fields: dict[str, object] = {"node": one.number, "name": one.name, "was": stood[0].value}
            if one.life is Life.TAKEN:
                fields["heir"] = one.heir
                if one.heir == self.number:
                    self._metrics.node_takeovers.inc()
            level = logging.INFO if one.life in (Life.LIVE, Life.LEFT) else logging.WARNING
            log.log(level, "another node is %s", one.life.value, extra={"fields": fields})
        for life, count in counts.items():
            self._metrics.nodes.labels(life.value).set(count)
        keeper = self._keeper()
        if keeper is not None:
            self._housekeeper = keeper == self.number
        self._metrics.node_housekeeper.set(int(self._housekeeper))

    def _look_at_others(self) -> None:
        """Tells the relay and the door what of the others' news concerns them, where it is new."""
        if self._heard is None:
            return
        fellows = self._fellows()
        alone = not fellows
        if alone != self._alone:
            self._alone = alone
            self._shares.set_alone(alone)
        binds: dict[str, int] = {}
        for _, facts in fellows:
            for account, two in facts.accounts.items():
                binds[account] = binds.get(account, 0) + two.binds
        self._bound.set_elsewhere(binds)
        elsewhere = frozenset(
            account for _, facts in fellows for account, two in facts.accounts.items() if two.receivers
        )
        if elsewhere != self._elsewhere:
            self._elsewhere = elsewhere
            self._shares.set_elsewhere(elsewhere)
        self._divide()

    def _divide(self) -> None:
        """This node's part of each rate: by its binds or links of all that there are."""
        links: dict[str, int] = {}
        for _, facts in self._fellows():
            for name, number in facts.upstreams.items():
                links[name] = links.get(name, 0) + number
        binds = self._bound
        accounts = {
            name: mine.binds / (mine.binds + other)
            for name, mine in binds.here.items()
            if (other := binds.elsewhere(name)) > 0
        }
        mine_links: Mapping[str, int] = self._counts.get("upstreams", {})
        upstreams = {
            name: mine / (mine + links[name]) for name, mine in mine_links.items() if mine and links.get(name, 0)
        }
        if (accounts, upstreams) != self._shared:
            self._shared = (accounts, upstreams)
            self._shares.set_shares(accounts, upstreams)

    # -- places --------------------------------------------------------------------------------------------------------

    def _want_places(self, account: str, places: int) -> None:
        """A bind here takes the places of the oldest at other nodes: the one with the most gives them up. No name is told."""
        most = max(
            (
                (facts.accounts[account].binds, one.number)
                for one, facts in self._fellows()
                if account in facts.accounts
            ),
            default=None,
        )
        if most is not None:
            self.tell(_EVICT, f"{most[1]} {min(places, most[0])} {_hidden(account)}")

    def _evict_here(self, detail: str) -> None:
        node, places, hidden = detail.split(" ")
        if int(node) == self.number:
            for account in [name for name in self._bound.here if _hidden(name) == hidden]:
                self._evict(account, int(places))


def _hidden(account: str) -> str:
    return blake2b(account.encode(), digest_size=12, person=b"smppd nodes").hexdigest()


def _first(named: Mapping[str, Any], most: int) -> dict[str, Any]:
    """What is published of what may be many: the first in order of their names."""
    if len(named) <= most:
        return dict(named)
    return {name: named[name] for name in sorted(named)[:most]}
