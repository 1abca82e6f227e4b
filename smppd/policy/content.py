"""Reads the text of a message as its reader will see it: it decodes every alphabet, and joins the parts of long messages."""

from __future__ import annotations

from typing import Final, NamedTuple

from smppd.numbering import SEPARATORS, normalise
from smppd.policy.keywords import is_unspaced
from smppd.protocol.joiner import Joined, Joiner, Reading
from smppd.protocol.longmessage import Concat, UdhError, alike, parse_udh, sar
from smppd.protocol.text import REPLACEMENT, Alphabet, TextError, decode, is_text
from smppd.protocol.wire import UDHI, BodyError, Sm, Status, Tag

_LEAST: Final = 2  # parts of what is a long message
_TWO_OCTETS: Final = 2
_EDGE: Final = 64
# Noncharacters that mark the ends of a long message while it is joined.
_FIRST: Final = "\ufdd0"
_LAST: Final = "\ufdd1"

PartKey = tuple[bytes, bytes, int, int, bool]
"""Source, destination, reference, number of parts, whether the reference has 16 bits."""
JoinKey = tuple[bytes, bytes, int]
"""The least that phones join parts by: the ends of source and destination, the last octet of the reference."""
_TAIL: Final = 9  # so many last digits are the same in all notations of a number


class TextContent(NamedTuple):
    """What is known of a message's text. ``texts``: to be searched one by one (none when it is binary), and whether they are
    all. ``key``: names the long message of which this one is a part; None for a whole one. ``refused``: an earlier part was
    refused. ``others``: what a phone might show instead, as texts and whether these are all.
    """

    texts: tuple[str, ...]
    complete: bool = True
    key: PartKey | None = None
    refused: bool = False
    others: tuple[tuple[tuple[str, ...], bool], ...] = ()

    def __repr__(self) -> str:
        return f"Content(<{len(self.texts)} texts>, complete={self.complete}, refused={self.refused})"


BINARY: Final = TextContent(())


class TooLarge(ValueError):
    """A long message grew past what is joined, or came with too many different texts. ``key`` names it."""

    def __init__(self, key: PartKey) -> None:
        super().__init__("long message too large to join")
        self.key = key


class MessagePart(NamedTuple):
    """What one message says, without other parts. ``concat``: its place in a long message, None for a whole one. ``aside``:
    the text of a message_payload beside its short_message."""

    text: str
    concat: Concat | None
    aside: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Part(<{len(self.text)} characters>, {self.concat})"


def whole_text(sm: Sm, default: Alphabet) -> str | None:
    """The text of a message that is plainly no part and has nothing unusual about it, None when it needs ``read``."""
    if sm.esm_class & UDHI or sm.at_tlvs != len(sm.raw) or not is_text(sm.data_coding):
        return None
    return decode(sm.short_message, sm.data_coding, default)


def place_of(sm: Sm) -> Concat | None:
    """Where in a long message this one stands, by its user data header or its SAR TLVs; None for a whole message."""
    concat: Concat | None = None
    if sm.esm_class & UDHI:
        try:
            udh = parse_udh(sm.body)
        except UdhError:
            udh = None
        concat = None if udh is None else udh.concat
    if concat is None:
        concat = _sar(sm)
    return None if concat is None or concat.total < _LEAST else concat


def key_of(sm: Sm, concat: Concat) -> PartKey:
    """What all parts of one long message of an account share, whatever the notation of its numbers."""
    return (_plain(sm.source_digits), _plain(sm.destination_digits), concat.ref, concat.total, concat.wide)


def part_of(sm: Sm) -> PartKey | None:
    """What a part shares with the other parts of its long message; None for a whole message, and where its TLVs are broken."""
    if not sm.esm_class & UDHI and sm.at_tlvs == len(sm.raw):
        return None
    try:
        concat = place_of(sm)
    except BodyError:
        return None
    return None if concat is None else key_of(sm, concat)


def join_key(sm: Sm, concat: Concat, any_sender: bool) -> JoinKey:
    """The fields by which all phones join parts. ``any_sender``: policy exchanges senders, so that the parts of two senders
    may be joined."""
    source = b"" if any_sender else _tail(sm.source_digits)
    return (source, _tail(sm.destination_digits), concat.ref & 0xFF)


def _plain(digits: bytes) -> bytes:
    """A number in its normal form, a name as it stands."""
    if digits[:1] > b"0" and (digits.isdigit() or not digits.translate(None, SEPARATORS).isdigit()):
        return digits
    return normalise(digits)


def _tail(digits: bytes) -> bytes:
    form = _plain(digits)
    return form.lstrip(b"0")[-_TAIL:] if form.isdigit() else form


def read_part(sm: Sm, default: Alphabet) -> MessagePart | None:
    """What a message says by itself, None for binary ones. Octets that are no text of their alphabet become U+FFFD.

    Raises ``wire.BodyError`` on broken TLVs, and where its header and its TLVs name places in a long message that are not
    the same: of those every phone and carrier takes another.
    """
    coding = sm.data_coding
    if not is_text(coding):
        return None
    body = sm.body
    concat: Concat | None = None
    if sm.esm_class & UDHI:
        try:
            udh = parse_udh(body)
        except UdhError:
            udh = None  # no header at all: every octet may be text, and is searched
        if udh is None:
            text = decode(body, coding, default)
        else:
            text = decode(body[udh.length :], coding, default, national=udh.national, header=udh.length)
            concat = udh.concat
            if udh.twice:
                raise BodyError(Status.RSUBMITFAIL, "the user data header names two places in a long message")
    else:
        text = decode(body, coding, default)
    segment = _sar(sm)
    if concat is None:
        concat = segment
    elif segment is not None and not alike(concat, segment):
        raise BodyError(Status.RSUBMITFAIL, "header and SAR TLVs name different places in a long message")
    aside = _aside(sm, body, default)
    if concat is None or concat.total < _LEAST:
        return MessagePart(text, None, aside)
    if concat.seq == 1:
        text = _FIRST + text
    if concat.seq == concat.total:
        text += _LAST
    return MessagePart(text, concat, aside)


def read(sm: Sm, default: Alphabet, joiner: Joiner, now: float, any_sender: bool = False) -> TextContent:
    """The content of any message; a part of a long one is joined to those that came before.

    Raises ``TooLarge``, ``joiner.JoinerFull``, and ``wire.BodyError`` as ``read_part``.
    """
    part = read_part(sm, default)
    if part is None:
        return BINARY
    concat = part.concat
    if concat is None:
        return TextContent((part.text, *part.aside))
    try:
        joined = joiner.add(join_key(sm, concat, any_sender), concat, part.text, now)
    except TextError:
        raise TooLarge(key_of(sm, concat)) from None
    return content_of(sm, concat, joined, part.aside)


def content_of(sm: Sm, concat: Concat, joined: Joined, aside: tuple[str, ...]) -> TextContent:
    """What is known of a long message, as rules read it."""
    others = tuple([_reading(reading, aside) for reading in joined.others])
    runs = tuple([_run(run, joined.complete) for run in joined.runs])
    return TextContent(runs + aside, joined.complete, key_of(sm, concat), joined.refused, others)


def _reading(reading: Reading, aside: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    runs, complete = reading
    return tuple([_run(run, complete) for run in runs]) + aside, complete


def _run(run: str, complete: bool) -> str:
    """What of a run of parts can be judged. Where a neighbouring part is missing, the word at the edge may be half of
    another one (``free`` of ``freedom``, ``example.co`` of ``example.com``): it waits, and U+FFFD stands for what is unknown.
    """
    first = run.startswith(_FIRST)
    last = run.endswith(_LAST)
    run = run[first : len(run) - last].replace(_FIRST, "").replace(_LAST, "")
    if complete:
        return run
    if not last:
        run = run[: len(run) - _edge(run[: -_EDGE - 1 : -1])] + REPLACEMENT
    if not first:
        run = REPLACEMENT + run[_edge(run[:_EDGE]) :]
    return run


def _edge(text: str) -> int:
    """Length of the word ``text`` begins with; 0 where it is no word: longer than the limit, or in an unspaced script."""
    for at, character in enumerate(text):
        if character.isspace():
            return 0 if is_unspaced(text[:at]) else at
    return 0 if len(text) == _EDGE or is_unspaced(text) else len(text)


def _aside(sm: Sm, body: bytes, default: Alphabet) -> tuple[str, ...]:
    """A message_payload beside a short_message: not allowed (SMPP 3.4 section 5.3.2.32), but someone may show it."""
    payload = sm.tlv(Tag.MESSAGE_PAYLOAD)
    if payload is None or payload is body or payload == body:
        return ()
    return (decode(payload, sm.data_coding, default),)


def _sar(sm: Sm) -> Concat | None:
    """The place the SAR TLVs name (SMPP 3.4 sections 5.3.2.22 to 24), None when one is missing or impossible."""
    if sm.at_tlvs == len(sm.raw):
        return None
    ref = sm.tlv(Tag.SAR_MSG_REF_NUM)
    total = sm.tlv(Tag.SAR_TOTAL_SEGMENTS)
    seq = sm.tlv(Tag.SAR_SEGMENT_SEQNUM)
    if not (ref and total and seq) or len(ref) > _TWO_OCTETS:
        return None
    try:
        return sar(int.from_bytes(ref, "big"), int.from_bytes(total, "big"), int.from_bytes(seq, "big"))
    except TextError:
        return None
