"""Messages of the last moments, for accounts with ``deduplicate``: a customer who got no answer sends the same once more."""

from __future__ import annotations

import os
from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from smppd.protocol.wire import Sm
from smppd.relay.state.model import Known, Message

KEPT: Final = 100_000


class Recent:
    """The latest messages by account, addresses and a keyed hash of what they say; at ``KEPT`` the oldest is forgotten. The
    messages themselves are not kept: whatever their size, each costs some 400 octets here."""

    def __init__(self) -> None:
        self.kept = KEPT
        self._secret = os.urandom(32)
        self._known: OrderedDict[bytes, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def key(self, account: str, sm: Sm) -> bytes:
        """What two sendings of the same message share: everything but the sequence number."""
        return blake2b(account.encode() + b"\0" + sm.raw[16:], digest_size=16, key=self._secret).digest()

    def find(self, key: bytes, now: float, within: float) -> Known | None:
        """The message that was taken less than ``within`` seconds ago."""
        known = self._known.get(key)
        return known if known is not None and now - known.at < within else None

    def note(self, key: bytes, message: Message, now: float) -> None:
        """A message was taken at ``now``."""
        message.known = self._known[key] = Known(key, message.shown, now)
        self._known.move_to_end(key)
        if len(self._known) > self.kept:
            self._known.popitem(last=False)

    def forget(self, message: Message) -> None:
        """It was refused after all: sent again, it is another message."""
        known, message.known = message.known, None
        if known is not None and self._known.get(known.key) is known:
            del self._known[known.key]
