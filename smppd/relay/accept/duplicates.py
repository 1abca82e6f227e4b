"""Finds messages that were sent twice, for accounts with ``deduplicate``: a customer who got no answer may send the same
message again."""

from __future__ import annotations

import os
from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from smppd.protocol.wire import Sm, pdu_body
from smppd.relay.state.model import Message, Remembered

KEPT: Final = 100_000


class Duplicates:
    """Remembers the latest messages by a keyed hash of the account and the PDU; with more than ``KEPT`` the oldest is
    forgotten. The messages themselves are not kept: each costs some 400 octets here, whatever its size."""

    def __init__(self) -> None:
        self.kept = KEPT
        self._secret = os.urandom(32)
        self._known: OrderedDict[bytes, Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def key(self, account: str, sm: Sm) -> bytes:
        """The key of a message: the same for a second sending, which may have another sequence number."""
        return blake2b(account.encode() + b"\0" + pdu_body(sm.raw), digest_size=16, key=self._secret).digest()

    def sent_before(self, key: bytes, now: float, within: float) -> Remembered | None:
        """What is remembered of the same message, if it was taken less than ``within`` seconds ago."""
        known = self._known.get(key)
        return known if known is not None and now - known.at < within else None

    def remember(self, key: bytes, message: Message, now: float) -> None:
        """A message was taken at ``now``."""
        message.remembered = self._known[key] = Remembered(key, message.shown, now)
        self._known.move_to_end(key)
        if len(self._known) > self.kept:
            self._known.popitem(last=False)

    def forget(self, message: Message) -> None:
        """Forgets a message that was refused after all, so that it can be sent again."""
        known, message.remembered = message.remembered, None
        if known is not None and self._known.get(known.key) is known:
            del self._known[known.key]
