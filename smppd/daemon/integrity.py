"""While the daemon runs, each file of the store and the audit trail names states of the others. At the start this module
reports whether they still fit (`records.consistency`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Final

from smppd.audit.trail import AuditTrail
from smppd.daemon.audit_log import Audit
from smppd.events import AuditEvent
from smppd.metrics import Metrics
from smppd.records.consistency import checkpoint_facts, cross_faults, named_seals
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE, Installation, MainStore
from smppd.store.tidy import Entries
from smppd.vault.chain import ChainKeys
from smppd.vault.keys import InstallSecrets, VaultError

log = logging.getLogger("smppd.soundness")  # as in the lines of earlier versions, which operators may filter by
NAMED: Final = 300.0
"""Seconds after which the audit trail names the newest seal again, if the log has grown. Somebody who copied both data.db
and keys.db within this time could put both back after a kill, and nothing would show it."""

_DRAIN: Final = 5.0
_TOLD: Final = 20


class Integrity:
    """The integrity of the store in one run of the daemon. Made before the store is opened for writing."""

    def __init__(self, installation: Installation, install: InstallSecrets, store: MainStore, metrics: Metrics) -> None:
        """Looks at the files as the last run left them. Raises StoreError and VaultError."""
        self._installation = installation
        self._trail = AuditTrail(installation.directory / AUDIT_FILE, install.audit)
        self._store = store
        self._metrics = metrics
        self._named, self._row = time.monotonic(), 0
        self._keys = store.chain_keys = ChainKeys(install.audit, install.checkpoint)
        try:
            with closing(installation.states()) as states:
                self._faults = cross_faults(states, self._keys, self._trail)
            store.named = max((number for number, _digest in named_seals(self._trail)), default=0)
        except BaseException:
            self._trail.close()
            raise
        self.audit = Audit(self._trail, metrics)
        """Appends the daemon's entries."""

    def report_faults(self) -> None:
        """Reports what does not fit: in the log as critical, in a metric and in the audit trail. The daemon serves all the
        same, since the store holds what customers are to get. `smppd log verify` goes on finding the faults."""
        faults = list(dict.fromkeys(self._faults + self._store.taken_up.faults))
        self._metrics.integrity.set(len(faults))
        for fault in faults:
            log.critical("the store is not the one that was left", extra={"fields": {"fault": fault}})
        if faults:
            told = {f"fault{number}": fault for number, fault in enumerate(faults[:_TOLD], 1)}
            self.audit(AuditEvent.INTEGRITY, {"faults": len(faults), **told}, "found")

    def note_start(self, facts: Mapping[str, str | int]) -> None:
        """Writes the entry of the start into the audit trail. It names the first seal of this run."""
        taken, seals = self._store.taken_up, self._store.seals
        self._row = seals.row if seals is not None else 0
        last: dict[str, str | int] = {} if taken.clean else {"last_end": "not clean", "unsealed_rows": taken.unsealed}
        self.audit(AuditEvent.START, {**facts, **last, **checkpoint_facts(self._store.sealed)})

    def tick(self, now: float) -> None:
        """Call about once a second. now: monotonic seconds."""
        self._store.seal_when_due()
        seals = self._store.seals
        if now - self._named >= NAMED and seals is not None and seals.row != self._row:
            self._named, self._row = now, seals.row
            self.audit(AuditEvent.CHECKPOINT, checkpoint_facts(self._store.sealed))

    def close_store(self, status: int, entries: Entries | None = None) -> None:
        """Closes the store after its last seal, and then the audit trail. ``entries`` says what is over and is taken out of
        the spool. The files of the store, which are closed by then, get to know the trail's last entry."""
        self.audit.drain(_DRAIN)  # so that the last seal names all of it
        self._store.close(entries)
        self.audit(AuditEvent.STOP, {"status": str(status), **checkpoint_facts(self._store.sealed)})
        try:
            if self.audit.drain(_DRAIN):
                self._installation.witness(self._keys, *self._trail.head())
        except (StoreError, VaultError) as error:
            self._metrics.errors.labels("audit").inc()
            log.error("the end of the audit trail could not be noted", extra={"fields": {"error": str(error)}})
        self.audit.close()
