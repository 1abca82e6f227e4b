"""What every part of the data path shares: the store's current batch, the ledger, the phases, ids, the clocks, the counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from smppd.config import Account as AccountSettings
from smppd.config import Upstream as UpstreamSettings
from smppd.message import State, pack_event
from smppd.metrics import Metrics
from smppd.relay.guard import COMMIT, ROWS, TIMER, Guard
from smppd.relay.ledger.ledger import Ledger
from smppd.relay.log_counts import Notices, Tally
from smppd.relay.state.model import Account, Lane, Message, Peer, UpstreamState
from smppd.relay.state.phases import Phases
from smppd.store.api import ColdRow, Spool
from smppd.vault.keys import KeyRing

FLUSH_SECONDS: Final = 0.005
"""What peers may take of one turn to send what they have, and to go on with what they had sent."""


@dataclass(slots=True)
class Context:
    """Handed to each part by its constructor. ``wall``: epoch seconds. ``now``: monotonic seconds, for calls that begin here.

    ``later(seconds, function)`` runs a function on the reactor thread; what that raises stops nothing else. ``dirty``: peers
    with something to send, flushed once at the end of what is being handled. ``ledger`` writes the spool, ``phases`` moves
    messages. ``withdraw``: see ``Guard``.
    ``tally``: what the log says with the next sweep. ``notices``: what it says at once, and then once a minute. ``guard``:
    where what an item raises is caught. ``hot_limit`` (things) and ``hot_octets``: what memory holds, more waits on disk;
    ``mail_octets`` for mail, which goes soon mostly. ``parked``: octets of receipts that may wait for their message, of each
    upstream. ``restored``: 0, or messages up to this id may have been sent after the backup that the store was restored from
    was taken (`store.sqlite.copies.RESTORED`).
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
    tlvs: int = 64
    parked: int = 64 << 20
    accounts: dict[str, Account] = field(default_factory=dict)
    upstreams: dict[str, UpstreamState] = field(default_factory=dict)
    dirty: dict[Peer, None] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    notices: Notices = field(default_factory=Notices)
    restored: int = 0
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
        self.later = lambda seconds, function: run(seconds, lambda: self.guard.guarded(TIMER, function))

    @property
    def crowded(self) -> bool:
        """Whether memory holds as much as it should, in number or in octets: what comes now waits on disk."""
        ledger = self.ledger
        return ledger.octets >= self.hot_octets or ledger.count() >= self.hot_limit

    def account(self, name: str) -> Account:
        """The account, or a closed stand-in for one that left the configuration while things of it were waiting."""
        account = self.accounts.get(name)
        if account is None:
            settings = AccountSettings.model_construct(system_id=name, password_hash=(), networks=(), suspended=True)
            account = self.accounts[name] = Account(settings, self.metrics, self.now())
            account.closed = True
        return account

    def upstream(self, name: str) -> UpstreamState:
        """The upstream, or a stand-in without links for one that left the configuration: what waits for its receipts goes
        on waiting, and is there when it comes back."""
        upstream = self.upstreams.get(name)
        if upstream is None:
            fields: dict[str, Any] = {"name": name, "enabled": False}
            settings = UpstreamSettings.model_construct(**fields)
            upstream = self.upstreams[name] = UpstreamState(settings, self.metrics, self.now())
        return upstream

    def lane(self, account: Account, route: str) -> Lane:
        """The lane of an account for a route (names joined by commas)."""
        lane = account.lanes.get(route)
        if lane is None:
            lane = Lane(account, route, tuple(self.upstream(name) for name in route.split(",") if name))
            account.lanes[route] = lane
        return lane

    def event(
        self, identity: int, state: State, *, duplicate: bool = False, error: int = 0, detail: bytes = b""
    ) -> None:
        """Writes an event of a record into the current batch."""
        self.store.batch.events.append(
            pack_event(identity, int(self.wall() * 1000), state, duplicate=duplicate, error=error, detail=detail)
        )

    def looked(self, then: Callable[[list[ColdRow]], None]) -> Callable[[list[ColdRow]], None]:
        """``then`` as the answer to a query: what it raises beside what it catches at each row stops nothing else."""

        def arrived(rows: list[ColdRow]) -> None:
            try:
                then(rows)
            except Exception as error:  # noqa: BLE001  the edge of a query
                self.guard.caught(ROWS, error)

        return arrived

    def unreadable(self, row: ColdRow, error: Exception, kind: str) -> None:
        """A cold row that cannot be handled is set aside, and is gone with the current batch. Its count is the caller's."""
        self.guard.keep(ROWS, error, kind, row.owner, row.id, row.data)
        self.ledger.drop_row(row.kind, row.owner, row.key, row.id)
        self.store.kick()

    def unreadable_waiting(self, row: ColdRow, error: Exception) -> None:
        """A row of a message that waits for its receipt and cannot be read: nobody will know what became of it."""
        self.unreadable(row, error, "message")
        self.upstream(row.owner).unshelved()
        self.event(row.id, State.UNKNOWN)

    def answer(self, peer: Peer, response: bytes, places: int = 1) -> None:
        """Answers a request of a peer, and gives back the ``places`` that it held in the session's window: 1 for a message, as
        many as a submit_multi had destinations, 0 for an enquiry, which holds none. The only way to answer; what is written
        goes out with the next ``flush``."""
        session = peer.session
        session.out.append(response)
        session.answered(places)
        self.dirty[peer] = None

    def flush(self) -> None:
        """Lets every peer send what it has. A peer's flush may bring more work, which is flushed too: by the one that is under
        way, since thousands of peers, each flushed within the one before, are more than a stack holds. What takes longer than
        `FLUSH_SECONDS` goes on in the next turn of the reactor."""
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
