"""Log lines about events that are too many for a line each. They are counted as they happen, and the sweep writes the
numbers: at most once a second for each kind of event and each account or upstream. The lines hold numbers only. The records
say which messages they were.

``Notices`` is for events that a peer can cause as often as it likes: a line a minute.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

log = logging.getLogger("smppd.relay")


class LogLine(NamedTuple):
    """A line of the log: its event, its level, whom it is about (``upstream`` or ``account``), what is counted, and why."""

    event: str
    level: int
    about: str
    things: str
    reason: str = ""


UNKNOWN: Final = LogLine("no answer, messages are unknown", logging.WARNING, "upstream", "messages")
RESENT: Final = LogLine("no answer, messages sent again", logging.WARNING, "upstream", "messages")
HELD: Final = LogLine("no answer, messages held as unknown", logging.WARNING, "upstream", "messages")
SILENT: Final = LogLine("no receipt, messages ended as unknown", logging.WARNING, "upstream", "messages")
EXPIRED: Final = LogLine("messages expired", logging.WARNING, "account", "messages")
REROUTED: Final = LogLine("messages take another upstream", logging.WARNING, "account", "messages")
NEAREST: Final = LogLine("texts sent with the nearest letters", logging.INFO, "account", "messages")
UNSAYABLE: Final = LogLine(
    "texts refused, the link's alphabet lacks their letters", logging.WARNING, "account", "messages"
)
HELD_AGE: Final = LogLine(
    "held parts refused, their message is not whole", logging.WARNING, "account", "messages", "age"
)
HELD_LIMIT: Final = LogLine(
    "held parts refused, their message is not whole", logging.WARNING, "account", "messages", "limit"
)
PARKED: Final = LogLine("early receipts parked", logging.INFO, "upstream", "receipts")
GIVEN_UP_AGE: Final = LogLine("parked receipts given up", logging.WARNING, "upstream", "receipts", "age")
GIVEN_UP_LIMIT: Final = LogLine("parked receipts given up", logging.WARNING, "upstream", "receipts", "limit")
UNREAD: Final = LogLine("receipts not read", logging.WARNING, "upstream", "receipts", "no id")
UNFIT: Final = LogLine("messages too long for SMPP 3.3", logging.WARNING, "upstream", "messages")
MAIL_CUT: Final = LogLine("mail cut for SMPP 3.3", logging.WARNING, "account", "mails")
MAIL_AGE: Final = LogLine("mail expired", logging.WARNING, "account", "mails", "age")
MAIL_LIMIT: Final = LogLine("mail expired", logging.WARNING, "account", "mails", "limit")


class LogCounts:
    """See the module."""

    def __init__(self) -> None:
        self._counts: dict[tuple[LogLine, str], int] = {}

    def count(self, line: LogLine, name: str, number: int = 1) -> None:
        """Counts; ``name`` is an upstream's or account's, as the configuration has it."""
        key = (line, name)
        self._counts[key] = self._counts.get(key, 0) + number

    def write(self) -> None:
        """Writes what was counted since the last time."""
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        for (line, name), number in counts.items():
            fields: dict[str, str | int] = {line.about: name, line.things: number}
            if line.reason:
                fields["reason"] = line.reason
            log.log(line.level, line.event, extra={"fields": fields})


NOTICES: Final = 100
"""So many different lines of one event are written in a minute; all further ones share one line."""
_MINUTE: Final = 60.0


class Notices:
    """Lines of the log that a peer may cause. The first one is written at once. Equal ones within the next minute become one
    line with their number.

    Two are equal when event and ``what`` are equal. ``what`` says whom and what it is about, in names, words and masked
    numbers.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[str, tuple[tuple[str, str], ...]], _Notice] = {}
        self._kinds: dict[str, int] = {}

    def note(self, event: str, what: dict[str, str], now: float, *, sequence: int | None = None) -> None:
        """One such thing. ``sequence``: number of the PDU, told of the first of those alike."""
        key = (event, tuple(what.items()))
        known = self._told.get(key)
        if known is None and self._kinds.get(event, 0) >= NOTICES:
            key = (event, (("others", "yes"),))
            known = self._told.get(key)
        if known is not None:
            known.count += 1
            return
        self._kinds[event] = self._kinds.get(event, 0) + 1
        self._say(key, 1, now, sequence)

    def tick(self, now: float) -> None:
        """Writes the number of what came since the line before, where that line is a minute old. Call about once a
        second."""
        for key, notice in list(self._told.items()):
            if notice.until > now:
                break  # in the order of telling
            del self._told[key]
            if notice.count:
                self._say(key, notice.count, now)
            else:
                self._kinds[key[0]] -= 1

    def _say(
        self, key: tuple[str, tuple[tuple[str, str], ...]], count: int, now: float, sequence: int | None = None
    ) -> None:
        self._told[key] = _Notice(now + _MINUTE)
        fields: dict[str, str | int] = {**dict(key[1]), "count": count}
        if sequence is not None:
            fields["sequence"] = sequence
        log.warning(key[0], extra={"fields": fields})


class _Notice:
    __slots__ = ("count", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.count = 0
