"""What a reload would change on the running daemon, before it does: the configuration is read and prepared as for a reload
(`Reload.read`), those who would take it are asked what they would do, and then it is thrown away.

A command asks over the control socket: `plan` begins one and gives its number, `plan state` says whether it is made and what is
in it, `plan sessions` lists the sessions that would end. One plan is made at a time and one more waits; whoever asks meanwhile
gets that one, which reads the files after he asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any, Final, NamedTuple

from smppd.config import Settings
from smppd.control.wire import ControlError
from smppd.daemon.answers import Listing
from smppd.daemon.control import RequestHandler
from smppd.daemon.reload import REFUSALS, Fresh, NeedsRestart, Reload, ReloadTargets, faults_of
from smppd.daemon.worker import Worker
from smppd.lists.lists import spec_of
from smppd.lists.named import NamedList
from smppd.net.customers import Ending
from smppd.net.upstreams import LinkChange
from smppd.relay.stranded import Stranded

log = logging.getLogger("smppd.daemon")
KEPT: Final = 4
"""Plans that are remembered; of more the oldest is forgotten."""
SLICE: Final = 0.003
"""Seconds that sessions are looked at in one turn of the reactor."""
UNROUTED: Final = 100
"""Accounts without a route that are named."""


class SessionEnd(NamedTuple):
    """A session that would end; ``id`` as `smppd show sessions` has it."""

    id: str
    account: str
    address: str
    mode: str
    tls: str
    why: str


class Plan(NamedTuple):
    """What a reload would do. ``faults``: why it would be refused, and then nothing would change; ``restart``: those of the
    changes that need a restart, which are faults too. ``hash``: of the files as they are, None where they cannot be used.
    ``rules``: how many were compiled. ``lists``: big lists that would be compiled. ``unrouted``: accounts that have a route now
    and would have none: their messages would be refused."""

    path: str
    in_force: str
    hash: str | None = None
    faults: list[str] = []
    changes: list[str] = []
    restart: list[str] = []
    sessions: list[SessionEnd] = []
    links: list[LinkChange] = []
    stranded: list[Stranded] = []
    unrouted: list[str] = []
    rules: int = 0
    lists: list[str] = []

    def shown(self) -> dict[str, object]:
        """As a command gets it, without the sessions, of which there may be many."""
        rows = {name: [one._asdict() for one in getattr(self, name)] for name in ("links", "stranded")}
        return {**self._asdict(), **rows, "sessions": len(self.sessions)}


class Plans:
    """See the module."""

    def __init__(self, reload: Reload, targets: ReloadTargets, worker: Worker) -> None:
        self._reload = reload
        self._targets = targets
        self._worker = worker
        self._jobs: dict[int, Plan | None] = {}
        self._numbers = count(1)
        self._making: int | None = None
        self._waiting: int | None = None

    def requests(self) -> dict[str, RequestHandler]:
        """See the module."""
        return {"plan": self._begin, "plan state": self._state, "plan sessions": self._sessions}

    def _begin(self, _request: dict[str, Any], _uid: int) -> dict[str, object]:
        if self._waiting is not None:
            return {"job": self._waiting}
        job = next(self._numbers)
        self._jobs[job] = None
        for old in sorted(self._jobs)[:-KEPT]:
            if self._jobs[old] is not None:
                del self._jobs[old]
        if self._making is None:
            self._make(job)
        else:
            self._waiting = job
        return {"job": job}

    def _plan_of(self, request: dict[str, Any]) -> Plan | None:
        job = request.get("job")
        if not isinstance(job, int) or job not in self._jobs:
            raise ControlError("the daemon does not know this plan; ask again")
        return self._jobs[job]

    def _state(self, request: dict[str, Any], _uid: int) -> dict[str, object]:
        plan = self._plan_of(request)
        return {"over": False} if plan is None else {"over": True, "plan": plan.shown()}

    def _sessions(self, request: dict[str, Any], _uid: int) -> Listing:
        plan = self._plan_of(request)
        return Listing("sessions", () if plan is None else (one._asdict() for one in plan.sessions))

    # -- making one ----------------------------------------------------------------------------------------------------

    def _make(self, job: int) -> None:
        self._making = job
        self._worker.run("plan", self._reload.read, lambda fresh, error: self._was_read(job, fresh, error))

    def _was_read(self, job: int, fresh: Fresh | None, error: Exception | None) -> None:
        plan = Plan(str(self._reload.settings.path), self._reload.settings.digest)
        try:
            if fresh is None:
                raise error or AssertionError("nothing was read")
            if fresh.before is not self._reload.settings:
                self._make(job)  # a reload came in between: what was compared with is in force no more
                return
            self._targets.door.try_listeners(fresh.settings)
        except NeedsRestart as refusal:
            changes = refusal.changes
            said = plan._replace(hash=refusal.settings.digest, changes=changes.changes, restart=changes.refusals)
            self._made(job, said._replace(faults=list(changes.refusals)))
        except REFUSALS as refusal:
            self._made(job, plan._replace(faults=faults_of(refusal)))
        except Exception as bug:  # noqa: BLE001  the daemon's edge: whoever asked is told
            self._failed(job, plan, bug)
        else:
            self._look(job, plan, fresh)
        finally:
            if fresh is not None:
                self._close(fresh.lists)

    def _close(self, lists: Mapping[str, NamedList]) -> None:
        """Closes what was opened for lists that are not in force."""
        for name, named in lists.items():
            if named is not self._targets.lists.by_name.get(name) and named.table is not None:
                named.table.close()

    def _look(self, job: int, plan: Plan, fresh: Fresh) -> None:
        """Asks everybody, and then for the sessions, in slices."""
        new, relay = fresh.settings, self._targets.relay
        try:
            so_far = plan._replace(
                hash=new.digest,
                changes=fresh.changes,
                links=self._targets.upstreams.changes(new.upstreams),
                stranded=relay.stranded(new, fresh.routing, fresh.pipelines),
                unrouted=relay.unrouted(fresh.routing)[:UNROUTED],
                rules=sum(len(policy.rules) for policy in new.policies.values()),
                lists=[name for name in new.lists if _compiles_anew(self._reload.settings, new, name)],
            )
            endings = self._targets.customers.endings({one.system_id: one for one in new.accounts})
        except Exception as bug:  # noqa: BLE001  likewise: the next plan waits for this one
            self._failed(job, plan, bug)
        else:
            self._go_on(job, so_far, endings)

    def _go_on(self, job: int, plan: Plan, endings: Iterator[Ending | None]) -> None:
        try:
            self._some_sessions(job, plan, endings)
        except Exception as bug:  # noqa: BLE001  likewise
            self._failed(job, Plan(plan.path, plan.in_force), bug)

    def _some_sessions(self, job: int, plan: Plan, endings: Iterator[Ending | None]) -> None:
        until = time.monotonic() + SLICE
        found: list[SessionEnd] = []
        for ending in endings:
            if ending is not None:
                link = ending.link
                found.append(
                    SessionEnd(f"c{link.number}", link.account.name, link.peer, link.mode, link.tls_version, ending.why)
                )
            if time.monotonic() >= until:
                so_far = plan._replace(sessions=plan.sessions + found)
                self._targets.relay.later(0.0, partial(self._go_on, job, so_far, endings))
                return
        self._made(job, plan._replace(sessions=plan.sessions + found))

    def _failed(self, job: int, plan: Plan, bug: Exception) -> None:
        self._targets.metrics.errors.labels("plan").inc()
        log.error("error in a plan", exc_info=bug)
        self._made(job, plan._replace(faults=[type(bug).__name__]))

    def _made(self, job: int, plan: Plan) -> None:
        self._jobs[job] = plan
        self._making = None
        if self._waiting is not None:
            job, self._waiting = self._waiting, None
            self._make(job)


def _compiles_anew(old: Settings, new: Settings, name: str) -> bool:
    """Whether a list of the new settings is another one than before."""
    return name not in old.lists or spec_of(old, name) != spec_of(new, name)
