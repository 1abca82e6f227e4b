"""What a lane's name says beside its upstreams. Names are in the spool: a form that was written is read for ever."""

from __future__ import annotations

import pytest

from smppd.relay.state.marks import Marked, marks_of, read_route

FLORIDA = "promotional.US-FL.~452bdcf3"


@pytest.mark.parametrize(
    ("route", "marked"),
    [
        ("", Marked((), "", False, "")),
        ("a", Marked(("a",), "", False, "")),
        ("a,b", Marked(("a", "b"), "", False, "")),
        ("a;code", Marked(("a",), ";code", True, "")),
        (f"a,b;hours={FLORIDA}", Marked(("a", "b"), f";hours={FLORIDA}", False, FLORIDA)),
        ("a;code;hours=x.FR.Europe/Paris", Marked(("a",), ";code;hours=x.FR.Europe/Paris", True, "x.FR.Europe/Paris")),
        # Of a version to come: the upstreams are known all the same.
        ("a;slow=3;code", Marked(("a",), ";slow=3;code", True, "")),
        (";;", Marked((), ";;", False, "")),
    ],
)
def test_read(route: str, marked: Marked) -> None:
    assert read_route(route) == marked


@pytest.mark.parametrize(("code", "gate"), [(False, ""), (True, ""), (False, "p.FR.Europe/Paris"), (True, "p.US.~1")])
def test_what_is_written_is_read(code: bool, gate: str) -> None:
    marked = read_route("a,b" + marks_of(code, gate))
    assert (marked.names, marked.code, marked.gate) == (("a", "b"), code, gate)
