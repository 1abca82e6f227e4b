"""The base of all things that the spool keeps (messages, mail, parked receipts), and the fields by which messages are
found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from smppd.policy.content import PartKey

WEIGHT: Final = 1100
"""Octets of memory of a thing beside its frame, as measured (`bench.limits`): its object, its numbers, its places in
indexes."""


class Living:
    """A message, mail or a parked receipt.

    ``home``: the place in the spool where it lives (`relay.ledger.ledger`), 0 where it lives as a cold row or not at all.
    ``cold``: its cold row as (kind, owner, key), None where it has none. ``weight``: the octets of memory it is counted
    with, 0 while it is not counted. ``expires``: epoch seconds.
    """

    __slots__ = ("cold", "expires", "frame", "home", "id", "weight")

    def __init__(self, identity: int, frame: bytes, expires: int = 0) -> None:
        self.id = identity
        self.frame = frame
        self.expires = expires
        self.home = 0
        self.weight = 0
        self.cold: tuple[int, str, bytes] | None = None

    def weighed(self, octets: int) -> None:
        """The thing is counted with so many octets more. A subclass changes the number of its owner too."""


class Filed(Living):
    """What the lists of `relay.state.queues` and `relay.state.addresses` need of a message.

    ``due``: its place in ``Calendar``. ``key``, ``before``, ``next``: that in ``Addressed``. ``reversed``: its addresses as
    its receipts carry them, destination field first. ``deadline``: monotonic seconds until which it may be unknown.
    ``part``: what it shares with the other parts of a long message. ``upstream_id``: what its carrier calls it.
    """

    __slots__ = ("before", "deadline", "due", "key", "next", "part", "reversed", "upstream_id")

    def __init__(self, identity: int, frame: bytes, expires: int = 0) -> None:
        super().__init__(identity, frame, expires)
        self.due = 0
        self.key = 0
        self.before: Filed | None = None
        self.next: Filed | None = None
        self.reversed = b""
        self.deadline = 0.0
        self.part: PartKey | None = None
        self.upstream_id = b""
