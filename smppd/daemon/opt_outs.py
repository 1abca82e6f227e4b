"""Opt-outs beside the message path: what people change comes to the running daemon by its control socket (`office.opt_outs`);
and what words changed is put on the audit trail.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from smppd.consent.suppression import KEY_OCTETS
from smppd.control.wire import CHANGES, ControlError
from smppd.daemon.audit_log import Audit
from smppd.daemon.control import RequestHandler
from smppd.daemon.worker import Worker
from smppd.events import AuditEvent
from smppd.records.looks import MONTH, LookKey, key_of, month_of
from smppd.relay.receipts.opt_outs import Change
from smppd.relay.relay import Relay
from smppd.store.api import OptOut
from smppd.store.installation import Installation
from smppd.vault.kek import Kek

_KEPT: Final = 16
_TEXT: Final = 200
_LATEST: Final = (1 << 53) - 1


def opt_out_requests(relay: Relay) -> dict[str, RequestHandler]:
    """The requests with which a command changes the register: `optout change` gives a number, `optout state` says whether that
    is durable. The newest few are remembered."""
    jobs: dict[int, bool | None] = {}
    numbers = count(1)

    def change(request: dict[str, Any], _uid: int) -> dict[str, object]:
        changes, decided = request.get("changes"), request.get("decided")
        if not isinstance(changes, list) or not isinstance(decided, list) or len(changes) + len(decided) > CHANGES:
            raise ControlError("this is no request to change opt-outs")
        try:
            made, records = [_change(one) for one in changes], [int(one, 16) for one in decided]
        except (TypeError, ValueError):
            raise ControlError("this is no request to change opt-outs") from None
        number = next(numbers)
        jobs[number] = None
        for old in sorted(jobs)[:-_KEPT]:
            del jobs[old]

        def over(stored: bool) -> None:
            if number in jobs:
                jobs[number] = stored

        relay.change_opt_outs(made, records, over)
        return {"job": number}

    def state(request: dict[str, Any], _uid: int) -> dict[str, object]:
        number = request.get("job")
        if not isinstance(number, int) or number not in jobs:
            raise ControlError("the daemon does not know this change: it was started again; run the command again")
        return {"over": jobs[number] is not None, "stored": bool(jobs[number])}

    return {"optout change": change, "optout state": state}


def _change(said: object) -> OptOut:
    """Out of a request. TypeError or ValueError where it is none."""
    if not isinstance(said, list):
        raise TypeError
    key, account, sender, at, source, stands = said
    texts = (account, sender, source)
    if not all(isinstance(text, str) and len(text) <= _TEXT for text in texts) or not isinstance(stands, bool):
        raise TypeError
    octets = bytes.fromhex(key)
    if len(octets) != KEY_OCTETS or not isinstance(at, int) or not 0 <= at <= _LATEST:
        raise ValueError
    return OptOut(octets, account, sender, at, source, stands)


class TrailOfWords:
    """Puts on the audit trail who said what: the number hashed under the month's key (`records.looks`), since the trail
    outlives every number. The key is renewed beside the reactor."""

    def __init__(
        self, store: Installation, kek: Kek, kek_then: Callable[[], Kek], audit: Audit, worker: Worker
    ) -> None:
        """Makes this month's key where there is none yet. kek_then: the KEK when another month begins; asked beside the
        reactor. Raises StoreError and VaultError."""
        self._store = store
        self._kek_then = kek_then
        self._audit = audit
        self._worker = worker
        self._key = self._made(kek)
        self._making = False

    def _made(self, kek: Kek) -> LookKey:
        rows = self._store.keys()
        try:
            return key_of(kek, rows, time.time())
        finally:
            rows.close()

    def tick(self) -> None:
        """Call about once a second."""
        if not self._making and month_of(time.time()).label != self._key.month:
            self._making = True
            self._worker.run("looks", lambda: self._made(self._kek_then()), self._was_made)

    def _was_made(self, key: LookKey | None, _error: Exception | None) -> None:
        self._making = False
        if key is not None:
            self._key = key

    def __call__(self, change: Change) -> None:
        """One change, which is durable."""
        facts: dict[str, str | int] = {
            "action": "stop" if change.stands else "start",
            "account": change.account,
            "sender": change.sender,
            "word": change.word,
            "number": self._key.hash(change.number),
            MONTH: self._key.month,
        }
        self._audit(AuditEvent.OPT_OUT, facts)
