"""A report as data: what JSON can say, and the same as Markdown. Nothing that may be a phone number comes out of either."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from smppd.vault.mask import mask_digits, mask_text

Report = dict[str, Any]
"""`title`, `about` (sentences), `made` (ISO time), then sections: a mapping, a list of mappings (a table), a list of words."""

_NONE: Final = "-"
_ESCAPED: Final = str.maketrans({one: f"\\{one}" for one in "\\`*_|<>[]"})


def report(title: str, about: str, now: float, sections: Mapping[str, Any]) -> Report:
    """A report made at `now` (epoch seconds). Every text in it is masked."""
    return {"title": title, "about": about, "made": at(now), **{key: _masked(one) for key, one in sections.items()}}


def free(text: str | None) -> str | None:
    """What a person wrote, without anything that may be a number."""
    return None if text is None else mask_digits(text)


def at(seconds: float) -> str:
    """Epoch seconds in ISO 8601, UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "beyond the calendar"


def as_json(made: Report) -> str:
    """The report as JSON that ends with a newline."""
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def as_markdown(made: Report) -> str:
    """The report as Markdown: a section for each part, mappings as lists, lists of mappings as tables."""
    lines = [f"# {made['title']}", "", f"Made {made['made']}.", "", made["about"]]
    for key, value in made.items():
        if key not in ("title", "about", "made"):
            lines += _section(key, value, 2)
    return "\n".join(lines) + "\n"


def _section(key: str, value: Any, depth: int) -> Iterator[str]:
    yield ""
    yield f"{'#' * min(depth, 6)} {_words(key)}"
    yield ""
    if isinstance(value, Mapping):
        plain = {name: one for name, one in value.items() if not _nested(one)}
        yield from (f"- **{_words(name)}**: {_cell(one)}" for name, one in plain.items())
        if not value:
            yield "None."
        for name, one in value.items():
            if _nested(one):
                yield from _section(name, one, depth + 1)
    elif _is_table(value):
        yield from _table(value)
    elif isinstance(value, (list, tuple)):
        yield from (f"- {_cell(one)}" for one in value)
        if not value:
            yield "None."
    else:
        yield _cell(value)


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping) or _is_table(value)


def _is_table(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    yield "| " + " | ".join(map(_words, columns)) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(_cell(row.get(column)) for column in columns) + " |"


def _words(key: str) -> str:
    return key.replace("_", " ").capitalize().translate(_ESCAPED)


def _cell(value: Any) -> str:
    if value is None or value == "" or (isinstance(value, (list, tuple, Mapping)) and not value):
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value))
    if isinstance(value, Mapping):
        return "; ".join(f"{_words(key).lower()} {_cell(one)}" for key, one in value.items())
    # One line, of characters that print: names come from the configuration and from the trail.
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(value))
    return text.translate(_ESCAPED)


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return {str(key): _masked(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(one) for one in value]
    return value
