"""Screens: what is asked about a message after the rules, where the answer needs a list, a register, a clock or a count.

The rules (`policy.pipeline`) are pure; a screen has state of its own, which others fill: the list of opted-out numbers, the
consent register, what is known of an account's traffic, the time of day. Each account has its screens in a fixed order. A
screen refuses the message, changes the `Question`, or says nothing. A screen never waits, reads no file and asks no other
process; what it knows is in memory or mapped into it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from smppd.message import Hit, Refusal, Verdict
from smppd.numbering import normalise
from smppd.policy.countries import country_of
from smppd.protocol.wire import Sm


class Question:
    """One message as the screens see it, and what they decided beside a refusal. What a screen asks is worked out once.

    ``account``: its name. ``region``: the country of its national numbers. ``verdict``: what the rules said, None: nothing.
    ``message_class``: what kind of message it is, by the rules or else by its account.
    ``wall``: epoch seconds; ``now``: seconds of a steady clock. ``expires``: epoch seconds at which it ends.

    Decided by screens: ``until``, epoch seconds before which it does not leave, 0 for at once; ``gate``: the key of the hours
    in which it may leave (`policy.hours`), empty for any, and it waits by that; ``rejects``: its refusal is told by a receipt,
    after ESME_ROK; ``agreed``: it leaves by somebody's consent, which is asked for again when it has waited;
    ``hits``: what is counted and explained; ``counted``: whether the ear has counted it (`Ear.not_taken`).
    """

    __slots__ = (
        "_country",
        "_destination",
        "account",
        "agreed",
        "counted",
        "expires",
        "gate",
        "hits",
        "message_class",
        "now",
        "region",
        "rejects",
        "sm",
        "until",
        "verdict",
        "wall",
    )

    def __init__(
        self,
        account: str,
        region: str | None,
        sm: Sm,
        verdict: Verdict | None,
        usual_class: str,
        wall: float,
        now: float,
        expires: float,
    ) -> None:
        self.account = account
        self.region = region
        self.sm = sm
        self.verdict = verdict
        self.message_class = (verdict.message_class if verdict is not None else "") or usual_class
        self.wall = wall
        self.now = now
        self.expires = expires
        self.until = 0.0
        self.gate = ""
        self.rejects = False
        self.agreed = False
        self.counted = False
        self.hits: list[Hit] = []
        self._destination: bytes | None = None
        self._country: str | None = None

    def __repr__(self) -> str:
        return f"<Question {self.account}>"

    @property
    def destination(self) -> bytes:
        """The destination in its normal form (`numbering.normalise`): digits with the country code, no plus."""
        if self._destination is None:
            self._destination = normalise(self.sm.destination_digits, self.sm.destination_ton, 0, self.region)
        return self._destination

    @property
    def country(self) -> str:
        """The destination's country, two letters (ISO 3166); empty where nobody knows."""
        if self._country is None:
            self._country = country_of(self.destination) or ""
        return self._country


class Screen(Protocol):
    """One question to every message of an account. ``name``: in metrics, records and explanations."""

    name: str

    def look(self, question: Question) -> Refusal | None:
        """The refusal of a message, or None. May change what of ``question`` screens decide. Never raises for what is in a
        message."""

    def explain(self, question: Question) -> str:
        """What it would say, as a sentence for people, without a full stop. Changes nothing, counts nothing."""


class Admission:
    """A screen that is asked before the rules too: whether the account may submit at all. It hears what is refused of it."""

    def __init__(self) -> None:
        self.name: str = "admission"
        self.closed: Refusal | None = None

    def explain(self, _question: Question) -> str:
        """See `Screen`."""
        return "admitted" if self.closed is None else f"refused: {self.closed.reason}"

    def refused(self, rule: str, record: int, wall: float) -> None:
        """A message was refused. ``rule``: by what (`Refusal.rule`); ``record``: its id in the log; ``wall``: epoch seconds."""


class Ear:
    """A screen that counts messages, and hears how they ended, by their carriers' receipts."""

    def not_taken(self, question: Question) -> None:
        """A message that it has counted (`Question.counted`) was refused after all: by another screen, or no way is open."""

    def ended(self, digits: bytes, ton: int, delivered: bool, seconds: float, now: float) -> None:
        """A message to ``digits`` ended. ``seconds``: since it was accepted; ``now``: a steady clock."""


def admission_of(screens: Iterable[Screen]) -> Admission | None:
    """The one that admits the account's messages, among its screens."""
    for screen in screens:
        if isinstance(screen, Admission):
            return screen
    return None


def ear_of(screens: Iterable[Screen]) -> Ear | None:
    """The ear among an account's screens."""
    for screen in screens:
        if isinstance(screen, Ear):
            return screen
    return None
