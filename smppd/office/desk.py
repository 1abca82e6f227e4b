"""Opens what whoever has to do with people works on: operators, sessions and approvals of a store, and its audit trail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final

from smppd.audit.trail import Actor, AuditTrail
from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.office.errors import WRONG, OfficeError
from smppd.office.unlocking import refuse_shredded, unlock, witnessed_trail
from smppd.operators.approvals import GRANTED, Request
from smppd.operators.desk import Desk
from smppd.operators.people import Operator, People
from smppd.operators.vouching import vouched
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE
from smppd.store.opening import installation
from smppd.vault.kek import VaultError
from smppd.vault.seal import SealError

TOO_LATE: Final = "somebody else answered just now"
"""Why an answer to a request is taken back on the trail."""
_ANSWERS: Final = 100
"""Entries about one request that are looked at."""


class Office:
    """The desk, the people and the trail of a store."""

    def __init__(self, desk: Desk, trail: AuditTrail) -> None:
        self.desk = desk
        self.people = People(desk)
        self._trail = trail

    def vouched(self, operator: Operator) -> bool:
        """See `operators.vouching`. VaultError."""
        return vouched(self.people, self._trail, operator)

    def granted(self, request: Request) -> bool:
        """Whether the audit trail's newest answer to a request is that it was granted. If not, an older document was put back.
        VaultError."""
        too_late: list[tuple[str, str]] = []  # answers that were written down and then found another one there
        for action, who, result, why in self._trail.answers_to(request.number, _ANSWERS):
            if why == TOO_LATE:
                too_late.append((action, who))
            elif result != "done":
                continue
            elif (action, who) in too_late:
                too_late.remove((action, who))
            else:
                return action == GRANTED
        return False

    def emptied(self) -> bool:
        """Whether there are no operators though the audit trail knows of some: nobody takes the last one away by a command.
        VaultError."""
        return not self.people.any() and any(
            "state" in entry.what for entry in self._trail.entries(events=(AuditEvent.OPERATOR,))
        )

    def record(self, event: str, who: str, what: Mapping[str, str | int], result: str, actor: Actor) -> None:
        """Puts an entry on the trail. OfficeError when it cannot be written: then nothing may be done."""
        try:
            self._trail.append(event, who, what, result, source=actor.source)
        except VaultError as error:
            raise OfficeError(f"nothing was done, because it cannot be recorded: {error}") from None


def has_people(settings: Settings) -> bool:
    """Whether the store may have operators: not where there is none, or one of a version before there were any. StoreError, and
    VaultError where the store is being shredded."""
    store = installation(settings)
    refuse_shredded(store)
    return store.has_documents()


@contextmanager
def open_office(settings: Settings) -> Iterator[Office]:
    """The office of a store. OfficeError, status 2, where there is no store or its keys do not fit."""
    with ExitStack() as stack:
        with told():
            office = _opened(settings, stack)
        try:
            yield office
        except (VaultError, StoreError, SealError) as error:
            raise OfficeError(f"the operators of this store cannot be reached: {error}", WRONG) from None


def _opened(settings: Settings, stack: ExitStack) -> Office:
    store, install = installation(settings), unlock(settings).install
    desk = Desk(store.documents(), install)
    stack.callback(desk.close)
    path = store.directory / AUDIT_FILE
    if not path.exists():
        raise VaultError(f"{path}: there is no audit trail, so nothing may be done")
    return Office(desk, stack.enter_context(witnessed_trail(store, install)))


@contextmanager
def told() -> Iterator[None]:
    """Turns what the store and the vault raise into a sentence."""
    try:
        yield
    except (VaultError, StoreError, SealError, OSError) as error:
        raise OfficeError(f"who you are cannot be checked: {error}", WRONG) from None
