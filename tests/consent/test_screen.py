"""The question whether somebody has opted out: of the sender as the customer used it, and as policy replaced it."""

from __future__ import annotations

import pytest

from smppd.consent.screen import OPTED_OUT, OptOutScreen
from smppd.consent.suppression import ANY, Hashes, Register
from smppd.message import Address, Refusal, Verdict
from smppd.policy.listed import ListAbsent
from smppd.policy.screens import Question
from smppd.protocol.wire import Command, Sm, Status, address_field, build_sm

TO = b"447700900123"
NUMBER, NAME = address_field(1, 1, b"447700900001"), address_field(5, 0, b"Shop")


def question(source: bytes = NUMBER, verdict: Verdict | None = None, region: str | None = None) -> Question:
    sm = Sm(build_sm(Command.SUBMIT_SM, 1, source, address_field(1, 1, TO), b"hello"))
    return Question("acme", region, sm, verdict, "", 1e9, 1.0, 2e9)


class Listed(frozenset[bytes]):
    """A list of numbers."""

    version = 1


def register(*senders: bytes) -> Register:
    of = Register(Hashes(bytes(32)))
    for sender in senders:
        of.change(of.entry("acme", sender, TO, 1, "word stop"))
    return of


REPLACED = Verdict(source=Address(1, 1, b"447700900001"))


@pytest.mark.parametrize(
    ("senders", "source", "verdict", "refused"),
    [
        ((), NUMBER, None, False),
        ((b"447700900001",), NUMBER, None, True),
        ((b"447700900001",), NAME, None, False),
        ((b"shop",), NAME, None, True),
        ((b"447700900001",), NAME, REPLACED, True),
        ((b"shop",), NAME, REPLACED, True),
        ((b"447700900002",), NAME, REPLACED, False),
        ((ANY,), NAME, None, True),
    ],
)
def test_it_refuses(senders: tuple[bytes, ...], source: bytes, verdict: Verdict | None, refused: bool) -> None:
    asked = question(source, verdict)
    screen = OptOutScreen(register(*senders), "refuse")
    assert screen.look(asked) == (OPTED_OUT if refused else None)
    assert [hit.shadow for hit in asked.hits] == [False] * refused
    assert OPTED_OUT.status == Status.RINVDSTADR
    reply_to = asked.sm.source_field if verdict is not None else None
    frame = asked.sm.raw
    if verdict is not None:
        frame = build_sm(Command.SUBMIT_SM, 1, NUMBER, address_field(1, 1, TO), b"hello")
    assert screen.refuses_now("acme", None, frame, reply_to) is refused


def test_told_says_how() -> None:
    receipt, shadow = question(), question()
    assert OptOutScreen(register(ANY), "receipt").look(receipt) == OPTED_OUT and receipt.rejects
    screen = OptOutScreen(register(ANY), "shadow")
    assert screen.look(shadow) is None and [hit.shadow for hit in shadow.hits] == [True] and not shadow.rejects
    assert not screen.refuses_now("acme", None, shadow.sm.raw, None)


def test_the_sender_is_compared_in_its_normal_form() -> None:
    national = question(address_field(2, 1, b"07700900001"), region="GB")
    assert OptOutScreen(register(b"447700900001"), "refuse").look(national) == OPTED_OUT
    assert OptOutScreen(register(b"shop"), "refuse").look(question(address_field(5, 0, b"SHOP"))) == OPTED_OUT


def test_lists_are_asked_beside_the_register() -> None:
    screen = OptOutScreen(register(), "refuse", (Listed({TO}),))
    assert screen.look(question()) == OPTED_OUT
    assert screen.refuses_now("acme", None, question().sm.raw, None)
    assert OptOutScreen(register(), "refuse", (Listed({b"447700900124"}),)).look(question()) is None


@pytest.mark.parametrize(
    ("told", "senders", "said"),
    [
        ("refuse", (), "has not opted out"),
        ("refuse", (ANY,), "ESME_RINVDSTADR"),
        ("receipt", (ANY,), "receipt REJECTD"),
        ("shadow", (ANY,), "only counted"),
    ],
)
def test_it_explains_and_changes_nothing(told: str, senders: tuple[bytes, ...], said: str) -> None:
    asked = question()
    assert said in OptOutScreen(register(*senders), told).explain(asked)
    assert asked.hits == [] and not asked.rejects


class NotThere:
    """A list that was never compiled."""

    version = 0

    def __contains__(self, number: object, /) -> bool:
        raise ListAbsent("dnd")


def test_a_list_that_is_not_there_refuses_and_stops_nothing_that_was_accepted() -> None:
    screen = OptOutScreen(Register(Hashes(bytes(32))), "refuse", [NotThere()])
    refused = screen.look(question())
    assert refused == Refusal(int(Status.RSYSERR), "list dnd is not ready", "list-absent")
    assert not screen.refuses_now("acme", None, question().sm.raw, None)
    assert screen.explain(question()) == "list dnd is not ready: refused (ESME_RSYSERR)"
    only_counts = OptOutScreen(Register(Hashes(bytes(32))), "shadow", [NotThere()])
    assert only_counts.look(question()) is None and only_counts.explain(question()) == "the recipient has not opted out"
