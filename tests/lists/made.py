"""Small lists for tests: compiled in this process, opened as the daemon does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from smppd.lists.compiler import Compiled, ListSpec, compile_list, place_of
from smppd.lists.table import Table, open_table

KEY = b"k" * 32


def spec(source: Path, kind: str = "numbers", name: str = "dnd", **fields: Any) -> ListSpec:
    """A list that is read from this file."""
    return ListSpec(name, kind, source, fields.get("region"), fields.get("column"), fields.get("skip", False))


def made(directory: Path, content: bytes | Iterable[bytes], kind: str = "numbers", **fields: Any) -> Compiled:
    """Writes a source and compiles it."""
    source = directory / "source.txt"
    source.write_bytes(content if isinstance(content, bytes) else b"".join(line + b"\n" for line in content))
    return compile_list(spec(source, kind, **fields), directory / "lists", KEY, 1_800_000_000)


def table(directory: Path, content: bytes | Iterable[bytes], kind: str = "numbers", **fields: Any) -> Table:
    """The same, and what was made, opened."""
    made(directory, content, kind, **fields)
    return open_table(place_of(directory / "lists", fields.get("name", "dnd")), KEY, kind)
