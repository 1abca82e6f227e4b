"""Remembers which sender a customer used for a handset where policy put another in its place and replies are to be restored
(`replace_sender`, `restore`). A reply to the replacement then reaches the account at that sender.

What is remembered is a cold row, durable with the message: found by a keyed hash of account and handset, so that no number
is on the disk; the id is one of the replacement, and the sender itself is sealed. A row lasts `KEPT` after the last message,
and there are `MOST` at most for all accounts; then those that were used longest ago go. In memory are the newest `RECENT`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from hashlib import blake2b
from typing import Final

from smppd.message import Address
from smppd.numbering import normalise
from smppd.protocol.wire import Sm
from smppd.relay.context import Context
from smppd.relay.state.model import Account
from smppd.store.api import ColdRow, Kind

KEPT: Final = 30 * 86400
"""Seconds for which a sender is remembered after the last message with it."""
MOST: Final = 1_000_000
RECENT: Final = 10_000
"""Rows that were just written: the same is not written again within a day. 3 MiB at the most."""

_AGAIN: Final = 86400  # seconds after which the same sender is written anew, to last longer
_STEP: Final = 500
_EVER: Final = 1 << 52
_REPLACEMENTS: Final = 4096

Then = Callable[[bytes | None], None]


class ReplySenders:
    """See the module. ``secret``: keys the hashes; without one nothing is remembered. ``most``: of rows. ``alone``: no other
    node puts rows too."""

    def __init__(self, context: Context, secret: bytes | None, most: int = MOST) -> None:
        self._context = context
        self._secret = secret
        self._most = most
        self._enough = most - most // 50
        self.alone = True
        # Rows of each account; each that is written counts, also in the place of another: counted anew before any goes.
        self._counts: dict[str, int] = {}
        self._recent: OrderedDict[tuple[bytes, int], tuple[bytes, int]] = OrderedDict()
        self._replacements: dict[bytes, int] = {}
        self._sweeping = False

    def count_found(self, account: str, number: int) -> None:
        """So many rows of an account were found at the start."""
        self._counts[account] = number

    @property
    def count(self) -> int:
        """How many rows there may be."""
        return sum(self._counts.values())

    # -- remembering ---------------------------------------------------------------------------------------------------

    def remember(self, account: Account, sm: Sm, replacement: Address, *, kept: bool = False) -> None:
        """A message goes out under another sender; ``sm`` has the one that its customer used. ``kept``: what it belongs to has
        happened already, so it is tried again where the disk is full."""
        if self._secret is None:
            return
        key = self._key(account.name, normalise(sm.destination_digits, sm.destination_ton, 0, account.region))
        identity = self._id(normalise(replacement.digits, replacement.ton, 0, account.region))
        source = sm.source_field
        wall = int(self._context.wall())
        recent = self._recent
        place = (key, identity)
        known = recent.get(place)
        if known is not None:
            recent.move_to_end(place)
            if known[0] == source and known[1] + _AGAIN > wall:
                return
        recent[place] = (source, wall)
        if len(recent) > RECENT:
            recent.popitem(last=False)
        self._context.ledger.put_row(ColdRow(Kind.REPLY, account.name, key, identity, wall + KEPT, source), kept=kept)
        if known is None:
            self._counts[account.name] = self._counts.get(account.name, 0) + 1

    def batch_refused(self) -> None:
        """Something was not stored: nobody knows which rows are."""
        self._recent.clear()

    # -- finding -------------------------------------------------------------------------------------------------------

    def restores(self, account: Account) -> bool:
        """Whether a reply to this account may have to be restored by what is remembered. Rows of other nodes are not counted
        here."""
        if self._secret is None:
            return False
        if self._counts.get(account.name):
            return True
        if self.alone or account.pipeline is None:
            return False
        program = account.pipeline.program
        return program is not None and any(line.restore for line in program.lines)

    def stands_for(self, account: Account, sm: Sm, region: str | None) -> bytes | None:
        """The address field of the one sender that the destination of a text from a handset always replaces; None for none or
        several. ``region``: of the carrier's national numbers."""
        if account.pipeline is None:
            return None
        found = account.pipeline.stands_for(normalise(sm.destination_digits, sm.destination_ton, 0, region))
        return None if found is None else bytes((found.ton, found.npi)) + found.digits + b"\0"

    def find(self, account: Account, sm: Sm, region: str | None, then: Then) -> None:
        """then(address field of the sender that the customer used last for this handset, None where nobody knows)."""
        key = self._key(account.name, normalise(sm.source_digits, sm.source_ton, 0, region))
        identity = self._id(normalise(sm.destination_digits, sm.destination_ton, 0, region))
        wall = int(self._context.wall())

        def found(rows: list[ColdRow]) -> None:
            then(next((row.data for row in rows if row.id == identity and row.expires > wall), None))

        self._context.store.find(Kind.REPLY, account.name, [key], self._context.guarded_rows(found))

    def find_of(self, account: str, forms: Iterable[bytes], then: Callable[[list[ColdRow]], None]) -> None:
        """All that is remembered of a person for an account. ``forms``: of the number."""
        keys = [self._key(account, form) for form in forms] if self._secret is not None else []
        self._context.store.find(Kind.REPLY, account, keys, then)

    def accounts(self) -> Collection[str]:
        """The accounts that have rows."""
        return [name for name, number in self._counts.items() if number > 0]

    def forget(self, rows: list[ColdRow]) -> None:
        """Rows go with the current batch."""
        for row in rows:
            self._recent.pop((row.key, row.id), None)
            self._context.ledger.drop_row(row.kind, row.owner, row.key, row.id)
            if self._counts.get(row.owner):
                self._counts[row.owner] -= 1

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Once a second: takes out what is past its time, and what are too many."""
        if self._sweeping or not self._counts:
            return
        if self.count > self._most:
            self._sweeping = True
            self._context.store.count(Kind.REPLY, self._counted)
        else:
            self._take_out(int(self._context.wall()), 0)

    def _counted(self, counts: dict[str, int]) -> None:
        self._sweeping = False
        self._counts = counts
        over = self.count - self._enough if self.count > self._most else 0
        self._take_out(_EVER if over else int(self._context.wall()), over)

    def _take_out(self, before: int, left: int) -> None:
        """Takes out rows that end before a time, oldest first, ``left`` of them or all."""
        self._sweeping = True
        context = self._context

        def found(rows: list[ColdRow]) -> None:
            self._sweeping = False
            # One that was written anew since is not that old any more.
            recent = self._recent
            old = [row for row in rows if recent.get((row.key, row.id), (b"", 0))[1] + KEPT <= row.expires]
            if not old:
                return
            if left:
                del old[left:]
            self.forget(old)
            more = left - len(old) if left else int(len(rows) == _STEP)
            if more > 0:
                context.store.batch.then.append(lambda: self._take_out(before, more if left else 0))
            context.store.kick()

        context.store.expired(Kind.REPLY, before, _STEP, context.guarded_rows(found))

    # -- hashes --------------------------------------------------------------------------------------------------------

    def _key(self, account: str, number: bytes) -> bytes:
        assert self._secret is not None
        return blake2b(account.encode() + b"\0" + number, key=self._secret, digest_size=16).digest()

    def _id(self, replacement: bytes) -> int:
        known = self._replacements.get(replacement)
        if known is None:
            assert self._secret is not None
            if len(self._replacements) >= _REPLACEMENTS:
                self._replacements.clear()
            octets = blake2b(b"replacement\0" + replacement, key=self._secret, digest_size=8).digest()
            known = self._replacements[replacement] = int.from_bytes(octets, "big") >> 1
        return known
