"""What the log says of things too many to be told one by one: counted as they happen, said by the sweep, once a second at most
for each kind and whom it is about. Numbers only: which messages they were is in the record.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

log = logging.getLogger("smppd.relay")


class Line(NamedTuple):
    """A line of the log: its event, its level, whom it is about (``upstream`` or ``account``), what is counted, and why."""

    event: str
    level: int
    about: str
    things: str
    reason: str = ""


UNKNOWN: Final = Line("no answer, messages are unknown", logging.WARNING, "upstream", "messages")
RESENT: Final = Line("no answer, messages sent again", logging.WARNING, "upstream", "messages")
HELD: Final = Line("no answer, messages held as unknown", logging.WARNING, "upstream", "messages")
SILENT: Final = Line("no receipt, messages ended as unknown", logging.WARNING, "upstream", "messages")
EXPIRED: Final = Line("messages expired", logging.WARNING, "account", "messages")
REROUTED: Final = Line("messages take another upstream", logging.WARNING, "account", "messages")
NEAREST: Final = Line("texts sent with the nearest letters", logging.INFO, "account", "messages")
UNSAYABLE: Final = Line(
    "texts refused, the link's alphabet lacks their letters", logging.WARNING, "account", "messages"
)
HELD_AGE: Final = Line("held parts refused, their message is not whole", logging.WARNING, "account", "messages", "age")
HELD_LIMIT: Final = Line(
    "held parts refused, their message is not whole", logging.WARNING, "account", "messages", "limit"
)
PARKED: Final = Line("early receipts parked", logging.INFO, "upstream", "receipts")
GIVEN_UP_AGE: Final = Line("parked receipts given up", logging.WARNING, "upstream", "receipts", "age")
GIVEN_UP_LIMIT: Final = Line("parked receipts given up", logging.WARNING, "upstream", "receipts", "limit")
UNREAD: Final = Line("receipts not read", logging.WARNING, "upstream", "receipts", "no id")
MAIL_AGE: Final = Line("mail expired", logging.WARNING, "account", "mails", "age")
MAIL_LIMIT: Final = Line("mail expired", logging.WARNING, "account", "mails", "limit")


class Tally:
    """See the module."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Line, str], int] = {}

    def add(self, line: Line, name: str, number: int = 1) -> None:
        """Counts; ``name`` is an upstream's or account's, as the configuration has it."""
        key = (line, name)
        self._counts[key] = self._counts.get(key, 0) + number

    def say(self) -> None:
        """Writes what was counted since the last time."""
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        for (line, name), number in counts.items():
            fields: dict[str, str | int] = {line.about: name, line.things: number}
            if line.reason:
                fields["reason"] = line.reason
            log.log(line.level, line.event, extra={"fields": fields})
