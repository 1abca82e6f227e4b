"""Templates to HTML. Everything that a template writes is escaped; what is no text of ours is never marked as safe.

Names that customers chose (system_id, sender, reason) are shown with their control characters as signs, so none can turn a line
around or hide another.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from smppd.console.sparkline import sparkline

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_NONE: Final = "–"


class Renderer:
    """The templates of `templates/`."""

    def __init__(self, now: Callable[[], float]) -> None:
        """now: epoch seconds, for ages."""
        self._environment = Environment(
            loader=PackageLoader("smppd.console"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(
            plain=plain, count=count, rate=rate, age=age, clock=clock, octets=octets, share=share, sparkline=_drawn
        )

    def page(self, template: str, values: Mapping[str, Any]) -> bytes:
        """`templates/NAME.html` with these values, as UTF-8."""
        return self._environment.get_template(f"{template}.html").render(values).encode("utf-8", "replace")


def plain(value: object, most: int = 200) -> str:
    """A text of somebody else, with every invisible character as its code, and cut where it is long."""
    text = "" if value is None else str(value)
    shown = "".join(
        f"[{ord(sign):04X}]" if unicodedata.category(sign) in _HIDDEN else sign for sign in text[: most + 1]
    )
    return shown[:most] + "…" if len(text) > most else shown


def count(value: float | None) -> str:
    """1234567 -> 1,234,567; None: a dash."""
    return _NONE if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """Messages a second; with a decimal below 100."""
    if value is None:
        return _NONE
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def age(seconds: float | None) -> str:
    """A duration in its two largest units: 3 d 4 h, 5 min, 12 s; None: a dash."""
    if seconds is None:
        return _NONE
    whole = max(0, int(seconds))
    for size, unit, next_size, next_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {unit}" + (f" {rest} {next_unit}" if rest else "")
    return f"{whole // 60} min" if whole >= 60 else f"{whole} s"


def clock(at: float | None) -> str:
    """Epoch seconds in UTC: 2026-11-30 12:03:04Z."""
    if at is None:
        return _NONE
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return _NONE


def octets(value: float | None) -> str:
    """1536 -> 1.5 KiB; None: a dash."""
    if value is None:
        return _NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("GiB is the last")


def share(value: float | None) -> str:
    """0 to 1 in per cent; None: a dash."""
    return _NONE if value is None else f"{value:.0%}"


def _drawn(values: Sequence[float], label: str) -> Markup:
    return Markup(sparkline(values, plain(label)))  # made of numbers; the label is escaped there
