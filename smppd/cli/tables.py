"""Tables for people, and the forms of what stands in them. Nothing in a cell moves a terminal, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

PIPED: Final = 160
"""Columns of a file or a pipe, which have no width to fold names at."""
_BARS: Final = "▁▂▃▄▅▆▇█"

Column = tuple[str, "str | Callable[[Mapping[str, Any]], object]"]
"""A title, and the key of what stands below it, or a function that makes it of a row."""


def console_for(file: TextIO) -> Any:
    """A console of rich's that shows text as it is."""
    from rich.console import Console  # slow to import, and not needed for --json

    return Console(file=file, highlight=False, markup=False, emoji=False, width=None if file.isatty() else PIPED)


def table(console: Any, columns: Sequence[Column], rows: object) -> None:
    """Prints a table; nothing where there are no rows."""
    made = table_of(columns, rows)
    if made is not None:
        console.print(made)


def table_of(columns: Sequence[Column], rows: object) -> Any:
    """A table of rich's; None where there are no rows. Numbers stand on the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if not found:
        return None
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    values = [[row.get(key) if isinstance(key, str) else key(row) for _, key in columns] for row in found]
    for number, (title, _key) in enumerate(columns):
        numbers = number > 0 and all(isinstance(one[number], (int, float)) for one in values)
        made.add_column(title, justify="right" if numbers else "left", overflow="fold")
    for one in values:
        made.add_row(*(Text(cell(value)) for value in one))
    return made


def cell(value: object) -> str:
    """A value in a table: yes and no, a dash for nothing, and no control character of whoever answered."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(cell(one) for one in value) or "-"
    return "".join(c if c.isprintable() else "?" for c in str(value))


def age(seconds: object) -> str:
    """A length of time in its two greatest units, such as `3d 4h`."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e12:
        return "?"
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def sparkline(numbers: Sequence[float]) -> str:
    """Numbers as bars of eight heights, the highest of them the full one."""
    most = max(numbers, default=0)
    if most <= 0:
        return _BARS[0] * len(numbers)
    return "".join(_BARS[min(7, int(8 * max(0, one) / most))] if one else _BARS[0] for one in numbers)
