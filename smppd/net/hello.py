"""Judges a ClientHello before anything is computed for it: whether it is whole, and whether it asks for the costly key
exchange.

Source: RFC 8446 sections 4, 4.1.2, 4.2.7, 4.2.8 and 5.1. Pure: octets in, a judgement out.
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
_SERVER_HELLO: Final = 0x02
_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a ServerHello that is a HelloRetryRequest (RFC 8446 section 4.1.3)."""
_CHANGE_CIPHER: Final = bytes.fromhex("140303000101")
"""What clients put before their second hello, for the sake of middleboxes (RFC 8446 appendix D.4)."""
_SUPPORTED_GROUPS: Final = 10
_KEY_SHARE: Final = 51
_P_384: Final = 24
_CHEAP: Final = (29, 23)
"""X25519 and P-256: of `tls.GROUPS` all but P-384."""


class Progress(Enum):
    """What the first octets of a connection are. MORE: they may become a ClientHello. WHOLE: all of it is here. WRONG: they
    will never be one that we take."""

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


def asks_again(answer: bytes) -> bool:
    """Whether a server's answer to a hello is a HelloRetryRequest."""
    return answer[5:6] == bytes((_SERVER_HELLO,)) and answer[11 : 11 + len(_RETRY)] == _RETRY


def after_retry(data: bytes) -> bytes:
    """What came after a HelloRetryRequest, without the record that may stand in front of the hello."""
    return b"" if _CHANGE_CIPHER.startswith(data) else data.removeprefix(_CHANGE_CIPHER)


def is_costly(data: bytes) -> bool:
    """Whether the answer to a whole hello takes P-384, which is ten times the work of the other two groups. TLS 1.3 takes
    the first key share of a group of ours. Without such a share, and in TLS 1.2, which has no shares, OpenSSL takes the
    first of our groups that the client has; P-384 is the last of them. A TLS 1.2 client that names P-384 in a share counts
    as costly although it is not, and so does a hello that this code cannot follow: both wait longer. OpenSSL decides what is
    a hello.
    """
    try:
        extensions = _extensions(_message(data))
        supported = extensions.get(_SUPPORTED_GROUPS, b"")[2:]
        groups = [int.from_bytes(supported[at : at + 2]) for at in range(0, len(supported), 2)]
        shares = _shares(extensions.get(_KEY_SHARE, b""))
    except IndexError:
        return True
    for share in shares:
        if share in groups and (share in _CHEAP or share == _P_384):
            return share == _P_384
    return _P_384 in groups and not any(one in groups for one in _CHEAP)


def _message(data: bytes) -> bytes:
    """The handshake message without its records, from its type on."""
    message, at = bytearray(), 0
    while at < len(data) and (len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4])):
        size = int.from_bytes(data[at + 3 : at + 5])
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
    return bytes(message)


def _extensions(message: bytes) -> dict[int, bytes]:
    """Type -> content. IndexError where the message ends early; OpenSSL takes no extension twice."""
    at = 4 + 2 + 32  # type and length, version, random
    at += 1 + message[at]  # session id
    at += 2 + (message[at] << 8 | message[at + 1])  # cipher suites
    at += 1 + message[at]  # compression
    found = {}
    at += 2
    while at < len(message):
        kind, size = message[at] << 8 | message[at + 1], message[at + 2] << 8 | message[at + 3]
        found[kind] = message[at + 4 : at + 4 + size]
        at += 4 + size
    return found


def _shares(content: bytes) -> list[int]:
    """The groups of a key_share extension, in order. IndexError where it ends early."""
    groups, at = [], 2
    while at < len(content):
        groups.append(content[at] << 8 | content[at + 1])
        at += 4 + (content[at + 2] << 8 | content[at + 3])
    return groups
