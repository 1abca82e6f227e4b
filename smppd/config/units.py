"""Durations, rates and sizes as an operator writes them: `30s`, `100/s`, `64KiB`. Pure text to number and back."""

from __future__ import annotations

import re
from typing import Final

_DURATIONS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_RATES: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES: Final = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}

_NUMBER: Final = r"[0-9]{1,12}(?:\.[0-9]{1,6})?"
DURATION_PATTERN: Final = rf"^(?:0|{_NUMBER}(?:ms|s|m|h|d|w))$"
RATE_PATTERN: Final = rf"^{_NUMBER}/[smh]$"
SIZE_PATTERN: Final = rf"^(?:0|{_NUMBER}(?:B|kB|MB|GB|TB|KiB|MiB|GiB|TiB))$"

_DURATION_RE: Final = re.compile(rf"({_NUMBER})(ms|s|m|h|d|w)")
_RATE_RE: Final = re.compile(rf"({_NUMBER})/([smh])")
_SIZE_RE: Final = re.compile(rf"({_NUMBER})(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)")


def parse_duration(text: str) -> float:
    """Seconds from `500ms`, `30s`, `5m`, `72h`, `30d`, `1w` or `0`. ValueError for anything else."""
    text = text.strip()
    if text == "0":
        return 0.0
    match = _DURATION_RE.fullmatch(text)
    if match is None:
        raise ValueError("must be a duration such as 500ms, 30s, 5m, 72h, 30d or 1w")
    return float(match[1]) * _DURATIONS[match[2]]


def parse_rate(text: str) -> float:
    """Events a second from `100/s`, `3000/m` or `50000/h`; more than zero. ValueError for anything else."""
    match = _RATE_RE.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be a rate such as 100/s or 3000/m")
    rate = float(match[1]) / _RATES[match[2]]
    if rate <= 0:
        raise ValueError("must be a rate above zero")
    return rate


def parse_size(text: str) -> int:
    """Octets from `512B`, `10kB` (1000), `64KiB` (1024), `16MiB` ... or `0`. ValueError for anything else."""
    text = text.strip()
    if text == "0":
        return 0
    match = _SIZE_RE.fullmatch(text)
    if match is None:
        raise ValueError("must be a size such as 512B, 10kB, 64KiB or 16MiB")
    return round(float(match[1]) * _SIZES[match[2]])


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as the same number of whole milliseconds: 90.0 -> `90s`."""
    millis = round(seconds * 1000)
    if millis == 0:
        return "0"
    for unit, factor in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if millis % factor == 0:
            return f"{millis // factor}{unit}"
    return f"{millis}ms"


def format_rate(per_second: float) -> str:
    """`100/s`, or `/m` and `/h` where a second would not give a whole number."""
    for unit, factor in _RATES.items():
        count = per_second * factor
        if count >= 1 and abs(count - round(count)) < 1e-9 * count:
            return f"{round(count)}/{unit}"
    return f"{per_second:.6f}".rstrip("0").rstrip(".") + "/s"


def format_size(octets: int) -> str:
    """The shortest exact text: 65536 -> `64KiB`, 1000 -> `1kB`, 7 -> `7B`."""
    if octets == 0:
        return "0"
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "kB"):
        if octets % _SIZES[unit] == 0:
            return f"{octets // _SIZES[unit]}{unit}"
    return f"{octets}B"
