"""The messages that wait for a receipt of one carrier, by the ids it gave them, and the receipts that wait for a message."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from smppd.config import Upstream as UpstreamSettings
from smppd.protocol.receipt import MessageState
from smppd.protocol.receipt_ids import IdForm, IdMatcher, canonical, is_canonical

if TYPE_CHECKING:
    from smppd.relay.state.model import Early, Message
    from smppd.relay.state.post import Parked

_FORMS: Final[dict[str, tuple[IdForm, ...]]] = {
    "learn": (),
    "raw": (IdForm.RAW,),
    # Hexadecimal in the answer, decimal in the receipt: which has to be rewritten the other way round.
    "hex_to_decimal": (
        IdForm.DECIMAL_TO_HEX,
        IdForm.DECIMAL_TO_HEX_UPPER,
        IdForm.DECIMAL_TO_HEX_PADDED,
        IdForm.DECIMAL_TO_HEX_UPPER_PADDED,
    ),
    "decimal_to_hex": (IdForm.HEX_TO_DECIMAL, IdForm.HEX_TO_DECIMAL_PADDED),
    "alike": (IdForm.RAW, IdForm.ALIKE),
}
# Messages whose ids have one canonical key, and that are found by it: of more, only the exact id tells.
_ALIKE: Final = 64
# Ids given again that are remembered, of one upstream.
_REUSED: Final = 10_000


class Awaited:
    """What `UpstreamState` has for receipts.

    ``ids``: messages that wait for their receipt; ``alike`` those by the canonical key of their id, where that is not the id
    itself; ``displaced`` those whose id was given again a moment ago; ``cold_waiting`` counts those kept as rows. ``early``:
    receipts of the last moment whose message is not known yet, by id; neither durable nor acknowledged. ``reused``: ids it
    gave again while they were waited for. ``seen``: hashes of receipts that need no second look, and the message that each
    ended with. ``words``: what the words of its ``stat`` mean by the configuration. ``own_words``: kinds of words that nobody
    knows and that the log has named. ``early_octets``, ``parked_octets``: what these take.
    """

    def __init__(self, settings: UpstreamSettings) -> None:
        self.ids: dict[bytes, Message] = {}
        self.alike: dict[bytes, list[Message]] = {}
        self.displaced: dict[bytes, dict[int, Message]] = {}
        self.reused: dict[bytes, None] = {}
        self.cold_waiting = 0
        self.early: dict[bytes, list[Early]] = {}
        self.early_octets = 0
        self.parked: dict[int, Parked] = {}
        self.parked_keys: dict[bytes, dict[int, Parked]] = {}
        self.parked_octets = 0
        self.seen: OrderedDict[int, int] = OrderedDict()
        self.own_words: set[str] = set()
        self._form: str = settings.message_id_form
        self.matcher = IdMatcher(only=_FORMS[self._form])
        self.words = _words(settings)

    def read_receipts_as(self, settings: UpstreamSettings) -> None:
        """Takes what the configuration says of its receipts; what was learned stays, unless that is what changed."""
        if settings.message_id_form != self._form:
            self._form = settings.message_id_form
            self.matcher = IdMatcher(only=_FORMS[self._form])
        self.words = _words(settings)

    def await_receipt(self, message: Message) -> None:
        """The carrier has taken it: it waits for its receipt, and is found by its upstream id."""
        given = message.upstream_id
        self.ids[given] = message
        if not is_canonical(given):
            key = canonical(given)
            alike = self.alike.setdefault(key, [])
            if len(alike) < _ALIKE:
                alike.append(message)

    def forget(self, message: Message) -> None:
        """It is found by its upstream id no more: it has ended, or lies on disk."""
        given = message.upstream_id
        if self.ids.get(given) is message:
            del self.ids[given]
        if not is_canonical(given):
            key = canonical(given)
            alike = self.alike.get(key)
            if alike is not None and message in alike:
                alike.remove(message)
                if not alike:
                    del self.alike[key]
        if self.displaced and (others := self.displaced.get(given)) is not None:
            others.pop(message.id, None)
            if not others:
                del self.displaced[given]

    def given_again(self, upstream_id: bytes) -> None:
        """The carrier calls several messages by this id: from now on it is believed only if the addresses agree."""
        self.reused[upstream_id] = None
        if len(self.reused) > _REUSED:
            del self.reused[next(iter(self.reused))]


def _words(settings: UpstreamSettings) -> dict[bytes, MessageState]:
    states = settings.receipt_states
    return {word.upper().encode(): MessageState[name.upper()] for word, name in states.items()}
