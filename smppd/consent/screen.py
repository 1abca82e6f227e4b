"""The question whether the recipient of a message has opted out: asked when it is accepted (`policy.screens`), and again when
it has waited and a carrier is to get it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from smppd.consent.suppression import Register, sender_form
from smppd.message import Hit, Refusal
from smppd.numbering import normalise
from smppd.policy.listed import ABSENT, ListAbsent
from smppd.policy.screens import Question
from smppd.protocol.wire import Sm, Status

NAME: Final = "opt-out"
OPTED_OUT: Final = Refusal(int(Status.RINVDSTADR), "the recipient has opted out", NAME)
_HIT: Final = Hit(NAME, "suppressed", False)
_SHADOW: Final = Hit(NAME, "suppressed", True)


class Numbers(Protocol):
    """A list of numbers that nobody of an account may write to, such as a register of those not to be disturbed."""

    @property
    def version(self) -> int:
        """Rises whenever other numbers are in it."""

    def __contains__(self, number: object, /) -> bool:
        """Whether a number (bytes, `numbering.normalise`) is in it. Never blocks."""


class OptOutScreen:
    """See the module. One for each account that asks. ``lists``: asked beside the register."""

    def __init__(self, register: Register, told: str, lists: Sequence[Numbers] = ()) -> None:
        """told: `opt_out.told` of the account, `off` for none."""
        self.name: str = NAME
        self.register = register
        self.told = told
        self.lists = tuple(lists)

    @property
    def epoch(self) -> int:
        """Rises whenever somebody may be opted out who was not: what was asked before may be answered otherwise now."""
        epoch = self.register.epoch
        for one in self.lists:
            epoch += one.version
        return epoch

    def look(self, question: Question) -> Refusal | None:
        """See `policy.screens.Screen`."""
        if not self.lists and self.register.is_empty_for(question.account):
            return None
        try:
            opted_out = self._asks(question)
        except ListAbsent as absent:
            if self.told == "shadow":
                return None  # what only counts refuses nothing
            return Refusal(int(Status.RSYSERR), f"list {absent.name} is not ready", ABSENT)
        if not opted_out:
            return None
        if self.told == "shadow":
            question.hits.append(_SHADOW)
            return None
        question.hits.append(_HIT)
        question.rejects = self.told == "receipt"
        return OPTED_OUT

    def _asks(self, question: Question) -> bool:
        sm, verdict = question.sm, question.verdict
        sender = sender_form(sm.source_digits, sm.source_ton, question.region)
        opted_out = self._has(question.account, sender, question.destination)
        if not opted_out and verdict is not None and verdict.source is not None:
            other = sender_form(verdict.source.digits, verdict.source.ton, question.region)
            opted_out = self.register.stands(question.account, other, question.destination)
        return opted_out

    def refuses_now(self, account: str, region: str | None, frame: bytes, reply_to: bytes | None) -> bool:
        """Whether a message that waited may not leave any more. A list that is absent is not asked: the message was accepted,
        and cannot be given back. frame: its PDU, with the sender that policy gave it; reply_to: the source field that its
        customer used, where policy exchanged it."""
        if self.told == "shadow" or (not self.lists and self.register.is_empty_for(account)):
            return False
        sm = Sm(frame)
        number = normalise(sm.destination_digits, sm.destination_ton, 0, region)
        try:
            if self._has(account, sender_form(sm.source_digits, sm.source_ton, region), number):
                return True
        except ListAbsent:
            pass
        if reply_to is None:
            return False
        return self.register.stands(account, sender_form(reply_to[2:-1], reply_to[0], region), number)

    def _has(self, account: str, sender: bytes, number: bytes) -> bool:
        if self.register.stands(account, sender, number):
            return True
        return any(number in one for one in self.lists)

    def explain(self, question: Question) -> str:
        """See `policy.screens.Screen`."""
        hits, rejects = len(question.hits), question.rejects
        refusal = self.look(question)
        refused = refusal is not None
        shadow = len(question.hits) > hits and not refused
        del question.hits[hits:]
        question.rejects = rejects
        if shadow:
            return "the recipient has opted out (only counted: opt_out.told is shadow)"
        if not refused:
            return "the recipient has not opted out"
        if refusal is not None and refusal.rule == ABSENT:
            return f"{refusal.reason}: refused (ESME_RSYSERR)"
        how = "ESME_ROK, then a receipt REJECTD" if self.told == "receipt" else "ESME_RINVDSTADR"
        return f"the recipient has opted out: refused ({how})"
