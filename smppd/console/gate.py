"""Who is logged in to the console: passphrase and code, one more code from a browser or network that is not known, and logins
that end when nobody clicks.

A login is a session of `operators.sessions`, so it ends with any change of its operator. When it was used last, and what its
next page is to say, is in this process alone: after a restart everybody logs in anew. Failures are one answer; what it was is
told to the audit trail alone. Everything here may be called from several threads.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple

from smppd.audit.trail import Actor
from smppd.console.browsers import is_known, network_of, remember
from smppd.console.office import Office, Offices
from smppd.events import AuditEvent
from smppd.office.approving import CONSOLE
from smppd.operators import sessions
from smppd.operators.login import Claim, Outcome, check, check_code
from smppd.operators.people import Operator
from smppd.operators.roles import Act, Authority

PLACE: Final = "console"
"""Where a session of ours may be used (`operators.sessions`)."""
SECOND_LOOK: Final = 180.0
"""Seconds in which the second code has to come."""
LOGINS: Final = 1000
"""Logins at one time, and those that wait for a second code; for one more the one unused for longest ends."""
LOGINS_EACH: Final = 10
"""Logins of one operator at one time."""
NOTES: Final = 5
_TOKEN_BYTES: Final = 32


class Login(NamedTuple):
    """A login as its page shows it. id: names it, and opens nothing. new: it needed a second look. since, seen, until: epoch
    seconds."""

    id: str
    operator: str
    since: float
    seen: float
    until: float
    address: str
    agent: str
    new: bool
    mine: bool = False


class Visitor(NamedTuple):
    """Somebody who is logged in: on whose word he acts (without an act yet), and his login."""

    operator: Operator
    authority: Authority
    id: str


class Entry(NamedTuple):
    """How a try to log in went. token: of the login, empty where there is none. browser: the browser's token. waits: the token
    under which a second code is waited for. All empty: refused."""

    token: str = ""
    browser: str = ""
    waits: str = ""

    def __repr__(self) -> str:
        return "<Entry ***>"


class _Login:
    __slots__ = ("address", "agent", "id", "new", "notes", "operator", "seen", "since", "until")

    def __init__(self, id: str, operator: str, now: float, until: float, address: str, agent: str, new: bool) -> None:
        self.id, self.operator, self.since, self.seen, self.until = id, operator, now, now, until
        self.address, self.agent, self.new = address, agent, new
        self.notes: list[str] = []


class _Waiting(NamedTuple):
    operator: str
    version: int
    address: str
    until: float
    recovery: bool


class Gate:
    """The logins of one console."""

    def __init__(
        self,
        offices: Offices,
        session: float,
        idle: float,
        now: Callable[[], float],
        draw: Callable[[int], bytes],
    ) -> None:
        """session, idle: seconds (config.Console). now: epoch seconds. draw(n): n random octets."""
        self._offices = offices
        self._session = session
        self._idle = idle
        self._now = now
        self._draw = draw
        self._lock = threading.Lock()
        # By the hash of the token, so that a memory dump of this dict opens nothing.
        self._logins: dict[str, _Login] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._forms = draw(32)

    # -- logging in ------------------------------------------------------------------------------------------------------

    def enter(self, claim: Claim, browser: str, address: str, agent: str) -> Entry:
        """A first try with name, passphrase and code. address: of the browser, empty for this host. OfficeError."""
        now = self._now()
        actor = _actor(address)
        with self._offices() as office:
            outcome = check(office.desk, claim, now, address, self._draw, office.vouched)
            operator = self._told(office, outcome, actor)
            if operator is None:
                return Entry()
            if is_known(office.desk, operator.name, browser, address, now):
                return self._open(office, operator, outcome.recovery, browser, address, agent, now, new=False)
            # Somebody has passphrase and code, whether the second one follows or not.
            self._tell_login(office, operator, outcome.recovery, actor, "new", "second code asked")
        token = self._draw(_TOKEN_BYTES).hex()
        with self._lock:
            self._waiting = {key: one for key, one in self._waiting.items() if now < one.until}
            while len(self._waiting) >= LOGINS:
                del self._waiting[next(iter(self._waiting))]
            self._waiting[_hash(token)] = _Waiting(
                operator.name, operator.version, address, now + SECOND_LOOK, outcome.recovery
            )
        return Entry(waits=token)

    def second(self, waits: str, code: str, browser: str, address: str, agent: str) -> Entry | None:
        """The second look: one more code. None where nothing waits for one (any more). OfficeError."""
        now = self._now()
        with self._lock:
            waiting = self._waiting.get(_hash(waits))
        if waiting is None or now >= waiting.until or waiting.address != address:
            return None
        actor = _actor(address)
        with self._offices() as office:
            outcome = check_code(office.desk, waiting.operator, code, now, address, office.vouched)
            operator = self._told(office, outcome, actor)
            if operator is None or operator.version != waiting.version:
                return Entry()
            with self._lock:
                if self._waiting.pop(_hash(waits), None) is None:
                    return None
            recovery = outcome.recovery or waiting.recovery
            return self._open(office, operator, recovery, browser, address, agent, now, new=True)

    def _told(self, office: Office, outcome: Outcome, actor: Actor) -> Operator | None:
        if outcome.refusals:
            # The name is hashed: somebody may have typed his passphrase there.
            facts: dict[str, str | int] = {"name": outcome.name, "count": outcome.refusals}
            if outcome.failure is not None:
                facts["reason"] = outcome.failure.value
            office.record(AuditEvent.LOGIN_REFUSED, actor.who, facts, "refused", actor)
        return outcome.operator

    @staticmethod
    def _tell_login(
        office: Office, operator: Operator, recovery: bool, actor: Actor, browser: str, result: str
    ) -> None:
        facts: dict[str, str | int] = {"name": operator.name, "factor": "recovery code" if recovery else "code"}
        if recovery:
            facts["codes_left"] = len(operator.recovery)
        facts["browser"] = browser
        office.record(AuditEvent.LOGIN, f"{operator.name} ({actor.who})", facts, result, actor)

    def _open(
        self,
        office: Office,
        operator: Operator,
        recovery: bool,
        browser: str,
        address: str,
        agent: str,
        now: float,
        new: bool,
    ) -> Entry:
        self._tell_login(office, operator, recovery, _actor(address), "new" if new else "known", "done")
        browser = remember(office.desk, operator.name, browser, address, now, self._draw)
        token, until = sessions.begin(office.desk, operator, PLACE, now, self._session, self._draw)
        login = _Login(self._draw(8).hex(), operator.name, now, until, address, agent[:200], new)
        if new:
            login.notes.append(
                "This browser or network was not known. If it was not you who gave the codes, tell whoever manages operators."
            )
        if recovery:
            login.notes.append(f"A recovery code was used up; {len(operator.recovery)} are left.")
        with self._lock:
            mine = [key for key, one in self._logins.items() if one.operator == operator.name]
            over = mine[: max(0, len(mine) - LOGINS_EACH + 1)]
            if len(self._logins) - len(over) >= LOGINS:
                over.append(min(self._logins, key=lambda key: self._logins[key].seen))
            for key in over:
                self._logins.pop(key, None)
            self._logins[_hash(token)] = login
        return Entry(token, browser)

    # -- being logged in -------------------------------------------------------------------------------------------------

    def visitor(self, token: str, address: str, act: Act | None, *, person: bool) -> Visitor | None:
        """Who has this token; None where the login has ended. act: what he is about to do. person: whether somebody did
        something, and not the page by itself: it counts as use. OfficeError."""
        now = self._now()
        key = _hash(token)
        with self._lock:
            login = self._logins.get(key)
            if login is None:
                return None
            ended = not login.seen - 5 <= now < login.seen + self._idle or now >= login.until
        if ended:
            self._end(key, token)
            return None
        with self._offices() as office:
            session = sessions.current(office.desk, token, PLACE, address, now)
            good = session is not None and office.vouched(session.operator)
        if session is None or not good or network_of(address) != network_of(login.address):
            self._end(key, token)
            return None
        if person:
            login.seen = now
        operator = session.operator
        authority = Authority(_actor(address), operator.name, operator.roles, operator.sees(), act)
        return Visitor(operator, authority, login.id)

    def leave(self, token: str) -> None:
        """Logs out. OfficeError."""
        self._end(_hash(token), token)

    def logins(self, operator: str, mine: str) -> list[Login]:
        """An operator's logins, the newest first. mine: the `id` of the one who asks."""
        now = self._now()
        with self._lock:
            found = [
                Login(
                    one.id,
                    one.operator,
                    one.since,
                    one.seen,
                    one.until,
                    one.address,
                    one.agent,
                    one.new,
                    one.id == mine,
                )
                for one in self._logins.values()
                if one.operator == operator and now < min(one.until, one.seen + self._idle)
            ]
        return sorted(found, key=lambda one: -one.since)

    def end(self, operator: str, id: str) -> bool:
        """Ends one of an operator's own logins; False where there is none."""
        with self._lock:
            found = [key for key, one in self._logins.items() if one.operator == operator and one.id == id]
            for key in found:
                del self._logins[key]
        return bool(found)

    def note(self, token: str, sentence: str) -> None:
        """The next page of a login says this, once."""
        with self._lock:
            login = self._logins.get(_hash(token))
            if login is not None:
                login.notes = [*login.notes, sentence][-NOTES:]

    def notes(self, token: str) -> list[str]:
        """What the next page of a login is to say; then it is forgotten."""
        with self._lock:
            login = self._logins.get(_hash(token))
            if login is None:
                return []
            notes, login.notes = login.notes, []
        return notes

    def _end(self, key: str, token: str) -> None:
        with self._lock:
            gone = self._logins.pop(key, None)
        if gone is not None:
            with self._offices() as office:
                sessions.end(office.desk, token)

    # -- forms -----------------------------------------------------------------------------------------------------------

    def form_token(self, cookie: str) -> str:
        """What a form has to bring back with this cookie (of a login, or of the login form)."""
        return blake2b(cookie.encode("utf-8", "replace"), key=self._forms, digest_size=16).hexdigest()

    def is_form_token(self, cookie: str, token: str) -> bool:
        """Whether a form came from a page that we gave to this cookie."""
        return hmac.compare_digest(self.form_token(cookie).encode(), token.encode("utf-8", "replace"))


def _actor(address: str) -> Actor:
    return Actor(CONSOLE, f"console, browser at {address or 'this host'}")


def _hash(token: str) -> str:
    return blake2b(token.encode("utf-8", "replace"), digest_size=16).hexdigest()
