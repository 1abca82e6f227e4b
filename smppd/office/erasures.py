"""Erasures for people: where each one stands, its certificate, and those that were asked for and wait to be run.

An erasure looks through the whole log and what is on its way, so it is run by a command, never inside a page. Who asks for one
puts down what it is about as a sealed document; `smppd subject erase --asked N` runs it, and takes the document away.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.office.access import Why
from smppd.office.desk import Office
from smppd.office.errors import WRONG, OfficeError
from smppd.office.numbers import Typed, forms_of_search, refuse_nothing, regions_of_search, without_number
from smppd.operators.roles import Authority
from smppd.records.erasure import CERTIFICATES, DONE, STATE
from smppd.store.opening import installation
from smppd.vault.mask import mask_digits, mask_number

KIND: Final = "erasure asked"
"""Of the documents."""
WAITS: Final = 30 * 86400.0
"""Seconds after which what nobody ran is forgotten."""
MOST: Final = 1000
"""So many may wait."""
_CERTIFICATE_MAX: Final = 64 << 20


class Wish(NamedTuple):
    """An erasure that was asked for. accounts: None for all; asked, until: epoch seconds."""

    number: int
    subject: str
    region: str | None
    accounts: list[str] | None
    also_national: bool
    reason: str
    note: str
    asker: str
    asked: float
    until: float

    def __repr__(self) -> str:
        return f"<Wish {self.number} ***>"

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it, the number masked."""
        return {**self._asdict(), "subject": mask_number(self.subject)}


class ErasureState(NamedTuple):
    """Where an erasure stands. facts: as they are put down, nothing of a person; records: how many it lists that are not erased
    yet, of which holds and floors keep some; certified: there is a certificate."""

    number: int
    facts: dict[str, Any]
    left: int
    held: int
    kept: int
    certified: bool

    @property
    def done(self) -> bool:
        """Whether nothing of it is left to be done."""
        return self.facts.get(STATE) == DONE and not self.left


def wishes(office: Office, now: float) -> list[Wish]:
    """Those that wait, in order of their numbers. Raises StoreError and SealError."""
    found = [Wish(**paper.value) for paper in office.desk.all(KIND)]
    return sorted((one for one in found if now < one.until), key=lambda one: one.number)


def wish_of(office: Office, number: int, now: float) -> Wish:
    """One that waits. OfficeError."""
    paper = office.desk.get(KIND, str(number))
    if paper is None or now >= paper.value["until"]:
        raise OfficeError(f"no erasure was asked for as {number} (any more)", WRONG)
    return Wish(**paper.value)


def ask(
    office: Office, settings: Settings, authority: Authority, asked: Typed, also_national: bool, why: Why, now: float
) -> Wish:
    """Puts down that somebody is to be erased; the trail says that it was asked for, and of nobody. OfficeError."""
    forms = forms_of_search(regions_of_search(settings, asked), asked)
    refuse_nothing(forms)
    for name in asked.accounts or ():
        if not authority.sees(name):
            raise OfficeError("there is no such account", WRONG)
    if len(wishes(office, now)) >= MOST:
        raise OfficeError(f"{MOST} erasures wait already: run them first")
    accounts = asked.accounts if asked.accounts is not None else authority.accounts
    wish = Wish(
        office.desk.number(KIND),
        asked.number,
        asked.region,
        None if accounts is None else sorted(accounts),
        also_national,
        why.reason,
        mask_digits(without_number(why.note, forms)),
        authority.operator,
        now,
        now + WAITS,
    )
    _tell(office, authority, wish, "asked", "pending")
    office.desk.add(KIND, str(wish.number), wish._asdict(), wish.until)
    return wish


def withdraw(office: Office, authority: Authority, number: int, now: float) -> None:
    """Takes one away that nobody is to run. OfficeError where there is none."""
    wish = wish_of(office, number, now)
    _tell(office, authority, wish, "withdrawn", "ended")
    office.desk.remove(KIND, str(number))


def was_run(office: Office, number: int) -> None:
    """Takes one away that was run: its erasure is put down in the store by now."""
    office.desk.remove(KIND, str(number))


def _tell(office: Office, authority: Authority, wish: Wish, action: str, result: str) -> None:
    facts: dict[str, str | int] = {"action": action, "request": wish.number, "reason": wish.reason, "note": wish.note}
    if wish.accounts:
        facts["accounts"] = " ".join(wish.accounts)
    office.record(AuditEvent.ERASURE, authority.who, {**facts, **authority.facts}, result, authority.actor)


# -- those that were run -----------------------------------------------------------------------------------------------


def erasures(settings: Settings, most: int) -> tuple[list[ErasureState], int]:
    """The newest ones, newest first, and how many there are. Raises StoreError."""
    directory = settings.store.directory
    with closing(installation(settings).erasures()) as rows:
        every = rows.erasures()
        found = []
        for number, facts in reversed(every[-most:]):
            left, held, kept = rows.left(number)
            certified = _certificate(directory, number).exists()
            found.append(ErasureState(number, facts, left, held, kept, certified))
    return found, len(every)


def certificate(settings: Settings, number: int) -> bytes:
    """The certificate of an erasure, as it lies in the store. OfficeError where there is none. It names records and nobody."""
    path = _certificate(settings.store.directory, number)
    try:
        with path.open("rb") as file:
            return file.read(_CERTIFICATE_MAX)
    except OSError:
        raise OfficeError(f"there is no certificate of erasure {number}") from None


def _certificate(directory: Path, number: int) -> Path:
    return directory / CERTIFICATES / f"erasure-{number}.json"
