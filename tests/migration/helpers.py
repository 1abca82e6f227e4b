"""What the tests of imports share: a hash that needs no time, and pickles in the form of Jasmin's store."""

from __future__ import annotations

import struct
from typing import Any, Final

from smppd.migration import Draft

HASH: Final = "$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZS1zYWx0LTAwMQ$7Gq1HCbTU2eXb0Hk8x3e3nV2yKcnF4rTq0D2mJ1xZfM"


def hashed(password: str | None) -> str:
    """Of no password anybody knows."""
    return HASH


def left_of(draft: Draft) -> list[tuple[str, str]]:
    """(place, sentence) of what was left."""
    return [(str(one.place), one.what) for one in draft.left]


class Named:
    """An object by the name of its class, `module.Class`, and its attributes; or, with `arguments`, what a call of it gives."""

    def __init__(self, name: str, arguments: tuple[Any, ...] | None = None, **state: Any) -> None:
        self.module, _, self.name = name.rpartition(".")
        self.arguments, self.state = arguments, state


def stored(data: Any, protocol: int = 2) -> bytes:
    """A file of the store: octets as Jasmin's Python writes them with protocol 0, 2 or 4, put together here."""
    head = b"" if protocol == 0 else bytes([0x80, protocol])
    return b"Persisted on Mon Nov 30 12:00:00 2026 [Jasmin 0.11.1]\n" + head + _octets(data, protocol) + b"."


def _octets(value: Any, protocol: int) -> bytes:
    """The opcodes that build a value (Lib/pickletools.py)."""
    match value:
        case None:
            return b"N"
        case bool():
            return (b"I01\n" if value else b"I00\n") if protocol == 0 else (b"\x88" if value else b"\x89")
        case int():
            return b"I%d\n" % value if protocol == 0 else b"J" + struct.pack("<i", value)
        case float():
            return b"F%r\n" % value if protocol == 0 else b"G" + struct.pack(">d", value)
        case str():
            octets = value.encode()
            if protocol == 0:
                return b"V" + octets + b"\n"
            return (b"\x8c" + bytes([len(octets)]) if protocol == 4 else b"X" + struct.pack("<I", len(octets))) + octets
        case bytes():
            # Before protocol 3 octets are text that is encoded again.
            again = Named("_codecs.encode", (value.decode("latin-1"), "latin1"))
            return b"C" + bytes([len(value)]) + value if protocol == 4 else _octets(again, protocol)
        case tuple():
            return b"(" + b"".join(_octets(one, protocol) for one in value) + b"t"
        case list():
            return b"(l" + b"".join(_octets(one, protocol) + b"a" for one in value)
        case dict():
            pairs = ((_octets(key, protocol), _octets(one, protocol)) for key, one in value.items())
            if protocol == 0:
                return b"(d" + b"".join(key + one + b"s" for key, one in pairs)
            return b"}(" + b"".join(key + one for key, one in pairs) + b"u"
        case Named():
            return _object(value, protocol)
    raise TypeError(type(value).__name__)


def _object(value: Named, protocol: int) -> bytes:
    if protocol == 4:
        named = _octets(value.module, 4) + b"\x94" + _octets(value.name, 4) + b"\x94\x93\x94"
    else:
        named = b"c" + value.module.encode() + b"\n" + value.name.encode() + b"\n"
    if value.arguments is not None:
        return named + _octets(value.arguments, protocol) + b"R"
    if protocol == 0:
        named = b"ccopy_reg\n_reconstructor\n(" + named + b"c__builtin__\nobject\nNtR"
        return named + _octets(value.state, 0) + b"b"
    return named + b")\x81" + _octets(value.state, protocol) + b"b"
