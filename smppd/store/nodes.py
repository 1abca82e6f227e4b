"""Several smppd on one store: who they are, which of them live, and what they tell each other.

Each node holds what it took: its journal, its rows. It renews its lease every two seconds. A node whose lease nobody sees
renewed for ten seconds is dead for the others: one of them takes it over, in one transaction that ends its epoch (it can commit
nothing any more), makes rows of what its journal has, and leaves all its rows to nobody; the others claim them
(`store.api.Spool.claim`). A node that ends cleanly does the same with itself, where others are there.

What one node does the others hear of within some milliseconds; what is lost on the way they find with their next look, half a
minute later at most. A store of one node has no `Nodes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from smppd.store.api import ColdRow

BEAT: Final = 2.0
"""Seconds between two renewals of a lease."""
DEAD: Final = 10.0
"""Seconds without one, as others see it who could renew theirs all the time, after which a node is dead."""

Blocks = Iterable[tuple[int, bytes]]
"""(segment, entries of one batch) in the order of commitment: see `store.api.Spool.replay`."""
Convert = Callable[[Blocks], Iterator[ColdRow]]
"""Makes rows of all that lives in a journal. What cannot be read it leaves out; such blocks were set aside before."""


class Life(StrEnum):
    """How a node stands. ``LIVE``: its lease is renewed. ``LATE``: it has not been for a moment. ``LEFT``: it ended cleanly,
    and others have what it held. ``TAKEN``: another took it over. ``DOWN``: it ended or died, and what it held waits."""

    LIVE = "live"
    LATE = "late"
    LEFT = "left"
    TAKEN = "taken over"
    DOWN = "down"


class NodeView(NamedTuple):
    """One node as another one sees it. ``number``: 0 to 63, the one of its ids; ``name``: for people. ``silent``: seconds since
    its lease was last seen renewed. ``heir``: the node that took it over, None for none. ``facts``: what it said of itself
    (`Nodes.publish`), empty where it is not there."""

    number: int
    name: str
    epoch: int
    life: Life
    silent: float
    heir: int | None
    facts: Mapping[str, Any]


class Hears(Protocol):
    """Who is told what other nodes do. On the reactor thread."""

    def nodes_changed(self, nodes: Sequence[NodeView]) -> None:
        """How all nodes stand, this one too, in order of their numbers: after each look, so every two seconds at least, and at
        once when one has published."""

    def rows_unheld(self, kind: int, owner: str, ids: Sequence[int]) -> None:
        """Rows that nobody holds were put by another node or a take-over. ``ids``: which, where they are few; empty: some."""

    def changed(self, topic: str, detail: str) -> None:
        """What another node told (`Nodes.tell`)."""

    def fenced(self, reason: str) -> None:
        """Another node has this one's place: it can commit nothing, and has to end."""


class Nodes(Protocol):
    """The nodes of a store, for one of them, on a connection and in a thread of its own."""

    @property
    def number(self) -> int:
        """This one's."""

    def start(self, hears: Hears, convert: Convert) -> None:
        """Begins to renew the lease, to look and to listen. ``convert`` is called in the thread, for a take-over."""

    def publish(self, facts: Mapping[str, Any]) -> None:
        """Says what the others are to know of this node: a JSON object of some kilobytes. They are told at once where it is not
        what was said before. Any thread."""

    def tell(self, topic: str, detail: str = "") -> None:
        """Tells the others that something which all share has changed; at most once, and nobody hears it who is not there.
        ``topic``: a word; ``detail``: up to 4,000 characters, never a number, a text or a name. Any thread."""

    def leave(self) -> bool:
        """At the end, when the store is closed: gives up what this node holds, where others live; whether it has."""

    def stop(self) -> None:
        """Ends the thread."""
