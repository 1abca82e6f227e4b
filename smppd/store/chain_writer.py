"""The log's chain as it grows: one link for each batch that adds to the log, and a seal with it where one is due.

On the writer's thread, but for what says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from smppd.store.seals import SECONDS, Made, Seals
from smppd.vault.chain import GENESIS, ChainKeys, SealKind, chain, events_digest
from smppd.vault.seal import DIGEST_BYTES


class Link(NamedTuple):
    """What a batch adds to the chain. ``seal``: written with it, None where none is due."""

    seq: int
    digest: bytes
    records: int
    seal: Made | None


class ChainWriter:
    """See the module. ``row``, ``digest``: the last row of the log, and the chain up to it."""

    def __init__(self, end: tuple[bytes, int], keys: ChainKeys | None, seals: Seals | None) -> None:
        """end: of the log (`seals.end_of_log`). keys: None where the chain has none, as versions before seals had it. seals: of
        this run, taken up already."""
        self.digest, self.row = end
        self._keys = keys
        self._seals = seals
        self._sealing_alone = False

    @property
    def last(self) -> tuple[int, bytes]:
        """(number, hash) of the newest durable seal; (0, zeros) for none. Any thread."""
        return self._seals.last if self._seals is not None else (0, GENESIS)

    def next(self, seq: int, secrets: int | None, records: Sequence[bytes], events: bytes) -> Link | None:
        """The link for a batch, None where it adds nothing to the log. seq: of its log row; secrets: the slot that the row
        names; records: packed; events: packed, joined."""
        if not records and not events:
            return None
        # A packed record ends with its digest (`vault.seal.digest_of`, which also checks the form of one from disk).
        digests = [record[-DIGEST_BYTES:] for record in records]
        if events:
            digests.append(events_digest(events))
        keys, seals = self._keys, self._seals
        digest = chain(self.digest, digests) if keys is None else keys.link(self.digest, seq, secrets, digests)
        made = None
        if seals is not None and seals.due(len(records)):
            made = seals.make(SealKind.RUNNING, seq, digest, 1)
        return Link(seq, digest, len(records), made)

    def committed(self, link: Link) -> None:
        """The link is durable, and the seal with it."""
        self.digest, self.row = link.digest, link.seq
        if self._seals is not None:
            self._seals.committed(link.seal, 1, link.records)

    def due_alone(self) -> bool:
        """Whether it is time for a seal without a commit, which is to be made then (``seal_alone``). On the reactor thread."""
        if self._seals is None or self._sealing_alone or self._seals.age < SECONDS:
            return False
        self._sealing_alone = True
        return True

    def alone(self) -> Made | None:
        """The seal without a commit, to be written with a commit of its own; None where there is nothing that the last one
        does not cover."""
        self._sealing_alone = False
        return self._seals.alone(self.row, self.digest) if self._seals is not None else None

    def sealed(self, made: Made) -> None:
        """Such a seal is durable."""
        if self._seals is not None:
            self._seals.done(made)

    def seal_alone(self, kind: SealKind) -> None:
        """A seal without a commit, written at once."""
        if self._seals is not None:
            self._seals.rest(kind, self.row, self.digest)
        self._sealing_alone = False
