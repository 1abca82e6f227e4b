"""What nodes tell each other by NOTIFY: which rows nobody holds any more, that something has changed, what one says of itself.

All of it is on one channel, as JSON of less than 8000 octets: an object with the node that tells it (``from``; null: a
command) and what is told. They are hints: what is lost on the way is found with the next look. What is not understood is passed
over, since it may be a younger smppd's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from smppd.store.api import ColdRow

CHANNEL: Final = "smppd"
FEW: Final = 200
"""Ids that are told of one owner; where there are more, that there are some."""
_MOST: Final = 7900
"""Octets of a note: the server takes less than 8000."""
NOTIFY: Final = f"SELECT pg_notify('{CHANNEL}', $1)"

Told = tuple[int, str, tuple[int, ...]]
"""Rows that nobody holds: kind, owner, ids, none where only that there are some is said."""


class Note(NamedTuple):
    """What was told. node: who tells it, None for a command. rows: see `Told`. topic, detail: of something that has changed,
    topic None where there is none. look: the leases are to be looked at."""

    node: int | None
    rows: tuple[Told, ...] = ()
    topic: str | None = None
    detail: str = ""
    look: bool = False


def rows_put(node: int, rows: Iterable[ColdRow], handed: Iterable[tuple[int, str]] = ()) -> list[str]:
    """Tells of rows that were put for nobody to hold, and of owners whose rows were given up."""
    ids: dict[tuple[int, str], list[int]] = {}
    for row in rows:
        ids.setdefault((int(row.kind), row.owner), []).append(row.id)
    told = {place: tuple(found) if len(found) <= FEW else () for place, found in ids.items()}
    told |= dict.fromkeys(((int(kind), owner) for kind, owner in handed), ())
    return rows_are_there(node, [(kind, owner, found) for (kind, owner), found in told.items()])


def rows_are_there(node: int, told: Sequence[Told]) -> list[str]:
    """Tells of rows that nobody holds, in as few notes as they fit into."""
    notes: list[str] = []
    some: list[str] = []
    size = 0
    for kind, owner, ids in told:
        piece = _json([kind, owner, ids])
        if len(piece) > _MOST - 100:
            piece = _json([kind, owner, []])
            if len(piece) > _MOST - 100:
                continue  # no name is that long; whoever has it finds it with his next look
        if some and size + len(piece) > _MOST - 100:
            notes.append(_rows(node, some))
            some, size = [], 0
        some.append(piece)
        size += len(piece) + 1
    if some:
        notes.append(_rows(node, some))
    return notes


def _rows(node: int, pieces: Sequence[str]) -> str:
    return f'{{"from":{node},"rows":[{",".join(pieces)}]}}'


def changed(node: int | None, topic: str, detail: str) -> str:
    """Tells that something which all share has changed. ValueError where it is too long for a note."""
    made = _json({"from": node, "topic": topic, "detail": detail})
    if len(made) > _MOST:
        raise ValueError(f"{topic}: what is told of it is too long ({len(made)} octets)")
    return made


def look(node: int) -> str:
    """Tells that a lease says something new."""
    return _json({"from": node, "look": True})


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))  # in ASCII, so a character is an octet


def read(payload: str) -> Note | None:
    """What a note tells; None where it is none of ours."""
    try:
        told = json.loads(payload)
        node = told["from"]
        if not (node is None or isinstance(node, int)):
            return None
        rows = tuple(_each(told.get("rows", ())))
        topic, detail = told.get("topic"), told.get("detail", "")
        if not (topic is None or isinstance(topic, str)) or not isinstance(detail, str):
            return None
        return Note(node, rows, topic, detail, told.get("look") is True)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _each(rows: Iterable[Any]) -> Iterator[Told]:
    for kind, owner, ids in rows:
        found = tuple(ids)
        if type(kind) is not int or not isinstance(owner, str) or any(type(one) is not int for one in found):
            raise ValueError("not of ours")
        yield kind, owner, found
