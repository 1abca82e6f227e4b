"""The octets that the spool and the cold rows keep of each thing. They are written and read here alone.

A message's payload is what precedes its frame and the frame: ``write_message`` and ``StoredMessage``. Mail: ``write_mail``,
``read_mail``. Parked receipts: ``write_parked``, ``read_parked``. What a mark says beside its kind: ``write_submitted``,
``read_submitted``, ``write_released``, ``read_released``. Each ``read`` raises ValueError, struct.error or IndexError on
what is none.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from smppd.ids import shown as shown_form
from smppd.relay.state.model import HEARD_ACCEPTED, TOLD_UNKNOWN, TOLD_WORD, Mail, Message, Parked
from smppd.relay.state.phase import IS_HELD, RELEASED

_MESSAGE: Final = Struct(">IBH")  # expires, flags, length of the lane's name
_MAIL: Final = Struct(">IQB")  # expires, about, length of the account's name
_PARKED: Final = Struct(">IB")  # expires, length of the upstream's name
_RELEASED: Final = 1
_DUPLICATE: Final = 2
_SHOWN: Final = 4
_REPLY: Final = 8
_SUBMITTED: Final = 16
_HELD: Final = 32
_VIA: Final = 64
_MORE: Final = 128  # another octet of flags follows the lane's name
_MORE_RESEND: Final = 1
_MORE_HOLD: Final = 2
_MORE_ERASED: Final = 32
_MORE_OURS: Final = 64
_MORE_AGREED: Final = 128
_HEADER: Final = 16
_TOLD: Final = TOLD_UNKNOWN | TOLD_WORD | HEARD_ACCEPTED


def is_frame(frame: bytes) -> bool:
    """Whether these octets are as long as they say, so that they may be written to a peer (SMPP 3.4 section 3.2)."""
    return len(frame) >= _HEADER and int.from_bytes(frame[:4], "big") == len(frame)


def write_message(message: Message) -> bytes:
    """What is kept of a message: enough to go on after a restart."""
    released = message.is_in(RELEASED)
    submitted = message.awaits_receipt
    flags = (
        (_RELEASED if released else 0)
        | (_DUPLICATE if message.duplicate else 0)
        | (_SUBMITTED if submitted else 0)
        | (_HELD if message.is_in(IS_HELD) else 0)
    )
    tail = b""
    if message.on_unknown or message.reported or message.erased or message.ours or message.agreed:
        flags |= _MORE
        more = message.reported | (_MORE_ERASED if message.erased else 0) | (_MORE_OURS if message.ours else 0)
        if message.agreed:
            more |= _MORE_AGREED
        if message.on_unknown:
            more |= _MORE_RESEND if message.on_unknown == "resend" else _MORE_HOLD
        tail = bytes((more,))
    if len(message.shown) != 16 or message.shown != shown_form(message.id):
        flags |= _SHOWN
        tail += bytes((len(message.shown),)) + message.shown
    if message.reply_to is not None:
        flags |= _REPLY
        tail += bytes((len(message.reply_to),)) + message.reply_to
    if submitted:
        name = message.upstream.name.encode() if message.upstream else b""
        tail += bytes((len(name),)) + name + bytes((len(message.upstream_id),)) + message.upstream_id
    elif released and (via := message.via):
        flags |= _VIA
        tail += bytes((len(via),)) + via
    names = message.lane.name_bytes
    return _MESSAGE.pack(message.expires, flags, len(names)) + names + tail + message.frame


def write_stored(stored: StoredMessage) -> bytes:
    """The same of a message of which only its payload was read."""
    flags = (
        (_RELEASED if stored.released else 0)
        | (_DUPLICATE if stored.duplicate else 0)
        | (_SUBMITTED if stored.submitted else 0)
        | (_HELD if stored.held else 0)
    )
    more = stored.reported
    more |= _MORE_ERASED if stored.erased else 0
    more |= _MORE_OURS if stored.ours else 0
    more |= _MORE_AGREED if stored.agreed else 0
    if stored.on_unknown:
        more |= _MORE_RESEND if stored.on_unknown == "resend" else _MORE_HOLD
    tail = b""
    if more:
        flags |= _MORE
        tail = bytes((more,))
    if len(stored.shown) != 16 or stored.shown != shown_form(stored.id):
        flags |= _SHOWN
        tail += _short(stored.shown)
    if stored.reply_to is not None:
        flags |= _REPLY
        tail += _short(stored.reply_to)
    if stored.submitted:
        tail += _short(stored.upstream.encode()) + _short(stored.upstream_id)
    elif stored.released and stored.upstream:
        flags |= _VIA
        tail += _short(stored.upstream.encode())
    names = stored.lane.encode()
    return _MESSAGE.pack(stored.expires, flags, len(names)) + names + tail + stored.frame


def _short(octets: bytes) -> bytes:
    return bytes((len(octets),)) + octets


class StoredMessage:
    """A message's payload, read back. Raises ValueError, struct.error or IndexError on what is none."""

    __slots__ = (
        "agreed",
        "duplicate",
        "erased",
        "expires",
        "frame",
        "held",
        "id",
        "lane",
        "on_unknown",
        "ours",
        "released",
        "reply_to",
        "shown",
        "submitted",
        "reported",
        "upstream",
        "upstream_id",
    )

    def __init__(self, identity: int, payload: bytes) -> None:
        self.id = identity
        self.expires, flags, length = _MESSAGE.unpack_from(payload, 0)
        at = _MESSAGE.size

        def take(count: int) -> bytes:
            nonlocal at
            at += count
            return payload[at - count : at]

        self.lane = take(length).decode()
        self.released = bool(flags & _RELEASED)
        self.duplicate = bool(flags & _DUPLICATE)
        self.submitted = bool(flags & _SUBMITTED)
        self.held = bool(flags & _HELD)
        more = take(1)[0] if flags & _MORE else 0
        self.reported = more & _TOLD
        self.erased = bool(more & _MORE_ERASED)
        self.ours = bool(more & _MORE_OURS)
        self.agreed = bool(more & _MORE_AGREED)
        self.on_unknown = "resend" if more & _MORE_RESEND else "hold" if more & _MORE_HOLD else ""
        self.shown = take(take(1)[0]) if flags & _SHOWN else shown_form(identity)
        self.reply_to = take(take(1)[0]) if flags & _REPLY else None
        self.upstream = take(take(1)[0]).decode() if self.submitted or flags & _VIA else ""
        self.upstream_id = take(take(1)[0]) if self.submitted else b""
        self.frame = payload[at:]
        if not self.lane or not is_frame(self.frame):
            raise ValueError("no message is stored like this")


def write_mail(mail: Mail) -> bytes:
    """What is kept of a mail."""
    names = mail.account.name_bytes
    return _MAIL.pack(mail.expires, mail.about, len(names)) + names + mail.frame


def read_mail(payload: bytes) -> tuple[int, int, str, bytes]:
    """(expires, about, account name, frame) of a mail's payload. Raises ValueError or struct.error on what is none."""
    expires, about, length = _MAIL.unpack_from(payload, 0)
    at = _MAIL.size + length
    name, frame = payload[_MAIL.size : at].decode(), payload[at:]
    if not name or not is_frame(frame):
        raise ValueError("no mail is stored like this")
    return expires, about, name, frame


def write_parked(parked: Parked) -> bytes:
    """What is kept of a parked receipt."""
    name = parked.upstream.name.encode()
    return _PARKED.pack(parked.expires, len(name)) + name + parked.frame


def read_parked(payload: bytes) -> tuple[int, str, bytes]:
    """(expires, upstream name, frame) of a parked receipt's payload; raises as ``read_mail`` does."""
    expires, length = _PARKED.unpack_from(payload, 0)
    at = _PARKED.size + length
    name, frame = payload[_PARKED.size : at].decode(), payload[at:]
    if not name or not is_frame(frame):
        raise ValueError("no receipt is stored like this")
    return expires, name, frame


def write_released(message: Message) -> bytes:
    """What the mark of a release says: the carrier, where that is not the first of its lane."""
    return message.via


def read_released(payload: bytes) -> str:
    """The carrier's name, empty for the first of the message's lane."""
    return payload.decode()


def write_submitted(message: Message) -> bytes:
    """What the mark of a message that its carrier has says: the carrier, and what it calls the message."""
    assert message.upstream is not None
    return message.upstream.detail + message.upstream_id


def read_submitted(payload: bytes) -> tuple[str, bytes]:
    """(carrier, its id for the message)."""
    name, _, upstream_id = payload.partition(b"\0")
    if not name:
        raise ValueError("no upstream is named")
    return name.decode(), upstream_id
