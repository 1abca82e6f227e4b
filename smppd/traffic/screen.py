"""The screen that looks at an account's traffic, made of a configuration; what it knows is `AccountTraffic`, which
outlives it."""

from __future__ import annotations

from collections.abc import Callable

from smppd.config.traffic import DEFAULT, Traffic
from smppd.message import Refusal
from smppd.numbering import normalise
from smppd.policy.countries import country_of
from smppd.policy.screens import Ear, Question
from smppd.traffic.account import AccountTraffic, Limits


def limits_of(settings: Traffic) -> Limits:
    """A configuration as it is asked for each message."""
    caps = {country: cap for country, cap in settings.caps.items() if country != DEFAULT}
    return Limits(
        caps,
        settings.caps.get(DEFAULT, 0),
        learn=settings.learn,
        lasts=settings.for_,
        rate=settings.limit,
        new_countries=settings.new_countries.action,
        runs=settings.runs.action,
        runs_least=settings.runs.least,
        velocity=settings.velocity.action,
        factor=settings.velocity.factor,
        minute=settings.velocity.minute,
        hour=settings.velocity.hour,
        day=settings.velocity.day,
        same_text=settings.same_text.action,
        text_least=settings.same_text.least,
        receipts=settings.receipts.action,
        receipts_least=settings.receipts.least,
        ratio=settings.receipts.ratio,
    )


class TrafficScreen(Ear):
    """See the module; `policy.screens.Screen`."""

    def __init__(
        self, traffic: AccountTraffic, settings: Traffic, region: str | None, wall: Callable[[], float]
    ) -> None:
        """``region``: the country of the account's national numbers."""
        self.name = "traffic"
        self._traffic = traffic
        self._limits = limits_of(settings)
        self._region = region
        self._wall = wall

    def look(self, question: Question) -> Refusal | None:
        """Counts the message; the refusal where something that stands, or a cap, says so."""
        return self._traffic.look(question, self._limits)

    def not_taken(self, question: Question) -> None:
        """See `policy.screens.Ear`."""
        self._traffic.not_taken(question, self._limits)

    def explain(self, question: Question) -> str:
        """What it would say."""
        return self._traffic.explain(question, self._limits)

    def ended(self, digits: bytes, ton: int, delivered: bool, seconds: float, now: float) -> None:
        """See `policy.screens.Ear`."""
        number = normalise(digits, ton, 0, self._region)
        country = country_of(number) or ""
        self._traffic.ended(number, country, delivered, seconds, now, self._wall(), self._limits)
