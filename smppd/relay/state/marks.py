"""What a lane's route says beside the names of its upstreams: ``a,b;code;hours=promotional.FR.Europe/Paris``.

The route is the name under which messages and rows are in the spool, so what stands there outlives the process. Marks that
are not known are kept in the name and mean nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

CODE: Final = ";code"
HOURS: Final = ";hours="


class Marked(NamedTuple):
    """``names``: of the upstreams. ``marks``: all behind them, as it stands. ``code``: its messages are one-time codes.
    ``gate``: the key of the hours in which they may leave (`policy.hours`), empty for any."""

    names: tuple[str, ...]
    marks: str
    code: bool
    gate: str


def read_route(route: str) -> Marked:
    """The parts of a route. Names of upstreams have no semicolon in them."""
    joined, mark, rest = route.partition(";")
    names = tuple([name for name in joined.split(",") if name])
    if not mark:
        return Marked(names, "", False, "")
    code, gate = False, ""
    for one in rest.split(";"):
        if one == "code":
            code = True
        elif one.startswith("hours="):
            gate = one[6:]
    return Marked(names, ";" + rest, code, gate)


def marks_of(code: bool, gate: str) -> str:
    """What to put behind the names: for a one-time code, and for the key of its hours."""
    marks = CODE if code else ""
    return marks + HOURS + gate if gate else marks
