"""Values in PostgreSQL's binary form, for the statements that are executed for each commit (`Connection.execute`).

Whole numbers are in network order; an array is its number of dimensions, whether there are NULLs, the type of its items,
and for the one dimension how many and from which number on; then each item with its length (PostgreSQL, `array_send`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

BYTEA: Final = 17
INT8: Final = 20
INT4: Final = 23
TEXT: Final = 25
BYTEAS: Final = 1001
INT4S: Final = 1007
TEXTS: Final = 1009
INT8S: Final = 1016
"""Numbers of types (`pg_type.dat`), and of arrays of them."""

_INT4: Final = struct.Struct("!i")
_INT8: Final = struct.Struct("!q")
_HEAD: Final = struct.Struct("!iiIii")

int4 = _INT4.pack
int8 = _INT8.pack


def text(value: str) -> bytes:
    """A text. PostgreSQL has no U+0000 in them, nor halves of surrogates; neither occurs in what is ours."""
    return clean(value).encode()


def clean(value: str) -> str:
    """A text as the server can have it."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _array(kind: int, items: list[bytes]) -> bytes | None:
    """An array; None, which is NULL, for an empty one."""
    if not items:
        return None
    pieces = [_HEAD.pack(1, 0, kind, len(items), 1)]
    for item in items:
        pieces += (_INT4.pack(len(item)), item)
    return b"".join(pieces)


def byteas(values: Iterable[bytes]) -> bytes | None:
    """An array of octets."""
    return _array(BYTEA, list(values))


def int4s(values: Iterable[int]) -> bytes | None:
    """An array of numbers of 32 bits."""
    return _array(INT4, [_INT4.pack(value) for value in values])


def int8s(values: Iterable[int]) -> bytes | None:
    """An array of numbers of 64 bits."""
    return _array(INT8, [_INT8.pack(value) for value in values])


def texts(values: Iterable[str]) -> bytes | None:
    """An array of texts."""
    return _array(TEXT, [text(value) for value in values])
