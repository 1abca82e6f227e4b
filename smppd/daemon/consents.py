"""The register of consents in the daemon: who changes it writes the store and tells the running daemon what counts from now on
and what does not (`office.consents`); a daemon that starts reads the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

from smppd.audit.trail import Actor, AuditTrail
from smppd.consent.register import Register
from smppd.consent.register_proof import HASH
from smppd.control.wire import CHANGES, ControlError
from smppd.daemon.control import RequestHandler
from smppd.events import AuditEvent
from smppd.store.consents import Consents, Standing
from smppd.store.installation import Installation

_PAGE: Final = 5000


def load(consents: Consents) -> Iterator[Standing]:
    """All that counts. Raises StoreError."""
    after = 0
    while page := consents.standing(after, _PAGE):
        for after, one in page:  # noqa: B007  the last number is where the next page begins
            yield one


def consent_requests(register: Register) -> dict[str, RequestHandler]:
    """The request with which a command tells what changed."""

    def changed(request: dict[str, Any], _uid: int) -> dict[str, object]:
        add, remove = (_read(request.get(name, [])) for name in ("add", "remove"))
        register.remove(remove)
        register.add(add)
        return {"count": len(register)}

    return {"consents changed": changed}


def _read(said: object) -> list[Standing]:
    if not isinstance(said, list) or len(said) > CHANGES:
        raise ControlError("this is no change of consents")
    found = []
    for one in said:
        try:
            account, subject, scopes = one
            made = Standing(str(account), bytes.fromhex(subject), bytes.fromhex(scopes))
        except (TypeError, ValueError):
            raise ControlError("this is no change of consents") from None
        if len(made.subject) != HASH or len(made.scopes) % HASH:
            raise ControlError("this is no change of consents")
        found.append(made)
    return found


def expiry(store: Installation, trail: AuditTrail, actor: Actor) -> Callable[[float], None]:
    """For the purge: expire(now) removes what was withdrawn so long ago that nobody needs its proof, and says so on the trail.
    Raises StoreError and VaultError."""

    def expire(now: float) -> None:
        with closing(store.consents()) as consents:
            removed = consents.expire(now)
        if removed:
            what: dict[str, str | int] = {"action": "retention", "consents": removed}
            trail.append(AuditEvent.CONSENT, actor.who, what, "destroyed", source=actor.source)

    return expire
