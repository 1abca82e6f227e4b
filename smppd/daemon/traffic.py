"""What is known of accounts' traffic, over restarts and reloads: read at the start, written beside the reactor, told to
the log, the metrics and the audit trail. `smppd.traffic` decides; this is its memory and its voice."""

from __future__ import annotations

import logging
import zlib
from base64 import b85decode, b85encode
from collections.abc import Callable, Iterable
from contextlib import closing
from hashlib import blake2b
from typing import Any, Final, Protocol

from smppd.config import Settings
from smppd.control.wire import ControlError
from smppd.daemon.answers import Listing
from smppd.daemon.control import RequestHandler
from smppd.events import AuditEvent
from smppd.metrics import Metrics
from smppd.policy.screens import Screen
from smppd.store.api import StoreError
from smppd.store.documents import FOREVER, Documents
from smppd.traffic import suspension
from smppd.traffic.account import AccountTraffic
from smppd.traffic.decisions import ALERT, SHADOW, Notice
from smppd.traffic.screen import TrafficScreen
from smppd.traffic.sketches import Cells
from smppd.traffic.suspension import Suspension, Suspensions, SuspensionScreen
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import InstallSecrets
from smppd.vault.seal import SealError

log = logging.getLogger("smppd.traffic")

TRAFFIC: Final = "traffic"
CAPS: Final = "traffic caps"
"""Kinds of documents, by account."""
EVERY: Final = 60.0
"""Seconds between two writings of what is known of an account's traffic: so much of it a kill may lose."""
AT_ONCE: Final = 8
"""Accounts whose traffic is written in one commit: it is short, so that the store's own are not held up."""
KEPT: Final = 90 * 86400
"""Seconds for which an account's traffic is remembered when nothing is sent."""
LINES: Final = 10
"""Lines of the log about one account at one time; the last one says how many more there would be."""
_NAMED: Final = 50  # records that an entry of the audit trail names
_HOUR: Final = 3600
_RETRY: Final = 1.0

Kept = dict[str, dict[str, Any]]
"""Documents by kind, then name."""


class Work(Protocol):
    """`daemon.worker.Worker`."""

    def run(self, name: str, work: Callable[[], Any], then: Callable[[Any, Exception | None], None]) -> None: ...


class TrafficMemory:
    """All accounts' traffic and suspensions. ``documents`` opens the store's documents, for one thread; whoever opens
    closes."""

    def __init__(
        self,
        documents: Callable[[], Documents],
        install: InstallSecrets,
        metrics: Metrics,
        audit: Callable[[str, dict[str, str | int]], object],
        worker: Work,
        wall: Callable[[], float],
        now: Callable[[], float],
        node: int = 0,
    ) -> None:
        """node: this one's, which counts for itself."""
        own = f" of node {node}" if node else ""
        self._kinds = {TRAFFIC: TRAFFIC + own, CAPS: CAPS + own}
        self._documents = documents
        self._sealer = DocumentSealer(install)
        self._metrics = metrics
        self._audit = audit
        self._worker = worker
        self._wall = wall
        self._now = now
        key = blake2b(key=install.audit, digest_size=16, person=b"smppd-traffic").digest()
        self._cells = Cells(key)
        self._accounts: dict[str, AccountTraffic] = {}
        self._loaded: dict[str, dict[str, Any]] = {}
        self._saved: dict[str, float] = {}
        self._unwritten: dict[str, Suspension] = {}
        self._busy = False
        self._retry = self._looked = self._told = 0.0
        self._failing = False
        self._shown: set[tuple[str, str, str]] = set()
        self._children: dict[tuple[str, str, str], Any] = {}
        self.suspensions = Suspensions(self._suspended)
        self.changed: Callable[[], object] = lambda: None
        """Told when what stands in the store has changed, for the other nodes."""

    # -- the start, and configurations ---------------------------------------------------------------------------------

    def load(self) -> None:
        """Reads all that is stored; before the relay begins. StoreError. What cannot be read is left out, logged and
        counted: of a suspension too, which can be put up again by hand."""
        with closing(self._documents()) as documents:
            documents.expire(self._wall())
            for kind, stored in self._kinds.items():
                for name, sealed in documents.all(stored):
                    value = self._opened(stored, name, sealed)
                    if value is not None:
                        self._loaded.setdefault(name, {})[kind] = value
            self.suspensions.take(self._stored(documents))

    def _stored(self, documents: Documents) -> list[Suspension]:
        found = []
        for name, sealed in documents.all(suspension.KIND):
            try:
                found.append(Suspension.of_dict(self._sealer.open(suspension.KIND, name, sealed)))
            except (SealError, ValueError):
                self._unread(suspension.KIND, name)
        return found

    def _opened(self, kind: str, name: str, sealed: bytes) -> Any:
        try:
            return self._sealer.open(kind, name, sealed)
        except SealError:
            self._unread(kind, name)
            return None

    def _unread(self, kind: str, name: str) -> None:
        self._metrics.errors.labels("traffic").inc()
        log.error("what was stored cannot be read", extra={"fields": {"account": name, "kind": kind}})

    def account(self, name: str) -> AccountTraffic:
        """What is known of an account. Any thread: whoever goes through all of them takes a copy of the list."""
        found = self._accounts.get(name)
        if found is None:
            shift = int.from_bytes(blake2b(name.encode(), digest_size=4).digest(), "big") % _HOUR
            found = self._accounts[name] = AccountTraffic(name, self._cells, float(shift))
            stored = self._loaded.pop(name, {})
            try:
                if CAPS in stored:
                    found.caps.load(stored[CAPS])
                if TRAFFIC in stored:
                    counts = stored[TRAFFIC]["counts"]
                    said = stored[TRAFFIC] | {"counts": zlib.decompress(b85decode(counts)) if counts else b""}
                    found.load(said, self._now(), self._wall())
            except (ValueError, TypeError, KeyError, zlib.error):
                self._unread(TRAFFIC, name)
        return found

    def screens(self, settings: Settings) -> dict[str, tuple[Screen, ...]]:
        """The screens by account: suspension first, then traffic where it is looked at. Changes nothing that is in use."""
        made: dict[str, tuple[Screen, ...]] = {}
        for one in settings.accounts:
            name = one.system_id
            screens: list[Screen] = [self.suspensions.screen(name, one.suspend_after)]
            if one.traffic is not None:
                region = one.region or settings.region
                screens.append(TrafficScreen(self.account(name), one.traffic, region, self._wall))
            made[name] = tuple(screens)
        return made

    def use(self, screens: Iterable[tuple[Screen, ...]]) -> None:
        """These are in force now."""
        self.suspensions.use(one for every in screens for one in every if isinstance(one, SuspensionScreen))

    # -- suspensions ---------------------------------------------------------------------------------------------------

    def _suspended(self, made: Suspension) -> None:
        """An account is suspended by its refusals: told at once, and durable as soon as the disk takes it."""
        self._unwritten[made.account] = made
        rules = "; ".join(f"{rule} {count}" for rule, count in made.rules)
        records = " ".join(f"{one:016x}" for one in made.records[-_NAMED:])
        facts: dict[str, str | int] = {"action": "suspended", "account": made.account, "reason": made.reason}
        self._audit(AuditEvent.SUSPENSION, facts | {"hits": made.hits, "rules": rules, "records": records})
        self._metrics.suspensions.labels(made.account).inc()
        log.error(
            "account suspended, it may submit no more",
            extra={"fields": {"account": made.account, "hits": made.hits, "rules": rules}},
        )

    def is_unwritten(self, account: str) -> bool:
        """Whether its suspension is not in the store yet, so that it cannot be taken out of there."""
        return account in self._unwritten

    def read_suspensions(self) -> list[str]:
        """Reads again what stands in the store, after a command has changed it. A few documents. StoreError."""
        self.take_suspensions(self.stored_suspensions())
        self.changed()
        return [one.account for one in self.suspensions.suspended()]

    def stored_suspensions(self) -> list[Suspension]:
        """What stands in the store. Any thread. StoreError."""
        with closing(self._documents()) as documents:
            return self._stored(documents)

    def take_suspensions(self, stored: list[Suspension]) -> None:
        """From now on this stands, and what is not written yet."""
        self.suspensions.take(stored, self._unwritten)

    # -- requests ------------------------------------------------------------------------------------------------------

    def requests(self) -> dict[str, RequestHandler]:
        """What commands may ask of it over the control socket."""

        def read(_request: dict[str, Any], _uid: int) -> dict[str, object]:
            try:
                return {"suspended": self.read_suspensions()}
            except StoreError as error:
                raise ControlError(str(error)) from None

        def listing(_request: dict[str, Any], _uid: int) -> Listing:
            now = self._now()
            return Listing(
                "decisions",
                (
                    {"account": name} | shown.as_dict()
                    for name in sorted(self._accounts)
                    for shown in self._accounts[name].standing(now)
                ),
            )

        def release(request: dict[str, Any], uid: int) -> dict[str, object]:
            account, number = self._accounts.get(str(request.get("account"))), request.get("number")
            shown = account.release(number) if account is not None and isinstance(number, int) else None
            if account is None or shown is None:
                raise ControlError("this decision does not stand; `smppd traffic list` shows those that do")
            operator, reason = request.get("operator"), str(request.get("reason", ""))[:200]
            facts: dict[str, str | int] = {"action": "released", "account": account.name, "number": shown.number}
            facts |= {"signal": shown.signal, "target": shown.target, "messages": shown.messages, "reason": reason}
            facts |= {"uid": uid} | ({"operator": str(operator)[:32]} if operator else {"login": "none"})
            self._audit(AuditEvent.TRAFFIC, facts)
            return {"released": shown.as_dict()}

        return {"suspensions read": read, "traffic list": listing, "traffic release": release}

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Call about ten times a second."""
        if now - self._looked >= 1.0:
            self._looked = now
            minute = now - self._told >= EVERY
            if minute:
                self._told = now
            for account in list(self._accounts.values()):
                self._tell(account, minute)
        if not self._busy and now >= self._retry:
            kept = self._to_write(now)
            if kept:
                self._write(kept)

    def _tell(self, account: AccountTraffic, minute: bool) -> None:
        for (signal, action), number in account.take_hits().items():
            key = (account.name, signal, action)
            child = self._children.get(key)
            if child is None:
                child = self._children[key] = self._metrics.traffic_hits.labels(*key)
            child.inc(number)
        notices = account.take_fresh()
        if minute:
            notices += account.take_met()
        self._log(account.name, [one for one in notices if one.action != SHADOW])

    @staticmethod
    def _log(account: str, notices: list[Notice]) -> None:
        for one in notices[:LINES]:
            fields: dict[str, str | int] = {"account": account, "signal": one.signal, "action": one.action}
            fields |= {"target": one.target, "messages": one.messages, "why": one.why, "decision": one.decision}
            level = logging.INFO if one.action == ALERT and not one.fresh else logging.WARNING
            log.log(level, "unusual traffic" if one.fresh else "unusual traffic goes on", extra={"fields": fields})
        if len(notices) > LINES:
            fields = {"account": account, "decisions": len(notices) - LINES}
            log.warning("unusual traffic, more of it", extra={"fields": fields})

    def set_gauges(self) -> None:
        """For a scrape."""
        counts: dict[tuple[str, str, str], int] = dict.fromkeys(self._shown, 0)
        now = self._now()
        for name, account in list(self._accounts.items()):
            for one in account.standing(now):
                key = (name, one.signal, one.action)
                counts[key] = counts.get(key, 0) + 1
        for key, number in counts.items():
            self._metrics.traffic_decisions.labels(*key).set(number)
        self._shown = set(counts)
        self._metrics.suspended.clear()
        for suspended in self.suspensions.suspended():
            self._metrics.suspended.labels(suspended.account).set(1)

    # -- the disk ------------------------------------------------------------------------------------------------------

    def _to_write(self, now: float) -> Kept:
        """What is due: suspensions, counts of caps, and then the traffic of some accounts."""
        kept: Kept = {}
        if self._unwritten:
            kept[suspension.KIND] = {name: one.as_dict() for name, one in self._unwritten.items()}
        due = {name: one.caps.to_write() for name, one in list(self._accounts.items()) if one.caps.due}
        if due:
            kept[CAPS] = due
        if kept:
            return kept
        for name, account in list(self._accounts.items()):
            if account.changed and now - self._saved.get(name, 0.0) >= EVERY:
                kept.setdefault(TRAFFIC, {})[name] = account.snapshot(now, self._wall())
                self._saved[name] = now
                if len(kept[TRAFFIC]) >= AT_ONCE:
                    break
        return kept

    def _write(self, kept: Kept) -> None:
        self._busy = True
        self._worker.run("traffic", lambda: self._put(kept), lambda _none, error: self._was_written(kept, error))

    def _put(self, kept: Kept) -> None:
        """In the worker's thread."""
        until = int(self._wall()) + KEPT
        with closing(self._documents()) as documents:
            for kind, values in kept.items():
                sealed = {}
                for name, value in values.items():
                    if kind == TRAFFIC:
                        value = value | {"counts": b85encode(zlib.compress(value["counts"], 1)).decode("ascii")}
                    sealed[name] = self._sealer.seal(self._kinds.get(kind, kind), name, value)
                documents.put(self._kinds.get(kind, kind), sealed, FOREVER if kind == suspension.KIND else until)

    def _was_written(self, kept: Kept, error: Exception | None) -> None:
        self._busy = False
        if error is not None:
            self._not_written(kept, error)
            return
        self._failing = False
        for name in kept.get(suspension.KIND, ()):
            self._unwritten.pop(name, None)
        if suspension.KIND in kept:
            self.suspensions.changes += 1  # what was read before does not have them
            self.changed()
        for name, counts in kept.get(CAPS, {}).items():
            self._accounts[name].caps.was_written(counts)

    def _not_written(self, kept: Kept, error: Exception) -> None:
        """A full disk, or a bug: all of it is tried again, and said once."""
        self._retry = self._now() + _RETRY
        for name in kept.get(CAPS, ()):
            self._accounts[name].caps.due = True
        for name in kept.get(TRAFFIC, ()):
            self._accounts[name].changed = True
        if not self._failing:
            self._failing = True
            self._metrics.chores_failed.labels("traffic").inc()
            log.error("traffic cannot be written now", extra={"fields": {"reason": type(error).__name__}})

    def stop(self) -> None:
        """The daemon ends: all that is known is written, exactly. A failure is logged."""
        kept: Kept = {CAPS: {name: one.caps.to_write(exactly=True) for name, one in self._accounts.items()}}
        if self._unwritten:
            kept[suspension.KIND] = {name: one.as_dict() for name, one in self._unwritten.items()}
        now, wall = self._now(), self._wall()
        try:
            self._put(kept)
            changed = [name for name, one in self._accounts.items() if one.changed]
            for begin in range(0, len(changed), AT_ONCE):
                some = changed[begin : begin + AT_ONCE]
                self._put({TRAFFIC: {name: self._accounts[name].snapshot(now, wall) for name in some}})
        except StoreError as error:
            log.error("traffic cannot be written", extra={"fields": {"reason": str(error)}})
