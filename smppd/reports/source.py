"""What the reports are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from smppd.audit.trail import AuditTrail
from smppd.config import Account, Settings
from smppd.store.log import Log

Progress = Callable[[float], object]
"""Told how far it is, 0.0 to 1.0."""
Facts = Mapping[str, Any]


def nothing() -> Iterable[Facts]:
    """Where there is nothing to tell."""
    return ()


class Source(NamedTuple):
    """settings: as configured now. now: epoch seconds. trail: opened. log: None before the daemon's first start. id_time:
    `ids.id_time`. accounts: those that may be seen, None for all. progress: told while the log is read. people: whether there
    are operators, so that commands ask for a login."""

    settings: Settings
    now: float
    trail: AuditTrail
    log: Log | None
    id_time: Callable[[int], float]
    accounts: frozenset[str] | None = None
    progress: Progress = lambda _done: None
    people: bool = False

    def seen(self, account: str) -> bool:
        """Whether an account may be seen."""
        return self.accounts is None or account in self.accounts

    def configured(self) -> list[Account]:
        """The accounts of the configuration that may be seen."""
        return [one for one in self.settings.accounts if self.seen(one.system_id)]
