"""What the running daemon's screens say of a message that somebody asks about."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.control.wire import EXPLAIN, ControlError
from smppd.daemon.explaining import explain_requests
from smppd.protocol.wire import Command, address_field, build_sm
from tests.relay.fakes import FROM, TO, World, settings

FRAME = build_sm(Command.SUBMIT_SM, 1, FROM, address_field(1, 1, TO), b"hello").hex()
GOOD: dict[str, Any] = {"account": "acme", "frame": FRAME, "class": "promotional", "source": None}


def test_each_says_its_own_and_nothing_is_counted() -> None:
    world = World(settings(acme={"class": "promotional"}))
    world.register.change(world.register.entry("acme", b"\x01", TO, 1, "command"))
    answer = explain_requests(world.relay)[EXPLAIN](GOOD, 0)
    assert isinstance(answer, dict)
    said = dict(answer["screens"])  # type: ignore[call-overload]
    assert said["opt-out"] == "the recipient has opted out: refused (ESME_RINVDSTADR)"
    assert "may leave now" in said["hours"] or "hours" in said["hours"]
    assert world.total("rule_hits", policy="opt-out", rule="suppressed", mode="enforce") == 0


def test_the_sender_that_the_rules_gave_counts() -> None:
    world = World()
    world.register.change(world.register.entry("acme", b"447700900777", TO, 1, "command"))
    handler = explain_requests(world.relay)[EXPLAIN]
    for source, expected in ((None, "not opted out"), ([1, 1, b"447700900777".hex()], "has opted out")):
        answer = handler({**GOOD, "source": source}, 0)
        assert isinstance(answer, dict)
        assert expected in dict(answer["screens"])["opt-out"]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "wrong",
    [
        {"account": "nobody"},
        {"account": 1},
        {"frame": "zz"},
        {"frame": "00"},
        {"frame": 7},
        {"frame": "0" * 200_000},
        {"class": None},
        {"source": [1]},
        {"source": "abc"},
        {"source": [1, 1, "zz"]},
    ],
)
def test_what_is_no_request(wrong: dict[str, Any]) -> None:
    with pytest.raises(ControlError):
        explain_requests(World().relay)[EXPLAIN]({**GOOD, **wrong}, 0)
