"""The states of a message, and the words that receipts have for them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class MessageState(IntEnum):
    """SMPP 3.4 section 5.2.28, with the two states that SMPP 5.0 section 4.7.15 adds."""

    SCHEDULED = 0
    ENROUTE = 1
    DELIVERED = 2
    EXPIRED = 3
    DELETED = 4
    UNDELIVERABLE = 5
    ACCEPTED = 6
    UNKNOWN = 7
    REJECTED = 8
    SKIPPED = 9

    @property
    def word(self) -> bytes:
        """The seven letters after ``stat:`` (SMPP 3.4 Appendix B, table B-2)."""
        return _WORDS[self]

    @property
    def is_final(self) -> bool:
        """Whether no other state can follow.

        ACCEPTED is final in SMPP 5.0, but carriers send it before DELIVERED, and UNKNOWN may be a passing trouble:
        taking either for the end would lose the receipt that matters.
        """
        return self in _FINAL

    @classmethod
    def from_word(cls, word: bytes) -> MessageState | None:
        """The state that a ``stat`` means, in any case, spelt out or as carriers write it; None for a word of a carrier's own,
        and for a number: to some carriers it is a message_state, to others an error code with 0 for delivered."""
        return STATES.get(word.strip().upper())


_WORDS: Final = (
    b"SCHEDLD",
    b"ENROUTE",
    b"DELIVRD",
    b"EXPIRED",
    b"DELETED",
    b"UNDELIV",
    b"ACCEPTD",
    b"UNKNOWN",
    b"REJECTD",
    b"SKIPPED",
)
_FINAL: Final = frozenset(
    (
        MessageState.DELIVERED,
        MessageState.EXPIRED,
        MessageState.DELETED,
        MessageState.UNDELIVERABLE,
        MessageState.REJECTED,
        MessageState.SKIPPED,
    )
)
STATES: Final[dict[bytes, MessageState]] = {
    **{word: MessageState(value) for value, word in enumerate(_WORDS)},
    **{state.name.encode(): state for state in MessageState},
    b"SCHEDULD": MessageState.SCHEDULED,
    b"STAGED": MessageState.SCHEDULED,
    b"EN_ROUTE": MessageState.ENROUTE,
    b"ENROUT": MessageState.ENROUTE,
    b"BUFFERED": MessageState.ENROUTE,
    b"BUFFERD": MessageState.ENROUTE,
    b"BUFFRED": MessageState.ENROUTE,
    b"BUFFERE": MessageState.ENROUTE,
    b"BUFFERRD": MessageState.ENROUTE,
    b"PENDING": MessageState.ENROUTE,
    b"QUEUED": MessageState.ENROUTE,
    b"RETRY": MessageState.ENROUTE,
    b"RETRYING": MessageState.ENROUTE,
    b"SENT": MessageState.ENROUTE,
    b"SUBMITD": MessageState.ENROUTE,
    b"SUBMITTD": MessageState.ENROUTE,
    b"SUBMITTED": MessageState.ENROUTE,
    b"TRANSMITTED": MessageState.ENROUTE,
    b"DELIVERD": MessageState.DELIVERED,
    b"DELIVRED": MessageState.DELIVERED,
    b"DELIVERE": MessageState.DELIVERED,
    b"DLIVRD": MessageState.DELIVERED,
    b"DLVRD": MessageState.DELIVERED,
    b"EXPIRD": MessageState.EXPIRED,
    b"EXPRD": MessageState.EXPIRED,
    b"CANCELD": MessageState.DELETED,
    b"CANCELED": MessageState.DELETED,
    b"CANCELLED": MessageState.DELETED,
    b"UNDELIVERED": MessageState.UNDELIVERABLE,
    b"UNDELIVRD": MessageState.UNDELIVERABLE,
    b"UNDELIVD": MessageState.UNDELIVERABLE,
    b"UNDELVRD": MessageState.UNDELIVERABLE,
    b"UNDLIVRD": MessageState.UNDELIVERABLE,
    b"UNDELIVE": MessageState.UNDELIVERABLE,
    b"NOTDELIVERED": MessageState.UNDELIVERABLE,
    b"NOT_DELIVERED": MessageState.UNDELIVERABLE,
    b"NONDELIV": MessageState.UNDELIVERABLE,
    b"FAILED": MessageState.UNDELIVERABLE,
    b"ACCEPTED": MessageState.ACCEPTED,
    b"ACCEPT": MessageState.ACCEPTED,
    b"ACKED": MessageState.ACCEPTED,
    b"UNKNOWN": MessageState.UNKNOWN,
    b"UNKNWN": MessageState.UNKNOWN,
    b"UNKNOW": MessageState.UNKNOWN,
    b"REJECTED": MessageState.REJECTED,
    b"REJCTD": MessageState.REJECTED,
    b"REJECTE": MessageState.REJECTED,
    b"REJECT": MessageState.REJECTED,
}
