"""What the statements about the log need of its ids, and how rows are handed to a statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

_NODE_SHIFT: Final = 16
_NODES: Final = 64


def node_of(identity: int) -> int:
    """The node that drew an id (`smppd.ids`)."""
    return identity >> _NODE_SHIFT & _NODES - 1


def columns(rows: Iterable[Sequence[Any]], count: int) -> list[list[Any]]:
    """Rows as so many lists, one for each column: what `unnest` takes."""
    made: list[list[Any]] = [[] for _ in range(count)]
    for row in rows:
        for column, value in zip(made, row, strict=True):
            column.append(value)
    return made
