"""TLVs in rules: their tags, what a value is compared with, and the values that a rule sets.

A value is text (`"1101"`, taken as UTF-8), or octets in hexadecimal (`0x0102`, of which each digit counts).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from pydantic import BeforeValidator, WithJsonSchema

from smppd.config.kinds import checked_pattern
from smppd.config.tree import Hex

LONGEST: Final = 1024
"""Octets of a value in a rule. A PDU could carry more; what is registered anywhere is far below."""
MOST_SET: Final = 16
"""TLVs that one rule sets, and different ones that all rules of an account set together: what they add is not counted when a
message is accepted, and it has to fit into what carriers take and into what is read back after a restart."""
STRUCTURE: Final = frozenset({0x0017, 0x020C, 0x020E, 0x020F, 0x0424})
"""Tags that no rule sets, since they are how long a message lives, its place in a long one, and its text (SMPP 3.4 section
5.3.2: qos_time_to_live, sar_msg_ref_num, sar_total_segments, sar_segment_seqnum, message_payload)."""
_TAG: Final = "^(0[xX][0-9A-Fa-f]{1,4}|[0-9]{1,5})$"


class TlvTest(NamedTuple):
    """What a TLV's value is compared with: ``octets``, the beginning where ``prefix``, or an RE2 ``pattern`` searched in it.
    A NUL at its end, which some write behind text, does not count."""

    octets: bytes = b""
    prefix: bool = False
    pattern: str | None = None


def _tag(key: Any) -> int:
    if isinstance(key, str) and re.fullmatch(_TAG, key):
        key = int(key, 0 if key[:2].lower() == "0x" else 10)
    if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key <= 0xFFFF:
        raise ValueError("must name TLVs by tags such as 0x1400")
    return key


def _hex(digits: str, tag: int) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise ValueError(f"TLV 0x{tag:04X}: 0x needs two hexadecimal digits for each octet") from None


def _octets(value: Any, tag: int) -> bytes:
    if isinstance(value, Hex):
        octets = _hex(value.digits, tag)
    elif isinstance(value, str) and value[:2].lower() == "0x":
        octets = _hex(value[2:], tag)
    elif isinstance(value, (str, int)) and not isinstance(value, bool):
        octets = str(value).encode("utf-8", "replace")
    else:
        raise ValueError(f"TLV 0x{tag:04X}: must be text, or octets such as 0x0102")
    if len(octets) > LONGEST:
        raise ValueError(f"TLV 0x{tag:04X}: has more than {LONGEST} octets")
    return octets


def _test(value: Any, tag: int) -> TlvTest:
    if isinstance(value, TlvTest):
        return value
    if isinstance(value, dict):
        pattern = value.get("matches")
        if value.keys() != {"matches"} or not isinstance(pattern, str):
            raise ValueError(
                f"TLV 0x{tag:04X}: must be a value, `prefix*`, {{matches: RE2 pattern}}, or a list of these"
            )
        return TlvTest(pattern=checked_pattern(pattern))
    prefix = isinstance(value, str) and value.endswith("*")
    return TlvTest(_octets(value[:-1] if prefix else value, tag).rstrip(b"\0"), prefix)


def _pairs(value: Any) -> list[tuple[int, Any]]:
    pairs = list(value.items()) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else []
    if not pairs:
        raise ValueError("must be a mapping of tags such as 0x1400 to values")
    tags = [_tag(key) for key, _ in pairs]
    if len(set(tags)) < len(tags):
        raise ValueError("names a tag twice")
    return list(zip(tags, [item for _, item in pairs], strict=True))


def _tests(value: Any) -> Any:
    if value == ():
        return value
    made = []
    for tag, item in _pairs(value):
        entries = item if isinstance(item, (list, tuple)) and not isinstance(item, TlvTest) else [item]
        if not entries:
            raise ValueError(f"TLV 0x{tag:04X}: must have at least one value")
        made.append((tag, tuple(_test(entry, tag) for entry in entries)))
    return tuple(made)


def _values(value: Any) -> Any:
    if value == ():
        return value
    made = []
    for tag, item in _pairs(value):
        if tag in STRUCTURE:
            raise ValueError(f"TLV 0x{tag:04X} is part of what a message is, and cannot be set")
        made.append((tag, item if isinstance(item, bytes) else _octets(item, tag)))
    if len(made) > MOST_SET:
        raise ValueError(f"sets more than {MOST_SET} TLVs")
    return tuple(made)


_VALUE: Final = [{"type": "string"}, {"type": "integer"}]
_TEST: Final = [
    *_VALUE,
    {
        "type": "object",
        "properties": {"matches": {"type": "string", "format": "regex"}},
        "required": ["matches"],
        "additionalProperties": False,
    },
]


def _schema(values: list[dict[str, Any]]) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "patternProperties": {_TAG: {"anyOf": values}},
            "additionalProperties": False,
        }
    )


if TYPE_CHECKING:
    TlvTests = tuple[tuple[int, tuple[TlvTest, ...]], ...]
    TlvValues = tuple[tuple[int, bytes], ...]
else:
    TlvTests = Annotated[
        Any, BeforeValidator(_tests), _schema([*_TEST, {"type": "array", "items": {"anyOf": _TEST}, "minItems": 1}])
    ]
    TlvValues = Annotated[Any, BeforeValidator(_values), _schema(_VALUE)]
