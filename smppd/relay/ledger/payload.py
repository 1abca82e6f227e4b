"""A message as the spool and its cold rows keep it: what precedes its frame, and how that is read back."""

from __future__ import annotations

from struct import Struct
from typing import Final

from smppd.ids import shown as shown_form

ACCEPT: Final = Struct(">IBH")  # expires, flags, length of the lane's name
FLAG_RELEASED: Final = 1
FLAG_DUPLICATE: Final = 2
FLAG_SHOWN: Final = 4
FLAG_REPLY: Final = 8
FLAG_SUBMITTED: Final = 16
FLAG_HELD: Final = 32
FLAG_VIA: Final = 64
FLAG_MORE: Final = 128  # another octet of flags follows the lane's name
MORE_RESEND: Final = 1
MORE_HOLD: Final = 2
TOLD_UNKNOWN: Final = 4  # its carrier has reported it UNKNOWN, and its sender knows
TOLD_WORD: Final = 8  # its sender has been told a word that may be the carrier's last
HEARD_ACCEPTED: Final = 16  # its carrier has reported it ACCEPTD, and its sender does not know
_TOLD: Final = TOLD_UNKNOWN | TOLD_WORD | HEARD_ACCEPTED
_HEADER: Final = 16


def is_frame(frame: bytes) -> bool:
    """Whether these octets are as long as they say, so that they may be written to a peer (SMPP 3.4 section 3.2)."""
    return len(frame) >= _HEADER and int.from_bytes(frame[:4], "big") == len(frame)


class Stored:
    """A message's payload, read back. Raises ValueError, struct.error or IndexError on what is none."""

    __slots__ = (
        "duplicate",
        "expires",
        "frame",
        "held",
        "id",
        "lane",
        "on_unknown",
        "released",
        "reply_to",
        "shown",
        "submitted",
        "told",
        "upstream",
        "upstream_id",
    )

    def __init__(self, identity: int, payload: bytes) -> None:
        self.id = identity
        self.expires, flags, length = ACCEPT.unpack_from(payload, 0)
        at = ACCEPT.size

        def take(count: int) -> bytes:
            nonlocal at
            at += count
            return payload[at - count : at]

        self.lane = take(length).decode()
        self.released = bool(flags & FLAG_RELEASED)
        self.duplicate = bool(flags & FLAG_DUPLICATE)
        self.submitted = bool(flags & FLAG_SUBMITTED)
        self.held = bool(flags & FLAG_HELD)
        more = take(1)[0] if flags & FLAG_MORE else 0
        self.told = more & _TOLD
        self.on_unknown = "resend" if more & MORE_RESEND else "hold" if more & MORE_HOLD else ""
        self.shown = take(take(1)[0]) if flags & FLAG_SHOWN else shown_form(identity)
        self.reply_to = take(take(1)[0]) if flags & FLAG_REPLY else None
        self.upstream = take(take(1)[0]).decode() if self.submitted or flags & FLAG_VIA else ""
        self.upstream_id = take(take(1)[0]) if self.submitted else b""
        self.frame = payload[at:]
        if not self.lane or not is_frame(self.frame):
            raise ValueError("no message is stored like this")
