"""Short message ids: for SMPP 3.3, whose message_id has 8 characters, and for accounts that ask for them (``message_id``)."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Final

from smppd.config import Settings
from smppd.ids import Counter, parse_shown
from smppd.relay.context import Context
from smppd.relay.state.model import Account, Message
from smppd.store.api import Store

REMEMBERED: Final = 100_000
"""The latest short ids of which it is known what they stand for."""
_MOST: Final = 0xFFFFFFFE
_COUNTER: Final = "short_id"
_FORMS: Final = {"hex8": b"%08X", "decimal10": b"%010d"}


class ShortIds:
    """Draws short ids, and knows which message each stands for. The number that they are made of goes on after a restart."""

    def __init__(self, context: Context, store: Store) -> None:
        # Where the stored number cannot be read, it begins at the present time: short ids near that number are hardly in
        # use.
        store.begin_counter(_COUNTER, int(context.wall()) % _MOST)
        self._counter = Counter(partial(store.reserve, _COUNTER), _MOST)
        self._forms: dict[str, bytes] = {}
        self._known: OrderedDict[tuple[str, bytes], int] = OrderedDict()

    def use(self, settings: Settings) -> None:
        """Takes what the configuration says of accounts. One that is no longer in it keeps its form: it may still submit."""
        for one in settings.accounts:
            self._forms.pop(one.system_id, None)
            if one.message_id in _FORMS:
                self._forms[one.system_id] = _FORMS[one.message_id]

    def draw(self, account: Account, version: int) -> bytes | None:
        """A new short id for a message from a session of this SMPP version; None where it gets a long one."""
        if version < 0x34:
            return _FORMS["hex8"] % self._counter()  # whatever the account says
        form = self._forms.get(account.name) if self._forms else None
        return None if form is None else form % self._counter()

    def remember(self, message: Message) -> None:
        """Remembers what a short id stands for."""
        self._known[message.account.name, message.shown] = message.id
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def id_behind(self, account: Account, shown: bytes) -> int | None:
        """The message's own id, by the id that its customer knows: a short or a long one. None where it is neither."""
        known = self._known.get((account.name, shown))
        return known if known is not None else parse_shown(shown)
