"""How far a ClientHello has come, by its lengths alone, so that nothing is computed for one that is not whole.

Source: RFC 8446 sections 4, 4.1.2 and 5.1. Pure: octets in, a judgement out.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

HELLO_MAX: Final = 8 * 1024
"""Octets of the message at most. With three shares of post-quantum hybrids a hello has some 4 KiB."""
RECORDS_MAX: Final = 16
"""Records that it may be cut into."""
_RECORD_MAX: Final = 16 * 1024
_HANDSHAKE: Final = 0x16
_CLIENT_HELLO: Final = 0x01


class Progress(Enum):
    """MORE: it may still become one. WHOLE: all of it is here. WRONG: it never will be one that we take."""

    MORE = "more"
    WHOLE = "whole"
    WRONG = "wrong"


def progress(data: bytes) -> Progress:
    """Judges the first octets of a connection."""
    at = have = records = 0
    head = bytearray()  # type and length of the message, which may be cut anywhere
    while at < len(data):
        if data[at] != _HANDSHAKE or data[at + 1 : at + 2] not in (b"", b"\x03"):
            return Progress.WRONG
        records += 1
        if records > RECORDS_MAX:
            return Progress.WRONG
        if len(data) < at + 5:
            return Progress.MORE
        size = int.from_bytes(data[at + 3 : at + 5])
        if not 0 < size <= _RECORD_MAX:
            return Progress.WRONG
        part = data[at + 5 : at + 5 + size]
        have += len(part)
        head += part[: 4 - len(head)]
        if head and head[0] != _CLIENT_HELLO:
            return Progress.WRONG
        if len(head) == 4:
            wanted = int.from_bytes(head[1:])
            if wanted > HELLO_MAX:
                return Progress.WRONG
            if have >= 4 + wanted:
                return Progress.WHOLE
        at += 5 + size
    return Progress.MORE
