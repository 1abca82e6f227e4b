"""Which of a carrier's addresses a link tries next. No sockets and no clock; each link has an order of its own.

A link begins with the first. After a failed connection, a refused bind or a lost link the next one is tried, after the last the
first. Two things lead back to the first at once: a link that is lost at any other address, and a session that we ended. While
a link stands, it stays where it is. Pauses double when all addresses have failed, not with each of them.
"""

from __future__ import annotations


class AddressOrder:
    """See the module. ``at``: the index of the address to try."""

    __slots__ = ("_count", "_failed", "at")

    def __init__(self, count: int) -> None:
        """``count`` of addresses, 1 at least."""
        self.at = 0
        self._count = count
        self._failed = 0

    @property
    def rounds(self) -> int:
        """How often all addresses have failed since the latest bind."""
        return self._failed // self._count

    def bound(self) -> None:
        """A bind was accepted at this address."""
        self._failed = 0

    def failed(self) -> None:
        """No connection came about at this address, or the bind was refused there."""
        self._failed += 1
        self.at = (self.at + 1) % self._count

    def lost(self, *, by_us: bool) -> None:
        """A session that was bound has ended; ``by_us``: we unbound it."""
        self._failed += 1
        self.at = 0 if by_us or self.at else 1 % self._count
