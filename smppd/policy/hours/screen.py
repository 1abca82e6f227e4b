"""The screen `hours`: a message that may not leave now is held until its hour, refused, or only counted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from smppd.config import Account
from smppd.message import Hit, Refusal
from smppd.policy.hours.hours import Hours
from smppd.policy.hours.windows import NEVER, Gate
from smppd.policy.screens import Question
from smppd.protocol.wire import Status

NAME: Final = "hours"
QUIET: Final = Refusal(Status.RSUBMITFAIL, "quiet hours at the recipient", "quiet hours")
TOO_LATE: Final = Refusal(Status.RINVEXPIRY, "quiet hours last until after its validity", "quiet hours")
NOBODY_KNOWS: Final = Refusal(Status.RSUBMITFAIL, "nobody knows the recipient's hours", "quiet hours")
_HELD: Final = Hit(NAME, "held", shadow=False)
_REFUSED: Final = Hit(NAME, "refused", shadow=False)
_SHADOW: Final = Hit(NAME, "quiet", shadow=True)


class HoursScreen:
    """The screen of one account (`policy.screens.Screen`). A message with restricted hours gets the key of its gate, so that
    it waits where that gate is watched (`relay.state.model.Lane`), by day too: it may still wait there when the hours end."""

    def __init__(self, hours: Hours, settings: Account, region: str | None) -> None:
        self.name = NAME
        self._hours = hours
        self._region = region
        self._unknown = hours.unknown
        self._code_lives = settings.one_time_codes.expire_after
        mode: str = settings.quiet_hours
        # Whoever waits for the carrier's answer cannot wait until the morning.
        self._mode = "refuse" if mode == "hold" and settings.acknowledge == "upstream" else mode

    def look(self, question: Question) -> Refusal | None:
        """See ``policy.screens.Screen``."""
        if self._mode == "off" or not self._hours.restricts(question.message_class):
            return None
        gate = self._gate(question)
        if gate is None:
            if self._refuses_unknown(question):
                if self._mode == "shadow":
                    question.hits.append(_SHADOW)
                    return None
                question.hits.append(_REFUSED)
                return NOBODY_KNOWS
            return None
        opens = gate.opens(question.wall)
        if self._mode == "shadow":
            if opens:
                question.hits.append(_SHADOW)
            return None
        question.gate = gate.key
        if not opens:
            return None
        question.until = opens
        if self._mode == "refuse" or opens >= self._ends(question):
            question.hits.append(_REFUSED)
            return QUIET if self._mode == "refuse" else TOO_LATE
        question.hits.append(_HELD)
        return None

    def explain(self, question: Question) -> str:
        """See ``policy.screens.Screen``."""
        if self._mode == "off" or not self._hours.restricts(question.message_class):
            return f"hours: nothing restricts {question.message_class.replace('_', ' ')} messages of this account"
        gate = self._gate(question)
        if gate is None:
            if self._refuses_unknown(question):
                return "hours: refused, since nobody knows the number's country"
            return "hours: nothing restricts this number"
        told = self._hours.explain(question.message_class, question.country or self._region or "", question.destination)
        shown, why, zones = told or ("", "", ())
        where = ", ".join(zones) if len(zones) <= 4 else f"{len(zones)} zones"
        by = f"{shown} in {where} ({why})"
        opens = gate.opens(question.wall)
        if not opens:
            return f"hours: may leave now, by {by}"
        then = "no hour within ten days" if opens == NEVER else f"{_shown(opens)}"
        if self._mode == "shadow":
            return f"hours: would wait until {then}, by {by}; shadow: counted only"
        if self._mode == "refuse":
            return f"hours: refused until {then}, by {by}"
        if opens >= self._ends(question):
            return f"hours: refused, since its validity ends before {then}, by {by}"
        return f"hours: held until {then}, by {by}"

    def _gate(self, question: Question) -> Gate | None:
        country = question.country
        if country:
            return self._hours.gate(question.message_class, country, question.destination)
        if self._unknown == "hold" and self._region is not None:
            return self._hours.anywhere_in(question.message_class, self._region)
        return None

    def _refuses_unknown(self, question: Question) -> bool:
        if question.country or self._unknown == "allow":
            return False
        return self._unknown == "refuse" or self._region is None

    def _ends(self, question: Question) -> float:
        """Epoch seconds at which its validity ends: by itself, by the rules, as a one-time code."""
        ends = question.expires
        verdict = question.verdict
        if verdict is not None and verdict.expire_after is not None:
            ends = min(ends, question.wall + verdict.expire_after)
        if question.message_class == "one_time_code" and self._code_lives is not None:
            ends = min(ends, question.wall + self._code_lives)
        return ends


def _shown(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
