"""What all parts of the data path share: the store's current batch, the ledger, the phases, ids, the clocks, the
counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from smppd.config import Account as AccountSettings
from smppd.config import Upstream as UpstreamSettings
from smppd.message import State, pack_event
from smppd.metrics import Metrics
from smppd.policy.hours.hours import Hours
from smppd.policy.hours.windows import Gate
from smppd.relay.guard import COMMIT, ROWS, TIMER, Guard
from smppd.relay.ledger.ledger import Ledger
from smppd.relay.log_counts import LogCounts, Notices
from smppd.relay.state.marks import read_route
from smppd.relay.state.model import Account, Lane, Message, Peer, UpstreamState
from smppd.relay.state.phases import Phases
from smppd.store.api import ColdRow, Spool
from smppd.vault.keys import KeyRing

FLUSH_SECONDS: Final = 0.005
"""Seconds of one turn of the reactor in which peers may send what they have, and handle what they had received."""


@dataclass(slots=True)
class Context:
    """Each part gets it by its constructor. ``wall``: epoch seconds. ``now``: monotonic seconds, for calls that begin here.

    ``later(seconds, function)`` runs a function on the reactor thread; an error in the function stops nothing else.
    ``dirty``: peers that have something to send; they are flushed once, at the end of what is being handled. ``ledger``
    writes the spool. ``phases`` moves messages. ``withdraw``: see ``Guard``. ``guard`` catches what an item raises.
    ``log_counts``: what the log says with the next sweep. ``notices``: what the log says at once, and then once a minute.
    ``hot_limit`` (things) and ``hot_octets``: as much is held in memory, and more waits on disk. ``mail_octets``: the same
    for mail; it is more, since most mail goes out soon. ``tlv_limit``: TLVs of one PDU. ``parked_limit``: octets of receipts
    that may wait for their message, for each upstream. ``hours``: when messages may leave; None: at any time.
    ``restored_upto``: 0, or, after a restore, the highest id that may have been sent since the backup was taken
    (`store.installation.RESTORED`).
    """

    store: Spool
    ring: KeyRing
    new_id: Callable[[], int]
    wall: Callable[[], float]
    now: Callable[[], float]
    later: Callable[[float, Callable[[], None]], object]
    metrics: Metrics
    withdraw: Callable[[Message], None]
    hot_limit: int
    hot_octets: int = 192 << 20
    mail_octets: int = 240 << 20
    tlv_limit: int = 64
    parked_limit: int = 64 << 20
    accounts: dict[str, Account] = field(default_factory=dict)
    upstreams: dict[str, UpstreamState] = field(default_factory=dict)
    dirty: dict[Peer, None] = field(default_factory=dict)
    log_counts: LogCounts = field(default_factory=LogCounts)
    notices: Notices = field(default_factory=Notices)
    restored_upto: int = 0
    hours: Hours | None = None
    guard: Guard = field(init=False)
    ledger: Ledger = field(init=False)
    phases: Phases = field(init=False)
    _flushing: bool = False
    _flush_due: bool = False

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.store)
        self.phases = Phases(self.now)
        self.guard = Guard(self.store, self.ledger, self.metrics, self.accounts, self.wall, self.now, self.withdraw)
        run = self.later
        self.later = lambda seconds, function: run(seconds, lambda: self.guard.call_guarded(TIMER, function))

    @property
    def crowded(self) -> bool:
        """Whether memory holds as much as it should, in number or in octets: what comes now waits on disk."""
        ledger = self.ledger
        return ledger.octets >= self.hot_octets or ledger.count() >= self.hot_limit

    @property
    def half_full(self) -> bool:
        """Whether memory holds half of what it should."""
        ledger = self.ledger
        return 2 * ledger.octets >= self.hot_octets or 2 * ledger.count() >= self.hot_limit

    def account(self, name: str) -> Account:
        """The account. Where it left the configuration while messages or mail of it were waiting, a closed stand-in."""
        account = self.accounts.get(name)
        if account is None:
            settings = AccountSettings.model_construct(system_id=name, password_hash=(), networks=(), suspended=True)
            account = self.accounts[name] = Account(settings, self.metrics, self.now())
            account.closed = True
        return account

    def upstream(self, name: str) -> UpstreamState:
        """The upstream. Where it left the configuration, a stand-in without links: messages that wait for its receipts go on
        waiting, and are found when it comes back."""
        upstream = self.upstreams.get(name)
        if upstream is None:
            fields: dict[str, Any] = {"name": name, "enabled": False}
            settings = UpstreamSettings.model_construct(**fields)
            upstream = self.upstreams[name] = UpstreamState(settings, self.metrics, self.now())
        return upstream

    def lane(self, account: Account, route: str) -> Lane:
        """The lane of an account for a route: names joined by commas, and marks (`relay.state.marks`)."""
        lane = account.lanes.get(route)
        if lane is None:
            lane = Lane(account, route, tuple([self.upstream(name) for name in read_route(route).names]))
            lane.gate = self._gate_of(lane)
            account.lanes[route] = lane
        return lane

    def use_hours(self, hours: Hours) -> None:
        """Takes other hours, for what waits by the ones before too."""
        self.hours = hours
        for account in self.accounts.values():
            for lane in account.lanes.values():
                if lane.gate_key:
                    lane.gate = self._gate_of(lane)

    def _gate_of(self, lane: Lane) -> Gate | None:
        if not lane.gate_key or self.hours is None or lane.account.settings.quiet_hours in ("off", "shadow"):
            return None
        return self.hours.named(lane.gate_key)

    def append_event(
        self, identity: int, state: State, *, duplicate: bool = False, error: int = 0, detail: bytes = b""
    ) -> None:
        """Writes an event of a record into the current batch."""
        self.store.batch.events.append(
            pack_event(identity, int(self.wall() * 1000), state, duplicate=duplicate, error=error, detail=detail)
        )

    def guarded_rows(self, then: Callable[[list[ColdRow]], None]) -> Callable[[list[ColdRow]], None]:
        """Wraps ``then``, which takes the rows of a query, so that an error in it stops nothing else. ``then`` catches
        errors of single rows itself."""

        def arrived(rows: list[ColdRow]) -> None:
            try:
                then(rows)
            except Exception as error:  # noqa: BLE001  the edge of a query
                self.guard.caught(ROWS, error)

        return arrived

    def set_row_aside(self, row: ColdRow, error: Exception, kind: str) -> None:
        """Sets a cold row aside that cannot be handled. It is gone with the current batch. The caller changes the number of
        rows."""
        self.guard.keep_damaged(ROWS, error, kind, row.owner, row.id, row.data)
        self.ledger.drop_row(row.kind, row.owner, row.key, row.id)
        self.store.kick()

    def set_waiting_row_aside(self, row: ColdRow, error: Exception) -> None:
        """Sets a row aside that cannot be read, of a message that waits for its receipt. Nobody will know what became of
        that message."""
        self.set_row_aside(row, error, "message")
        self.upstream(row.owner).unshelved()
        self.append_event(row.id, State.UNKNOWN)

    def answer(self, peer: Peer, response: bytes, places: int = 1) -> None:
        """Answers a request of a peer, and gives back the ``places`` that it held in the session's window: 1 for a message,
        as many as a submit_multi had destinations, 0 for a query_sm, cancel_sm or replace_sm, which hold none. Nothing else
        answers a peer; what is written goes out with the next ``flush``."""
        session = peer.session
        session.out.append(response)
        session.answered(places)
        self.dirty[peer] = None

    def flush(self) -> None:
        """Lets every peer send what it has. The flush of a peer may bring more work for others. The call that is under way
        flushes these too: if each flush were made within the one before, thousands of peers would need more stack than there
        is. What takes longer than `FLUSH_SECONDS` goes on in the next turn of the reactor."""
        dirty = self.dirty
        if self._flushing or not dirty:
            return
        self._flushing = True
        until = self.now() + FLUSH_SECONDS
        try:
            while dirty:
                for peer in list(dirty):
                    if peer not in dirty:  # gone meanwhile
                        continue
                    del dirty[peer]
                    try:
                        peer.flush()
                    except Exception as error:  # noqa: BLE001  the item's edge
                        self.guard.caught(COMMIT, error)
                    if self.now() >= until and dirty:
                        if not self._flush_due:
                            self._flush_due = True
                            self.later(0.0, self._flush_again)
                        return
        finally:
            self._flushing = False

    def _flush_again(self) -> None:
        self._flush_due = False
        self.flush()
