"""Messages of the last moments, for accounts with ``deduplicate``: a customer who got no answer sends the same once more."""

from __future__ import annotations

import os
from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from smppd.protocol.wire import Sm
from smppd.relay.model import Message

KEPT: Final = 100_000


class Recent:
    """The latest messages by account, addresses and a keyed hash of what they say; at ``KEPT`` the oldest is forgotten."""

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        self._known: OrderedDict[bytes, tuple[Message, float]] = OrderedDict()

    def key(self, account: str, sm: Sm) -> bytes:
        """What two sendings of the same message share: everything but the sequence number."""
        return blake2b(account.encode() + b"\0" + sm.raw[16:], digest_size=16, key=self._secret).digest()

    def find(self, key: bytes, now: float, within: float) -> Message | None:
        """The message that was taken less than ``within`` seconds ago."""
        known = self._known.get(key)
        return known[0] if known is not None and now - known[1] < within else None

    def note(self, key: bytes, message: Message, now: float) -> None:
        """A message was taken at ``now``."""
        self._known[key] = (message, now)
        self._known.move_to_end(key)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def forget(self, message: Message) -> None:
        """It was refused after all: sent again, it is another message."""
        for key, (known, _) in reversed(self._known.items()):
            if known is message:
                del self._known[key]
                return
