"""What every part of the data path shares: the store's current batch, the journal, ids, the clocks, the counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from smppd.message import State, pack_event
from smppd.metrics import Metrics
from smppd.relay.journal import Journal
from smppd.relay.model import Account, Peer, UpstreamState
from smppd.store.api import Spool
from smppd.vault.keys import KeyRing


@dataclass(slots=True)
class Context:
    """Handed to each part by its constructor. ``wall``: epoch seconds. ``now``: monotonic seconds, for calls that begin here.

    ``later(seconds, function)`` runs a function on the reactor thread. ``dirty``: peers with something to send, flushed once
    at the end of what is being handled.
    """

    store: Spool
    journal: Journal
    ring: KeyRing
    new_id: Callable[[], int]
    wall: Callable[[], float]
    now: Callable[[], float]
    later: Callable[[float, Callable[[], None]], object]
    metrics: Metrics
    hot_limit: int
    accounts: dict[str, Account] = field(default_factory=dict)
    upstreams: dict[str, UpstreamState] = field(default_factory=dict)
    dirty: dict[Peer, None] = field(default_factory=dict)
    hot: int = 0

    def event(
        self, identity: int, state: State, *, duplicate: bool = False, error: int = 0, detail: bytes = b""
    ) -> None:
        """Writes an event of a record into the current batch."""
        self.store.batch.events.append(
            pack_event(identity, int(self.wall() * 1000), state, duplicate=duplicate, error=error, detail=detail)
        )

    def flush(self) -> None:
        """Lets every peer send what it has. A peer's flush may bring more work, which is flushed too."""
        dirty = self.dirty
        while dirty:
            peer = next(iter(dirty))
            del dirty[peer]
            peer.flush()
