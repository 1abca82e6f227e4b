"""What stands against a part of an account's traffic: which signal said so, what is done, until when, and how often it
was met."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from smppd.message import masked

ALERT: Final = "alert"
LIMIT: Final = "limit"
BLOCK: Final = "block"
SHADOW: Final = "shadow"
OFF: Final = "off"
RANK: Final = {OFF: 0, SHADOW: 1, ALERT: 2, LIMIT: 3, BLOCK: 4}
"""The stricter of two counts."""

PREFIX: Final = "prefix"
COUNTRY: Final = "country"
TEXT: Final = "text"
CAP: Final = "cap"
SCATTERED: Final = "scattered"
"""What a decision is about. SCATTERED: bursts to many prefixes; it meets the messages that are more than usual where
they go."""


class Decision:
    """One decision. ``number``: names it to an operator, within its account. ``kind``: what it is about; ``what``: which prefix
    (digits) or country; empty else. ``since``: epoch seconds; ``until``: of the steady clock. ``why``: a sentence without
    numbers of persons. ``met``: messages that it met; ``told``: how many of these the log knows."""

    __slots__ = (
        "_allowed",
        "_at",
        "action",
        "country",
        "kind",
        "met",
        "number",
        "rate",
        "signal",
        "since",
        "told",
        "until",
        "what",
        "why",
    )

    def __init__(
        self,
        number: int,
        signal: str,
        action: str,
        kind: str,
        what: str,
        country: str,
        since: float,
        until: float,
        rate: float,
        now: float,
        why: str,
    ) -> None:
        self.number = number
        self.signal = signal
        self.action = action
        self.kind = kind
        self.what = what
        self.country = country
        self.since = since
        self.until = until
        self.rate = rate
        self.why = why
        self.met = 0
        self.told = 0
        self._allowed = max(1.0, rate)
        self._at = now

    def __repr__(self) -> str:
        return f"<Decision {self.number} {self.signal} {self.action} {self.target}>"

    @property
    def target(self) -> str:
        """What it is about, for people and the log: a country, a masked prefix."""
        if self.kind == PREFIX:
            return f"{self.country or '??'} {masked(self.what)}"
        if self.kind in (COUNTRY, CAP):
            return self.what or "??"
        return "a text" if self.kind == TEXT else "many prefixes"

    def may_pass(self, now: float) -> bool:
        """Under `limit`: whether the rate allows one more."""
        self._allowed = min(max(1.0, self.rate), self._allowed + (now - self._at) * self.rate)
        self._at = now
        if self._allowed < 1.0:
            return False
        self._allowed -= 1.0
        return True

    def would_pass(self, now: float) -> bool:
        """The same, and nothing is changed."""
        return min(max(1.0, self.rate), self._allowed + (now - self._at) * self.rate) >= 1.0


def key_of(kind: str, what: str) -> str:
    """By what a decision is found: its kind's first letter and what it is about."""
    return kind[0] + what if kind in (PREFIX, COUNTRY, TEXT) else f"{kind} {what}"


class Notice(NamedTuple):
    """What the log is to say of a decision: how many messages it met since it was told last. ``fresh``: for the first time."""

    decision: int
    signal: str
    action: str
    target: str
    messages: int
    why: str
    fresh: bool


class Shown(NamedTuple):
    """A decision as operators see it. ``left``: seconds until it ends by itself; ``messages``: those that it met."""

    number: int
    signal: str
    action: str
    target: str
    why: str
    since: float
    left: float
    messages: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(self._asdict())
