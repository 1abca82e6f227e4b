"""The register in memory and the question that it answers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.consent.register import ConsentScreen, Register
from smppd.consent.register_proof import ANY, ConsentKeys
from smppd.message import Verdict
from smppd.policy.screens import Question
from smppd.protocol.wire import Status
from smppd.store.consents import Standing
from tests.policy.helpers import frame

KEYS = ConsentKeys(b"k" * 32)
ONE, OTHER = b"447700900123", b"447700900124"


def consent(
    number: bytes = ONE, classes: Sequence[str] = ("promotional",), sender: str = ANY, account: str = "acme"
) -> Standing:
    scopes = b"".join(KEYS.scope(one, sender.encode()) for one in classes)
    return Standing(account, KEYS.subject(account, number), scopes)


def register(*consents: Standing) -> Register:
    made = Register(KEYS)
    made.load(consents)
    return made


@pytest.mark.parametrize(
    ("consents", "asked", "expected"),
    [
        ([], {}, False),
        ([consent()], {}, True),
        ([consent()], {"number": OTHER}, False),
        ([consent()], {"account": "shop"}, False),
        ([consent()], {"kind": "service"}, False),
        ([consent(classes=("promotional", "service"))], {"kind": "service"}, True),
        ([consent(classes=(ANY,))], {"kind": "service"}, True),
        ([consent(sender="shop24")], {}, False),
        ([consent(sender="shop24")], {"sender": b"shop24"}, True),
        ([consent(sender="shop24", classes=(ANY,))], {"sender": b"shop24", "kind": "government"}, True),
        ([consent(OTHER), consent(sender="shop24")], {"sender": b"acme"}, False),
    ],
)
def test_what_was_agreed_to(consents: list[Standing], asked: dict[str, Any], expected: bool) -> None:
    said: dict[str, Any] = {"account": "acme", "number": ONE, "kind": "promotional", "sender": b"acme", **asked}
    loaded = register(*consents)
    added = Register(KEYS)
    added.add(consents)
    for made in (loaded, added):
        found = made.stands(said["account"], said["number"], said["kind"], lambda: bytes(said["sender"]))
        assert found is expected
        assert len(made) == sum(len(one.scopes) // 16 for one in consents)


def test_what_is_removed_counts_no_longer_and_what_is_there_twice_counts_once() -> None:
    made = register(consent(), consent(), consent(OTHER))
    made.add([consent()])
    assert len(made) == 2
    made.remove([consent(), consent()])
    assert (
        len(made) == 1
        and not made.stands("acme", ONE, "promotional", lambda: b"x")
        and made.stands("acme", OTHER, "promotional", lambda: b"x")
    )
    made.remove([consent()])
    assert len(made) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60))
def test_it_is_a_set(acts: list[tuple[bool, int]]) -> None:
    made = Register(KEYS)
    model: set[int] = set()
    for add, number in acts:
        (made.add if add else made.remove)([consent(b"44770090%04d" % number)])
        (model.add if add else model.discard)(number)
    assert len(made) == len(model)
    assert all(made.stands("acme", b"44770090%04d" % n, "promotional", lambda: b"") is (n in model) for n in range(31))


def test_memory_of_many() -> None:
    """As docs/limits.md has it: some 16 octets each, besides the buckets."""
    random = Random(3)
    scope = KEYS.scope("promotional", ANY.encode())
    many = [Standing("acme", random.randbytes(16), scope) for _ in range(100_000)]
    made = register(*many)
    taken = sys.getsizeof(made._set._buckets) + sum(map(sys.getsizeof, made._set._buckets.values()))
    assert len(made) == 100_000 and taken < 100_000 * 14 + 6_500_000
    assert not made.stands("acme", ONE, "promotional", lambda: b"x")


def question(kind: str = "promotional", to: bytes = ONE, verdict: Verdict | None = None) -> Question:
    return Question("acme", None, frame(to=to), verdict, kind, 0.0, 0.0, 0.0)


def test_the_screen() -> None:
    screen = ConsentScreen(register(consent()), False, ["promotional", "service"])
    refusal = screen.look(question(to=OTHER))
    assert refusal is not None and (refusal.status, refusal.rule) == (Status.RINVDSTADR, "consent")
    assert screen.look(question()) is None
    assert screen.look(question(to=OTHER, kind="one_time_code")) is None
    assert screen.look(question(to=OTHER, kind="one_time_code", verdict=Verdict(message_class="service"))) is not None
    assert screen.look(question(to=b"+447700900123")) is None, "in every notation"
    assert [
        screen.explain(question(kind, to)) for kind, to in (("promotional", ONE), ("service", ONE), ("government", ONE))
    ] == [
        "there is a consent on record",
        "there is no consent on record: refused (ESME_RINVDSTADR)",
        "government messages need no consent on record",
    ]


def test_in_shadow_it_only_counts() -> None:
    screen = ConsentScreen(register(), True, ["promotional"])
    asked = question()
    assert screen.look(asked) is None and [(hit.rule, hit.shadow) for hit in asked.hits] == [("missing", True)]
    asked = question()
    assert "only counted" in screen.explain(asked) and asked.hits == []
