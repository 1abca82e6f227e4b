"""Who asks on the control socket, and whether his roles allow it. The one table of what needs which act is here.

Root and the daemon's own user are believed: an operator whom they name has logged in at the asking process (the console), so
he is only looked up. Anybody else logs in with each request, as he would with a command: name, passphrase and code; tries are
counted, all failures are one answer after the same time, and each login is on the audit trail. All of it is done in a thread
beside the reactor.
"""

from __future__ import annotations

import platform
import pwd
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final, NamedTuple, TypeAlias

from twisted.internet.defer import Deferred, succeed

from smppd.audit.trail import Actor, AuditTrail
from smppd.control.wire import Code, ControlError
from smppd.daemon.answers import Answer
from smppd.daemon.worker import Worker
from smppd.events import AuditEvent
from smppd.operators.desk import Desk
from smppd.operators.login import REFUSAL_FLOOR, REFUSED, Claim, check
from smppd.operators.people import Operator, People
from smppd.operators.roles import Act, Authority, may
from smppd.operators.vouching import vouched
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE, Installation
from smppd.vault.keys import InstallSecrets, VaultError
from smppd.vault.seal import SealError

LOGINS: Final = 4
"""Logins that are looked at at one time: each takes 20 ms of a processor and the memory of a hash."""
LOOKS: Final = 16
"""The same of operators who have logged in elsewhere."""
_TEXT: Final = 4096

Needed: TypeAlias = frozenset[Act]
"""Acts, any of which allows something."""
LOOKING: Final = frozenset({Act.SEARCH, Act.RUNTIME})
NEEDED: Final[Needed] = frozenset(Act)
ACTS_NEED: Final = frozenset({Act.RUNTIME})
SHOWS_NEED: Final[dict[str, Needed]] = {
    "sessions": LOOKING,
    "accounts": LOOKING,
    "upstreams": LOOKING,
    "queues": LOOKING,
    "messages": LOOKING,
    "suspensions": LOOKING,
    "acts": LOOKING,
    "limits": LOOKING,
    "flow": LOOKING,
    "rules": LOOKING | {Act.REPORT},
    "lists": LOOKING | {Act.REPORT},
    "health": LOOKING | {Act.REPORT, Act.AUDIT},
    "nodes": LOOKING | {Act.REPORT, Act.AUDIT},
    # Whose passwords are guessed from where, and how all of it is set up, is the business of those who run it.
    "bans": frozenset({Act.RUNTIME, Act.AUDIT}),
    "config": frozenset({Act.RUNTIME, Act.AUDIT}),
}
"""What each view needs. Without an operator, root and the daemon's user see everything. An account owner sees of each view what
is his accounts'."""


class View(NamedTuple):
    """Something to see. ``make(request, who)``: the answer, for whoever may see it; on the reactor thread."""

    needs: Needed
    make: Callable[[dict[str, Any], Authority], Answer | Deferred[Answer]]


class Askers:
    """See the module. ``worker`` has the threads, ``later(seconds, function)`` calls on the reactor thread."""

    def __init__(
        self,
        store: Installation,
        install: InstallSecrets,
        worker: Worker,
        later: Callable[[float, Callable[[], None]], object],
        written: Callable[[], object] = lambda: None,
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``written``: called, in some thread, when an entry is on the audit trail."""
        self._store = store
        self._install = install
        self._worker = worker
        self._later = later
        self._written = written
        self._wall = wall
        self._now = now
        self._logins = self._looks = 0

    def identify(
        self, request: dict[str, Any], uid: int, trusted: bool, do: str, needed: Needed
    ) -> Deferred[Authority]:
        """On whose word a request is made. ``trusted``: root or the daemon's own user. Fails with ControlError where a login
        is wrong or no role allows it; both are on the audit trail."""
        login, name = request.get("login"), request.get("operator")
        actor = Actor(_user(uid), f"{platform.node() or 'unnamed host'}, control socket")
        if login is not None:
            if name is not None:
                raise ControlError("`login` and `operator` exclude each other", Code.REQUEST)
            return self._log_in(_claim(login), actor, do, needed)
        if not trusted:
            raise ControlError(REFUSED, Code.LOGIN)
        if name is None:
            return succeed(Authority(actor, act=Act.SEARCH if Act.SEARCH in needed else min(needed)))
        if not isinstance(name, str) or len(name) > _TEXT:
            raise ControlError("`operator` must be a name", Code.REQUEST)
        if self._looks >= LOOKS:
            raise ControlError("too many ask at this moment", Code.STATE)
        self._looks += 1
        return self._in_thread(lambda: self._look_up(name, actor, do, needed), self._looked)

    def _looked(self) -> None:
        self._looks -= 1

    def _in_thread(self, work: Callable[[], Authority], over: Callable[[], None]) -> Deferred[Authority]:
        answered: Deferred[Authority] = Deferred()

        def then(who: Authority | None, error: Exception | None) -> None:
            over()
            if isinstance(error, StoreError | SealError | VaultError | OSError):
                answered.errback(ControlError(f"who you are cannot be checked: {error}", Code.STATE))
            elif error is not None:
                answered.errback(error)
            else:
                assert who is not None
                answered.callback(who)

        self._worker.run("asker", work, then)
        return answered

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _opened(self) -> tuple[Desk, AuditTrail]:
        trail = AuditTrail(self._store.directory / AUDIT_FILE, self._install.audit)
        try:
            return Desk(self._store.documents(), self._install), trail
        except BaseException:
            trail.close()
            raise

    def _look_up(self, name: str, actor: Actor, do: str, needed: Needed) -> Authority:
        desk, trail = self._opened()
        with closing(desk), closing(trail):
            people = People(desk)
            operator = people.get(name)
            if operator is None or operator.disabled or not vouched(people, trail, operator):
                what: dict[str, str | int] = {"act": do[:64], "reason": "no such operator, or not any more"}
                self._record(trail, AuditEvent.LOGIN_REFUSED, actor.who, what, "refused", actor)
                raise ControlError("there is no such operator, or he may do nothing any more", Code.LOGIN)
            return self._allowed(trail, operator, actor, do, needed)

    def _allowed(self, trail: AuditTrail, operator: Operator, actor: Actor, do: str, needed: Needed) -> Authority:
        authority = Authority(actor, operator.name, operator.roles, operator.sees())
        act = next((one for one in sorted(needed) if may(operator.roles, one)), None)
        if act is None:
            what: dict[str, str | int] = {"act": do[:64], "reason": "role"}
            self._record(trail, AuditEvent.LOGIN_REFUSED, authority.who, what, "refused", actor)
            raise ControlError(f"{operator.name} may not do this: no role of his allows it", Code.ROLE)
        return authority._replace(act=act)

    def _record(
        self, trail: AuditTrail, event: str, who: str, what: dict[str, str | int], result: str, actor: Actor
    ) -> None:
        trail.append(event, who, what, result, source=actor.source)
        self._written()

    # -- logging in ----------------------------------------------------------------------------------------------------

    def _log_in(self, claim: Claim, actor: Actor, do: str, needed: Needed) -> Deferred[Authority]:
        if self._logins >= LOGINS:
            raise ControlError("too many log in at this moment", Code.STATE)
        self._logins += 1
        began = self._now()
        answered: Deferred[Authority] = Deferred()

        def over() -> None:
            self._logins -= 1

        def refused(failure: Any) -> None:
            # Whatever it was, it is told after the same time; a try that waits for that takes no place any more.
            floor = REFUSAL_FLOOR - (self._now() - began)
            if failure.check(ControlError) and failure.value.code == Code.LOGIN and floor > 0:
                self._later(floor, lambda: answered.errback(failure))
            else:
                answered.errback(failure)

        work = self._in_thread(lambda: self._claimed(claim, actor, do, needed), over)
        work.addCallbacks(answered.callback, refused)
        return answered

    def _claimed(self, claim: Claim, actor: Actor, do: str, needed: Needed) -> Authority:
        """As `cli.authority.log_in`, without a terminal."""
        desk, trail = self._opened()
        with closing(desk), closing(trail):
            people = People(desk)
            outcome = check(desk, claim, self._wall(), "", vouched=lambda operator: vouched(people, trail, operator))
            if outcome.refusals:
                # The name is hashed: somebody may have typed his passphrase there.
                facts: dict[str, str | int] = {"name": outcome.name, "count": outcome.refusals}
                if outcome.failure is not None:
                    facts["reason"] = outcome.failure.value
                self._record(trail, AuditEvent.LOGIN_REFUSED, actor.who, facts, "refused", actor)
            operator = outcome.operator
            if operator is None:
                raise ControlError(REFUSED, Code.LOGIN)
            facts = {"name": operator.name, "factor": "recovery code" if outcome.recovery else "code"}
            if outcome.recovery:
                facts["codes_left"] = len(operator.recovery)
            self._record(trail, AuditEvent.LOGIN, f"{operator.name} ({actor.who})", facts, "done", actor)
            return self._allowed(trail, operator, actor, do, needed)


def _claim(login: object) -> Claim:
    """What somebody says who logs in. ControlError where it is not written so."""
    texts = [login.get(name) for name in Claim._fields] if isinstance(login, dict) else []
    written = [one for one in texts if isinstance(one, str) and len(one) <= _TEXT]
    if len(written) != len(Claim._fields):
        raise ControlError("`login` needs name, passphrase and code", Code.REQUEST)
    return Claim(*written)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid {uid}"
