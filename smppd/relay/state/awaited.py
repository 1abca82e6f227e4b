"""The messages that wait for a receipt of one carrier, by the ids that it gave them, and what is known of the carrier's
receipts."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

from smppd.config import Upstream as UpstreamSettings
from smppd.protocol.receipt import MessageState
from smppd.protocol.receipt_ids import IdForm, IdMatcher, canonical, is_canonical
from smppd.relay.state.living import Filed

M = TypeVar("M", bound=Filed)

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
# So many messages are found by one canonical key; further ones are found by their exact id only.
_ALIKE: Final = 64
# So many ids of one upstream are remembered that it gave to several messages.
_REUSED: Final = 10_000


class Awaited(Generic[M]):
    """What `UpstreamState` has for receipts.

    ``ids``: messages that wait for their receipt; ``alike`` those by the canonical key of their id, where that is not the id
    itself; ``displaced`` those whose id was given again a moment ago. ``reused``: ids it gave again while they were waited
    for. ``seen``: hashes of receipts that need no second look, and the message that each ended with. ``words``: what the
    words of its ``stat`` mean by the configuration. ``own_words``: kinds of words that nobody knows and that the log has
    named.
    """

    def __init__(self, settings: UpstreamSettings) -> None:
        self.ids: dict[bytes, M] = {}
        self.alike: dict[bytes, list[M]] = {}
        self.displaced: dict[bytes, dict[int, M]] = {}
        self.reused: dict[bytes, None] = {}
        self._cold_waiting = 0
        self._unheld = 0
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

    def await_receipt(self, message: M) -> None:
        """The carrier took a message: it waits for its receipt, and is found by its upstream id."""
        given = message.upstream_id
        self.ids[given] = message
        if not is_canonical(given):
            key = canonical(given)
            alike = self.alike.setdefault(key, [])
            if len(alike) < _ALIKE:
                alike.append(message)

    def forget(self, message: M) -> None:
        """A message is no longer found by its upstream id: it has ended, or is a row on disk."""
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

    @property
    def cold_waiting(self) -> int:
        """How many messages wait for their receipt as rows of this node."""
        return self._cold_waiting

    @property
    def may_be_row(self) -> bool:
        """Whether the message of a receipt may be a row, of this node or one that nobody holds. A hint: where it is False, the
        store is not asked."""
        return self._cold_waiting > 0 or self._unheld > 0

    def note_unheld(self, number: int, *, exactly: bool = False) -> None:
        """So many messages more (``exactly``: so many in all) wait as rows that nobody holds."""
        self._unheld = number if exactly else self._unheld + number

    def claimed(self) -> None:
        """Such a row is this node's from now on."""
        self._cold_waiting += 1
        if self._unheld > 0:
            self._unheld -= 1

    def shelved(self, number: int = 1) -> None:
        """So many messages more wait for their receipt as rows."""
        self._cold_waiting += number

    def unshelved(self) -> None:
        """A message that waited as a row waits no more."""
        self._cold_waiting -= 1

    def note_reused_id(self, upstream_id: bytes) -> None:
        """The carrier calls several messages by this id: from now on it is believed only if the addresses agree."""
        self.reused[upstream_id] = None
        if len(self.reused) > _REUSED:
            del self.reused[next(iter(self.reused))]


def _words(settings: UpstreamSettings) -> dict[bytes, MessageState]:
    states = settings.receipt_states
    return {word.upper().encode(): MessageState[name.upper()] for word, name in states.items()}
