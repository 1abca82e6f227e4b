"""Reads a deliver_sm as a receipt, and finds the message that it is about, in memory or on disk.

An id that equals the one in the carrier's answer, octet for octet, is believed. If the addresses contradict it, it is
believed only where nothing fits better. Every other reading of an id is a guess. A guess is believed if both addresses
agree; in a form that the operator set, or that many receipts of this upstream had, it is enough that the destination agrees.
docs/protocol.md has this as a table.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from smppd.protocol.receipt import MessageState, Receipt, parse
from smppd.protocol.receipt_ids import IdForm, canonical, kept, readings
from smppd.protocol.wire import UDHI, Sm, Tag
from smppd.relay.state.addresses import addresses_agree, bucket_key, may_name_number, reaches_destination
from smppd.relay.state.model import Message, UpstreamState

RECEIPT: Final = 0x04
INTERMEDIATE: Final = 0x20
MESSAGE_TYPE: Final = 0x3C  # message type bits of esm_class, SMPP 3.4 section 5.2.12
_BY_VALUE: Final = {int(state): state for state in MessageState}
_IDS: Final = 4  # ids of one receipt that are tried
_ALIKE: Final = 64  # messages under one id that are looked at

NO: Final = 0
PERHAPS: Final = 1  # it is, if nothing fits better
YES: Final = 2


class Reading:
    """A receipt as it was read. ``ids``: the ids that it names, that of the TLV before those of the text, in the form in
    which ids are kept. ``receipt``: the fields of its text."""

    __slots__ = ("ids", "receipt")

    def __init__(self, ids: tuple[bytes, ...], receipt: Receipt | None) -> None:
        self.ids = ids
        self.receipt = receipt

    def __repr__(self) -> str:
        return f"Reading({len(self.ids)} ids, {self.receipt!r})"


def text_start(sm: Sm, text: bytes) -> int:
    """Where a text begins behind its user data header."""
    return min(text[0] + 1, len(text)) if sm.esm_class & UDHI and text else 0


def read_receipt(sm: Sm) -> Reading:
    """Reads a receipt. Raises BodyError where its TLVs cannot be read."""
    text = sm.short_message
    receipt = parse(text, text_start(sm, text) if sm.esm_class & UDHI else 0) if text else None
    if sm.at_tlvs == len(sm.raw):
        return Reading(_kept(receipt) if receipt is not None and receipt.id else (), receipt)
    if receipt is None or not receipt.id:
        payload = sm.tlv(Tag.MESSAGE_PAYLOAD)
        if payload:
            second = parse(payload, 0 if text else text_start(sm, payload))
            if second is not None and (receipt is None or second.id):
                receipt = second
    given = sm.tlv(Tag.RECEIPTED_MESSAGE_ID)
    if receipt is not None and receipt.plain and given == receipt.id + b"\0":
        return Reading((receipt.id,), receipt)  # the usual case
    ids = _kept(receipt) if receipt is not None and receipt.id else ()
    if given:
        named = kept(given.partition(b"\0")[0].strip())
        if named:
            # A text that is no receipt names no id, beside the one in the TLV: it may be what the customer wrote.
            told = receipt is not None and bool(receipt.stat or receipt.done_date)
            ids = (named, *[one for one in ids if told and one != named])
    return Reading(ids[:_IDS], receipt)


def _kept(receipt: Receipt) -> tuple[bytes, ...]:
    if not receipt.others:
        return (kept(receipt.id),)
    return tuple([kept(one) for one in (receipt.id, *receipt.others)])


def is_paired(sm: Sm) -> bool:
    """Whether it has both TLVs of a receipt, receipted_message_id and message_state."""
    if sm.at_tlvs == len(sm.raw):
        return False
    return bool(sm.tlv(Tag.RECEIPTED_MESSAGE_ID)) and bool(sm.tlv(Tag.MESSAGE_STATE))


def resembles(sm: Sm) -> Reading | None:
    """Reads a deliver_sm whose esm_class does not say that it is a receipt, if it looks like one: it has an id, and with it
    a state, a date or the TLV of a receipt."""
    text = sm.short_message
    if sm.at_tlvs == len(sm.raw) and b":" not in text and b"=" not in text:
        return None
    reading = read_receipt(sm)
    if not reading.ids:
        return None
    receipt = reading.receipt
    if (receipt is not None and (receipt.stat or receipt.done_date)) or sm.tlv(Tag.RECEIPTED_MESSAGE_ID):
        return reading
    return None


def reported_state(upstream: UpstreamState, sm: Sm, receipt: Receipt | None) -> tuple[MessageState | None, bool]:
    """(state, whether the receipt contradicts itself). The state is None for a word that nobody knows. A receipt contradicts
    itself where its message_state would end the message and its text would not, or the reverse. The configuration's meaning
    of a word counts first, then message_state. SCHEDULED is no value of SMPP 3.4: it counts only where the text names no
    state."""
    text: MessageState | None = None
    if receipt is not None and receipt.stat:
        if upstream.words and (said := upstream.words.get(receipt.stat)) is not None:
            return said, False
        text = receipt.state
    if sm.at_tlvs == len(sm.raw):
        return text, False
    given = sm.tlv(Tag.MESSAGE_STATE)
    value = _BY_VALUE.get(given[0]) if given else None
    if value is None or (value is MessageState.SCHEDULED and text is not None):
        return text, False
    if text is None:
        return value, False
    return value, value.is_final is not text.is_final


def believed(upstream: UpstreamState, named: bytes, sm: Sm, message: Message) -> tuple[int, IdForm]:
    """How far it is believed that a receipt with this id is about a message, by ids and addresses; and the form in which the
    id fits."""
    form = upstream.matcher.form(named, message.upstream_id)
    if form is None:
        return NO, IdForm.RAW
    own = Sm(message.frame)
    if form is IdForm.RAW:
        if named in upstream.reused:
            return (YES if addresses_agree(sm, own) else NO), form
        silent = message.erased or (not sm.source_digits and not sm.destination_digits)
        return (YES if silent or reaches_destination(sm, own) else PERHAPS), form
    if upstream.matcher.sure(form):
        return (YES if message.erased or reaches_destination(sm, own) else NO), form
    return (YES if addresses_agree(sm, own) else NO), form


def in_memory(upstream: UpstreamState, named: bytes) -> list[Message]:
    """The messages in memory that an id may mean, the most likely first."""
    found: dict[int, Message] = {}
    ids = upstream.ids
    matcher = upstream.matcher
    if matcher.plain and (message := ids.get(named)) is not None:
        found[message.id] = message
    if upstream.displaced and (others := upstream.displaced.get(named)) is not None:
        for message in islice(others.values(), _ALIKE):
            found.setdefault(message.id, message)
    if matcher.alike:
        for key in readings(named):  # whatever a form leads to has one of these keys
            if (message := ids.get(key)) is not None:
                found.setdefault(message.id, message)
            if (several := upstream.alike.get(key)) is not None:
                for message in several:
                    found.setdefault(message.id, message)
    else:
        for _, key in matcher.candidates(named):
            if (message := ids.get(key)) is not None:
                found.setdefault(message.id, message)
    return list(found.values())


def find_message(
    upstream: UpstreamState, reading: Reading, sm: Sm, *, sure: bool = False, but: int = 0
) -> Message | None:
    """The message in memory that a receipt is about. `sure`: only one that is believed (YES). `but`: not the one with this
    id."""
    perhaps: Message | None = None
    for named in reading.ids:
        alike: Message | None = None
        several = False
        for message in in_memory(upstream, named):
            if message.id == but:
                continue
            how, form = believed(upstream, named, sm, message)
            if how == YES and form is not IdForm.ALIKE:
                upstream.matcher.learn(form)
                return message
            if how == YES:
                several = alike is not None
                alike = alike or message
            elif how == PERHAPS and perhaps is None:
                perhaps = message
        if alike is not None and not several:
            upstream.matcher.learn(IdForm.ALIKE)
            return alike
    return None if sure else perhaps


def row_keys(upstream: UpstreamState, reading: Reading) -> list[bytes]:
    """The keys of the rows that a receipt may be about. Rows have canonical keys; rows of earlier versions have the id
    itself."""
    found: dict[bytes, None] = {}
    for named in reading.ids:
        found[named] = None
        for _, key in upstream.matcher.candidates(named):
            found[key] = None
            found[canonical(key)] = None
        if upstream.matcher.alike:
            found.update(dict.fromkeys(readings(named)))
    return list(found) + [bucket_key(key) for key in found if may_name_number(key)]


def best_match(
    upstream: UpstreamState, reading: Reading, sm: Sm, messages: list[Message], *, sure: bool = False
) -> Message | None:
    """The message that a receipt is about, of some that were read back from disk. They are compared, in this order, by how
    far they are believed, by the place of the id in the receipt, by how likely the form of the id is, by whether the
    addresses agree, and by age: the younger wins."""
    ranked: list[tuple[int, int, int, int, int, Message, IdForm]] = []
    for place, named in enumerate(reading.ids):
        for message in messages:
            how, form = believed(upstream, named, sm, message)
            if how == NO or (sure and how != YES):
                continue
            fits = addresses_agree(sm, Sm(message.frame))
            rank = 0 if form is upstream.matcher.settled else 2 if form is IdForm.ALIKE else 1
            ranked.append((-how, place, rank, int(not fits), -message.id, message, form))
    if not ranked:
        return None
    ranked.sort(key=lambda one: one[:5])
    upstream.matcher.learn(ranked[0][6])
    return ranked[0][5]
