"""Two people: one asks for an act, another one agrees, and for an hour the first may do exactly that.

A request is a sealed document. It says what is to be done, for the one who has to agree; it is gone when it is over. It is
found again by a keyed hash of the act and of who wants to do it, so it serves nobody else and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from smppd.operators.desk import Desk, Paper
from smppd.operators.roles import Act

KIND: Final = "approval"
UNANSWERED: Final = 72 * 3600.0
"""Seconds after which a request that nobody answered ends."""
WINDOW: Final = 3600.0
"""Seconds for which what was agreed to may be done."""
MOST: Final = 100
"""Requests of one person that are not over: every look at one goes through all."""
ASKED, GRANTED, DENIED = "asked", "granted", "denied"


class Request(NamedTuple):
    """A request. act: what the one who agrees must be allowed to do himself. person: who ran the command, as the kernel knows
    him. accounts: those the asker may see, None for all. by: who answered. asked, until: epoch seconds; until: of the
    request, or of the window."""

    number: int
    kind: str
    act: Act
    what: dict[str, str | int]
    digest: str
    asker: str
    person: str
    accounts: tuple[str, ...] | None
    note: str
    reason: str
    asked: float
    until: float
    state: str = ASKED
    by: str = ""

    def __repr__(self) -> str:
        return f"<Request {self.number} {self.state} ***>"


class Approvals:
    """The requests of a store. Raises StoreError and SealError."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def all(self, now: float) -> list[Request]:
        """Those that are not over, in order of their numbers."""
        found = [_read(paper.value) for paper in self._desk.all(KIND)]
        return sorted((one for one in found if now < one.until), key=lambda one: one.number)

    def find(self, asker: str, kind: str, what: Mapping[str, str | int], now: float) -> Request | None:
        """What became of somebody's request for exactly this act: one that was granted rather than one that waits."""
        digest = self._desk.digest(kind, asker, what)
        mine = [one for one in self.all(now) if one.digest == digest and one.asker == asker]
        return max(mine, key=lambda one: ((ASKED, DENIED, GRANTED).index(one.state), one.number), default=None)

    def ask(
        self,
        asker: str,
        kind: str,
        act: Act,
        what: Mapping[str, str | int],
        now: float,
        *,
        person: str = "",
        accounts: frozenset[str] | None = None,
        note: str = "",
        reason: str = "",
    ) -> Request:
        """Puts a request down."""
        request = Request(
            self._desk.number(KIND),
            kind,
            act,
            dict(what),
            self._desk.digest(kind, asker, what),
            asker,
            person,
            None if accounts is None else tuple(sorted(accounts)),
            note[:1000],
            reason[:100],
            now,
            now + UNANSWERED,
        )
        if not self._desk.add(KIND, str(request.number), request._asdict(), request.until):
            raise AssertionError("a number was given twice")
        return request

    def may_ask(self, asker: str, now: float) -> bool:
        """Whether somebody may put one more down."""
        return sum(one.asker == asker for one in self.all(now)) < MOST

    def load(self, number: int, now: float) -> tuple[Request, Paper] | None:
        """One that is not over, and what it was read from."""
        paper = self._desk.get(KIND, str(number))
        if paper is None:
            return None
        request = _read(paper.value)
        return (request, paper) if now < request.until else None

    def answer(self, request: Request, before: Paper, granted: bool, by: str, now: float) -> Request | None:
        """Writes an answer down: from now on a window stands open, or the request is denied. None where somebody else was
        quicker."""
        until = now + WINDOW if granted else request.until
        after = request._replace(state=GRANTED if granted else DENIED, by=by, until=until)
        return after if self._desk.replace(KIND, before, after._asdict(), until) else None

    def remove(self, number: int) -> None:
        """Takes a request away whose answer was told."""
        self._desk.remove(KIND, str(number))


def may_agree(request: Request, roles_allow: bool, accounts: frozenset[str] | None) -> bool:
    """Whether somebody with these rights could do himself what is asked for. accounts: those he may see, None for all."""
    if not roles_allow:
        return False
    return accounts is None or (request.accounts is not None and accounts >= set(request.accounts))


def _read(value: dict[str, Any]) -> Request:
    accounts = value["accounts"]
    return Request(
        **{**value, "act": Act(value["act"]), "accounts": None if accounts is None else tuple(accounts)},
    )
