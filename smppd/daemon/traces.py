"""The traces of a store, opened for whoever works on them; and the end of their time, for the purge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from smppd.audit.trail import Actor, AuditTrail
from smppd.events import AuditEvent
from smppd.records.traces import Traces, Wraps
from smppd.store.installation import Installation
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import InstallSecrets


@contextmanager
def open_traces(store: Installation, wraps: Wraps, install: InstallSecrets) -> Iterator[Traces]:
    """Those of a store, on connections of their own, for one thread. StoreError."""
    with closing(store.documents()) as documents, closing(store.keys()) as keys:
        yield Traces(documents, keys, DocumentSealer(install), wraps, store.directory)


def trace_expiry(
    store: Installation,
    wraps: Wraps,
    install: InstallSecrets,
    trail: AuditTrail,
    actor: Actor,
    retain: Callable[[], float],
) -> Callable[[float], None]:
    """For the purge: expire(now) destroys the traces that are older than `retain()` seconds; the trail is told first. Raises
    StoreError and VaultError."""

    def tell(numbers: list[int]) -> None:
        what: dict[str, str | int] = {"action": "retention", "traces": " ".join(map(str, numbers))}
        trail.append(AuditEvent.TRACE, actor.who, what, "destroyed", source=actor.source)

    def expire(now: float) -> None:
        with open_traces(store, wraps, install) as traces:
            traces.expire(now, retain(), tell)

    return expire


def each(*functions: Callable[[float], None]) -> Callable[[float], None]:
    """One function that calls all of them."""

    def call(now: float) -> None:
        for function in functions:
            function(now)

    return call
